/**
 * An order book that is kept for you: verified after each change, and mended by itself.
 *
 * Invariant: while `known` is true its checksum has come out; after a mismatch nothing is shown until a new snapshot is there.
 */
import { OrderBook } from "./core/book";
import type { Refused } from "./core/queue";
import type { Integer } from "./protocol/integer";
import type { BookDelta, BookDepth, BookSnapshot, Gap, Level } from "./protocol/messages";
import type { Rate, SubscribeOptions, Subscription } from "./subscription";

export interface BookOptions {
  /** Default `10`. */
  readonly depth?: BookDepth;
  /** Default `every`. */
  readonly rate?: Rate;
  /** Called after each change. */
  readonly onChange?: (book: LiveBook) => void;
}

type BookChannel = `book.${BookDepth}`;
type BookEvent = BookSnapshot | BookDelta | Gap | Refused;

/** What a book asks of the client. */
export interface BookPort {
  subscribe(options: SubscribeOptions<BookChannel>): Subscription<BookChannel>;
  /** Calls later; the answer takes it back. */
  schedule(call: () => void, afterMs: number): () => void;
}

/** The first repair is at once; a book that breaks again before a delta came out right waits, doubling up to this. */
const REPAIR_WAIT_MAX_MS = 30_000;

export class LiveBook {
  readonly symbol: string;
  readonly depth: BookDepth;
  readonly #book = new OrderBook();
  readonly #port: BookPort;
  readonly #subscription: Subscription<BookChannel>;
  readonly #onChange: ((book: LiveBook) => void) | undefined;
  readonly #waiting: (() => void)[] = [];
  #verified = 0;
  #mismatches = 0;
  /** Repairs since a delta last came out right. */
  #failures = 0;
  #cancelRepair: (() => void) | undefined;
  #refusal: Refused | undefined;

  constructor(symbol: string, options: BookOptions, port: BookPort) {
    this.symbol = symbol;
    this.depth = options.depth ?? "10";
    this.#onChange = options.onChange;
    this.#port = port;
    this.#subscription = port.subscribe({
      channels: [`book.${this.depth}`],
      symbols: [symbol],
      rate: options.rate ?? "every",
      onEvent: (event) => this.#event(event),
    });
  }

  /** Whether the book is complete and verified. */
  get known(): boolean {
    return this.#book.known;
  }

  /** Highest price first. */
  get bids(): readonly Level[] {
    return this.#book.bids;
  }

  /** Lowest price first. */
  get asks(): readonly Level[] {
    return this.#book.asks;
  }

  get seq(): Integer {
    return this.#book.seq;
  }

  /** Changes whose checksum came out. */
  get verified(): number {
    return this.#verified;
  }

  /** Changes whose checksum did not; each was mended with a new snapshot. */
  get mismatches(): number {
    return this.#mismatches;
  }

  /** Why the server does not serve this book, if it does not. */
  get refusal(): Refused | undefined {
    return this.#refusal;
  }

  /** Resolves when the book is complete; at once if it is. */
  ready(): Promise<void> {
    return this.known ? Promise.resolve() : new Promise((resolve) => this.#waiting.push(resolve));
  }

  setRate(rate: Rate): void {
    this.#subscription.setRate(rate);
  }

  close(): void {
    this.#cancelRepair?.();
    this.#subscription.close();
  }

  #event(event: BookEvent): void {
    switch (event.type) {
      case "refused":
        this.#refusal = event;
        break;
      case "gap":
        // Deltas are missing; unless the server has a snapshot on its way, the checksum would only tell later.
        this.#book.clear();
        this.#repair();
        break;
      case "book_snapshot":
      case "book_delta":
        switch (this.#book.apply(event)) {
          case "ignored":
            return;
          case "mismatch":
            this.#mismatches += 1;
            this.#repair();
            break;
          case "applied":
            this.#applied(event);
            break;
        }
        break;
    }
    this.#onChange?.(this);
  }

  #applied(event: BookSnapshot | BookDelta): void {
    this.#verified += 1;
    if (event.type === "book_delta") {
      this.#failures = 0;
    } else {
      this.#cancelRepair?.();
      this.#cancelRepair = undefined;
    }
    if (this.known) {
      for (const resolve of this.#waiting.splice(0)) {
        resolve();
      }
    }
  }

  #repair(): void {
    if (this.#cancelRepair === undefined) {
      const wait = this.#failures === 0 ? 0 : Math.min(REPAIR_WAIT_MAX_MS, 1_000 * 2 ** (this.#failures - 1));
      this.#failures += 1;
      this.#cancelRepair = this.#port.schedule(() => {
        this.#cancelRepair = undefined;
        this.#subscription.refresh(this.symbol, `book.${this.depth}`);
      }, wait);
    }
  }
}
