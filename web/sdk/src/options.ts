/**
 * What a client is made with, and what it tells beside subscriptions.
 */
import type { Connection } from "./core/link";
import type { Environment } from "./environment";
import type { Element, Instrument, Notice, Welcome } from "./protocol/messages";
import type { Transport } from "./transport/transport";
import type { WebSocketConstructor } from "./transport/websocket";

export interface ClientOptions {
  /** The server, such as `http://127.0.0.1:8080`; `ws:` and a path that ends in `/ws` are understood too. */
  readonly url: string;
  /** An API key or a token; a function is asked anew for each connection. */
  readonly token?: string | (() => string | Promise<string>);
  /** For runtimes without a global one (Node before 22): the one of the npm package `ws` fits. */
  readonly WebSocket?: WebSocketConstructor;
  readonly fetch?: typeof fetch;
  /** In the order in which to try them; if not given, WebSocket and then server-sent events. */
  readonly transports?: readonly Transport[];
  readonly environment?: Environment;
}

/** Counts since the client was made. */
export interface Statistics {
  /** Messages, and their bytes after decompression. */
  readonly frames: number;
  readonly bytes: number;
  /** Live elements. */
  readonly delivered: number;
  /** Replaced by newer ones at the server, as the rate `latest` asks for. */
  readonly conflated: number;
  /** Declared missing by gaps, of whatever reason but `epoch`. */
  readonly missed: number;
  /** Frames that could not be read. */
  readonly faults: number;
  readonly reconnects: number;
  /** Of this connection on the wire, frame headers included; known from the second on, over WebSocket. */
  readonly wireBytes: number | undefined;
  /** How many bytes were decoded for each of them. */
  readonly compression: number | undefined;
}

/** What can be listened to beside subscriptions. */
export interface ClientEvents {
  connection: Connection;
  welcome: Welcome;
  notice: Notice;
  /** A data frame has come, been read and handed out. */
  frame: { readonly sentAt: bigint; readonly receivedMs: number; readonly elements: readonly Element[] };
  /** Instruments that have appeared since. */
  instruments: readonly Instrument[];
  heartbeat: { readonly delivered: number; readonly dropped: number };
  /** A mistake that no subscription or request was about; the connection goes on. */
  fault: string;
}
