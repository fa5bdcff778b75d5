/**
 * Checked reading of single values.
 *
 * Invariant: what comes out has the type that it says, or a `ProtocolError` names the key.
 */
import { asInteger, type Integer } from "./integer";

/** The server sent what the protocol does not allow. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

export type Fields = Record<string, unknown>;

export function isMap(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function map(value: unknown, name: string): Fields {
  if (!isMap(value)) {
    throw new ProtocolError(`${name} is not a map`);
  }
  return value;
}

export function list(value: unknown, name: string): readonly unknown[] {
  if (!Array.isArray(value)) {
    throw new ProtocolError(`${name} is not a list`);
  }
  return value;
}

export function text(value: unknown, name: string): string {
  if (typeof value !== "string") {
    throw new ProtocolError(`${name} is not a text`);
  }
  return value;
}

export function integer(value: unknown, name: string): Integer {
  const parsed = asInteger(value);
  if (parsed === undefined) {
    throw new ProtocolError(`${name} is not an integer`);
  }
  return parsed;
}

/** A whole number from 0 that a plain number holds. */
export function small(value: unknown, name: string): number {
  const parsed = integer(value, name);
  if (typeof parsed !== "number" || parsed < 0) {
    throw new ProtocolError(`${name} is out of range`);
  }
  return parsed;
}

/** Exponents fit a signed byte; a larger one would ask for megabytes of zeros. */
export function exponent(value: unknown, name: string): number {
  const parsed = integer(value, name);
  if (typeof parsed !== "number" || parsed < -128 || parsed > 127) {
    throw new ProtocolError(`${name} is out of range`);
  }
  return parsed;
}
