import { describe, expect, test } from "vitest";
import { Decimal, type Integer, type Quote, type Trade } from "../sdk/src/index";
import { LatencyWindow, RateMeter } from "../src/model/meters";
import { parseMetrics, perSecond, quantile } from "../src/model/metrics";
import { Row } from "../src/model/row";
import { search } from "../src/model/search";
import { Trace } from "../src/model/trace";

describe("meters", () => {
  test("percentiles are of the window", () => {
    const latency = new LatencyWindow();
    expect(latency.percentiles(0, 0)).toBeUndefined();
    latency.record(0, 1_000);
    for (let ms = 1; ms <= 100; ms += 1) {
      latency.record(10_000 + ms, ms);
    }
    expect(latency.percentiles(10_200, 0)).toEqual({ medianMs: 50, p99Ms: 99 });
    expect(latency.percentiles(30_000, 0)).toBeUndefined();
  });

  test("more than the window holds: the newest", () => {
    const latency = new LatencyWindow();
    for (let at = 0; at < 5_000; at += 1) {
      latency.record(1_000, at < 2_900 ? 1 : 2);
    }
    expect(latency.percentiles(1_000, 0)).toEqual({ medianMs: 2, p99Ms: 2 });
  });

  test("clocks that differ shift every latency, and none below zero", () => {
    const latency = new LatencyWindow();
    latency.record(0, -60_000);
    latency.record(0, -59_990);
    expect(latency.percentiles(0, 60_000)).toEqual({ medianMs: 0, p99Ms: 10 });
    expect(latency.percentiles(0, 0)).toEqual({ medianMs: 0, p99Ms: 0 });
  });

  test("a steady rate is read as it is", () => {
    const rate = new RateMeter();
    for (let ms = 0; ms < 10_000; ms += 10) {
      rate.record(ms, 1);
    }
    expect(rate.perSecond(10_000)).toBeCloseTo(100, 0);
    expect(rate.perSecond(20_000)).toBe(0);
  });
});

test("a trace keeps its newest points and repeats a price that stands", () => {
  const trace = new Trace();
  expect(trace.advance(1)).toBe(false);
  trace.set(5);
  expect(trace.advance(2)).toBe(true);
  trace.set(6);
  trace.advance(1);
  expect([...trace.points()]).toEqual([5, 5, 6]);
  trace.advance(100_000);
  expect(trace.points().length).toBe(240);
});

describe("a row", () => {
  const head = { symbol: "ES", time: 1_700_000_000_000_000_000n };
  const trade = (seq: number, price: Integer, snapshot = false, exponent = -2): Trade => ({
    ...head,
    type: "trade",
    channel: "trades",
    seq,
    snapshot,
    price: new Decimal(price, exponent),
    size: new Decimal(3, 0),
    side: "buy",
    tradeId: 0,
  });
  const level = (price: number, size: number) => ({ price: new Decimal(price, -2), size: new Decimal(size, 0) });
  const quote = (seq: number, bid: number, ask: number, snapshot = false): Quote => ({
    ...head,
    type: "quote",
    channel: "quotes",
    seq,
    snapshot,
    bid: level(bid, 1),
    ask: level(ask, 2),
  });

  test("shows a snapshot without a flash and a live price with one", () => {
    const row = new Row("ES");
    row.apply(trade(1, 10_000, true));
    row.apply(quote(1, 9_999, 10_001, true));
    expect(row.take()).toMatchObject({
      state: "live",
      bid: { text: "99.99", moved: "none" },
      ask: { text: "100.01", moved: "none" },
      last: { text: "100.00", moved: "none" },
      spread: "0.02",
      lastTimeMs: 1_700_000_000_000,
      change: "0.00",
      trend: "none",
    });
    row.apply(trade(2, 10_050));
    row.apply(quote(2, 9_998, 10_001));
    expect(row.take()).toMatchObject({
      bid: { moved: "down" },
      ask: { moved: "none" },
      last: { text: "100.50", moved: "up" },
      change: "+0.50",
      changePercent: "+0.50%",
      trend: "up",
      reference: "first seen",
    });
    expect(row.pending).toBe(false);
  });

  test("several ticks between two updates are one move", () => {
    const row = new Row("ES");
    row.apply(trade(1, 100, true));
    row.take();
    row.apply(trade(2, 200));
    row.apply(trade(3, 90));
    expect(row.take().last).toEqual({ text: "0.90", moved: "down" });
  });

  test("the day's open is the better reference", () => {
    const row = new Row("ES");
    row.apply(trade(1, 11_000, true));
    const price = (mantissa: number) => new Decimal(mantissa, -2);
    row.apply({
      ...head,
      type: "ticker",
      channel: "ticker",
      seq: 1,
      snapshot: false,
      last: price(11_000),
      open: price(12_000),
      high: price(12_000),
      low: price(11_000),
      volume: new Decimal(5, 0),
      turnover: 0,
      tradeCount: 1,
    });
    expect(row.take()).toMatchObject({ change: "\u221210.00", changePercent: "\u22128.33%", reference: "open" });
    expect(row.rank("change")).toBeCloseTo(-0.0833, 3);
  });

  test("another exponent makes the old values void", () => {
    const row = new Row("ES");
    row.apply(quote(1, 9_999, 10_001, true));
    row.apply(trade(1, 11_000, true, -4));
    expect(row.take()).toMatchObject({ bid: { text: "\u2014" }, last: { text: "1.1000" }, change: "0.0000" });
  });

  test("a change past 2^53 is exact", () => {
    const row = new Row("ES");
    row.apply(trade(1, 9_007_199_254_740_993n, true));
    row.apply(trade(2, 9_007_199_254_740_995n));
    expect(row.take()).toMatchObject({ change: "+0.02", last: { text: "90,071,992,547,409.95", moved: "up" } });
  });

  test("a halt is told, a refusal too", () => {
    const row = new Row("ES");
    const status = { ...head, type: "status", channel: "status", seq: 1, snapshot: false } as const;
    row.apply({ ...status, code: "halted", reason: "LULD" });
    expect(row.take().market).toBe("halted");
    row.apply({ type: "refused", symbol: "ES", channel: "trades", code: "unknown_symbol", message: "no such symbol" });
    expect(row.take()).toMatchObject({ state: "refused", reason: "no such symbol" });
  });
});

describe("the server's metrics", () => {
  const before = parseMetrics(
    'a_total{reason="x"} 1\na_total{reason="y"} 2\nh_bucket{le="1"} 0\nh_bucket{le="+Inf"} 0\n',
    0,
  );
  const now = parseMetrics(
    '# HELP a_total b\na_total{reason="x"} 11\na_total{reason="y"} 12\nh_bucket{le="1"} 98\nh_bucket{le="+Inf"} 100\nodd line\n',
    2_000,
  );
  test("become rates and quantiles", () => {
    expect(perSecond(before, now, "a_total")).toBe(10);
    expect(perSecond(now, before, "a_total")).toBeUndefined();
    expect(perSecond(before, now, "b_total")).toBeUndefined();
    expect(quantile(before, now, "h", 0.5)).toBe(1);
    expect(quantile(before, now, "h", 0.99)).toBe(1);
    expect(quantile(now, now, "h", 0.99)).toBeUndefined();
  });
});

describe("search", () => {
  const instrument = (symbol: string, description: string, assetClass: string) => ({
    symbol,
    description,
    assetClass,
    currency: "USD",
    instrumentId: 0,
    priceExponent: 0,
    sizeExponent: 0,
  });
  const instruments = [
    instrument("METHOD", "Method Inc.", "equity"),
    instrument("ETHBTC", "Ether in bitcoin", "crypto"),
    instrument("ETH", "Ether", "crypto"),
    instrument("XYZ", "Something ethereal", "equity"),
  ];
  const found = (query: string, limit = 10) => search(instruments, query, limit).matches.map((match) => match.symbol);

  test("the symbol, then its beginning, then a part, then the description", () => {
    expect(found("eth")).toEqual(["ETH", "ETHBTC", "METHOD", "XYZ"]);
  });
  test("every word must match", () => {
    expect(found("eth crypto")).toEqual(["ETHBTC", "ETH"]);
    expect(found("eth nothing")).toEqual([]);
  });
  test("an empty query is the list; a limit hides and counts", () => {
    expect(search(instruments, "  ", 2)).toMatchObject({
      total: 4,
      matches: [{ symbol: "METHOD" }, { symbol: "ETHBTC" }],
    });
  });
});
