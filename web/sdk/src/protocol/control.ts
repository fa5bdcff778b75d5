/**
 * Control messages, which have the same keys in both encodings.
 *
 * Invariant: types and keys that are not known are passed over, so that a newer server can be read.
 */
import { Decimal } from "./decimal";
import { exponent, type Fields, integer, isMap, list, map, small, text } from "./fields";
import { asInteger } from "./integer";
import type { ControlMessage, Instrument, Listing, Recovery, Timestamp } from "./messages";

/** What the encodings write differently. */
export interface Encoding {
  time(value: unknown, name: string): Timestamp;
}

export function control(fields: Fields, encoding: Encoding): ControlMessage {
  const type = text(fields["type"], "type");
  switch (type) {
    case "welcome":
      return {
        type,
        version: text(fields["version"], "version"),
        session: text(fields["session"], "session"),
        epoch: text(fields["epoch"], "epoch"),
        heartbeatMs: small(fields["heartbeat_ms"], "heartbeat_ms"),
        messageBytesMax: isMap(fields["limits"])
          ? small(fields["limits"]["message_bytes_max"] ?? 0, "message_bytes_max")
          : 0,
      };
    case "subscribed":
      return {
        type,
        id: id(fields),
        listings: list(fields["instruments"], "instruments").map(listing),
        recovered: recovered(fields["recovered"] ?? {}),
      };
    case "unsubscribed":
      return { type, id: id(fields) };
    case "error":
      return {
        type,
        id: id(fields),
        code: text(fields["code"], "code"),
        message: text(fields["message"] ?? "", "message"),
        symbols: list(fields["symbols"] ?? [], "symbols").map((symbol) => text(symbol, "symbols")),
      };
    case "heartbeat":
      return {
        type,
        delivered: Number(integer(fields["delivered"], "delivered")),
        dropped: Number(integer(fields["dropped"], "dropped")),
      };
    case "notice": {
      const after = fields["reconnect_after_ms"];
      return {
        type,
        code: text(fields["code"], "code"),
        message: text(fields["message"] ?? "", "message"),
        reconnectAfterMs: after === undefined || after === null ? undefined : small(after, "reconnect_after_ms"),
      };
    }
    case "pong":
      return {
        type,
        id: id(fields),
        time: encoding.time(fields["time"], "time"),
        sentBytes: fields["sent_bytes"] === undefined ? undefined : Number(integer(fields["sent_bytes"], "sent_bytes")),
      };
    case "instruments":
      return { type, id: id(fields), instruments: list(fields["instruments"], "instruments").map(instrument) };
    case "authenticated":
      return { type };
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
  const fields = map(value, "an instrument");
  const priceExponent = exponent(fields["price_exponent"], "price_exponent");
  const sizeExponent = exponent(fields["size_exponent"], "size_exponent");
  return {
    symbol: text(fields["symbol"], "symbol"),
    instrumentId: small(fields["instrument_id"], "instrument_id"),
    priceExponent,
    sizeExponent,
    tickSize: step(fields["tick_size"], priceExponent),
    lotSize: step(fields["lot_size"], sizeExponent),
    assetClass: text(fields["class"] ?? "", "class"),
    currency: text(fields["currency"] ?? "", "currency"),
    description: text(fields["description"] ?? "", "description"),
  };
}

/** An integer of the exponent in MessagePack, a decimal text in JSON. */
function step(value: unknown, scale: number): Decimal | undefined {
  if (typeof value === "string") {
    return Decimal.parse(value);
  }
  const mantissa = asInteger(value);
  return mantissa === undefined ? undefined : new Decimal(mantissa, scale);
}

function recovered(value: unknown): Map<string, Map<string, Recovery>> {
  const symbols = Object.entries(map(value, "recovered")).map(
    ([symbol, channels]) =>
      [
        symbol,
        new Map(Object.entries(map(channels, "recovered")).map(([channel, how]) => [channel, text(how, "recovered")])),
      ] as const,
  );
  return new Map(symbols);
}

/** This side numbers its commands; another's id, or a text, is as good as none. */
function id(fields: Fields): number | undefined {
  const value = fields["id"];
  return typeof value === "number" ? value : undefined;
}
