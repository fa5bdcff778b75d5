/**
 * Which transports a runtime has: WebSocket first, and server-sent events where it is blocked.
 */
import type { ClientOptions } from "./options";
import { EventStreamTransport } from "./transport/event-stream";
import type { Transport } from "./transport/transport";
import { type WebSocketConstructor, WebSocketTransport } from "./transport/websocket";

export function transportsOf(options: ClientOptions): Transport[] {
  const url = new URL(options.url);
  const secure = url.protocol === "https:" || url.protocol === "wss:";
  const path = url.pathname.replace(/\/ws$/, "/").replace(/\/?$/, "/");
  const base = `${url.host}${path}`;
  const socket = options.WebSocket ?? (globalThis.WebSocket as WebSocketConstructor | undefined);
  const fetcher = options.fetch ?? globalThis.fetch?.bind(globalThis);
  return [
    ...(socket === undefined ? [] : [new WebSocketTransport(`${secure ? "wss" : "ws"}://${base}ws`, socket)]),
    ...(fetcher === undefined
      ? []
      : [new EventStreamTransport(`${secure ? "https" : "http"}://${base}api/v1/stream`, fetcher)]),
  ];
}
