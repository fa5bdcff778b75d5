/**
 * What stands between a client and the server: it can cut every connection, and refuse WebSockets as some proxies do.
 *
 * Invariant: bytes are passed on as they are; nothing is sent in the name of the server but the refusal of an upgrade.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server as Listener, type Socket } from "node:net";

/** A request's head is read up to here; a longer one is passed on as it is. */
const HEAD_BYTES_MAX = 16_384;

export class Relay {
  /** The heads of the requests, first line and headers; one for each connection. */
  readonly heads: string[] = [];
  readonly #listener: Listener;
  readonly #sockets = new Set<Socket>();

  private constructor(listener: Listener) {
    this.#listener = listener;
  }

  static async start(target: string, upgrades: "pass" | "refuse"): Promise<Relay> {
    const { hostname, port } = new URL(target);
    const listener = createServer();
    const relay = new Relay(listener);
    listener.on("connection", (near) => {
      relay.#keep(near);
      let head = "";
      near.on("data", function begin(chunk: Buffer) {
        head += chunk.toString("latin1");
        if (!head.includes("\r\n\r\n") && head.length < HEAD_BYTES_MAX) {
          return;
        }
        near.off("data", begin);
        near.pause();
        relay.heads.push(head);
        if (upgrades === "refuse" && /^upgrade: *websocket/im.test(head)) {
          near.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
          return;
        }
        const far = connect(Number(port), hostname);
        relay.#keep(far);
        far.write(Buffer.from(head, "latin1"));
        near.pipe(far).pipe(near);
        near.once("close", () => far.destroy());
        far.once("close", () => near.destroy());
      });
    });
    listener.listen(0, "127.0.0.1");
    await once(listener, "listening");
    return relay;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#listener.address() as AddressInfo).port}`;
  }

  /** Ends every connection without a word. */
  cut(): void {
    for (const socket of this.#sockets) {
      socket.resetAndDestroy();
    }
  }

  stop(): void {
    this.#listener.close();
    this.cut();
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    // A cut is an error to the socket, and here the point of it.
    socket.on("error", () => {});
    socket.once("close", () => this.#sockets.delete(socket));
  }
}
