/**
 * The last two minutes of a price, for the line in its row.
 *
 * Invariant: points are equally spaced in time and at most `POINTS_MAX`.
 *
 * These are the only prices in floating point: they become pixels and are never shown as digits.
 */

/** Between two points. */
export const TRACE_STEP_MS = 500;
const POINTS_MAX = 240;

export class Trace {
  #points: number[] = [];
  #value: number | undefined;

  /** The price now, in integers of its exponent. */
  set(value: number): void {
    this.#value = value;
  }

  /** `steps` of time have passed. Returns whether there is a line to draw anew. */
  advance(steps: number): boolean {
    const value = this.#value;
    if (value === undefined) {
      return false;
    }
    for (let step = 0; step < Math.min(steps, POINTS_MAX); step += 1) {
      this.#points.push(value);
    }
    this.#points = this.#points.slice(-POINTS_MAX);
    return true;
  }

  points(): Float64Array {
    return Float64Array.from(this.#points);
  }

  clear(): void {
    this.#points = [];
    this.#value = undefined;
  }
}
