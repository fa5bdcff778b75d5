/**
 * Finding instruments by what a person types.
 *
 * Invariant: the order depends on the query and the list alone.
 */
import type { Instrument } from "./update";

export interface Found {
  readonly matches: readonly Instrument[];
  /** Also those beyond the limit. */
  readonly total: number;
}

/**
 * The best `limit` matches: the symbol itself, symbols that begin so, a part of a symbol, a word of a description, in this
 * order and then in the server's. Every word of the query must match. An empty query matches everything.
 */
export function search(instruments: readonly Instrument[], query: string, limit: number): Found {
  const words = query
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "");
  const ranks: Instrument[][] = [[], [], [], []];
  let total = 0;
  for (const instrument of instruments) {
    const rank = rankOf(instrument, words);
    if (rank !== undefined) {
      total += 1;
      ranks[rank]?.push(instrument);
    }
  }
  return { matches: ranks.flat().slice(0, limit), total };
}

function rankOf(instrument: Instrument, words: readonly string[]): number | undefined {
  const symbol = instrument.symbol.toLowerCase();
  const rest = `${instrument.description} ${instrument.assetClass} ${instrument.currency}`.toLowerCase();
  let rank = 0;
  for (const word of words) {
    const wordRank =
      symbol === word
        ? 0
        : symbol.startsWith(word)
          ? 1
          : symbol.includes(word)
            ? 2
            : rest.includes(word)
              ? 3
              : undefined;
    if (wordRank === undefined) {
      return undefined;
    }
    rank = Math.max(rank, wordRank);
  }
  return rank;
}
