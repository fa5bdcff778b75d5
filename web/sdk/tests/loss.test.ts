/** What becomes of a client whose connection is lost. */
import { describe, expect, test } from "vitest";
import { Scripted } from "./scripted";
import { begin, gap, live, server, state, told, trade } from "./told";

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
