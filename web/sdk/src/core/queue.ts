/**
 * What waits for the reader of a subscription.
 *
 * Invariant: no more than `max` events wait, or four for each stream if that is more. At the bound the queue is *folded*: of
 * each stream the newest value is kept, and before it a gap with the reason `queue` says which numbers are gone. Of a book nothing
 * is kept, since deltas are of no use without those before; the fold names it, so that a snapshot can be asked for.
 */
import { type Integer, subtract } from "../protocol/integer";
import type { Element, Gap } from "../protocol/messages";

/** A symbol that the server does not serve, or that this client may not have. */
export interface Refused {
  readonly type: "refused";
  readonly symbol: string;
  readonly channel: string;
  readonly code: string;
  readonly message: string;
}

export type Event = Element | Refused;

/** Books that were folded away. */
export type Folded = readonly { readonly symbol: string; readonly channel: string }[];

interface Waiter {
  resolve(result: IteratorResult<Event, undefined>): void;
  reject(error: Error): void;
}

export class EventQueue {
  readonly #max: number;
  readonly #onFold: (books: Folded) => void;
  #bound: number;
  #events: Event[] = [];
  /** Where the first of `#events` that has not been read stands. */
  #head = 0;
  readonly #waiters: Waiter[] = [];
  #ended: { readonly error: Error | undefined } | undefined;
  #folds = 0;

  constructor(max: number, onFold: (books: Folded) => void) {
    this.#max = Math.max(1, max);
    this.#bound = this.#max;
    this.#onFold = onFold;
  }

  get length(): number {
    return this.#events.length - this.#head;
  }

  /** How often the reader fell so far behind that something was left out. */
  get folds(): number {
    return this.#folds;
  }

  push(event: Event): void {
    if (this.#ended !== undefined) {
      return;
    }
    const waiter = this.#waiters.shift();
    if (waiter !== undefined) {
      waiter.resolve({ value: event, done: false });
      return;
    }
    this.#events.push(event);
    if (this.length > this.#bound) {
      this.#fold();
    }
  }

  /** The next event; one call at a time is the rule, several are answered in order. */
  next(): Promise<IteratorResult<Event, undefined>> {
    const event = this.#events[this.#head];
    if (event !== undefined) {
      this.#head += 1;
      if (this.#head > 1_024 && this.#head * 2 > this.#events.length) {
        this.#events = this.#events.slice(this.#head);
        this.#head = 0;
      }
      return Promise.resolve({ value: event, done: false });
    }
    if (this.#ended !== undefined) {
      return this.#ended.error === undefined
        ? Promise.resolve({ value: undefined, done: true })
        : Promise.reject(this.#ended.error);
    }
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  /** What waits can still be read; then comes the end, or the error. */
  end(error?: Error): void {
    this.#ended ??= { error };
    for (const waiter of this.#waiters.splice(0)) {
      if (error === undefined) {
        waiter.resolve({ value: undefined, done: true });
      } else {
        waiter.reject(error);
      }
    }
  }

  #fold(): void {
    this.#folds += 1;
    const streams = new Map<string, Fold>();
    const others: Event[] = [];
    for (let at = this.#head; at < this.#events.length; at += 1) {
      const event = this.#events[at];
      if (event === undefined || event.type === "refused") {
        if (event !== undefined) {
          others.push(event);
        }
        continue;
      }
      const key = `${event.channel} ${event.symbol}`;
      const before = streams.get(key);
      // The map keeps the order in which streams were last seen.
      streams.delete(key);
      streams.set(key, before === undefined ? { first: event, last: event } : { first: before.first, last: event });
    }
    const books: { symbol: string; channel: string }[] = [];
    const folded: Event[] = others;
    for (const { first, last } of streams.values()) {
      const book = last.type === "book_delta" || (last.type === "gap" && last.channel.startsWith("book."));
      const upTo = book || last.type === "gap" ? last.seq : subtract(last.seq, 1);
      const from = first.type === "gap" ? first.fromSeq : first.seq;
      if (from <= upTo) {
        folded.push(queueGap(last, from, upTo));
      }
      if (book) {
        books.push({ symbol: last.symbol, channel: last.channel });
      } else if (last.type !== "gap") {
        folded.push(last);
      }
    }
    this.#events = folded;
    this.#head = 0;
    // With more streams than half the bound, each element would fold again.
    this.#bound = Math.max(this.#max, 2 * folded.length);
    if (books.length > 0) {
      this.#onFold(books);
    }
  }
}

interface Fold {
  readonly first: Element;
  readonly last: Element;
}

function queueGap(last: Element, fromSeq: Integer, toSeq: Integer): Gap {
  return {
    type: "gap",
    symbol: last.symbol,
    channel: last.channel,
    seq: toSeq,
    time: last.time,
    snapshot: false,
    fromSeq,
    toSeq,
    reason: "queue",
  };
}
