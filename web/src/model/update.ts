/**
 * What passes between the worker and the page.
 *
 * Invariant: everything here survives a structured clone and is ready to show: the page formats no price and compares none.
 */
import type { Mode } from "../protocol/commands";
import type { Instrument } from "../protocol/messages";

export type { Instrument, Mode };

/** Page to worker. */
export type PageMessage =
  | { readonly type: "start"; readonly url: string }
  | { readonly type: "watch"; readonly symbols: readonly string[] }
  | { readonly type: "mode"; readonly mode: Mode }
  | { readonly type: "reconnect" }
  /** The last update is on the screen: the next may come. */
  | { readonly type: "painted" };

/** Worker to page, at most one for each `painted`. */
export interface Update {
  readonly status: Status | undefined;
  /** The whole list, when it changed. */
  readonly instruments: readonly Instrument[] | undefined;
  /** The rows that changed. */
  readonly rows: readonly RowUpdate[];
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

export type Connection =
  | { readonly phase: "connecting" }
  | { readonly phase: "live" }
  /** `retryInMs` counts from the update. */
  | { readonly phase: "waiting"; readonly retryInMs: number; readonly attempt: number; readonly reason: string }
  /** The server does not want this page back; a person may try. */
  | { readonly phase: "stopped"; readonly reason: string };

export interface Status {
  readonly connection: Connection;
  /** Connected, but told that something is wrong or ending. */
  readonly notice: string;
  /** Events that reached this page. */
  readonly receivedPerSecond: number;
  /** Events of the watched instruments in all, those included that mode `latest` skipped. */
  readonly marketPerSecond: number;
  /** From the server's `sent_at` to its receipt here. */
  readonly latencyMedianMs: number | undefined;
  readonly latencyP99Ms: number | undefined;
  readonly roundTripMs: number | undefined;
  /** The server's clock less this machine's, corrected for in the latency; 0 when it cannot be told from 0. */
  readonly clockOffsetMs: number;
  readonly version: string;
  readonly session: string;
  readonly epoch: string;
  readonly dropped: number;
  /** Frames that could not be read. */
  readonly faults: number;
}
