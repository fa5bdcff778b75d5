/**
 * Connection, rates and latency in words and figures.
 *
 * Invariant: every state is told by a word as well as by the lamp.
 */
import type { Connection, Mode, Status } from "../model/update";
import { LATENCY_STEPS_MS } from "../model/update";
import { showFacts } from "./detail-view";
import { announce, byId, create, setText } from "./dom";

const MODES: readonly { readonly name: string; readonly mode: Mode }[] = [
  { name: "every tick", mode: { mode: "every" } },
  { name: "50 ms", mode: { mode: "latest", intervalMs: 50 } },
  { name: "100 ms", mode: { mode: "latest", intervalMs: 100 } },
  { name: "250 ms", mode: { mode: "latest", intervalMs: 250 } },
  { name: "500 ms", mode: { mode: "latest", intervalMs: 500 } },
  { name: "1 s", mode: { mode: "latest", intervalMs: 1_000 } },
];
/** What the worker begins with. */
const MODE_DEFAULT = 2;

const SPOKEN: Readonly<Record<Connection["phase"], string>> = {
  connecting: "Connecting",
  live: "Connected: prices are live",
  waiting: "Connection lost, reconnecting",
  stopped: "Disconnected",
};

export class StatusView {
  readonly #lamp = byId("connection", HTMLDivElement);
  readonly #text = byId("connection-text", HTMLSpanElement);
  readonly #reconnect = byId("reconnect", HTMLButtonElement);
  readonly #notice = byId("notice", HTMLParagraphElement);
  readonly #rate = byId("meter-rate", HTMLElement);
  readonly #latency = byId("meter-latency", HTMLElement);
  readonly #server = byId("foot-server", HTMLSpanElement);
  readonly #clock = byId("foot-clock", HTMLSpanElement);
  readonly #count = byId("foot-count", HTMLSpanElement);

  readonly #panel = byId("link-panel", HTMLElement);
  readonly #facts = byId("link-facts", HTMLElement);
  readonly #histogram = byId("histogram", HTMLDivElement);
  readonly #conflation = byId("conflation", HTMLDivElement);
  readonly #conflationText = byId("conflation-text", HTMLSpanElement);
  #status: Status | undefined;

  constructor(onReconnect: () => void, onMode: (mode: Mode) => void) {
    this.#reconnect.addEventListener("click", onReconnect);
    const select = byId("rate", HTMLSelectElement);
    select.append(...MODES.map(({ name }, index) => create("option", { value: String(index) }, name)));
    select.selectedIndex = MODE_DEFAULT;
    select.addEventListener("change", () => {
      const chosen = MODES[select.selectedIndex];
      if (chosen !== undefined) {
        onMode(chosen.mode);
      }
    });
    this.#histogram.append(
      ...[...LATENCY_STEPS_MS, undefined].map((step) =>
        create("div", {}, create("i", {}), create("span", {}, step === undefined ? "more" : `${step}`)),
      ),
    );
  }

  setOpen(open: "open" | "closed"): void {
    this.#panel.hidden = open === "closed";
    if (this.#status !== undefined) {
      this.#showPanel(this.#status);
    }
  }

  show(status: Status): void {
    const { phase } = status.connection;
    if (this.#lamp.dataset["phase"] !== phase) {
      // The countdown would be read out every second.
      announce(SPOKEN[phase]);
    }
    this.#lamp.dataset["phase"] = phase;
    document.body.dataset["phase"] = phase;
    setText(this.#text, words(status.connection));
    this.#reconnect.hidden = phase !== "waiting" && phase !== "stopped";
    const notice = "reason" in status.connection ? status.connection.reason : status.notice;
    this.#notice.hidden = notice === "";
    setText(this.#notice, capitalised(notice));
    const live = phase === "live";
    setText(this.#rate, live ? rates(status) : "–");
    setText(
      this.#latency,
      live && status.latencyMedianMs !== undefined && status.latencyP99Ms !== undefined
        ? `${duration(status.latencyMedianMs)} / ${duration(status.latencyP99Ms)} ms`
        : "–",
    );
    setText(this.#server, status.version === "" ? "" : `server ${status.version} · epoch ${status.epoch}`);
    setText(this.#clock, live ? clock(status) : "");
    this.#status = status;
    if (!this.#panel.hidden) {
      this.#showPanel(status);
    }
  }

  #showPanel(status: Status): void {
    const figure = (value: number): string => Math.round(value).toLocaleString("en");
    showFacts(this.#facts, [
      ["State", words(status.connection)],
      ["Transport", status.transport === "sse" ? "server-sent events" : "WebSocket, MessagePack"],
      ["Session", status.session || "–"],
      ["Delivered", figure(status.delivered)],
      ["Conflated", figure(status.conflated)],
      ["Missed", figure(status.missed)],
      ["Decoded", bytes(status.bytes)],
      ["On the wire", status.wireBytes === undefined ? "–" : bytes(status.wireBytes)],
      ["Compression", status.compression === undefined ? "–" : `${status.compression.toFixed(1)} ×`],
      ["Rate", `${bytes(status.bytesPerSecond)}/s`],
      ["Frames", figure(status.frames)],
      ["Per frame", status.frames === 0 ? "–" : bytes(status.bytes / status.frames)],
      ["Reconnects", figure(status.reconnects)],
      ["Round trip", status.roundTripMs === undefined ? "–" : `${duration(status.roundTripMs)} ms`],
    ]);
    const most = Math.max(...status.latencyHistogram, 1);
    status.latencyHistogram.forEach((count, at) => {
      const bar = this.#histogram.children[at]?.firstElementChild;
      if (bar instanceof HTMLElement) {
        bar.style.height = `${(count / most) * 100}%`;
        bar.title = `${count} frames`;
      }
    });
    this.#histogram.setAttribute(
      "aria-label",
      `Latency of frames: ${status.latencyHistogram.map((count, at) => `${count} up to ${LATENCY_STEPS_MS[at] ?? "more"}`).join(", ")} ms`,
    );
    const market = status.marketPerSecond;
    const part = market === 0 ? 1 : Math.min(1, status.receivedPerSecond / market);
    this.#conflation.style.setProperty("--part", part.toFixed(3));
    setText(
      this.#conflationText,
      part > 0.995
        ? "nothing, every tick is sent"
        : `of ${figure(market)} ticks/s ${figure(status.receivedPerSecond)} are sent, the others were replaced by newer ones`,
    );
  }

  showCount(watched: number, instruments: number): void {
    const of = instruments === 0 ? "" : ` of ${instruments.toLocaleString("en")} instruments`;
    setText(this.#count, `${watched.toLocaleString("en")} watched${of}`);
  }
}

function words(connection: Connection): string {
  switch (connection.phase) {
    case "connecting":
      return "Connecting";
    case "live":
      return "Live";
    case "waiting":
      return `Reconnecting in ${Math.ceil(connection.retryInMs / 1_000)} s`;
    case "stopped":
      return "Disconnected";
  }
}

function rates(status: Status): string {
  const market = Math.round(status.marketPerSecond).toLocaleString("en");
  const received = Math.round(status.receivedPerSecond).toLocaleString("en");
  return market === received ? market : `${market} (${received})`;
}

function clock(status: Status): string {
  const parts: string[] = [];
  if (status.roundTripMs !== undefined) {
    parts.push(`ping ${duration(status.roundTripMs)} ms`);
  }
  if (status.clockOffsetMs !== 0) {
    parts.push(
      `server clock ${status.clockOffsetMs > 0 ? "ahead" : "behind"} by ${duration(Math.abs(status.clockOffsetMs))} ms`,
    );
  }
  if (status.missed > 0) {
    parts.push(`${status.missed.toLocaleString("en")} missed`);
  }
  if (status.faults > 0) {
    parts.push(`${status.faults.toLocaleString("en")} unreadable`);
  }
  return parts.join(" · ");
}

function bytes(count: number): string {
  if (count < 1_000) {
    return `${Math.round(count)} B`;
  }
  return count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

function duration(ms: number): string {
  return ms < 9.95 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en");
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
