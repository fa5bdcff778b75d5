/**
 * Which channel an element belongs to.
 *
 * Invariant: an element that names an interval or a depth which this version does not know belongs to none and is passed over.
 */
import type { BarInterval, BookDepth, Channel, MarketPhase } from "./messages";

export const BAR_INTERVALS: readonly { readonly name: BarInterval; readonly seconds: number }[] = [
  { name: "1s", seconds: 1 },
  { name: "5s", seconds: 5 },
  { name: "10s", seconds: 10 },
  { name: "1m", seconds: 60 },
  { name: "5m", seconds: 300 },
  { name: "15m", seconds: 900 },
  { name: "1h", seconds: 3_600 },
  { name: "1d", seconds: 86_400 },
];

const BARS: ReadonlyMap<number, `bars.${BarInterval}`> = new Map(
  BAR_INTERVALS.map(({ name, seconds }) => [seconds, `bars.${name}` as const]),
);

const BOOKS: ReadonlyMap<number, `book.${BookDepth}`> = new Map([
  [0, "book.full"],
  [10, "book.10"],
  [50, "book.50"],
] as const);

const CHANNELS: ReadonlySet<string> = new Set<Channel>([
  "trades",
  "quotes",
  "ticker",
  "status",
  ...BARS.values(),
  ...BOOKS.values(),
]);

export const MARKET_PHASES: readonly MarketPhase[] = ["pre_open", "trading", "halted", "auction", "closed"];

export function barChannel(intervalS: number): `bars.${BarInterval}` | undefined {
  return BARS.get(intervalS);
}

export function bookChannel(depth: number): `book.${BookDepth}` | undefined {
  return BOOKS.get(depth);
}

export function isChannel(name: string): name is Channel {
  return CHANNELS.has(name);
}
