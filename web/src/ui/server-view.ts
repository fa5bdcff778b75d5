/**
 * What an operator looks at: the server's `/metrics` as small plots.
 *
 * Invariant: nothing is asked for while the panel is closed, and each plot keeps `POINTS_MAX` points.
 */
import { parseMetrics, perSecond, quantile, type Sample } from "../model/metrics";
import { byId, create, setText } from "./dom";
import { colour, onThemeChange } from "./theme";

const INTERVAL_MS = 2_000;
/** Four minutes. */
const POINTS_MAX = 120;

type Measure = (before: Sample, now: Sample) => number | undefined;

const rate =
  (name: string): Measure =>
  (before, now) =>
    perSecond(before, now, name);
const gauge =
  (name: string): Measure =>
  (_, now) =>
    now.values.get(name);
const p99 =
  (name: string): Measure =>
  (before, now) => {
    const seconds = quantile(before, now, name, 0.99);
    return seconds === undefined ? undefined : seconds * 1_000;
  };

/** How much smaller compression made what was sent: 1 is not at all. */
const compression: Measure = (before, now) => {
  const sent = perSecond(before, now, "tickerplant_sent_bytes_total");
  const saved = perSecond(before, now, "tickerplant_saved_bytes_total");
  return sent === undefined || saved === undefined || sent === 0 ? undefined : (sent + saved) / sent;
};

const PLOTS: readonly { readonly title: string; readonly unit: string; readonly measure: Measure }[] = [
  { title: "Sessions", unit: "", measure: gauge("tickerplant_sessions") },
  { title: "Feed", unit: "ticks/s", measure: rate("tickerplant_feed_ticks_total") },
  { title: "Delivered", unit: "elements/s", measure: rate("tickerplant_deliveries_total") },
  { title: "Sent", unit: "B/s", measure: rate("tickerplant_sent_bytes_total") },
  { title: "Compression", unit: "×", measure: compression },
  { title: "Dropped", unit: "elements/s", measure: rate("tickerplant_drops_total") },
  { title: "Feed to flush, p99 ≤", unit: "ms", measure: p99("tickerplant_feed_to_flush_seconds") },
  { title: "Waiting in outboxes", unit: "B", measure: gauge("tickerplant_outbox_bytes") },
  { title: "Stalls", unit: "/s", measure: rate("tickerplant_stalls_total") },
  { title: "Commands", unit: "/s", measure: rate("tickerplant_commands_total") },
];

const FIGURE = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

class Plot {
  readonly figure: HTMLElement;
  readonly #canvas = create("canvas", { "aria-hidden": "true" });
  readonly #value = create("output", {});
  readonly #unit: string;
  readonly #points: (number | undefined)[] = [];

  constructor(title: string, unit: string) {
    this.#unit = unit;
    this.figure = create("figure", { class: "plot" }, create("figcaption", {}, title, this.#value), this.#canvas);
  }

  add(value: number | undefined): void {
    this.#points.push(value);
    if (this.#points.length > POINTS_MAX) {
      this.#points.shift();
    }
    setText(this.#value, value === undefined ? "–" : `${FIGURE.format(value)} ${this.#unit}`);
    this.draw();
  }

  draw(): void {
    const context = this.#canvas.getContext("2d");
    const [width, height] = [this.#canvas.clientWidth, this.#canvas.clientHeight];
    if (context === null || width === 0) {
      return;
    }
    this.#canvas.width = Math.round(width * devicePixelRatio);
    this.#canvas.height = Math.round(height * devicePixelRatio);
    context.scale(devicePixelRatio, devicePixelRatio);
    const most = Math.max(...this.#points.map((point) => point ?? 0), Number.MIN_VALUE);
    const path = new Path2D();
    let pen: "up" | "down" = "up";
    this.#points.forEach((point, at) => {
      if (point === undefined) {
        pen = "up";
        return;
      }
      const x = ((at + POINTS_MAX - this.#points.length) / (POINTS_MAX - 1)) * width;
      const y = height - 2 - (point / most) * (height - 6);
      if (pen === "up") {
        path.moveTo(x, y);
      } else {
        path.lineTo(x, y);
      }
      pen = "down";
    });
    context.strokeStyle = colour("--accent");
    context.lineWidth = 1.5;
    context.stroke(path);
  }
}

export class ServerView {
  readonly #panel = byId("server", HTMLElement);
  readonly #plots: readonly { readonly plot: Plot; readonly measure: Measure }[];
  #before: Sample | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor() {
    this.#plots = PLOTS.map(({ title, unit, measure }) => ({ plot: new Plot(title, unit), measure }));
    byId("plots", HTMLDivElement).append(...this.#plots.map(({ plot }) => plot.figure));
    onThemeChange(() => {
      for (const { plot } of this.#plots) {
        plot.draw();
      }
    });
  }

  setOpen(open: "open" | "closed"): void {
    this.#panel.hidden = open === "closed";
    clearInterval(this.#timer);
    if (open === "open") {
      void this.#read();
      this.#timer = setInterval(() => void this.#read(), INTERVAL_MS);
    }
  }

  async #read(): Promise<void> {
    let now: Sample | undefined;
    try {
      const answer = await fetch(new URL("metrics", document.baseURI), { cache: "no-store" });
      now = answer.ok ? parseMetrics(await answer.text(), performance.now()) : undefined;
    } catch {
      // The server is away; the plots show it as a hole.
    }
    const before = this.#before;
    this.#before = now;
    for (const { plot, measure } of this.#plots) {
      if (now === undefined) {
        plot.add(undefined);
      } else if (before !== undefined) {
        plot.add(measure(before, now));
      }
    }
  }
}
