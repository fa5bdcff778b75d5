import { beforeEach, describe, expect, test } from "vitest";
import { crc32 } from "../src/core/crc32";
import type { Event } from "../src/core/queue";
import { type Bar, type Quote, Subscription, type Trade } from "../src/index";
import { Scripted } from "./scripted";

let server: Scripted;

beforeEach(() => {
  server = new Scripted();
});

/** What a subscription was told, in short words. */
function told(
  channels: readonly ("trades" | "quotes" | "book.10")[] = ["trades"],
  symbols = ["ES"],
  rate: "every" | { latestMs: number } = "every",
) {
  const words: string[] = [];
  const subscription = server.client.subscribe({
    channels,
    symbols,
    rate,
    onEvent: (event) => words.push(word(event)),
  });
  return { words, subscription };
}

function word(event: Event): string {
  switch (event.type) {
    case "gap":
      return `${event.symbol} gap ${event.fromSeq}-${event.toSeq} ${event.reason}`;
    case "refused":
      return `${event.symbol} refused ${event.code}`;
    default:
      return `${event.symbol} ${event.snapshot ? "state" : event.type} ${event.seq}`;
  }
}

const trade = (seq: number, id = 7): unknown[] => [1, id, seq, server.nowNs, 500_000 + seq, 2, 1, seq];
const live = (...elements: unknown[]): void => server.receive([server.nowNs, ...elements]);
const state = (...elements: unknown[]): void => server.receive([server.nowNs, [0, elements.length], ...elements]);
const gap = (channel: string, from: number, to: number, reason: string): unknown[] => [
  8,
  7,
  to,
  server.nowNs,
  channel,
  from,
  to,
  reason,
];

function begin(): void {
  server.client.connect();
  server.welcome();
  server.confirm(server.commands("subscribe")[0]);
}

describe("a subscription", () => {
  test("a listener that asks for something at the welcome asks after the token", () => {
    server = new Scripted({ token: "secret" });
    server.client.on("welcome", () => void server.client.instruments().catch(() => {}));
    server.client.connect();
    server.welcome();
    expect(server.commands().map(({ op }) => op)).toEqual(["auth", "instruments"]);
    server.client.close();
  });

  test("is asked for after the welcome, with the token first", () => {
    server = new Scripted({ token: "secret" });
    told(["trades", "quotes"]);
    server.client.connect();
    expect(server.commands()).toEqual([]);
    server.welcome();
    expect(server.commands()).toMatchObject([
      { op: "auth", token: "secret" },
      { op: "subscribe", channels: ["trades", "quotes"], symbols: ["ES"], mode: "every" },
    ]);
  });

  test("gives typed events with exact prices", () => {
    const trades: Trade[] = [];
    const quotes: Quote[] = [];
    server.client.subscribe({
      channels: ["trades", "quotes"],
      symbols: ["ES"],
      onEvent: (event) => {
        if (event.type === "trade") {
          trades.push(event);
        } else if (event.type === "quote") {
          quotes.push(event);
        }
      },
    });
    begin();
    live(trade(1), [2, 7, 1, server.nowNs, 1, 2, null, null]);
    expect(trades.map((one) => [String(one.price), String(one.size), one.side, one.tradeId])).toEqual([
      ["5000.01", "2", "buy", 1],
    ]);
    expect(quotes.map((one) => [one.bid?.price.toString(), one.ask])).toEqual([["0.01", undefined]]);
  });

  test("of bars says which interval", () => {
    const bars: Bar[] = [];
    server.client.subscribe({
      channels: ["bars.1m"],
      symbols: ["ES"],
      onEvent: (event) => {
        if (event.type === "bar") {
          bars.push(event);
        }
      },
    });
    begin();
    live([3, 7, 1, 60_000_000_000, 60, 100, 200, 50, 150, 12, 3, true], [3, 7, 1, 0, 300, 1, 1, 1, 1, 1, 1, false]);
    expect(bars).toMatchObject([{ channel: "bars.1m", seq: 1, tradeCount: 3, closed: true }]);
  });

  test("that joins another gets the state without disturbing it", () => {
    const first = told();
    begin();
    state(trade(4));
    live(trade(5));
    const second = told();
    server.pass(400);
    const [again] = server.commands("subscribe");
    expect(again).toMatchObject({ symbols: ["ES"] });
    expect(again).not.toHaveProperty("since");
    server.confirm(again);
    state(trade(5));
    live(trade(6));
    expect(first.words).toEqual(["ES state 4", "ES trade 5", "ES trade 6"]);
    expect(second.words).toEqual(["ES state 5", "ES trade 6"]);
  });

  test("shares a stream at the fastest rate, and gives it back", () => {
    told(["trades"], ["ES"], { latestMs: 1_000 });
    begin();
    const fast = told(["trades"], ["ES"], { latestMs: 100 });
    server.pass(400);
    expect(server.commands("subscribe")).toMatchObject([{ mode: "latest", interval_ms: 100 }]);
    fast.subscription.close();
    server.pass(400);
    expect(server.commands()).toMatchObject([{ op: "update", interval_ms: 1_000 }]);
  });

  test("changes its rate by update, and counts anew from there", () => {
    const { words, subscription } = told(["trades"], ["ES"], { latestMs: 100 });
    begin();
    state(trade(4));
    live(trade(9));
    expect(server.client.statistics.conflated).toBe(4);
    subscription.setRate("every");
    server.pass(400);
    const [update] = server.commands("update");
    expect(update).toMatchObject({ mode: "every", channels: ["trades"], symbols: ["ES"] });
    live(trade(14));
    server.confirm(update);
    live(trade(20), trade(21));
    expect(words).toEqual(["ES state 4", "ES trade 9", "ES trade 14", "ES trade 20", "ES trade 21"]);
  });

  test("of everything covers names, and names come back when it ends", () => {
    const names = told(["trades"], ["ES"]);
    begin();
    live(trade(1));
    const all = told(["trades"], ["*"]);
    server.pass(400);
    const [star] = server.commands("subscribe");
    expect(star).toMatchObject({ symbols: ["*"] });
    server.confirm(star);
    state(trade(1), trade(8, 8));
    live(trade(2), trade(9, 8));
    expect(names.words).toEqual(["ES trade 1", "ES trade 2"]);
    expect(all.words).toEqual(["ES state 1", "NQ state 8", "ES trade 2", "NQ trade 9"]);
    all.subscription.close();
    server.pass(400);
    expect(server.commands()).toMatchObject([
      { op: "unsubscribe", symbols: ["*"] },
      { op: "subscribe", symbols: ["ES"], since: { epoch: "e1", seqs: { ES: { trades: 2 } } } },
    ]);
  });

  test("of an unknown symbol is refused, the others go on", () => {
    const { words } = told(["trades"], ["ES", "NOPE"]);
    server.client.connect();
    server.welcome();
    const [command] = server.commands("subscribe");
    server.confirm({ ...command, symbols: ["ES"] });
    server.receive({ type: "error", id: command?.["id"], code: "unknown_symbol", message: "no", symbols: ["NOPE"] });
    live(trade(1));
    expect(words).toEqual(["NOPE refused unknown_symbol", "ES trade 1"]);
  });

  test("that the rate limit threw away is asked for again", () => {
    told();
    server.client.connect();
    server.welcome();
    server.commands();
    server.receive({ type: "error", code: "rate_limited", message: "slow down" });
    server.pass(1_400);
    expect(server.commands("subscribe")).toEqual([]);
    server.pass(200);
    expect(server.commands("subscribe")).toMatchObject([{ symbols: ["ES"] }]);
  });

  test("of more symbols than one message holds goes in parts", () => {
    const symbols = Array.from({ length: 5_000 }, (_, at) => `SYMBOL-NUMBER-${at}`);
    told(["trades"], symbols);
    server.client.connect();
    server.welcome();
    const parts = server.commands("subscribe");
    expect(parts.length).toBeGreaterThan(1);
    expect(parts.flatMap((part) => part["symbols"])).toEqual(symbols);
  });
});

describe("after a loss", () => {
  test("a subscription resumes where it was, without a hole or a repeat", () => {
    const { words } = told();
    begin();
    state(trade(41));
    live(trade(42));
    server.closed();
    server.pass(0);
    expect(server.connects).toBe(2);
    server.welcome("e1");
    const [resume] = server.commands("subscribe");
    expect(resume).toMatchObject({ since: { epoch: "e1", seqs: { ES: { trades: 42 } } } });
    server.confirm(resume, { ES: { trades: "recovered" } });
    live(trade(43), trade(44));
    expect(words).toEqual(["ES state 41", "ES trade 42", "ES trade 43", "ES trade 44"]);
  });

  test("numbers past 32 bits are integers in a resume", () => {
    told();
    begin();
    live(trade(2 ** 40));
    server.closed();
    server.pass(0);
    server.welcome("e1");
    expect(server.commands("subscribe")).toMatchObject([{ since: { seqs: { ES: { trades: 2 ** 40 } } } }]);
  });

  test("what the server does not keep any more is a gap, then the state", () => {
    const { words } = told();
    begin();
    live(trade(1));
    server.closed();
    server.pass(0);
    server.welcome("e1");
    server.confirm(server.commands("subscribe")[0], { ES: { trades: "gap" } });
    live(gap("trades", 2, 900, "evicted"));
    state(trade(900));
    live(trade(901));
    expect(words).toEqual(["ES trade 1", "ES gap 2-900 evicted", "ES state 900", "ES trade 901"]);
    expect(server.client.statistics.missed).toBe(899);
  });

  test("a new epoch is a gap of unknown length, then the state", () => {
    const { words } = told();
    begin();
    live(trade(77));
    server.closed();
    server.pass(0);
    server.welcome("e2");
    const [command] = server.commands("subscribe");
    expect(command).not.toHaveProperty("since");
    server.confirm(command);
    state(trade(3));
    live(trade(4));
    expect(words).toEqual(["ES trade 77", "ES gap 78-77 epoch", "ES state 3", "ES trade 4"]);
  });

  test("a hole that nobody declared is declared here", () => {
    const { words } = told();
    begin();
    live(trade(1), trade(4), trade(4), trade(3));
    expect(words).toEqual(["ES trade 1", "ES gap 2-3 hole", "ES trade 4"]);
  });

  test("waits are drawn from nothing to a ceiling that doubles", () => {
    const waits = (random: number) => {
      const one = new Scripted({ random: () => random });
      one.client.connect();
      return Array.from({ length: 7 }, () => {
        one.closed();
        const { connection } = one.client;
        const wait = connection.phase === "waiting" ? connection.retryAtMs - one.nowMs : -1;
        one.pass(wait);
        return wait;
      });
    };
    expect(waits(0.002)).toEqual([1, 2, 4, 8, 16, 30, 30]);
    expect(waits(0.5)).toEqual([250, 500, 1_000, 2_000, 4_000, 7_500, 7_500]);
  });

  test("a draining server is given the time it asked for", () => {
    server.client.connect();
    server.welcome();
    server.receive({ type: "notice", code: "draining", reconnect_after_ms: 2_000, message: "restarting" });
    server.closed(1012);
    server.pass(1_999);
    expect(server.connects).toBe(1);
    server.pass(1);
    expect(server.connects).toBe(2);
  });

  test.each([1002, 1003, 1007, 1009, 4401, 4409])("close code %i is final until a person asks", (code) => {
    server.client.connect();
    server.welcome();
    server.closed(code);
    server.pass(600_000);
    expect([server.connects, server.client.connection.phase]).toEqual([1, "stopped"]);
    server.client.reconnect();
    expect(server.connects).toBe(2);
  });

  test("silence is a loss, heartbeats are none", () => {
    server.client.connect();
    server.welcome();
    for (let beat = 0; beat < 20; beat += 1) {
      server.pass(1_000);
      server.receive({ type: "heartbeat", time: server.nowNs, delivered: 0, dropped: 0 });
    }
    expect(server.connects).toBe(1);
    server.pass(5_000);
    expect([server.connects, server.disconnects > 0]).toEqual([2, true]);
  });

  test("questions are asked again, and answered", async () => {
    server.client.connect();
    server.welcome();
    const answer = server.client.instruments("E");
    expect(server.commands("instruments")).toMatchObject([{ prefix: "E" }]);
    server.closed();
    server.pass(0);
    server.welcome();
    const [again] = server.commands("instruments");
    server.receive({
      type: "instruments",
      id: again?.["id"],
      instruments: [{ symbol: "ES", instrument_id: 7, price_exponent: -2, size_exponent: 0, tick_size: 25 }],
    });
    expect((await answer).map(({ symbol, tickSize }) => [symbol, String(tickSize)])).toEqual([["ES", "0.25"]]);
  });

  test("the next transport is tried after two failures, and what worked is tried first after a loss", () => {
    const opened: string[] = [];
    const open = (name: "websocket" | "sse", succeed: boolean) => ({
      name,
      direction: "one-way" as const,
      open: (handler: { closed(code: number, reason: string): void; message(text: string): void }) => {
        opened.push(name);
        current = handler;
        works = succeed;
        return { send: () => {}, close: () => {} };
      },
    });
    let current: { closed(code: number, reason: string): void; message(text: string): void } | undefined;
    let works = false;
    const scripted = new Scripted();
    const client = new (scripted.client.constructor as typeof import("../src/client").Client)({
      url: "http://test",
      transports: [open("websocket", false), open("sse", true)],
      environment: {
        now: () => scripted.nowMs,
        random: () => 0,
        schedule: (call) => {
          calls.push(call);
          return () => {};
        },
      },
    });
    const calls: (() => void)[] = [];
    client.subscribe({ channels: ["trades"], symbols: ["ES"], onEvent: () => {} });
    client.connect();
    for (let step = 0; step < 4; step += 1) {
      if (works) {
        current?.message(`{"type":"heartbeat","time":"2024-07-01T13:30:00Z","delivered":0,"dropped":0}`);
        expect([client.connection.phase, client.transport]).toEqual(["live", "sse"]);
      }
      current?.closed(1006, "");
      for (const call of calls.splice(0)) {
        call();
      }
    }
    expect(opened).toEqual(["websocket", "websocket", "sse", "sse", "sse"]);
  });
});

describe("an iterator", () => {
  test("gives what came, also before it was asked, and ends with close", async () => {
    const subscription = server.client.subscribe({ channels: ["trades"], symbols: ["ES"] });
    begin();
    live(trade(1), trade(2));
    const words: string[] = [];
    for await (const event of subscription) {
      words.push(word(event));
      if (words.length === 2) {
        live(trade(3));
        subscription.close();
      }
    }
    expect(words).toEqual(["ES trade 1", "ES trade 2", "ES trade 3"]);
  });

  test("waits for what has not come yet", async () => {
    const subscription = server.client.subscribe({ channels: ["trades"], symbols: ["ES"] });
    begin();
    const next = subscription[Symbol.asyncIterator]().next();
    live(trade(1));
    expect((await next).value).toMatchObject({ seq: 1 });
  });

  test("that is not read keeps the newest of each stream, and says what is gone", async () => {
    const subscription = server.client.subscribe({ channels: ["trades"], symbols: ["ES", "NQ"], queueMax: 10 });
    begin();
    for (let seq = 1; seq <= 8; seq += 1) {
      live(trade(seq));
    }
    live(trade(1, 8), trade(2, 8), trade(3, 8));
    live(trade(9));
    subscription.close();
    const words: string[] = [];
    for await (const event of subscription) {
      words.push(word(event));
    }
    expect(words).toEqual(["ES gap 1-7 queue", "ES trade 8", "NQ gap 1-2 queue", "NQ trade 3", "ES trade 9"]);
    expect(subscription.folds).toBe(1);
  });

  test("of a book that is not read asks for a new snapshot", async () => {
    const subscription = server.client.subscribe({ channels: ["book.10"], symbols: ["ES"], queueMax: 4 });
    expect(subscription).toBeInstanceOf(Subscription);
    begin();
    state([4, 7, 1, 0, 10, [], [], 0]);
    for (let seq = 2; seq <= 6; seq += 1) {
      live([5, 7, seq, 0, 10, [], [], 0]);
    }
    server.pass(400);
    const [again] = server.commands("subscribe");
    expect(again).toMatchObject({ channels: ["book.10"] });
    server.confirm(again);
    state([4, 7, 6, 0, 10, [], [], 0]);
    subscription.close();
    const words: string[] = [];
    for await (const event of subscription) {
      words.push(word(event));
    }
    expect(words).toEqual(["ES gap 1-5 queue", "ES book_delta 6", "ES state 6"]);
  });
});

describe("a book", () => {
  const sum = (digits: string): number => crc32(digits);
  const snapshot = (seq: number, checksum = sum("101599730")): unknown[] => [
    4,
    7,
    seq,
    server.nowNs,
    10,
    [[9973, 0x1e]],
    [[1015, 9]],
    checksum,
  ];

  test("the document's example", () => {
    expect(crc32("5520257552000555197531")).toBe(412604185);
  });

  test("is kept, verified and mended", async () => {
    const book = server.client.book("ES");
    begin();
    state([
      4,
      7,
      41,
      server.nowNs,
      10,
      [
        [552_000, 5],
        [551_975, 31],
      ],
      [[552_025, 7]],
      412604185,
    ]);
    await book.ready();
    live([5, 7, 42, server.nowNs, 10, [[552_000, 0]], [[552_025, 9]], 3058486870]);
    expect(book.bids.map(({ price, size }) => `${price} ${size}`)).toEqual(["5519.75 31"]);
    expect(book.asks.map(({ price, size }) => `${price} ${size}`)).toEqual(["5520.25 9"]);

    live([5, 7, 43, server.nowNs, 10, [[551_950, 1]], [], 1]);
    expect([book.known, book.mismatches]).toEqual([false, 1]);
    server.pass(400);
    const [again] = server.commands("subscribe");
    expect(again).toMatchObject({ channels: ["book.10"], symbols: ["ES"] });
    live([5, 7, 44, server.nowNs, 10, [[1, 1]], [], 1]);
    server.confirm(again);
    state([
      4,
      7,
      44,
      server.nowNs,
      10,
      [
        [552_000, 5],
        [551_975, 31],
      ],
      [[552_025, 7]],
      412604185,
    ]);
    expect([book.known, book.seq, book.bids.length]).toEqual([true, 44, 2]);
  });

  test("a gap makes it unknown until the next snapshot", () => {
    const book = server.client.book("ES");
    begin();
    state(snapshot(1, sum("10159997330")));
    expect(book.known).toBe(true);
    live(gap("book.10", 2, 9, "slow"));
    expect(book.known).toBe(false);
    live(snapshot(10, sum("10159997330")));
    expect(book.known).toBe(true);
  });

  test("one that never comes out is asked for less and less often", () => {
    server.client.book("ES");
    begin();
    let asked = 0;
    for (let second = 0; second < 120; second += 1) {
      state(snapshot(second + 1, 7));
      server.pass(1_000);
      server.receive({ type: "heartbeat", time: server.nowNs, delivered: 0, dropped: 0 });
      for (const command of server.commands("subscribe")) {
        asked += 1;
        server.confirm(command);
      }
    }
    expect(asked).toBeGreaterThan(3);
    expect(asked).toBeLessThan(12);
  });
});

test("over a one-way transport the wish is the address, and a change is another request", () => {
  server = new Scripted({ direction: "one-way" });
  const { words } = told(["trades"], ["ES"], { latestMs: 250 });
  server.client.connect();
  expect(server.wish).toEqual({ channels: ["trades"], symbols: ["ES"], intervalMs: 250, resume: false });
  const head = `"symbol":"ES","time":"2024-07-01T13:30:00.000000001Z"`;
  const body = `"price":"5520.25","size":"3","side":"buy","trade_id":18446744073709551615`;
  server.receiveRaw(`{"sent_at":"2024-07-01T13:30:00.000000001Z","data":[{"type":"trade",${head},"seq":1,${body}}]}`);
  expect([server.client.connection.phase, ...words]).toEqual(["live", "ES trade 1"]);
  told(["quotes"], ["NQ"]);
  server.pass(400);
  expect(server.wish).toEqual({
    channels: ["trades", "quotes"],
    symbols: ["ES", "NQ"],
    intervalMs: undefined,
    resume: false,
  });
});

test("over a one-way transport what is not served is refused, and the rest goes on", () => {
  server = new Scripted({ direction: "one-way" });
  const { words } = told(["trades"], ["ES", "NOPE"]);
  server.client.connect();
  const error = { type: "error", code: "unknown_symbol", message: "no", symbols: ["NOPE"] };
  server.refused(error);
  expect(words).toEqual(["NOPE refused unknown_symbol"]);
  expect([server.connects, server.wish?.symbols]).toEqual([2, ["ES"]]);
  // Whoever asks for it later is told too.
  told(["quotes"], ["ES"]);
  const later = told(["trades"], ["NOPE"]);
  server.receiveRaw('{"sent_at":"2024-07-01T13:30:00.000000001Z","data":[]}');
  server.pass(400);
  expect(server.wish?.symbols).toEqual(["ES", "NOPE"]);
  server.refused(error);
  expect(later.words).toEqual(["NOPE refused unknown_symbol"]);
  expect(server.wish?.symbols).toEqual(["ES"]);
  // After a cut it may be there.
  server.receiveRaw('{"sent_at":"2024-07-01T13:30:00.000000001Z","data":[]}');
  server.closed();
  server.pass(0);
  expect(server.wish?.symbols).toEqual(["ES", "NOPE"]);
  // An answer that names nobody is about all, and nothing is left to ask for.
  const connects = server.connects;
  server.refused({ type: "error", code: "bad_command", message: "no" });
  server.pass(60_000);
  expect([server.connects, server.client.connection.phase]).toEqual([connects, "live"]);
});

test("over a one-way transport the list of instruments is asked for with the token of the connection", async () => {
  server = new Scripted({ direction: "one-way", token: () => "tp_fresh" });
  server.client.connect();
  await Promise.resolve();
  await Promise.resolve();
  expect(await server.client.instruments()).toEqual([]);
  expect(server.presented).toEqual(["tp_fresh"]);
});
