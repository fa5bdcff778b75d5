/**
 * Connection, rates and latency in words and figures.
 *
 * Invariant: every state is told by a word as well as by the lamp.
 */
import type { Connection, Mode, Status } from "../model/update";
import { announce, byId, create, setText } from "./dom";

const MODES: readonly { readonly name: string; readonly mode: Mode }[] = [
  { name: "every tick", mode: { mode: "every" } },
  { name: "50 ms", mode: { mode: "latest", intervalMs: 50 } },
  { name: "100 ms", mode: { mode: "latest", intervalMs: 100 } },
  { name: "250 ms", mode: { mode: "latest", intervalMs: 250 } },
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
  }

  showCount(watched: number, instruments: number): void {
    setText(
      this.#count,
      instruments === 0
        ? `${watched} watched`
        : `${watched} watched of ${instruments.toLocaleString("en")} instruments`,
    );
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
  if (status.dropped > 0) {
    parts.push(`${status.dropped.toLocaleString("en")} dropped`);
  }
  if (status.faults > 0) {
    parts.push(`${status.faults.toLocaleString("en")} unreadable`);
  }
  return parts.join(" · ");
}

function duration(ms: number): string {
  return ms < 9.95 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en");
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
