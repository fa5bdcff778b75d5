import { beforeEach, expect, test } from "vitest";
import { Scripted } from "../sdk/tests/scripted";
import { Board } from "../src/model/board";

let server: Scripted;
let board: Board;
let asked: string[];
let bars: string;

beforeEach(() => {
  server = new Scripted();
  asked = [];
  bars = "";
  board = new Board(
    server.client,
    (path) => {
      asked.push(path);
      return Promise.resolve(bars);
    },
    { mode: "latest", intervalMs: 100 },
  );
  board.watch(["ES", "NQ"]);
  board.sight(["ES", "NQ"]);
  server.client.connect();
  server.welcome();
});

function begin(): Record<string, unknown>[] {
  const commands = server.commands();
  for (const command of commands.filter(({ op }) => op === "subscribe")) {
    server.confirm(command);
  }
  return commands;
}

const trade = (id: number, seq: number, price: number): unknown[] => [1, id, seq, server.nowNs, price, 2, 1, seq];

test("asks for instruments and prices, and shows them once", () => {
  expect(begin()).toMatchObject([
    { op: "instruments" },
    { op: "subscribe", channels: ["trades", "quotes", "ticker", "status"], symbols: ["ES", "NQ"], mode: "latest" },
  ]);
  server.receive([server.nowNs, [0, 1], trade(7, 1, 12_345)]);
  const update = board.take(server.nowMs);
  expect(update?.rows.find(({ symbol }) => symbol === "ES")?.last.text).toBe("123.45");
  expect(update?.order).toEqual(["ES", "NQ"]);
  expect(board.take(server.nowMs)).toBeUndefined();
});

test("a server that asks who this is is told from one that has something else to say", () => {
  const [list] = begin();
  expect(board.take(server.nowMs)?.status?.access).toBe("granted");
  server.receive({ type: "error", id: list?.["id"], code: "auth_required", message: "authenticate first" });
  return Promise.resolve().then(() => {
    const status = board.take(server.nowMs)?.status;
    expect([status?.access, status?.notice]).toEqual(["asked", ""]);
  });
});

test("rows out of sight are not posted, and come when they are scrolled to", () => {
  begin();
  board.sight(["NQ"]);
  server.receive([server.nowNs, trade(7, 1, 100), trade(8, 1, 200)]);
  expect(board.take(server.nowMs)?.rows.map(({ symbol }) => symbol)).toEqual(["NQ"]);
  board.sight(["ES"]);
  expect(board.take(server.nowMs)?.rows.map(({ symbol, last }) => [symbol, last.text])).toEqual([["ES", "1.00"]]);
});

test("rows are sorted and filtered by the worker", () => {
  begin();
  server.receive([server.nowNs, trade(7, 1, 100), trade(8, 1, 200)]);
  board.arrange({ key: "last", order: "descending" }, "");
  expect(board.take(server.nowMs)?.order).toEqual(["NQ", "ES"]);
  board.arrange({ key: "symbol", order: "ascending" }, "nq");
  expect(board.take(server.nowMs)?.order).toEqual(["NQ"]);
});

test("everything is one subscription, and rows come as instruments do", () => {
  begin();
  board.watch(["*"]);
  server.pass(400);
  const [star] = begin().filter(({ op }) => op === "subscribe");
  expect(star).toMatchObject({ symbols: ["*"] });
  server.receive([server.nowNs, trade(8, 1, 200)]);
  expect(board.take(server.nowMs)?.order).toContain("NQ");
});

test("an open instrument has every part, bars of the past included", async () => {
  begin();
  const head = `"type":"bar","symbol":"ES","seq":1,"interval_s":60,"open":"1.00","high":"2.00","low":"1.00","close":"1.50"`;
  bars = `{"sent_at":"2024-07-01T13:30:00Z","snapshot":true,"data":[{${head},"time":"2024-07-01T13:30:00Z","volume":"5","trade_count":1,"closed":true}]}`;
  board.select("ES");
  await Promise.resolve();
  await Promise.resolve();
  expect(asked).toEqual(["bars?symbol=ES&interval=1m&limit=1000"]);
  server.pass(400);
  const commands = begin().filter(({ op }) => op === "subscribe");
  expect(commands.flatMap(({ channels }) => channels)).toEqual(expect.arrayContaining(["book.10", "bars.1m"]));
  server.receive([server.nowNs, trade(7, 2, 150)]);
  server.receive([server.nowNs, [3, 7, 1, 1_719_840_660_000_000_000n, 60, 150, 150, 150, 150, 2, 1, false]]);
  const detail = board.take(server.nowMs)?.detail;
  expect(detail?.bars).toMatchObject({ kind: "all", bars: [{ close: 1.5, volume: 5 }, { open: 1.5 }] });
  expect(detail?.trades).toMatchObject([{ price: "1.50", side: "buy" }]);
  server.receive([server.nowNs, [8, 7, 9, server.nowNs, "trades", 3, 9, "slow"]]);
  expect(board.take(server.nowMs)?.detail?.trades).toMatchObject([{ gap: "7 missed (slow)" }]);
});

test("the figures count what conflation left out", () => {
  begin();
  server.receive([server.nowNs, trade(7, 1, 100)]);
  server.receive([server.nowNs, trade(7, 11, 100)]);
  server.pass(500);
  board.advance(server.nowMs);
  expect(board.take(server.nowMs)?.status).toMatchObject({ delivered: 2, conflated: 9, missed: 0, reconnects: 0 });
});
