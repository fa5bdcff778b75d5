/**
 * Bytes of a `ticker.v1.msgpack` frame to a checked message.
 *
 * Invariant: whatever the bytes, the result is a `ServerMessage` or a `ProtocolError`; unknown kinds, types and keys are
 * passed over, so that a newer server can be read.
 *
 * 64-bit integers are decoded as `bigint` (`useBigInt64`): read as doubles they would lose the last digits of times, and of
 * large prices without a sign that they did. The price is one `bigint` per element, for its time, since smaller
 * integers are sent in fewer bytes and stay numbers.
 */
import { Decoder } from "@msgpack/msgpack";
import { barChannel, bookChannel, isChannel, MARKET_PHASES } from "./channels";
import { control } from "./control";
import { Decimal } from "./decimal";
import { integer, isMap, list, ProtocolError, small, text } from "./fields";
import type { Channel, Directory, Element, Level, Listing, Passed, ServerMessage, Timestamp, Trade } from "./messages";

export { ProtocolError } from "./fields";

const decoder = new Decoder({ useBigInt64: true });

/** Reads one binary frame; `directory` says which instruments its numbers are. Throws `ProtocolError`. */
export function decode(bytes: Uint8Array, directory: Directory): ServerMessage {
  let value: unknown;
  try {
    value = decoder.decode(bytes);
  } catch (error) {
    throw new ProtocolError("the frame is not MessagePack", { cause: error });
  }
  if (Array.isArray(value)) {
    return dataFrame(value, directory);
  }
  if (isMap(value)) {
    return control(value, { time });
  }
  throw new ProtocolError("a frame is an array or a map");
}

const SNAPSHOT_MARKER = 0;

function dataFrame(frame: readonly unknown[], directory: Directory): ServerMessage {
  const sentAt = time(frame[0], "sent_at");
  const marker = frame[1];
  const snapshot = Array.isArray(marker) && marker[0] === SNAPSHOT_MARKER;
  const elements: (Element | Passed)[] = [];
  const begin = snapshot ? 2 : 1;
  for (let at = begin; at < frame.length; at += 1) {
    const fields: unknown = frame[at];
    if (!Array.isArray(fields)) {
      throw new ProtocolError("an element is an array");
    }
    const kind: unknown = fields[0];
    // The instrument of a kind that is not known may stand elsewhere.
    const listing =
      typeof kind === "number" && kind <= KIND_MAX ? directory.get(small(fields[1], "instrument_id")) : undefined;
    const parsed = listing === undefined ? undefined : element(fields, listing, snapshot);
    if (parsed !== undefined) {
      elements.push(parsed);
    }
  }
  return { type: "data", sentAt, elements, skipped: frame.length - begin - elements.length };
}

const KIND_MAX = 8;
const SIDES: readonly Trade["side"][] = ["unknown", "buy", "sell"];

function element(fields: readonly unknown[], listing: Listing, snapshot: boolean): Element | Passed | undefined {
  const price = (at: number, name: string): Decimal => new Decimal(integer(fields[at], name), listing.priceExponent);
  const size = (at: number, name: string): Decimal => new Decimal(integer(fields[at], name), listing.sizeExponent);
  switch (fields[0]) {
    case 1:
      return {
        type: "trade",
        ...head(fields, listing, "trades", snapshot),
        price: price(4, "price"),
        size: size(5, "size"),
        side: SIDES[small(fields[6], "side")] ?? "unknown",
        tradeId: integer(fields[7], "trade_id"),
      };
    case 2:
      return {
        type: "quote",
        ...head(fields, listing, "quotes", snapshot),
        bid: side(fields[4], fields[5], listing),
        ask: side(fields[6], fields[7], listing),
      };
    case 3: {
      const intervalS = small(fields[4], "interval_s");
      const channel = barChannel(intervalS);
      return channel === undefined
        ? undefined
        : {
            type: "bar",
            ...head(fields, listing, channel, snapshot),
            intervalS,
            open: price(5, "open"),
            high: price(6, "high"),
            low: price(7, "low"),
            close: price(8, "close"),
            volume: size(9, "volume"),
            tradeCount: small(fields[10], "trade_count"),
            closed: fields[11] === true,
          };
    }
    case 4:
    case 5: {
      const channel = bookChannel(small(fields[4], "depth"));
      return channel === undefined
        ? undefined
        : {
            type: fields[0] === 4 ? "book_snapshot" : "book_delta",
            ...head(fields, listing, channel, snapshot),
            bids: levels(fields[5], listing, "bids"),
            asks: levels(fields[6], listing, "asks"),
            checksum: small(fields[7], "checksum"),
          };
    }
    case 6:
      return {
        type: "ticker",
        ...head(fields, listing, "ticker", snapshot),
        last: price(4, "last"),
        open: price(5, "open"),
        high: price(6, "high"),
        low: price(7, "low"),
        volume: size(8, "volume"),
        turnover: Number(fields[9]),
        tradeCount: small(fields[10], "trade_count"),
      };
    case 7: {
      const known = head(fields, listing, "status", snapshot);
      const code = MARKET_PHASES[small(fields[4], "code")];
      return code === undefined
        ? { type: "passed", ...known }
        : { type: "status", ...known, code, reason: text(fields[5], "reason") };
    }
    case 8: {
      // [8, instrument_id, seq, time, channel, from_seq, to_seq, reason]
      const channel = text(fields[4], "channel");
      return isChannel(channel)
        ? {
            type: "gap",
            ...head(fields, listing, channel, false),
            fromSeq: integer(fields[5], "from_seq"),
            toSeq: integer(fields[6], "to_seq"),
            reason: text(fields[7], "reason"),
          }
        : undefined;
    }
    default:
      return undefined;
  }
}

function head<C extends Channel>(fields: readonly unknown[], listing: Listing, channel: C, snapshot: boolean) {
  return {
    symbol: listing.symbol,
    channel,
    seq: integer(fields[2], "seq"),
    time: time(fields[3], "time"),
    snapshot,
  };
}

function side(price: unknown, size: unknown, listing: Listing): Level | undefined {
  return price === null || price === undefined ? undefined : level(price, size ?? 0, listing);
}

function level(price: unknown, size: unknown, listing: Listing): Level {
  return {
    price: new Decimal(integer(price, "price"), listing.priceExponent),
    size: new Decimal(integer(size, "size"), listing.sizeExponent),
  };
}

function levels(value: unknown, listing: Listing, name: string): Level[] {
  return list(value, name).map((pair) => {
    const [price, size] = list(pair, name);
    return level(price, size, listing);
  });
}

function time(value: unknown, name: string): Timestamp {
  return BigInt(integer(value, name));
}
