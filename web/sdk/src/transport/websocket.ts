/**
 * The protocol over a WebSocket, in MessagePack.
 *
 * Invariant: an abandoned socket may still have events queued; they are nobody's and are not reported.
 */
import { SUBPROTOCOL } from "../protocol/commands";
import type { Channels, Transport, TransportHandler } from "./transport";

/** The part of the browser's WebSocket that is used; the npm package `ws` has it too. */
export interface WebSocketLike {
  binaryType: string;
  readonly readyState: number;
  // biome-ignore lint/suspicious/noExplicitAny: each implementation has event types of its own.
  onmessage: ((event: any) => void) | null;
  // biome-ignore lint/suspicious/noExplicitAny: as above.
  onclose: ((event: any) => void) | null;
  // biome-ignore lint/suspicious/noExplicitAny: as above.
  onerror: ((event: any) => void) | null;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
}

export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

const OPEN = 1;

export class WebSocketTransport implements Transport {
  readonly name = "websocket";
  readonly direction = "two-way";
  readonly #url: string;
  readonly #socket: WebSocketConstructor;

  constructor(url: string, socket: WebSocketConstructor) {
    this.#url = url;
    this.#socket = socket;
  }

  open(handler: TransportHandler): Channels {
    const socket = new this.#socket(this.#url, [SUBPROTOCOL]);
    socket.binaryType = "arraybuffer";
    let listening = true;
    socket.onmessage = (event: { readonly data: unknown }) => {
      if (listening) {
        handler.message(event.data instanceof ArrayBuffer ? new Uint8Array(event.data) : String(event.data));
      }
    };
    socket.onclose = (event: { readonly code: number; readonly reason: string }) => {
      if (listening) {
        listening = false;
        handler.closed(event.code, event.reason);
      }
    };
    // Without a listener, Node's would end the process. The close event follows and says more.
    socket.onerror = () => {};
    return {
      send: (bytes) => {
        if (socket.readyState === OPEN) {
          socket.send(bytes);
        }
      },
      close: () => {
        listening = false;
        socket.close(1000);
      },
    };
  }
}
