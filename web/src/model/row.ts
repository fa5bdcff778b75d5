/**
 * One instrument of the watch list: its values, and what of them the page has not seen yet.
 *
 * Invariant: `take` is the only place where integers become text, and it does so once per update, not once per tick.
 */
import { formatDecimal, formatTrimmed } from "../protocol/decimal";
import { compare, type Integer, subtract } from "../protocol/integer";
import type { DataFrame, Element, Listing, Side, Timestamp } from "../protocol/messages";
import { milliseconds } from "./clock";
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
  readonly value: Integer;
  readonly kind: "open" | "first seen";
}

export class Row {
  readonly symbol: string;
  #listing: Listing | undefined;
  #refusal: string | undefined;
  #bid: Side | undefined;
  #ask: Side | undefined;
  #last: Integer | undefined;
  #lastSize: Integer | undefined;
  #lastTime: Timestamp | undefined;
  #reference: Reference | undefined;
  #trace = new Trace();
  #traceDue = false;
  /** What the page shows, to tell the direction of a move. */
  #shown: Shown = {};
  #dirty = true;
  /** The newest number per kind of element, to count what was skipped. */
  readonly #seqs = new Map<Element["kind"], Integer>();

  constructor(symbol: string) {
    this.symbol = symbol;
  }

  /** The server has accepted the subscription. */
  accept(listing: Listing): void {
    const known = this.#listing;
    if (
      known !== undefined &&
      (known.priceExponent !== listing.priceExponent || known.sizeExponent !== listing.sizeExponent)
    ) {
      // The old integers mean something else now.
      this.#forget();
    }
    this.#listing = listing;
    this.#refusal = undefined;
    this.#seqs.clear();
    this.#dirty = true;
  }

  refuse(reason: string): void {
    this.#refusal = reason;
    this.#dirty = true;
  }

  /** Applies one element; returns how many events it stands for, counting those that were skipped before it. */
  apply(element: Element, content: DataFrame["content"]): number {
    const before = this.#seqs.get(element.kind);
    this.#seqs.set(element.kind, element.seq);
    switch (element.kind) {
      case "trade":
        this.#last = element.price;
        this.#lastSize = element.size;
        this.#lastTime = element.time;
        this.#reference ??= { value: element.price, kind: "first seen" };
        break;
      case "quote":
        this.#bid = element.bid;
        this.#ask = element.ask;
        break;
      case "ticker":
        this.#last ??= element.last;
        this.#reference = { value: element.open, kind: "open" };
        break;
      case "gap":
        return 0;
    }
    this.#dirty = true;
    this.#trace.set(this.#middle());
    if (content === "snapshot") {
      // State, not a move: what is shown changes without a flash.
      this.#shown = { bid: this.#bid?.price, ask: this.#ask?.price, last: this.#last };
      return 0;
    }
    return before === undefined ? 1 : Math.max(1, Number(subtract(element.seq, before)));
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
    const shown = this.#shown;
    this.#shown = { bid: this.#bid?.price, ask: this.#ask?.price, last: this.#last };
    this.#dirty = false;
    const trace = this.#traceDue ? this.#trace.points() : undefined;
    this.#traceDue = false;
    const listing = this.#listing;
    const state = this.#refusal !== undefined ? "refused" : this.#hasValues() ? "live" : "waiting";
    if (listing === undefined) {
      return { ...blank(this.symbol), state, reason: this.#refusal ?? "", trace };
    }
    const price = (value: Integer | undefined): string =>
      value === undefined ? EMPTY : formatDecimal(value, listing.priceExponent);
    const size = (value: Integer | undefined): string =>
      value === undefined ? "" : formatTrimmed(value, listing.sizeExponent);
    const change = this.#change();
    return {
      symbol: this.symbol,
      state,
      reason: this.#refusal ?? "",
      bid: { text: price(this.#bid?.price), moved: direction(shown.bid, this.#bid?.price) },
      bidSize: size(this.#bid?.size),
      ask: { text: price(this.#ask?.price), moved: direction(shown.ask, this.#ask?.price) },
      askSize: size(this.#ask?.size),
      spread: price(this.#spread()),
      last: { text: price(this.#last), moved: direction(shown.last, this.#last) },
      lastSize: size(this.#lastSize),
      lastTimeMs: this.#lastTime === undefined ? undefined : milliseconds(this.#lastTime),
      change: change === undefined ? EMPTY : formatDecimal(change, listing.priceExponent, "plus"),
      changePercent: change === undefined ? EMPTY : percent(change, this.#reference?.value ?? 0),
      trend: change === undefined ? "none" : direction(0, change),
      reference: this.#reference?.kind ?? "none",
      trace,
    };
  }

  #hasValues(): boolean {
    return this.#last !== undefined || this.#bid !== undefined || this.#ask !== undefined;
  }

  #change(): Integer | undefined {
    return this.#last === undefined || this.#reference === undefined
      ? undefined
      : subtract(this.#last, this.#reference.value);
  }

  #spread(): Integer | undefined {
    return this.#bid === undefined || this.#ask === undefined ? undefined : subtract(this.#ask.price, this.#bid.price);
  }

  /** The middle of the quote, which also moves while nobody trades; the last price where there are no quotes. */
  #middle(): number {
    if (this.#bid !== undefined && this.#ask !== undefined) {
      return (Number(this.#bid.price) + Number(this.#ask.price)) / 2;
    }
    return Number(this.#last ?? this.#bid?.price ?? this.#ask?.price ?? 0);
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
