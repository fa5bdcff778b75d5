/**
 * The page's end of the worker: paints, and rests in between.
 *
 * Invariant: market data touches the document only inside `requestAnimationFrame`; the next update is asked for only when the last
 * has been painted, and the page has then been free for as long as that took. So however much the market moves, half of the time
 * is left for scrolling, typing and the frames in between, and a slow machine shows fewer updates instead of a stuck page.
 */
import type { PageMessage, Update } from "../model/update";

/** Nobody reads numbers that change more often. An update after a calm is painted with the next frame. */
const UPDATE_INTERVAL_MS = 40;

export class Feed {
  readonly #worker: Worker;
  /** Its message comes when the frame has been laid out and painted, which takes longer than the changes themselves. */
  readonly #afterFrame = new MessageChannel();
  #begunMs = 0;

  constructor(paint: (update: Update) => void) {
    this.#worker = new Worker(new URL("../worker/main.ts", import.meta.url), { type: "module", name: "feed" });
    this.#worker.onmessage = (event: MessageEvent<Update>) => {
      requestAnimationFrame(() => {
        this.#begunMs = performance.now();
        paint(event.data);
        this.#afterFrame.port2.postMessage(undefined);
      });
    };
    this.#afterFrame.port1.onmessage = () => {
      const took = performance.now() - this.#begunMs;
      setTimeout(() => this.send({ type: "painted" }), Math.max(took, UPDATE_INTERVAL_MS - took));
    };
  }

  start(token: string | undefined): void {
    const url = new URL(".", document.baseURI);
    url.search = "";
    url.hash = "";
    this.send({ type: "start", url: url.href, token });
  }

  send(message: PageMessage): void {
    this.#worker.postMessage(message);
  }
}
