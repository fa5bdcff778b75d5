/**
 * Latency between two clocks that need not agree.
 *
 * Invariant: a difference of the clocks is corrected only as far as it was measured.
 *
 * A `pong` carries the server's time. Taken to be the middle of the round trip it gives the difference of the clocks, wrong
 * by half the round trip at most; the quickest of the last few round trips is the best of them. A difference
 * within that uncertainty (always so on one machine) is taken for none at all, rather than adding an error to a good
 * measurement.
 */

const NANOSECONDS_PER_MS = 1e6;
/** Pings to choose the quickest from. One every 5 s: the correction follows drifting clocks within 40 s. */
const SAMPLES_MAX = 8;

interface RoundTrip {
  readonly durationMs: number;
  /** The server's clock less ours. */
  readonly offsetMs: number;
}

/** Milliseconds since the Unix epoch; a double holds them to a quarter of a microsecond. */
export function milliseconds(nanoseconds: bigint): number {
  return Number(nanoseconds) / NANOSECONDS_PER_MS;
}

export class ServerClock {
  readonly #samples: RoundTrip[] = [];

  /** A ping left at `sentMs`, its pong with `serverMs` came at `receivedMs`. */
  observe(sentMs: number, serverMs: number, receivedMs: number): void {
    const durationMs = Math.max(0, receivedMs - sentMs);
    this.#samples.push({ durationMs, offsetMs: serverMs - (sentMs + durationMs / 2) });
    if (this.#samples.length > SAMPLES_MAX) {
      this.#samples.shift();
    }
  }

  /** The quickest round trip of late. */
  get roundTripMs(): number | undefined {
    return this.#best()?.durationMs;
  }

  /** The server's clock less ours, 0 while it cannot be told from 0. */
  get offsetMs(): number {
    const best = this.#best();
    return best === undefined || Math.abs(best.offsetMs) <= best.durationMs / 2 ? 0 : best.offsetMs;
  }

  reset(): void {
    this.#samples.length = 0;
  }

  #best(): RoundTrip | undefined {
    let best = this.#samples[0];
    for (const sample of this.#samples) {
      if (best === undefined || sample.durationMs < best.durationMs) {
        best = sample;
      }
    }
    return best;
  }
}
