/**
 * Exact decimal text of `mantissa x 10^exponent`.
 *
 * Invariant: no value passes through a fraction in floating point; the digits of the integer are cut as text.
 */
import { type Integer, subtract } from "./integer";

/** What to write before a value that is above zero. */
export type PlusSign = "none" | "plus";

const MINUS = "\u2212";

/**
 * The value as a person reads it: thousands in groups, exactly as many decimals as the exponent says, and a real minus
 * sign, which is as wide as a digit.
 */
export function formatDecimal(mantissa: Integer, exponent: number, plus: PlusSign = "none"): string {
  const negative = mantissa < 0;
  const digits = (negative ? subtract(0, mantissa) : mantissa).toString();
  const sign = negative ? MINUS : plus === "plus" && mantissa > 0 ? "+" : "";
  if (exponent >= 0) {
    return sign + grouped(mantissa === 0 ? "0" : digits + "0".repeat(exponent));
  }
  const decimals = -exponent;
  const padded = digits.padStart(decimals + 1, "0");
  const cut = padded.length - decimals;
  return `${sign}${grouped(padded.slice(0, cut))}.${padded.slice(cut)}`;
}

/** Sizes: as `formatDecimal`, without the zeros at the end of the fraction. */
export function formatTrimmed(mantissa: Integer, exponent: number): string {
  const text = formatDecimal(mantissa, exponent);
  return exponent < 0 ? text.replace(/\.?0+$/, "") : text;
}

function grouped(digits: string): string {
  if (digits.length <= 3) {
    return digits;
  }
  const first = digits.length % 3;
  const groups = first > 0 ? [digits.slice(0, first)] : [];
  for (let at = first; at < digits.length; at += 3) {
    groups.push(digits.slice(at, at + 3));
  }
  return groups.join(",");
}
