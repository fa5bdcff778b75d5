/**
 * What the server says, as checked types.
 *
 * Invariant: these types know nothing of MessagePack or JSON; `decode` and `decodeJson` are the only ways from bytes to them.
 */
import type { Decimal } from "./decimal";
import type { Integer } from "./integer";

/** Nanoseconds since the Unix epoch. */
export type Timestamp = bigint;

export type BarInterval = "1s" | "5s" | "10s" | "1m" | "5m" | "15m" | "1h" | "1d";
export type BookDepth = "10" | "50" | "full";

/** What can be subscribed. */
export type Channel = "trades" | "quotes" | "ticker" | "status" | `bars.${BarInterval}` | `book.${BookDepth}`;

/** What is needed to read an instrument's elements. */
export interface Listing {
  readonly symbol: string;
  readonly instrumentId: number;
  readonly priceExponent: number;
  readonly sizeExponent: number;
}

/** What is common to every event of the market. */
interface EventHead {
  readonly symbol: string;
  readonly channel: Channel;
  /** Counts per (symbol, channel), without a hole within an epoch. */
  readonly seq: Integer;
  /** The exchange's time. */
  readonly time: Timestamp;
  /** State to begin from, not something that has just happened. */
  readonly snapshot: boolean;
}

export interface Trade extends EventHead {
  readonly type: "trade";
  readonly channel: "trades";
  readonly price: Decimal;
  readonly size: Decimal;
  /** Who took: the aggressor. */
  readonly side: "buy" | "sell" | "unknown";
  /** 0: unknown. */
  readonly tradeId: Integer;
}

/** A price and how much there is at it. */
export interface Level {
  readonly price: Decimal;
  readonly size: Decimal;
}

export interface Quote extends EventHead {
  readonly type: "quote";
  readonly channel: "quotes";
  /** `undefined`: this side is empty. */
  readonly bid: Level | undefined;
  readonly ask: Level | undefined;
}

export interface Bar extends EventHead {
  readonly type: "bar";
  readonly channel: `bars.${BarInterval}`;
  /** `time` is when the bar opened. */
  readonly intervalS: number;
  readonly open: Decimal;
  readonly high: Decimal;
  readonly low: Decimal;
  readonly close: Decimal;
  readonly volume: Decimal;
  readonly tradeCount: number;
  readonly closed: boolean;
}

interface BookChange extends EventHead {
  readonly channel: `book.${BookDepth}`;
  readonly bids: readonly Level[];
  readonly asks: readonly Level[];
  /** CRC-32 of the ten best levels a side after this element. */
  readonly checksum: number;
}

/** The book is this, whatever it was. */
export interface BookSnapshot extends BookChange {
  readonly type: "book_snapshot";
}

/** These levels are new; size 0 deletes. */
export interface BookDelta extends BookChange {
  readonly type: "book_delta";
}

/** The statistics of the last 24 hours. */
export interface Ticker extends EventHead {
  readonly type: "ticker";
  readonly channel: "ticker";
  readonly last: Decimal;
  readonly open: Decimal;
  readonly high: Decimal;
  readonly low: Decimal;
  readonly volume: Decimal;
  /** The one approximate value of the protocol. */
  readonly turnover: number;
  readonly tradeCount: number;
}

export type MarketPhase = "pre_open" | "trading" | "halted" | "auction" | "closed";

export interface Status extends EventHead {
  readonly type: "status";
  readonly channel: "status";
  readonly code: MarketPhase;
  readonly reason: string;
}

/**
 * Why numbers are missing. From the server: `conflated` (it fell behind), `slow` (we did), `evicted` (away for too long),
 * `source` (the feed did not bring them). From this side: `queue` (the reader of a subscription fell behind), `epoch` (the
 * server began to count anew, so nobody can say how many), `hole` (numbers were missing and nobody said why).
 */
export type GapReason = "conflated" | "slow" | "evicted" | "source" | "queue" | "epoch" | "hole" | (string & {});

export interface Gap extends EventHead {
  readonly type: "gap";
  readonly fromSeq: Integer;
  /** The same as `seq`; with the reason `epoch` the last number that was seen, since there is no other. */
  readonly toSeq: Integer;
  readonly reason: GapReason;
}

/** What data frames are made of. */
export type Element = Trade | Quote | Bar | BookSnapshot | BookDelta | Ticker | Status | Gap;

/** Of a stream that is known, in words of a later server: it takes its number, and nobody is told. */
export interface Passed extends EventHead {
  readonly type: "passed";
}

export interface DataFrame {
  readonly type: "data";
  /** The gateway's clock when it built the frame. */
  readonly sentAt: Timestamp;
  readonly elements: readonly (Element | Passed)[];
  /** Elements of kinds or instruments that this side does not know. */
  readonly skipped: number;
}

/** An instrument as a person looks for it. */
export interface Instrument extends Listing {
  readonly tickSize: Decimal | undefined;
  readonly lotSize: Decimal | undefined;
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
  /** 0: the server did not say. */
  readonly messageBytesMax: number;
}

export type Recovery = "recovered" | "snapshot" | "gap" | (string & {});

export interface Subscribed {
  readonly type: "subscribed";
  readonly id: CommandId | undefined;
  readonly listings: readonly Listing[];
  /** How each stream of a resume goes on: symbol, channel, how. */
  readonly recovered: ReadonlyMap<string, ReadonlyMap<string, Recovery>>;
}

export interface Unsubscribed {
  readonly type: "unsubscribed";
  readonly id: CommandId | undefined;
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
  /** What the frames of this session came to on the wire; `undefined` from a server that does not count. */
  readonly sentBytes: number | undefined;
}

export interface Instruments {
  readonly type: "instruments";
  /** `undefined`: an announcement of new ones, not an answer. */
  readonly id: CommandId | undefined;
  readonly instruments: readonly Instrument[];
}

export interface Authenticated {
  readonly type: "authenticated";
}

/** A message of a later version. */
export interface Other {
  readonly type: "other";
  readonly name: string;
}

export type ControlMessage =
  | Welcome
  | Subscribed
  | Unsubscribed
  | CommandError
  | Heartbeat
  | Notice
  | Pong
  | Instruments
  | Authenticated
  | Other;

export type ServerMessage = DataFrame | ControlMessage;

/** Elements name instruments by number; this says which. */
export interface Directory {
  get(instrumentId: number): Listing | undefined;
}
