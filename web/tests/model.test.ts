import { describe, expect, test } from "vitest";
import { Backoff } from "../src/model/backoff";
import { ServerClock } from "../src/model/clock";
import { LatencyWindow, RateMeter } from "../src/model/meters";
import { Row } from "../src/model/row";
import { search } from "../src/model/search";
import { Subscriptions } from "../src/model/subscriptions";
import { Trace } from "../src/model/trace";
import type { Mode } from "../src/protocol/commands";
import type { Integer } from "../src/protocol/integer";
import type { Quote, Trade } from "../src/protocol/messages";

const LATEST: Mode = { mode: "latest", intervalMs: 100 };

describe("backoff", () => {
  test("waits double up to a ceiling, half of each at random", () => {
    const shortest = new Backoff(() => 0);
    const longest = new Backoff(() => 0.999_999);
    const waits = (backoff: Backoff) => Array.from({ length: 8 }, () => backoff.next(0));
    expect(waits(shortest)).toEqual([250, 500, 1000, 2000, 4000, 7500, 7500, 7500]);
    expect(waits(longest)).toEqual([500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
  });

  test("a connection that lasted begins anew, one that did not goes on", () => {
    const backoff = new Backoff(() => 0);
    backoff.next(0);
    backoff.next(0);
    expect(backoff.next(4_999)).toBe(1000);
    expect(backoff.next(5_000)).toBe(250);
  });

  test("never comes back before the server asked to, once", () => {
    const backoff = new Backoff(() => 0);
    backoff.ask(3_000);
    expect(backoff.next(60_000)).toBe(3_125);
    expect(backoff.next(0)).toBe(500);
  });
});

describe("the clock of the server", () => {
  test("a difference within the round trip is none", () => {
    const clock = new ServerClock();
    clock.observe(1_000, 1_009, 1_020);
    expect(clock.offsetMs).toBe(0);
    expect(clock.roundTripMs).toBe(20);
  });

  test("a larger one is corrected for, by the quickest round trip", () => {
    const clock = new ServerClock();
    clock.observe(1_000, 61_050, 1_100);
    clock.observe(2_000, 62_001, 2_002);
    clock.observe(3_000, 63_400, 3_500);
    expect(clock.offsetMs).toBe(60_000);
  });
});

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
  const LISTING = { symbol: "ES", instrumentId: 7, priceExponent: -2, sizeExponent: 0 };
  const trade = (seq: number, price: Integer): Trade => ({
    kind: "trade",
    instrumentId: 7,
    seq,
    time: 1_700_000_000_000_000_000n,
    price,
    size: 3,
    aggressor: "buy",
  });
  const quote = (seq: number, bid: number, ask: number): Quote => ({
    kind: "quote",
    instrumentId: 7,
    seq,
    time: 0n,
    bid: { price: bid, size: 1 },
    ask: { price: ask, size: 2 },
  });
  function listed(): Row {
    const row = new Row("ES");
    row.accept(LISTING);
    return row;
  }

  test("shows a snapshot without a flash and a live price with one", () => {
    const row = listed();
    row.apply(trade(1, 10_000), "snapshot");
    row.apply(quote(1, 9_999, 10_001), "snapshot");
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
    row.apply(trade(2, 10_050), "live");
    row.apply(quote(2, 9_998, 10_001), "live");
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
    const row = listed();
    row.apply(trade(1, 100), "snapshot");
    row.take();
    row.apply(trade(2, 200), "live");
    row.apply(trade(3, 90), "live");
    expect(row.take().last).toEqual({ text: "0.90", moved: "down" });
  });

  test("counts what mode latest skipped, and nothing of a snapshot", () => {
    const row = listed();
    expect(row.apply(trade(40, 1), "snapshot")).toBe(0);
    expect(row.apply(trade(50, 1), "live")).toBe(10);
    expect(row.apply(quote(9, 1, 2), "live")).toBe(1);
    row.accept(LISTING);
    expect(row.apply(trade(3, 1), "live")).toBe(1);
  });

  test("the day's open is the better reference", () => {
    const row = listed();
    row.apply(trade(1, 11_000), "snapshot");
    row.apply(
      {
        kind: "ticker",
        instrumentId: 7,
        seq: 1,
        time: 0n,
        last: 11_000,
        open: 12_000,
        high: 12_000,
        low: 11_000,
        volume: 5,
      },
      "live",
    );
    expect(row.take()).toMatchObject({ change: "\u221210.00", changePercent: "\u22128.33%", reference: "open" });
  });

  test("another exponent makes the old values void", () => {
    const row = listed();
    row.apply(trade(1, 11_000), "snapshot");
    row.accept({ ...LISTING, priceExponent: -4 });
    expect(row.take()).toMatchObject({ state: "waiting", last: { text: "\u2014" }, change: "\u2014" });
  });

  test("a change past 2^53 is exact", () => {
    const row = listed();
    row.apply(trade(1, 9_007_199_254_740_993n), "snapshot");
    row.apply(trade(2, 9_007_199_254_740_995n), "live");
    expect(row.take()).toMatchObject({ change: "+0.02", last: { text: "90,071,992,547,409.95", moved: "up" } });
  });
});

describe("subscriptions", () => {
  const symbolsOf = (subscriptions: Subscriptions) =>
    subscriptions.plan().map((command) => [command.op, "symbols" in command ? command.symbols : []]);

  test("only differences are sent", () => {
    const subscriptions = new Subscriptions(LATEST);
    subscriptions.want(["A", "B"]);
    expect(symbolsOf(subscriptions)).toEqual([["subscribe", ["A", "B"]]]);
    expect(symbolsOf(subscriptions)).toEqual([]);
    subscriptions.want(["B", "C"]);
    expect(symbolsOf(subscriptions)).toEqual([
      ["unsubscribe", ["A"]],
      ["subscribe", ["C"]],
    ]);
  });

  test("everything is asked for again after a reset", () => {
    const subscriptions = new Subscriptions(LATEST);
    subscriptions.want(["A", "B"]);
    subscriptions.plan();
    subscriptions.reset();
    expect(symbolsOf(subscriptions)).toEqual([["subscribe", ["A", "B"]]]);
  });

  test("a refused symbol is neither asked for again nor ended", () => {
    const subscriptions = new Subscriptions(LATEST);
    subscriptions.want(["A", "X"]);
    subscriptions.plan();
    subscriptions.confirm(["A"]);
    subscriptions.refuse(["X"]);
    subscriptions.retry();
    expect(symbolsOf(subscriptions)).toEqual([]);
    subscriptions.want(["A"]);
    expect(symbolsOf(subscriptions)).toEqual([]);
  });

  test("what a rate limit threw away is asked for again", () => {
    const subscriptions = new Subscriptions(LATEST);
    subscriptions.want(["A"]);
    subscriptions.plan();
    subscriptions.confirm(["A"]);
    subscriptions.want(["A", "B"]);
    subscriptions.plan();
    subscriptions.retry();
    expect(symbolsOf(subscriptions)).toEqual([["subscribe", ["B"]]]);
  });

  test("another mode updates what is subscribed and goes with what is new", () => {
    const subscriptions = new Subscriptions(LATEST);
    subscriptions.want(["A"]);
    subscriptions.plan();
    subscriptions.setMode({ mode: "every" });
    subscriptions.want(["A", "B"]);
    expect(subscriptions.plan()).toMatchObject([
      { op: "update", symbols: ["A"], mode: { mode: "every" } },
      { op: "subscribe", symbols: ["B"], mode: { mode: "every" } },
    ]);
    expect(subscriptions.plan()).toEqual([]);
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
