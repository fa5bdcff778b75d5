/**
 * Chromium's own protocol, for what Playwright does not reach: a worker's heap.
 *
 * Invariant: an answer goes to whom the question was from; nothing else is kept.
 */
import WebSocket from "ws";

export class Devtools {
  worker;
  #socket;
  #id = 0;
  #answers = new Map();

  static async connect(url) {
    const devtools = new Devtools();
    devtools.#socket = new WebSocket(url);
    devtools.#socket.on("message", (data) => devtools.#message(JSON.parse(data)));
    await new Promise((open) => devtools.#socket.once("open", open));
    await devtools.send("Target.setAutoAttach", { autoAttach: true, waitForDebuggerOnStart: false, flatten: true });
    return devtools;
  }

  send(method, params = {}, sessionId = undefined) {
    this.#id += 1;
    const id = this.#id;
    return new Promise((answered) => {
      this.#answers.set(id, answered);
      this.#socket.send(JSON.stringify({ id, method, params, sessionId }));
    });
  }

  /** Bytes in use after a collection. */
  async heap(sessionId) {
    await this.send("HeapProfiler.collectGarbage", {}, sessionId);
    const { usedSize } = await this.send("Runtime.getHeapUsage", {}, sessionId);
    return usedSize;
  }

  close() {
    this.#socket.close();
  }

  #message({ id, result, method, params }) {
    if (method === "Target.attachedToTarget") {
      this.worker = params.sessionId;
    } else if (id !== undefined) {
      this.#answers.get(id)?.(result ?? {});
      this.#answers.delete(id);
    }
  }
}
