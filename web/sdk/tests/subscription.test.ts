/** What is asked for, and what comes of it. */
import { describe, expect, test } from "vitest";
import type { Bar, Quote, Trade } from "../src/index";
import { begin, live, serve, server, state, told, trade } from "./told";

describe("a subscription", () => {
  test("a listener that asks for something at the welcome asks after the token", () => {
    serve({ token: "secret" });
    server.client.on("welcome", () => void server.client.instruments().catch(() => {}));
    server.client.connect();
    server.welcome();
    expect(server.commands().map(({ op }) => op)).toEqual(["auth", "instruments"]);
    server.client.close();
  });

  test("is asked for after the welcome, with the token first", () => {
    serve({ token: "secret" });
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
