/**
 * The watch list as it is kept in the address and in the browser's storage.
 *
 * Invariant: what is read back is a list of possible symbols without repetition, at most `WATCH_MAX`, whatever was stored.
 */
import type { Sort } from "../model/update";

/** Rows that are named. The server allows 10,000 (channel, symbol) pairs, and each row takes four; `*` counts as one. */
export const WATCH_MAX = 500;

/** All that the server has. */
export const EVERYTHING = "*";

/** How many instruments a first visit shows. */
export const WATCH_DEFAULT = 20;

const SYMBOL = /^[A-Za-z0-9.\-_/:=^]{1,32}$/;
const PARAMETER = "symbols";

/** From the `?symbols=A,B` of an address; `undefined` when it says nothing of symbols. */
export function fromAddress(query: string): string[] | undefined {
  const value = new URLSearchParams(query).get(PARAMETER);
  return value === null ? undefined : checked(value.split(","));
}

/** The query of an address with another value of a parameter, or without it. */
export function withParameter(query: string, name: string, value: string): string {
  const parameters = new URLSearchParams(query);
  const symbols = fromAddress(query);
  if (value === "") {
    parameters.delete(name);
  } else {
    parameters.set(name, value);
  }
  return symbols === undefined ? `?${parameters}` : toAddress(`?${parameters}`, symbols);
}

const SORT = /^(symbol|last|change|spread|activity)(?::(ascending|descending))?$/;

/** From the `?sort=change:descending` of an address. */
export function sortOf(text: string | null): Sort {
  const found = SORT.exec(text ?? "");
  const key = SORT_KEYS.find((one) => one === found?.[1]);
  return key === undefined
    ? { key: "none", order: "ascending" }
    : { key, order: found?.[2] === "ascending" ? "ascending" : "descending" };
}

const SORT_KEYS = ["symbol", "last", "change", "spread", "activity"] as const;

export function sortText(sort: Sort): string {
  return sort.key === "none" ? "" : `${sort.key}:${sort.order}`;
}

/** The query of an address with this list, its other parameters kept. */
export function toAddress(query: string, symbols: readonly string[]): string {
  const parameters = new URLSearchParams(query);
  parameters.delete(PARAMETER);
  const others = parameters.toString();
  // No symbol contains what would have to be escaped in a query, nor a comma; "=" and "/" are allowed there.
  return `?${others === "" ? "" : `${others}&`}${PARAMETER}=${symbols.join(",")}`;
}

/** From what `toStorage` wrote; `undefined` when that is nothing or not a list. */
export function fromStorage(text: string | null): string[] | undefined {
  if (text === null) {
    return undefined;
  }
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? checked(value) : undefined;
  } catch {
    return undefined;
  }
}

export function toStorage(symbols: readonly string[]): string {
  return JSON.stringify(symbols);
}

function checked(values: readonly unknown[]): string[] {
  if (values.length === 1 && values[0] === EVERYTHING) {
    return [EVERYTHING];
  }
  const symbols = values.filter((value): value is string => typeof value === "string" && SYMBOL.test(value));
  return [...new Set(symbols)].slice(0, WATCH_MAX);
}
