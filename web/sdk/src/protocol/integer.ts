/**
 * Whole numbers of any size, exact.
 *
 * Invariant: an `Integer` is a `number` only when it is a safe integer, so equal values have equal types.
 *
 * Prices, sizes and sequence numbers are nearly always small, so they stay plain numbers; a `bigint` appears only past
 * 2^53. Times in nanoseconds are past it always and are `bigint` throughout.
 */
export type Integer = number | bigint;

/** The value as an integer, or `undefined` when it is none. */
export function asInteger(value: unknown): Integer | undefined {
  if (typeof value === "number") {
    return Number.isSafeInteger(value) ? value : undefined;
  }
  return typeof value === "bigint" ? normalised(value) : undefined;
}

/** `a - b`, exact. */
export function subtract(a: Integer, b: Integer): Integer {
  if (typeof a === "number" && typeof b === "number") {
    const difference = a - b;
    if (Number.isSafeInteger(difference)) {
      return difference;
    }
  }
  return normalised(BigInt(a) - BigInt(b));
}

/** -1, 0 or 1 as `a` is less than, equal to or greater than `b`. */
export function compare(a: Integer, b: Integer): -1 | 0 | 1 {
  return a < b ? -1 : a > b ? 1 : 0;
}

function normalised(value: bigint): Integer {
  const small = Number(value);
  return Number.isSafeInteger(small) ? small : value;
}
