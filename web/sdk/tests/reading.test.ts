/** Iterators and books: who reads, and who does not keep up. */
import { describe, expect, test } from "vitest";
import { crc32 } from "../src/core/crc32";
import { Subscription } from "../src/index";
import { begin, gap, live, server, state, trade, word } from "./told";

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
