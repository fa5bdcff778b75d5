/**
 * The page's end of the worker: one paint per animation frame.
 *
 * Invariant: market data touches the document only inside `requestAnimationFrame`, at most once per frame; the next update is
 * asked for only when the last has been painted.
 */
import type { Mode, PageMessage, Update } from "../model/update";

export class Feed {
  readonly #worker: Worker;

  constructor(paint: (update: Update) => void) {
    this.#worker = new Worker(new URL("../worker/main.ts", import.meta.url), { type: "module", name: "feed" });
    this.#worker.onmessage = (event: MessageEvent<Update>) => {
      requestAnimationFrame(() => {
        paint(event.data);
        this.#post({ type: "painted" });
      });
    };
  }

  start(): void {
    const url = new URL("ws", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.search = "";
    url.hash = "";
    this.#post({ type: "start", url: url.href });
  }

  watch(symbols: readonly string[]): void {
    this.#post({ type: "watch", symbols });
  }

  setMode(mode: Mode): void {
    this.#post({ type: "mode", mode });
  }

  reconnect(): void {
    this.#post({ type: "reconnect" });
  }

  #post(message: PageMessage): void {
    this.#worker.postMessage(message);
  }
}
