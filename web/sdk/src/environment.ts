/**
 * Time and chance, so that tests can bring their own.
 *
 * Invariant: nothing else in the SDK reads a clock, sets a timer or draws a number.
 */
export interface Environment {
  /** Milliseconds since the Unix epoch, with a fraction. */
  now(): number;
  /** From 0 up to 1. */
  random(): number;
  /** Calls later; the answer takes it back. */
  schedule(call: () => void, afterMs: number): () => void;
}

/** Timers take 32-bit numbers of milliseconds; a call that comes early is no harm. */
const SLEEP_MAX_MS = 60_000;

export const SYSTEM: Environment = {
  // Finer than `Date.now`, and monotonic; the pings correct for what it drifts from the server's clock.
  now: () => performance.timeOrigin + performance.now(),
  random: Math.random,
  schedule: (call, afterMs) => {
    const timer = setTimeout(call, Math.min(SLEEP_MAX_MS, Math.max(0, afterMs)));
    return () => clearTimeout(timer);
  },
};
