/**
 * What the server says, as checked types.
 *
 * Invariant: these types know nothing of MessagePack; `decode` is the only way from bytes to them.
 */
import type { Integer } from "./integer";

/** Nanoseconds since the Unix epoch. */
export type Timestamp = bigint;

/** What is common to every element of a data frame. */
interface ElementHead {
  readonly instrumentId: number;
  /** Counts per (instrument, channel). */
  readonly seq: Integer;
  /** The exchange's time. */
  readonly time: Timestamp;
}

export interface Trade extends ElementHead {
  readonly kind: "trade";
  readonly price: Integer;
  readonly size: Integer;
  readonly aggressor: "buy" | "sell" | "unknown";
}

/** One side of a quote that has somebody in it. */
export interface Side {
  readonly price: Integer;
  readonly size: Integer;
}

export interface Quote extends ElementHead {
  readonly kind: "quote";
  /** `undefined`: this side is empty. */
  readonly bid: Side | undefined;
  readonly ask: Side | undefined;
}

/** The statistics of the day. */
export interface Ticker extends ElementHead {
  readonly kind: "ticker";
  readonly last: Integer;
  readonly open: Integer;
  readonly high: Integer;
  readonly low: Integer;
  readonly volume: Integer;
}

/** Why the sequence numbers `fromSeq` to `seq` were not sent. */
export interface Gap extends ElementHead {
  readonly kind: "gap";
  readonly channel: string;
  readonly fromSeq: Integer;
  readonly reason: string;
}

export type Element = Trade | Quote | Ticker | Gap;

export interface DataFrame {
  readonly type: "data";
  /** The gateway's clock when it built the frame. */
  readonly sentAt: Timestamp;
  /** State to begin from, or events. */
  readonly content: "snapshot" | "live";
  readonly elements: readonly Element[];
}

/** What is needed to read an instrument's elements. */
export interface Listing {
  readonly symbol: string;
  readonly instrumentId: number;
  readonly priceExponent: number;
  readonly sizeExponent: number;
}

/** An instrument as a person looks for it. */
export interface Instrument extends Listing {
  readonly assetClass: string;
  readonly currency: string;
  readonly description: string;
}

export type CommandId = number;

export interface Welcome {
  readonly type: "welcome";
  readonly version: string;
  readonly session: string;
  readonly epoch: string;
  readonly heartbeatMs: number;
}

export interface Subscribed {
  readonly type: "subscribed";
  readonly id: CommandId | undefined;
  readonly listings: readonly Listing[];
}

export interface CommandError {
  readonly type: "error";
  readonly id: CommandId | undefined;
  readonly code: string;
  readonly message: string;
  readonly symbols: readonly string[];
}

export interface Heartbeat {
  readonly type: "heartbeat";
  readonly delivered: number;
  readonly dropped: number;
}

export interface Notice {
  readonly type: "notice";
  readonly code: string;
  readonly message: string;
  readonly reconnectAfterMs: number | undefined;
}

export interface Pong {
  readonly type: "pong";
  readonly id: CommandId | undefined;
  readonly time: Timestamp;
}

export interface Instruments {
  readonly type: "instruments";
  /** `undefined`: an announcement of new ones, not an answer. */
  readonly id: CommandId | undefined;
  readonly instruments: readonly Instrument[];
}

/** A message that this page has no use for. */
export interface Other {
  readonly type: "other";
  readonly name: string;
}

export type ServerMessage =
  | DataFrame
  | Welcome
  | Subscribed
  | CommandError
  | Heartbeat
  | Notice
  | Pong
  | Instruments
  | Other;
