/**
 * A way to the server.
 *
 * Invariant: after `close` nothing is reported; `closed` is reported once, or `refused` in its place.
 */

/** What a transport tells the client. */
export interface TransportHandler {
  /** A message: MessagePack in bytes, or JSON in text. */
  message(data: Uint8Array | string): void;
  /** The connection lives, though it said nothing. */
  alive(): void;
  /** One-way: the state of everything that was wished has been sent. */
  stated(): void;
  /** One-way: the server does not serve the wish; its `error`, in JSON, says what of it. It is over. */
  refused(error: string): void;
  /** It is over, or never began. `code` is that of a WebSocket close frame, or one that means the same. */
  closed(code: number, reason: string, retryAfterMs?: number | undefined): void;
}

export interface Channels {
  send(bytes: Uint8Array<ArrayBuffer>): void;
  close(): void;
}

/** What a one-way transport is to bring, since it cannot be told later. */
export interface Wish {
  readonly channels: readonly string[];
  readonly symbols: readonly string[];
  /** `undefined`: every element. */
  readonly intervalMs: number | undefined;
  /** Whether to go on from where the last connection broke off; if not, the state comes first. */
  readonly resume: boolean;
}

export interface Transport {
  readonly name: "websocket" | "sse";
  /** Whether commands can be sent. */
  readonly direction: "two-way" | "one-way";
  open(handler: TransportHandler, wish: Wish, token: string | undefined): Channels;
  /** The list of instruments in JSON, where no command can ask for it. */
  instruments?(token: string | undefined): Promise<string>;
}
