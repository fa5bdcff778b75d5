/**
 * An order book, kept from snapshots and deltas and held to their checksums.
 *
 * Invariant: both sides are sorted best first, no price stands twice, and a book whose checksum did not come out says that it
 * is `unknown` rather than show what may be wrong.
 */

import type { Integer } from "../protocol/integer";
import type { BookDelta, BookSnapshot, Level, Timestamp } from "../protocol/messages";
import { crc32 } from "./crc32";

/** `ignored`: a delta while nothing is known. `mismatch`: something was lost; a new snapshot is needed. */
export type Applied = "applied" | "ignored" | "mismatch";

/** The checksum covers so many levels a side. */
const CHECKED_LEVELS = 10;

export class OrderBook {
  readonly #bids: Level[] = [];
  readonly #asks: Level[] = [];
  #known = false;
  #seq: Integer = 0;
  #time: Timestamp = 0n;

  apply(change: BookSnapshot | BookDelta): Applied {
    if (change.type === "book_snapshot") {
      this.clear();
      // Empty with checksum 0, live: the source itself does not know the book until its next snapshot.
      this.#known = change.snapshot || change.checksum !== 0 || change.bids.length + change.asks.length > 0;
    } else if (!this.#known) {
      return "ignored";
    }
    for (const bid of change.bids) {
      put(this.#bids, bid, -1);
    }
    for (const ask of change.asks) {
      put(this.#asks, ask, 1);
    }
    this.#seq = change.seq;
    this.#time = change.time;
    if (this.#known && this.checksum() !== change.checksum) {
      this.clear();
      return "mismatch";
    }
    return "applied";
  }

  /** Nothing is known of the book until the next snapshot. */
  clear(): void {
    this.#bids.length = 0;
    this.#asks.length = 0;
    this.#known = false;
  }

  /** Whether a snapshot has come and everything since. */
  get known(): boolean {
    return this.#known;
  }

  /** Highest price first. */
  get bids(): readonly Level[] {
    return this.#bids;
  }

  /** Lowest price first. */
  get asks(): readonly Level[] {
    return this.#asks;
  }

  /** Of the last element that was applied. */
  get seq(): Integer {
    return this.#seq;
  }

  get time(): Timestamp {
    return this.#time;
  }

  checksum(): number {
    let digits = "";
    for (const side of [this.#asks, this.#bids]) {
      for (let at = 0; at < Math.min(side.length, CHECKED_LEVELS); at += 1) {
        const level = side[at];
        if (level !== undefined) {
          digits += `${level.price.mantissa}${level.size.mantissa}`;
        }
      }
    }
    return crc32(digits);
  }
}

/** `order` is 1 where lower prices are better. */
function put(side: Level[], level: Level, order: 1 | -1): void {
  let low = 0;
  let high = side.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const at = side[middle];
    if (at !== undefined && at.price.compare(level.price) * order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const there = side[low]?.price.equals(level.price) === true ? 1 : 0;
  if (level.size.isZero) {
    side.splice(low, there);
  } else {
    side.splice(low, there, level);
  }
}
