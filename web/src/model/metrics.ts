/**
 * The text format of Prometheus, as far as the server's view needs it.
 *
 * Invariant: lines that are not understood are passed over; a name's labels are added up.
 */
export interface Sample {
  readonly atMs: number;
  /** Sums over all labels. */
  readonly values: ReadonlyMap<string, number>;
  /** Histograms: upper bounds and how many lie up to each, sums over other labels. */
  readonly buckets: ReadonlyMap<string, ReadonlyMap<number, number>>;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})?\s+(\S+)/;
const BOUND = /(?:^|,)le="([^"]*)"/;

export function parseMetrics(text: string, atMs: number): Sample {
  const values = new Map<string, number>();
  const buckets = new Map<string, Map<number, number>>();
  for (const line of text.split("\n")) {
    const [, name, labels = "", number] = LINE.exec(line) ?? [];
    const value = Number(number);
    if (name === undefined || Number.isNaN(value)) {
      continue;
    }
    const bound = name.endsWith("_bucket") ? BOUND.exec(labels)?.[1] : undefined;
    if (bound === undefined) {
      values.set(name, (values.get(name) ?? 0) + value);
    } else {
      const histogram = name.slice(0, -"_bucket".length);
      const counts = buckets.get(histogram) ?? new Map<number, number>();
      const upTo = bound === "+Inf" ? Number.POSITIVE_INFINITY : Number(bound);
      counts.set(upTo, (counts.get(upTo) ?? 0) + value);
      buckets.set(histogram, counts);
    }
  }
  return { atMs, values, buckets };
}

/** Growth per second; `undefined` where the server began anew, or the name is not there. */
export function perSecond(before: Sample, now: Sample, name: string): number | undefined {
  const [from, to] = [before.values.get(name), now.values.get(name)];
  return from === undefined || to === undefined || to < from || now.atMs <= before.atMs
    ? undefined
    : ((to - from) * 1_000) / (now.atMs - before.atMs);
}

/** The bound below which this part of what was observed in between lies; `undefined` when nothing was. */
export function quantile(before: Sample, now: Sample, name: string, part: number): number | undefined {
  const [from, to] = [before.buckets.get(name), now.buckets.get(name)];
  if (to === undefined) {
    return undefined;
  }
  const counts = [...to]
    .map(([bound, count]) => [bound, count - (from?.get(bound) ?? 0)] as const)
    .sort(([a], [b]) => a - b);
  const total = counts.at(-1)?.[1] ?? 0;
  if (total <= 0) {
    return undefined;
  }
  const at = counts.findIndex(([, count]) => count >= part * total);
  const bound = counts[at]?.[0];
  // Beyond the last bound nothing is known but that it is beyond.
  return bound === Number.POSITIVE_INFINITY ? counts[at - 1]?.[0] : bound;
}
