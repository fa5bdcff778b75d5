/**
 * The page's end of the worker: one paint per animation frame.
 *
 * Invariant: market data touches the document only inside `requestAnimationFrame`, at most once per frame; the next update is
 * asked for only when the last has been painted.
 */
import type { PageMessage, Update } from "../model/update";

export class Feed {
  readonly #worker: Worker;

  constructor(paint: (update: Update) => void) {
    this.#worker = new Worker(new URL("../worker/main.ts", import.meta.url), { type: "module", name: "feed" });
    this.#worker.onmessage = (event: MessageEvent<Update>) => {
      requestAnimationFrame(() => {
        paint(event.data);
        this.send({ type: "painted" });
      });
    };
  }

  start(): void {
    const url = new URL(".", document.baseURI);
    url.search = "";
    url.hash = "";
    this.send({ type: "start", url: url.href });
  }

  send(message: PageMessage): void {
    this.#worker.postMessage(message);
  }
}
