/**
 * Latency percentiles and rates over a moving window.
 *
 * Invariant: memory is bounded whatever the rate, and a latency is never negative, whatever the clocks say.
 */

/** What the latency figures are over. */
export const LATENCY_WINDOW_MS = 10_000;
/** At the highest frame rates the window is shorter: the newest so many frames. 32 KiB, sorted twice a second. */
const LATENCY_SAMPLES_MAX = 2_048;

export interface Percentiles {
  readonly medianMs: number;
  readonly p99Ms: number;
}

export class LatencyWindow {
  readonly #values = new Float64Array(LATENCY_SAMPLES_MAX);
  readonly #times = new Float64Array(LATENCY_SAMPLES_MAX);
  #count = 0;

  /** What left at one clock's time came `differenceMs` later by the other's, which may be negative. */
  record(nowMs: number, differenceMs: number): void {
    const at = this.#count % LATENCY_SAMPLES_MAX;
    this.#values[at] = differenceMs;
    this.#times[at] = nowMs;
    this.#count += 1;
  }

  /**
   * Never negative; `undefined` when nothing came within the window. `offsetMs`, the first clock less the second, is
   * applied here and not to each record, so that a better measurement of it corrects what is in the window already.
   */
  percentiles(nowMs: number, offsetMs: number): Percentiles | undefined {
    const held = Math.min(this.#count, LATENCY_SAMPLES_MAX);
    const recent = this.#values
      .subarray(0, held)
      .filter((_, at) => (this.#times[at] ?? 0) > nowMs - LATENCY_WINDOW_MS)
      .sort();
    if (recent.length === 0) {
      return undefined;
    }
    const latency = (quantile: number): number => Math.max(0, nearestRank(recent, quantile) + offsetMs);
    return { medianMs: latency(0.5), p99Ms: latency(0.99) };
  }

  /** How many of the window lie up to each of the steps, the last counting all beyond. */
  histogram(nowMs: number, offsetMs: number, stepsMs: readonly number[]): number[] {
    const counts = Array.from({ length: stepsMs.length + 1 }, () => 0);
    const held = Math.min(this.#count, LATENCY_SAMPLES_MAX);
    for (let at = 0; at < held; at += 1) {
      if ((this.#times[at] ?? 0) > nowMs - LATENCY_WINDOW_MS) {
        const latency = (this.#values[at] ?? 0) + offsetMs;
        const step = stepsMs.findIndex((bound) => latency <= bound);
        const into = step < 0 ? stepsMs.length : step;
        counts[into] = (counts[into] ?? 0) + 1;
      }
    }
    return counts;
  }

  reset(): void {
    this.#count = 0;
  }
}

function nearestRank(sorted: Float64Array, quantile: number): number {
  return sorted[Math.max(0, Math.ceil(quantile * sorted.length) - 1)] ?? 0;
}

const RATE_BUCKET_MS = 250;
/** Two seconds: steady enough to read, quick enough to follow a burst. */
const RATE_BUCKETS = 8;

export class RateMeter {
  readonly #counts = new Float64Array(RATE_BUCKETS);
  #bucket = 0;
  #startedMs: number | undefined;

  record(nowMs: number, count: number): void {
    this.#turn(nowMs);
    const at = this.#bucket % RATE_BUCKETS;
    this.#counts[at] = (this.#counts[at] ?? 0) + count;
  }

  /** Per second, over the window or over the time since the first record if that is shorter. */
  perSecond(nowMs: number): number {
    this.#turn(nowMs);
    const sum = this.#counts.reduce((total, count) => total + count, 0);
    const sinceStart = nowMs - (this.#startedMs ?? nowMs);
    // The newest bucket is still filling.
    const filled = (RATE_BUCKETS - 1) * RATE_BUCKET_MS + (nowMs % RATE_BUCKET_MS);
    const over = Math.min(filled, Math.max(sinceStart, RATE_BUCKET_MS));
    return (sum * 1_000) / over;
  }

  reset(): void {
    this.#counts.fill(0);
    this.#startedMs = undefined;
  }

  #turn(nowMs: number): void {
    const bucket = Math.floor(nowMs / RATE_BUCKET_MS);
    if (this.#startedMs === undefined) {
      this.#startedMs = nowMs;
      this.#bucket = bucket;
    }
    if (bucket - this.#bucket >= RATE_BUCKETS) {
      this.#counts.fill(0);
      this.#bucket = bucket;
    }
    while (this.#bucket < bucket) {
      this.#bucket += 1;
      this.#counts[this.#bucket % RATE_BUCKETS] = 0;
    }
  }
}
