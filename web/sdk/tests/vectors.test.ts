/**
 * The vectors that every SDK and the server have to pass: bytes, text, and what they mean.
 *
 * Invariant: the expected values stand in the file; nothing here computes them.
 */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { OrderBook } from "../src/core/book";
import type { Decimal } from "../src/protocol/decimal";
import { decode, ProtocolError } from "../src/protocol/decode";
import { decodeJson } from "../src/protocol/decode-json";
import type { Element, Instrument, Level, Listing, ServerMessage } from "../src/protocol/messages";

interface Vector {
  readonly name: string;
  readonly msgpack?: string;
  readonly json?: string;
  readonly expected: unknown;
}

interface Vectors {
  readonly instruments: readonly (readonly [string, number, number, number])[];
  readonly frames: readonly Vector[];
  readonly control: readonly Vector[];
  readonly tolerated: readonly Vector[];
  readonly refused: readonly Vector[];
  readonly books: readonly { readonly name: string; readonly frames: readonly string[]; readonly expected: unknown }[];
}

const FILE = new URL("../../../sdk/vectors/messages.json", import.meta.url);
const VECTORS = JSON.parse(readFileSync(FILE, "utf8")) as Vectors;

const DIRECTORY = new Map<number, Listing>(
  VECTORS.instruments.map(([symbol, instrumentId, priceExponent, sizeExponent]) => [
    instrumentId,
    { symbol, instrumentId, priceExponent, sizeExponent },
  ]),
);

function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, "hex"));
}

function read(vector: Vector, encoding: "msgpack" | "json"): ServerMessage {
  return encoding === "msgpack" ? decode(bytes(vector.msgpack ?? ""), DIRECTORY) : decodeJson(vector.json ?? "");
}

const level = (one: Level): string[] => [String(one.price), String(one.size)];
const side = (one: Level | undefined): string[] | null => (one === undefined ? null : level(one));

function decimals(fields: Record<string, Decimal>): Record<string, string> {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, String(value)]));
}

function own(element: Element): Record<string, unknown> {
  switch (element.type) {
    case "trade": {
      const { price, size, tradeId } = element;
      return { ...decimals({ price, size }), side: element.side, trade_id: String(tradeId) };
    }
    case "quote":
      return { bid: side(element.bid), ask: side(element.ask) };
    case "bar": {
      const { open, high, low, close, volume, intervalS, tradeCount, closed } = element;
      const counts = { interval_s: intervalS, trade_count: String(tradeCount), closed };
      return { ...decimals({ open, high, low, close, volume }), ...counts };
    }
    case "book_snapshot":
    case "book_delta":
      return { bids: element.bids.map(level), asks: element.asks.map(level), checksum: element.checksum };
    case "ticker": {
      const { last, open, high, low, volume, turnover, tradeCount } = element;
      const counts = { turnover: Number.isNaN(turnover) ? null : turnover, trade_count: String(tradeCount) };
      return { ...decimals({ last, open, high, low, volume }), ...counts };
    }
    case "status":
      return { code: element.code, reason: element.reason };
    case "gap":
      return { from_seq: String(element.fromSeq), to_seq: String(element.toSeq), reason: element.reason };
  }
}

function details(one: Instrument): Record<string, unknown> {
  return {
    symbol: one.symbol,
    instrument_id: one.instrumentId,
    price_exponent: one.priceExponent,
    size_exponent: one.sizeExponent,
    tick_size: String(one.tickSize),
    lot_size: String(one.lotSize),
    class: one.assetClass,
    currency: one.currency,
    description: one.description,
  };
}

/** As the vectors write it: numbers that can be large, and prices, as text. */
function normal(message: ServerMessage): unknown {
  const { type } = message;
  switch (message.type) {
    case "data": {
      const shown = message.elements.filter((element) => element.type !== "passed");
      const elements = shown.map((element) => {
        const { type, symbol, channel, snapshot, seq, time } = element;
        return { type, symbol, channel, snapshot, seq: String(seq), time: String(time), ...own(element) };
      });
      return { type, sent_at: String(message.sentAt), elements };
    }
    case "welcome": {
      const { version, session, epoch, heartbeatMs, messageBytesMax } = message;
      return { type, version, session, epoch, heartbeat_ms: heartbeatMs, message_bytes_max: messageBytesMax };
    }
    case "subscribed": {
      const recovered = Object.fromEntries(
        [...message.recovered].map(([symbol, channels]) => [symbol, Object.fromEntries(channels)]),
      );
      const instruments = message.listings.map((one) => [
        one.symbol,
        one.instrumentId,
        one.priceExponent,
        one.sizeExponent,
      ]);
      return { type, id: message.id ?? null, instruments, recovered };
    }
    case "unsubscribed":
      return { type, id: message.id ?? null };
    case "error": {
      const { id = null, code, symbols } = message;
      return { type, id, code, message: message.message, symbols };
    }
    case "heartbeat":
      return { type, delivered: message.delivered, dropped: message.dropped };
    case "notice": {
      const { code, reconnectAfterMs = null } = message;
      return { type, code, message: message.message, reconnect_after_ms: reconnectAfterMs };
    }
    case "pong":
      return { type, id: message.id ?? null, time: String(message.time), sent_bytes: message.sentBytes };
    case "instruments":
      return { type, id: message.id ?? null, instruments: message.instruments.map(details) };
    case "authenticated":
      return { type };
    case "other":
      // The list of subscriptions is not read.
      return { type: message.name === "subscriptions" ? message.name : null };
  }
}

/** Each element says itself whether it is state, and an empty frame has nobody to say it. */
function wanted(vector: Vector): unknown {
  const { snapshot: _, ...rest } = vector.expected as Record<string, unknown>;
  return rest;
}

describe("what the server writes", () => {
  for (const vector of [...VECTORS.frames, ...VECTORS.control, ...VECTORS.tolerated]) {
    for (const encoding of ["msgpack", "json"] as const) {
      test(`${vector.name} in ${encoding}`, () => {
        expect(normal(read(vector, encoding))).toEqual(wanted(vector));
      });
    }
  }
});

describe("what no server sends is refused", () => {
  for (const vector of VECTORS.refused) {
    test(vector.name, () => {
      expect(() => read(vector, vector.msgpack === undefined ? "json" : "msgpack")).toThrow(ProtocolError);
    });
  }
});

describe("a book grows with right checksums", () => {
  for (const { name, frames, expected } of VECTORS.books) {
    test(name, () => {
      const book = new OrderBook();
      for (const frame of frames) {
        const message = decode(bytes(frame), DIRECTORY);
        for (const element of message.type === "data" ? message.elements : []) {
          expect(element.type === "book_snapshot" || element.type === "book_delta").toBe(true);
          expect(book.apply(element as Parameters<OrderBook["apply"]>[0])).toBe("applied");
        }
      }
      expect({ bids: book.bids.map(level), asks: book.asks.map(level), checksum: book.checksum() }).toEqual(expected);
    });
  }
});
