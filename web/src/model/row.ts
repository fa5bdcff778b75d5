/**
 * One instrument of the watch list: its values, and what of them the page has not seen yet.
 *
 * Invariant: `take` is the only place where integers become text, and it does so once per update, not once per tick.
 */
import {
  compare,
  type Decimal,
  type Event,
  formatDecimal,
  formatTrimmed,
  type Integer,
  type Level,
  type MarketPhase,
  subtract,
  type Timestamp,
} from "../../sdk/src/index";
import { Trace } from "./trace";
import type { Direction, Moving, RowUpdate } from "./update";

const EMPTY = "\u2014";
const NOWHERE: Moving = { text: EMPTY, moved: "none" };

interface Shown {
  bid?: Integer | undefined;
  ask?: Integer | undefined;
  last?: Integer | undefined;
}

interface Reference {
  readonly value: Decimal;
  readonly kind: "open" | "first seen";
}

export class Row {
  readonly symbol: string;
  #priceExponent: number | undefined;
  #market: MarketPhase | undefined;
  #refusal: string | undefined;
  #bid: Level | undefined;
  #ask: Level | undefined;
  #last: Decimal | undefined;
  #lastSize: Decimal | undefined;
  #lastTime: Timestamp | undefined;
  #reference: Reference | undefined;
  #trace = new Trace();
  #traceDue = false;
  /** What the page shows, to tell the direction of a move. */
  #shown: Shown = {};
  #dirty = true;
  /** Elements since the row was made, for sorting by activity. */
  #events = 0;

  constructor(symbol: string) {
    this.symbol = symbol;
  }

  /** Applies one event. */
  apply(event: Event): void {
    switch (event.type) {
      case "trade":
        this.#accept(event.price);
        this.#last = event.price;
        this.#lastSize = event.size;
        this.#lastTime = event.time;
        this.#reference ??= { value: event.price, kind: "first seen" };
        break;
      case "quote":
        this.#accept(event.bid?.price ?? event.ask?.price);
        this.#bid = event.bid;
        this.#ask = event.ask;
        break;
      case "ticker":
        this.#accept(event.last);
        this.#last ??= event.last;
        this.#reference = { value: event.open, kind: "open" };
        break;
      case "status":
        this.#market = event.code;
        break;
      case "refused":
        // The channel alone may be missing: a feed need not know of halts.
        if (event.code !== "unknown_channel") {
          this.#refusal = event.message === "" ? event.code : event.message;
          this.#dirty = true;
        }
        return;
      default:
        return;
    }
    this.#refusal = undefined;
    this.#dirty = true;
    this.#trace.set(this.#middle());
    if (event.snapshot) {
      // State, not a move: what is shown changes without a flash.
      this.#shown = this.#values();
    } else {
      this.#events += 1;
    }
  }

  /** By what rows are sorted: floats, since only their order counts. */
  rank(key: "last" | "change" | "spread" | "activity"): number | undefined {
    switch (key) {
      case "last":
        return this.#last?.toNumber();
      case "change": {
        const change = this.#change();
        const base = Number(this.#reference?.value.mantissa ?? 0);
        return change === undefined || base === 0 ? undefined : Number(change) / Math.abs(base);
      }
      case "spread": {
        const spread = this.#spread();
        const middle = this.#middle();
        return spread === undefined || middle === 0 ? undefined : Number(spread) / Math.abs(middle);
      }
      case "activity":
        return this.#events;
    }
  }

  /** `steps` of the trace's time have passed. */
  advance(steps: number): void {
    if (this.#trace.advance(steps)) {
      this.#traceDue = true;
    }
  }

  get pending(): boolean {
    return this.#dirty || this.#traceDue;
  }

  /** Show everything anew: the page has not this row, or not any more. */
  invalidate(): void {
    this.#dirty = true;
    this.#traceDue = true;
    this.#shown = {};
  }

  /** What the page must show now. */
  take(): RowUpdate {
    const update = this.#update(this.#traceDue ? this.#trace.points() : undefined);
    this.#shown = this.#values();
    this.#dirty = false;
    this.#traceDue = false;
    return update;
  }

  #update(trace: Float64Array | undefined): RowUpdate {
    const shown = this.#shown;
    const exponent = this.#priceExponent;
    const state = this.#refusal !== undefined ? "refused" : this.#hasValues() ? "live" : "waiting";
    const reason = this.#refusal ?? "";
    if (exponent === undefined) {
      return { ...blank(this.symbol), state, reason, market: this.#market, trace };
    }
    const price = (value: Integer | undefined): string =>
      value === undefined ? EMPTY : formatDecimal(value, exponent);
    const size = (value: Decimal | undefined): string =>
      value === undefined ? "" : formatTrimmed(value.mantissa, value.exponent);
    const change = this.#change();
    const now = this.#values();
    return {
      symbol: this.symbol,
      state,
      reason,
      market: this.#market,
      bid: { text: price(now.bid), moved: direction(shown.bid, now.bid) },
      bidSize: size(this.#bid?.size),
      ask: { text: price(now.ask), moved: direction(shown.ask, now.ask) },
      askSize: size(this.#ask?.size),
      spread: price(this.#spread()),
      last: { text: price(now.last), moved: direction(shown.last, now.last) },
      lastSize: size(this.#lastSize),
      lastTimeMs: this.#lastTime === undefined ? undefined : milliseconds(this.#lastTime),
      change: change === undefined ? EMPTY : formatDecimal(change, exponent, "plus"),
      changePercent: change === undefined ? EMPTY : percent(change, this.#reference?.value.mantissa ?? 0),
      trend: change === undefined ? "none" : direction(0, change),
      reference: this.#reference?.kind ?? "none",
      trace,
    };
  }

  #values(): Shown {
    return { bid: this.#bid?.price.mantissa, ask: this.#ask?.price.mantissa, last: this.#last?.mantissa };
  }

  #accept(price: Decimal | undefined): void {
    if (price !== undefined && price.exponent !== this.#priceExponent) {
      if (this.#priceExponent !== undefined) {
        // The old integers mean something else now.
        this.#forget();
      }
      this.#priceExponent = price.exponent;
    }
  }

  #hasValues(): boolean {
    return this.#last !== undefined || this.#bid !== undefined || this.#ask !== undefined;
  }

  #change(): Integer | undefined {
    return this.#last === undefined || this.#reference === undefined
      ? undefined
      : subtract(this.#last.mantissa, this.#reference.value.mantissa);
  }

  #spread(): Integer | undefined {
    return this.#bid === undefined || this.#ask === undefined
      ? undefined
      : subtract(this.#ask.price.mantissa, this.#bid.price.mantissa);
  }

  /** The middle of the quote, which also moves while nobody trades; the last price where there are no quotes. */
  #middle(): number {
    if (this.#bid !== undefined && this.#ask !== undefined) {
      return (Number(this.#bid.price.mantissa) + Number(this.#ask.price.mantissa)) / 2;
    }
    return Number((this.#last ?? this.#bid?.price ?? this.#ask?.price)?.mantissa ?? 0);
  }

  #forget(): void {
    this.#bid = undefined;
    this.#ask = undefined;
    this.#last = undefined;
    this.#lastSize = undefined;
    this.#lastTime = undefined;
    this.#reference = undefined;
    this.#trace.clear();
    this.#traceDue = true;
    this.#shown = {};
  }
}

function blank(symbol: string): RowUpdate {
  return {
    symbol,
    state: "waiting",
    reason: "",
    market: undefined,
    bid: NOWHERE,
    bidSize: "",
    ask: NOWHERE,
    askSize: "",
    spread: EMPTY,
    last: NOWHERE,
    lastSize: "",
    lastTimeMs: undefined,
    change: EMPTY,
    changePercent: EMPTY,
    trend: "none",
    reference: "none",
    trace: undefined,
  };
}

function milliseconds(time: Timestamp): number {
  return Number(time) / 1e6;
}

function direction(before: Integer | undefined, now: Integer | undefined): Direction {
  if (before === undefined || now === undefined) {
    return "none";
  }
  const order = compare(now, before);
  return order > 0 ? "up" : order < 0 ? "down" : "none";
}

/** A ratio and not a price: hundredths of a percent, rounded half away from zero in integers, then cut as text. */
function percent(change: Integer, reference: Integer): string {
  const base = BigInt(reference);
  if (base === 0n) {
    return EMPTY;
  }
  // Futures have been below zero: the sign is that of the change.
  const size = base < 0n ? -base : base;
  const scaled = BigInt(change) * 10_000n * 2n;
  const hundredths = (scaled + (scaled < 0n ? -size : size)) / (size * 2n);
  return `${formatDecimal(Number(hundredths), -2, "plus")}%`;
}
