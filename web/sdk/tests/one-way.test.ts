/** Over a transport that cannot be told anything later. */
import { expect, test } from "vitest";
import { serve, server, told } from "./told";

test("over a one-way transport the wish is the address, and a change is another request", () => {
  serve({ direction: "one-way" });
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
  serve({ direction: "one-way" });
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
  serve({ direction: "one-way", token: () => "tp_fresh" });
  server.client.connect();
  await Promise.resolve();
  await Promise.resolve();
  expect(await server.client.instruments()).toEqual([]);
  expect(server.presented).toEqual(["tp_fresh"]);
});
