/**
 * How long to wait before the next attempt to connect.
 *
 * Invariant: a wait is never below what the server asked for, and never above `CEILING_MS` plus that.
 *
 * All of each wait is random ("full jitter"), from nothing to a ceiling that doubles: of all ways to draw it this brings the
 * clients of a server that restarts back with the fewest collisions, and soonest.
 */

/** The first wait at most. One lost packet should cost the reader no more than this. */
const BASE_MS = 500;
/** Beyond this waiting longer spares the server nothing: a thousand clients make 130 attempts a second on average. */
const CEILING_MS = 15_000;
/** A connection that lasted this long ends the row of failures; a shorter one may be a server that is failing. */
const STABLE_MS = 5_000;
/** A server that was reached at all is worth asking again within `BASE_MS * 2 ** this`, however often it was lost. */
const FAILURES_AFTER_LIFE_MAX = 2;

export class Backoff {
  readonly #random: () => number;
  #failures = 0;
  #asked: number | undefined;

  /** `random` yields numbers from 0 up to 1. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** Attempts that failed in a row. */
  get failures(): number {
    return this.#failures;
  }

  /** The server has said when to come back (`reconnect_after_ms`). */
  ask(afterMs: number): void {
    this.#asked = afterMs;
  }

  /** A connection that was live for `livedMs` (0: never) is gone: how long to wait. */
  next(livedMs: number): number {
    if (livedMs >= STABLE_MS) {
      this.#failures = 0;
    } else if (livedMs > 0) {
      this.#failures = Math.min(this.#failures, FAILURES_AFTER_LIFE_MAX);
    }
    const ceiling = Math.min(CEILING_MS, BASE_MS * 2 ** Math.min(this.#failures, 10));
    this.#failures += 1;
    // What the server asked for is spread over its clients already; the jitter comes on top for the sake of those
    // servers that tell everyone the same.
    const wait = (this.#asked ?? 0) + this.#random() * ceiling;
    this.#asked = undefined;
    return Math.round(wait);
  }

  /** A person asked for an attempt now. */
  forget(): void {
    this.#failures = 0;
    this.#asked = undefined;
  }
}
