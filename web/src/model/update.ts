/**
 * What passes between the worker and the page.
 *
 * Invariant: everything here survives a structured clone and is ready to show: the page formats no price and compares none.
 * Numbers that stand for prices are for pixels (charts, widths of bars) and are never shown as digits.
 */
import type { BarInterval, MarketPhase } from "../../sdk/src/index";

/** An instrument as a person looks for it. */
export interface Instrument {
  readonly symbol: string;
  readonly assetClass: string;
  readonly currency: string;
  readonly description: string;
}

/** Every element, or the newest per interval. */
export type Mode = { readonly mode: "every" } | { readonly mode: "latest"; readonly intervalMs: number };

export type SortKey = "none" | "symbol" | "last" | "change" | "spread" | "activity";

export interface Sort {
  readonly key: SortKey;
  readonly order: "ascending" | "descending";
}

export type Depth = "10" | "50";

/** Page to worker. */
export type PageMessage =
  | { readonly type: "start"; readonly url: string; readonly token: string | undefined }
  /** `*` alone is everything that the server has. */
  | { readonly type: "watch"; readonly symbols: readonly string[] }
  /** Which rows in which order, and of them those on the screen. */
  | { readonly type: "arrange"; readonly sort: Sort; readonly filter: string }
  | { readonly type: "sight"; readonly symbols: readonly string[] }
  | { readonly type: "mode"; readonly mode: Mode }
  | { readonly type: "select"; readonly symbol: string | undefined }
  | { readonly type: "interval"; readonly interval: BarInterval }
  | { readonly type: "depth"; readonly depth: Depth }
  | { readonly type: "reconnect" }
  /** The last update is on the screen: the next may come. */
  | { readonly type: "painted" };

/** Worker to page, at most one for each `painted`. */
export interface Update {
  readonly status: Status | undefined;
  /** The whole list, when it changed. */
  readonly instruments: readonly Instrument[] | undefined;
  /** The symbols of the rows in their order, when that changed. */
  readonly order: readonly string[] | undefined;
  /** The rows on the screen that changed. */
  readonly rows: readonly RowUpdate[];
  readonly detail: DetailUpdate | undefined;
}

export type Direction = "up" | "down" | "none";

/** A text, and how its value moved against the one shown before. */
export interface Moving {
  readonly text: string;
  readonly moved: Direction;
}

export interface RowUpdate {
  readonly symbol: string;
  /** `refused`: the server does not serve this symbol, `reason` says why. */
  readonly state: "waiting" | "live" | "refused";
  readonly reason: string;
  /** `undefined` while nothing is known of it, which is taken for trading. */
  readonly market: MarketPhase | undefined;
  readonly bid: Moving;
  readonly bidSize: string;
  readonly ask: Moving;
  readonly askSize: string;
  readonly spread: string;
  readonly last: Moving;
  readonly lastSize: string;
  /** Of the last trade, milliseconds since the Unix epoch. */
  readonly lastTimeMs: number | undefined;
  readonly change: string;
  readonly changePercent: string;
  readonly trend: Direction;
  /** What the change is against. */
  readonly reference: "open" | "first seen" | "none";
  readonly trace: Float64Array | undefined;
}

/** What the view of one instrument shows anew. What is `undefined` has not changed. */
export interface DetailUpdate {
  readonly symbol: string;
  readonly row: RowUpdate | undefined;
  readonly statistics: DayStatistics | undefined;
  readonly market: { readonly phase: MarketPhase | undefined; readonly reason: string } | undefined;
  readonly book: BookUpdate | undefined;
  /** Newest first. */
  readonly trades: readonly TradeLine[];
  readonly bars: BarsUpdate | undefined;
}

export interface DayStatistics {
  readonly open: string;
  readonly high: string;
  readonly low: string;
  readonly last: string;
  readonly volume: string;
  readonly turnover: string;
  readonly trades: string;
  /** Where the last price stands between low and high, 0 to 1. */
  readonly position: number;
}

export interface BookLine {
  readonly price: string;
  readonly size: string;
  readonly total: string;
  /** For pixels. */
  readonly priceValue: number;
  readonly totalValue: number;
  readonly sizeValue: number;
}

export interface BookUpdate {
  /** `mending`: a checksum did not come out, or something was missed; a snapshot is on its way. */
  readonly state: "waiting" | "verified" | "mending" | "refused";
  readonly reason: string;
  readonly bids: readonly BookLine[];
  readonly asks: readonly BookLine[];
  readonly spread: string;
  readonly verified: number;
  readonly mismatches: number;
}

export interface TradeLine {
  /** To tell one from another. */
  readonly key: string;
  readonly timeMs: number;
  readonly price: string;
  readonly size: string;
  readonly side: "buy" | "sell" | "unknown";
  /** Set instead of a trade: so many are missing here, and why. */
  readonly gap: string | undefined;
}

/** A bar for the chart: floats, since they become pixels. */
export interface ChartBar {
  /** Seconds since the Unix epoch. */
  readonly time: number;
  readonly open: number;
  readonly high: number;
  readonly low: number;
  readonly close: number;
  readonly volume: number;
}

export interface BarsUpdate {
  readonly interval: BarInterval;
  /** `all` replaces what is there. */
  readonly kind: "all" | "newer";
  readonly bars: readonly ChartBar[];
  /** Decimals of the price scale. */
  readonly decimals: number;
}

export type Connection =
  | { readonly phase: "connecting" }
  | { readonly phase: "live" }
  /** `retryInMs` counts from the update. */
  | { readonly phase: "waiting"; readonly retryInMs: number; readonly attempt: number; readonly reason: string }
  /** The server does not want this page back; a person may try. */
  | { readonly phase: "stopped"; readonly reason: string };

export interface Status {
  readonly connection: Connection;
  readonly transport: "websocket" | "sse" | undefined;
  /** Connected, but told that something is wrong or ending. */
  readonly notice: string;
  /** The server wants to know who this is; what it was told, if anything, was not enough. */
  readonly access: "granted" | "asked";
  /** Events that reached this page. */
  readonly receivedPerSecond: number;
  /** Events of the watched instruments in all, those included that mode `latest` skipped. */
  readonly marketPerSecond: number;
  readonly bytesPerSecond: number;
  /** From the server's `sent_at` to its receipt here. */
  readonly latencyMedianMs: number | undefined;
  readonly latencyP99Ms: number | undefined;
  /** Frames of the last 10 s by latency, in the steps of `LATENCY_STEPS_MS`; the last counts all beyond. */
  readonly latencyHistogram: readonly number[];
  readonly roundTripMs: number | undefined;
  /** The server's clock less this machine's, corrected for in the latency; 0 when it cannot be told from 0. */
  readonly clockOffsetMs: number;
  readonly version: string;
  readonly session: string;
  readonly epoch: string;
  readonly delivered: number;
  readonly conflated: number;
  readonly missed: number;
  /** Of all that this page decoded, after decompression. */
  readonly bytes: number;
  /** Of this connection on the wire, as the server counts it. */
  readonly wireBytes: number | undefined;
  /** How many bytes were decoded for each of them. */
  readonly compression: number | undefined;
  readonly frames: number;
  readonly reconnects: number;
  /** Frames that could not be read. */
  readonly faults: number;
}

/** Upper bounds of the histogram's steps. */
export const LATENCY_STEPS_MS: readonly number[] = [0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256];
