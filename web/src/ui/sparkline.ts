/**
 * The line of a row.
 *
 * Invariant: it is part of the document and not a canvas: forty canvases are forty layers, which cost more at each frame than all the
 * lines, of which each changes twice a second. Nothing is read back from the layout: the picture stretches to its cell.
 */

/** The line fills its cell after this many points (10 s), so that a fresh page is not empty for two minutes. */
const POINTS_MIN = 20;
/** The picture's own measure. */
const WIDTH = 1_000;
const HEIGHT = 100;
/** Room for the stroke and the dot at the end. */
const MARGIN_X = 16;
const MARGIN_Y = 10;

export class Sparkline {
  readonly picture = svg("svg", {
    class: "trace",
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  readonly #area = svg("path", { class: "trace-area" });
  /** Where the line began, to read rise and fall without colour. */
  readonly #base = svg("path", { class: "trace-base" });
  readonly #line = svg("path", { class: "trace-line" });
  /** A stroke without a length is a dot, which does not stretch with the picture. */
  readonly #dot = svg("path", { class: "trace-dot" });

  constructor() {
    this.picture.append(this.#area, this.#base, this.#line, this.#dot);
  }

  show(points: Float64Array): void {
    const first = points[0];
    const last = points.at(-1);
    if (first === undefined || last === undefined || points.length < 2) {
      for (const part of [this.#area, this.#base, this.#line, this.#dot]) {
        part.setAttribute("d", "");
      }
      return;
    }
    let low = first;
    let high = first;
    for (const point of points) {
      low = Math.min(low, point);
      high = Math.max(high, point);
    }
    const right = WIDTH - MARGIN_X;
    const step = (right - MARGIN_X) / (Math.max(points.length, POINTS_MIN) - 1);
    const left = right - step * (points.length - 1);
    const yOf = (value: number): number =>
      high === low ? HEIGHT / 2 : Math.round(MARGIN_Y + ((high - value) / (high - low)) * (HEIGHT - 2 * MARGIN_Y));
    // A price that stands is one piece of the line.
    let line = `M${Math.round(left)} ${yOf(first)}`;
    let drawn = first;
    points.forEach((point, at) => {
      if (point !== drawn || at === points.length - 1) {
        if (at > 1 && points[at - 1] === drawn) {
          line += `L${Math.round(left + (at - 1) * step)} ${yOf(drawn)}`;
        }
        line += `L${Math.round(left + at * step)} ${yOf(point)}`;
        drawn = point;
      }
    });
    this.picture.dataset["trend"] = last > first ? "up" : last < first ? "down" : "none";
    this.#line.setAttribute("d", line);
    this.#area.setAttribute("d", `${line}V${HEIGHT}H${Math.round(left)}Z`);
    this.#base.setAttribute("d", `M${MARGIN_X} ${yOf(first)}H${right}`);
    this.#dot.setAttribute("d", `M${right} ${yOf(last)}h0`);
  }
}

function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string>>,
): SVGElementTagNameMap[K] {
  const created = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    created.setAttribute(name, value);
  }
  return created;
}
