/**
 * Exact decimal text of `mantissa x 10^exponent`.
 *
 * Invariant: no value passes through a fraction in floating point; the digits of the integer are cut as text.
 */
import { asInteger, compare, type Integer, subtract } from "./integer";

/** An exact value: `mantissa x 10^exponent`. Prices and sizes are of this kind. */
export class Decimal {
  readonly mantissa: Integer;
  readonly exponent: number;

  constructor(mantissa: Integer, exponent: number) {
    this.mantissa = mantissa;
    this.exponent = exponent;
  }

  /** Reads `-12.50`; the exponent is as many digits as stand after the point. `undefined` when it is no such text. */
  static parse(text: string): Decimal | undefined {
    const found = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
    if (found === null || text.length > TEXT_MAX) {
      return undefined;
    }
    const [, sign = "", whole = "", fraction = ""] = found;
    const mantissa = asInteger(BigInt(sign + whole + fraction));
    return mantissa === undefined ? undefined : new Decimal(mantissa, fraction === "" ? 0 : -fraction.length);
  }

  /** All digits that the exponent says, and nothing else: `9682.10`. */
  toString(): string {
    const negative = this.mantissa < 0;
    const [whole, fraction] = cut(this.mantissa, this.exponent);
    return `${negative ? "-" : ""}${whole}${fraction === "" ? "" : `.${fraction}`}`;
  }

  /** The nearest float, for charts and statistics. Not exact: nothing in here uses it. */
  toNumber(): number {
    return Number(this.toString());
  }

  get isZero(): boolean {
    return this.mantissa === 0;
  }

  /** -1, 0 or 1 as this is less than, equal to or greater than `other`. */
  compare(other: Decimal): -1 | 0 | 1 {
    return this.exponent === other.exponent ? compare(this.mantissa, other.mantissa) : compare(...aligned(this, other));
  }

  equals(other: Decimal): boolean {
    return this.compare(other) === 0;
  }

  minus(other: Decimal): Decimal {
    const exponent = Math.min(this.exponent, other.exponent);
    return new Decimal(subtract(...aligned(this, other)), exponent);
  }

  plus(other: Decimal): Decimal {
    return this.minus(new Decimal(subtract(0, other.mantissa), other.exponent));
  }
}

/** The server's integers have 20 digits at most, and exponents are a signed byte. */
const TEXT_MAX = 160;

/** Both as integers of the smaller exponent. */
function aligned(a: Decimal, b: Decimal): [Integer, Integer] {
  const exponent = Math.min(a.exponent, b.exponent);
  return [shifted(a, exponent), shifted(b, exponent)];
}

function shifted(value: Decimal, exponent: number): Integer {
  const by = value.exponent - exponent;
  return by === 0 ? value.mantissa : (asInteger(BigInt(value.mantissa) * 10n ** BigInt(by)) ?? 0);
}

/** The digits before and after the point, without a sign. */
function cut(mantissa: Integer, exponent: number): [string, string] {
  const digits = (mantissa < 0 ? subtract(0, mantissa) : mantissa).toString();
  if (exponent >= 0) {
    return [mantissa === 0 ? "0" : digits + "0".repeat(exponent), ""];
  }
  const padded = digits.padStart(1 - exponent, "0");
  const at = padded.length + exponent;
  return [padded.slice(0, at), padded.slice(at)];
}

/** What to write before a value that is above zero. */
export type PlusSign = "none" | "plus";

const MINUS = "\u2212";

/**
 * The value as a person reads it: thousands in groups, exactly as many decimals as the exponent says, and a real minus
 * sign, which is as wide as a digit.
 */
export function formatDecimal(mantissa: Integer, exponent: number, plus: PlusSign = "none"): string {
  const sign = mantissa < 0 ? MINUS : plus === "plus" && mantissa > 0 ? "+" : "";
  const [whole, fraction] = cut(mantissa, exponent);
  return `${sign}${grouped(whole)}${fraction === "" ? "" : `.${fraction}`}`;
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
