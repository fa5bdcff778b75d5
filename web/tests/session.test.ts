import { Decoder, Encoder } from "@msgpack/msgpack";
import { beforeEach, describe, expect, test } from "vitest";
import { Session } from "../src/model/session";

const encoder = new Encoder({ useBigInt64: true });
const decoder = new Decoder();

/** A session whose network is this test. */
class Bench {
  nowMs = 1_700_000_000_000;
  connects = 0;
  disconnects = 0;
  sent: Record<string, unknown>[] = [];
  readonly session = new Session(
    {
      connect: () => {
        this.connects += 1;
      },
      send: (bytes) => {
        this.sent.push(decoder.decode(bytes) as Record<string, unknown>);
      },
      disconnect: () => {
        this.disconnects += 1;
      },
    },
    { mode: "latest", intervalMs: 100 },
    () => 0,
  );

  get nowNs(): bigint {
    return BigInt(this.nowMs) * 1_000_000n;
  }

  receive(message: unknown): void {
    this.session.received(encoder.encode(message), this.nowMs);
  }

  welcome(epoch = "e1"): void {
    this.receive({
      type: "welcome",
      version: "0.1.0",
      session: "s",
      epoch,
      time: this.nowNs,
      heartbeat_ms: 1_000,
      limits: {},
    });
  }

  /** Commands since the last call. */
  commands(): Record<string, unknown>[] {
    const sent = this.sent;
    this.sent = [];
    return sent;
  }

  /** Lets time pass, with `advance` at every deadline and nothing else. */
  pass(ms: number): void {
    const until = this.nowMs + ms;
    while (this.session.deadline() <= until) {
      this.nowMs = Math.max(this.nowMs, this.session.deadline());
      this.session.advance(this.nowMs);
    }
    this.nowMs = until;
  }

  phase(): string | undefined {
    return this.session.take(this.nowMs)?.status?.connection.phase;
  }
}

let bench: Bench;

beforeEach(() => {
  bench = new Bench();
  bench.session.watch(["ES"], bench.nowMs);
  bench.session.start(bench.nowMs);
});

const LISTED = { type: "subscribed", instruments: [["ES", 7, -2, 0]], channels: [], mode: "latest", recovered: {} };

describe("the first connection", () => {
  test("says nothing before the welcome, then asks for instruments and prices", () => {
    expect(bench.connects).toBe(1);
    expect(bench.sent).toEqual([]);
    expect(bench.phase()).toBe("connecting");
    bench.welcome();
    expect(bench.commands()).toMatchObject([
      { op: "instruments" },
      { op: "subscribe", channels: ["trades", "quotes", "ticker"], symbols: ["ES"], mode: "latest", interval_ms: 100 },
    ]);
    expect(bench.phase()).toBe("live");
  });

  test("prices become rows, and nothing is posted twice", () => {
    bench.welcome();
    bench.receive({ ...LISTED, id: 2 });
    bench.receive([bench.nowNs, [0, 1], [1, 7, 1, bench.nowNs, 12_345, 2, 1, 0]]);
    expect(bench.session.take(bench.nowMs)?.rows).toMatchObject([{ symbol: "ES", last: { text: "123.45" } }]);
    expect(bench.session.take(bench.nowMs)).toBeUndefined();
  });

  test("no answer within the time limit is a failure", () => {
    bench.pass(10_000);
    expect(bench.disconnects).toBe(1);
    expect(bench.phase()).toBe("waiting");
  });
});

describe("after a loss", () => {
  test("comes back by itself and subscribes to what is watched by then", () => {
    bench.welcome();
    bench.commands();
    bench.session.closed(1006, "", bench.nowMs);
    expect(bench.phase()).toBe("waiting");
    bench.session.watch(["ES", "NQ"], bench.nowMs);
    bench.pass(250);
    expect(bench.connects).toBe(2);
    expect(bench.commands()).toEqual([]);
    bench.welcome("e2");
    expect(bench.commands()).toMatchObject([{ op: "instruments" }, { op: "subscribe", symbols: ["ES", "NQ"] }]);
  });

  test("another epoch may number the instruments anew", () => {
    bench.welcome();
    bench.receive({ ...LISTED, id: 2 });
    bench.session.closed(1006, "", bench.nowMs);
    bench.pass(250);
    bench.welcome("e2");
    bench.receive({ ...LISTED, instruments: [["ES", 3, -2, 0]] });
    bench.receive([bench.nowNs, [0, 2], [1, 7, 1, 0, 1, 1, 1, 0], [1, 3, 1, 0, 500, 2, 1, 0]]);
    expect(bench.session.take(bench.nowMs)?.rows).toMatchObject([{ symbol: "ES", last: { text: "5.00" } }]);
  });

  test("a draining server is given the time it asked for", () => {
    bench.welcome();
    bench.receive({ type: "notice", code: "draining", reconnect_after_ms: 2_000, message: "restarting" });
    expect(bench.session.take(bench.nowMs)?.status?.notice).toBe("restarting");
    bench.session.closed(1012, "", bench.nowMs);
    bench.pass(1_999);
    expect(bench.connects).toBe(1);
    bench.pass(1_000);
    expect(bench.connects).toBe(2);
  });

  test("a refusal is not repeated until a person asks", () => {
    bench.welcome();
    bench.session.closed(4401, "", bench.nowMs);
    expect(bench.phase()).toBe("stopped");
    bench.pass(600_000);
    expect(bench.connects).toBe(1);
    bench.session.reconnect(bench.nowMs);
    expect(bench.connects).toBe(2);
  });

  test("silence is a loss, heartbeats are none", () => {
    bench.welcome();
    for (let beat = 0; beat < 10; beat += 1) {
      bench.pass(1_000);
      bench.receive({ type: "heartbeat", time: bench.nowNs, delivered: 0, dropped: 0 });
    }
    expect(bench.disconnects).toBe(0);
    bench.pass(5_000);
    expect(bench.disconnects).toBe(1);
    expect(bench.phase()).toBe("waiting");
  });
});

describe("while live", () => {
  test("changes in quick succession travel together", () => {
    bench.welcome();
    bench.pass(1_000);
    bench.commands();
    bench.session.watch(["ES", "A"], bench.nowMs);
    bench.pass(10);
    bench.session.watch(["ES", "A", "B"], bench.nowMs);
    bench.session.watch(["ES", "A", "B", "C"], bench.nowMs);
    bench.pass(1_000);
    expect(bench.commands()).toMatchObject([
      { op: "subscribe", symbols: ["A"] },
      { op: "subscribe", symbols: ["B", "C"] },
    ]);
  });

  test("an unknown symbol is told in its row", () => {
    bench.welcome();
    bench.session.take(bench.nowMs);
    bench.receive({ type: "error", id: 2, code: "unknown_symbol", message: "no such symbol", symbols: ["ES"] });
    expect(bench.session.take(bench.nowMs)?.rows).toMatchObject([{ state: "refused", reason: "no such symbol" }]);
  });

  test("a command that was refused as a whole is told in its rows", () => {
    bench.welcome();
    bench.receive({ type: "error", id: 2, code: "too_many_subscriptions", message: "10,000 at most" });
    expect(bench.session.take(bench.nowMs)?.rows).toMatchObject([{ state: "refused", reason: "10,000 at most" }]);
  });

  test("what the rate limit refused is asked for again, later", () => {
    bench.welcome();
    bench.commands();
    bench.receive({ type: "error", id: 2, code: "rate_limited", message: "10 commands a second" });
    bench.pass(1_400);
    expect(bench.commands().filter((command) => command["op"] === "subscribe")).toEqual([]);
    bench.pass(200);
    expect(bench.commands()).toMatchObject([{ op: "subscribe", symbols: ["ES"] }]);
  });

  test("a frame that cannot be read is counted and the next one is read", () => {
    bench.welcome();
    bench.session.received(Uint8Array.of(0xc1), bench.nowMs);
    bench.receive({ ...LISTED, id: 2 });
    expect(bench.session.take(bench.nowMs)).toMatchObject({ status: { faults: 1 }, rows: [{ symbol: "ES" }] });
  });

  test("the latency is from sent_at, corrected by the ping", () => {
    bench.welcome();
    bench.receive({ ...LISTED, id: 2 });
    bench.pass(1_000);
    const ping = bench.commands().find((command) => command["op"] === "ping");
    bench.nowMs += 10;
    // The server's clock is a minute ahead.
    bench.receive({ type: "pong", id: ping?.["id"], time: bench.nowNs + 59_995_000_000n });
    bench.receive([bench.nowNs + 59_998_000_000n, [1, 7, 1, 0, 500, 2, 1, 0]]);
    bench.pass(500);
    expect(bench.session.take(bench.nowMs)?.status).toMatchObject({
      latencyMedianMs: 2,
      roundTripMs: 10,
      clockOffsetMs: 60_000,
    });
  });
});
