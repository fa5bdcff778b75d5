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
import { asInteger, type Integer } from "./integer";
import type { Element, Instrument, Listing, ServerMessage, Side, Timestamp, Trade } from "./messages";

/** The server sent what the protocol does not allow. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

const decoder = new Decoder({ useBigInt64: true });

/** Reads one binary frame. Throws `ProtocolError`. */
export function decode(bytes: Uint8Array): ServerMessage {
  let value: unknown;
  try {
    value = decoder.decode(bytes);
  } catch (error) {
    throw new ProtocolError("the frame is not MessagePack", { cause: error });
  }
  if (Array.isArray(value)) {
    return dataFrame(value);
  }
  if (isMap(value)) {
    return control(value);
  }
  throw new ProtocolError("a frame is an array or a map");
}

const SNAPSHOT_MARKER = 0;

function dataFrame(frame: readonly unknown[]): ServerMessage {
  const sentAt = time(frame[0], "sent_at");
  const marker = frame[1];
  const snapshot = Array.isArray(marker) && marker[0] === SNAPSHOT_MARKER;
  const elements: Element[] = [];
  for (let at = snapshot ? 2 : 1; at < frame.length; at += 1) {
    const fields: unknown = frame[at];
    if (!Array.isArray(fields)) {
      throw new ProtocolError("an element is an array");
    }
    const parsed = element(fields);
    if (parsed !== undefined) {
      elements.push(parsed);
    }
  }
  return { type: "data", sentAt, content: snapshot ? "snapshot" : "live", elements };
}

const AGGRESSORS: readonly Trade["aggressor"][] = ["unknown", "buy", "sell"];

function element(fields: readonly unknown[]): Element | undefined {
  switch (fields[0]) {
    case 1:
      return {
        kind: "trade",
        ...head(fields),
        price: integer(fields[4], "price"),
        size: integer(fields[5], "size"),
        aggressor: AGGRESSORS[small(fields[6], "side")] ?? "unknown",
      };
    case 2:
      return { kind: "quote", ...head(fields), bid: side(fields[4], fields[5]), ask: side(fields[6], fields[7]) };
    case 6:
      return {
        kind: "ticker",
        ...head(fields),
        last: integer(fields[4], "last"),
        open: integer(fields[5], "open"),
        high: integer(fields[6], "high"),
        low: integer(fields[7], "low"),
        volume: integer(fields[8], "volume"),
      };
    case 8:
      // [8, instrument_id, seq, time, channel, from_seq, to_seq, reason]
      return {
        kind: "gap",
        ...head(fields),
        channel: text(fields[4], "channel"),
        fromSeq: integer(fields[5], "from_seq"),
        reason: text(fields[7], "reason"),
      };
    default:
      return undefined;
  }
}

function head(fields: readonly unknown[]) {
  return {
    instrumentId: small(fields[1], "instrument_id"),
    seq: integer(fields[2], "seq"),
    time: time(fields[3], "time"),
  };
}

function side(price: unknown, size: unknown): Side | undefined {
  if (price === null || price === undefined) {
    return undefined;
  }
  return { price: integer(price, "price"), size: size === null ? 0 : integer(size, "size") };
}

function control(map: Record<string, unknown>): ServerMessage {
  const type = text(map["type"], "type");
  switch (type) {
    case "welcome":
      return {
        type,
        version: text(map["version"], "version"),
        session: text(map["session"], "session"),
        epoch: text(map["epoch"], "epoch"),
        heartbeatMs: small(map["heartbeat_ms"], "heartbeat_ms"),
      };
    case "subscribed":
      return { type, id: id(map), listings: list(map["instruments"], "instruments").map(listing) };
    case "error":
      return {
        type,
        id: id(map),
        code: text(map["code"], "code"),
        message: text(map["message"] ?? "", "message"),
        symbols: list(map["symbols"] ?? [], "symbols").map((symbol) => text(symbol, "symbols")),
      };
    case "heartbeat":
      return {
        type,
        delivered: Number(integer(map["delivered"], "delivered")),
        dropped: Number(integer(map["dropped"], "dropped")),
      };
    case "notice": {
      const after = map["reconnect_after_ms"];
      return {
        type,
        code: text(map["code"], "code"),
        message: text(map["message"] ?? "", "message"),
        reconnectAfterMs: after === undefined || after === null ? undefined : small(after, "reconnect_after_ms"),
      };
    }
    case "pong":
      return { type, id: id(map), time: time(map["time"], "time") };
    case "instruments":
      return { type, id: id(map), instruments: list(map["instruments"], "instruments").map(instrument) };
    default:
      return { type: "other", name: type };
  }
}

/** `[symbol, instrument_id, price_exponent, size_exponent]` */
function listing(value: unknown): Listing {
  const fields = list(value, "instruments");
  return {
    symbol: text(fields[0], "symbol"),
    instrumentId: small(fields[1], "instrument_id"),
    priceExponent: exponent(fields[2], "price_exponent"),
    sizeExponent: exponent(fields[3], "size_exponent"),
  };
}

function instrument(value: unknown): Instrument {
  if (!isMap(value)) {
    throw new ProtocolError("an instrument is a map");
  }
  return {
    symbol: text(value["symbol"], "symbol"),
    instrumentId: small(value["instrument_id"], "instrument_id"),
    priceExponent: exponent(value["price_exponent"], "price_exponent"),
    sizeExponent: exponent(value["size_exponent"], "size_exponent"),
    assetClass: text(value["class"] ?? "", "class"),
    currency: text(value["currency"] ?? "", "currency"),
    description: text(value["description"] ?? "", "description"),
  };
}

/** This page numbers its commands; another's id, or a text, is as good as none. */
function id(map: Record<string, unknown>): number | undefined {
  const value = map["id"];
  return typeof value === "number" ? value : undefined;
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function list(value: unknown, name: string): readonly unknown[] {
  if (!Array.isArray(value)) {
    throw new ProtocolError(`${name} is not a list`);
  }
  return value;
}

function text(value: unknown, name: string): string {
  if (typeof value !== "string") {
    throw new ProtocolError(`${name} is not a text`);
  }
  return value;
}

function integer(value: unknown, name: string): Integer {
  const parsed = asInteger(value);
  if (parsed === undefined) {
    throw new ProtocolError(`${name} is not an integer`);
  }
  return parsed;
}

function small(value: unknown, name: string): number {
  const parsed = integer(value, name);
  if (typeof parsed !== "number" || parsed < 0) {
    throw new ProtocolError(`${name} is out of range`);
  }
  return parsed;
}

/** Exponents fit a signed byte; a larger one would ask for megabytes of zeros. */
function exponent(value: unknown, name: string): number {
  const parsed = integer(value, name);
  if (typeof parsed !== "number" || parsed < -128 || parsed > 127) {
    throw new ProtocolError(`${name} is out of range`);
  }
  return parsed;
}

function time(value: unknown, name: string): Timestamp {
  return BigInt(integer(value, name));
}
