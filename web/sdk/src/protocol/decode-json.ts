/**
 * Text of a `ticker.v1.json` message to a checked message: what comes by server-sent events and over REST.
 *
 * Invariant: as `decode`; decimal texts become integers without a float in between.
 */
import { barChannel, bookChannel, isChannel, MARKET_PHASES } from "./channels";
import { control } from "./control";
import { Decimal } from "./decimal";
import { type Fields, integer, list, map, ProtocolError, small, text } from "./fields";
import type { Channel, Element, Level, Passed, ServerMessage, Timestamp, Trade } from "./messages";

/** Whole numbers that a JSON number cannot be trusted with; they are read as text. */
const LARGE = /("(?:seq|from_seq|to_seq|trade_id)"\s*:\s*)(\d{16,})/g;

/** Reads one JSON message. Throws `ProtocolError`. */
export function decodeJson(json: string): ServerMessage {
  let value: unknown;
  try {
    value = JSON.parse(json.replace(LARGE, '$1"$2"'));
  } catch (error) {
    throw new ProtocolError("the message is not JSON", { cause: error });
  }
  const fields = map(value, "a message");
  return "data" in fields ? dataFrame(fields) : control(fields, { time });
}

function dataFrame(fields: Fields): ServerMessage {
  const snapshot = fields["snapshot"] === true;
  const data = list(fields["data"], "data");
  const elements = data
    .map((one) => element(map(one, "an element"), snapshot))
    .filter((parsed): parsed is Element | Passed => parsed !== undefined);
  return {
    type: "data",
    sentAt: time(fields["sent_at"], "sent_at"),
    elements,
    skipped: data.length - elements.length,
  };
}

function element(fields: Fields, snapshot: boolean): Element | Passed | undefined {
  const exact = (name: string): Decimal => decimal(fields[name], name);
  const type = text(fields["type"], "type");
  switch (type) {
    case "trade":
      return {
        type,
        ...head(fields, "trades", snapshot),
        price: exact("price"),
        size: exact("size"),
        side: side(fields["side"]),
        tradeId: whole(fields["trade_id"], "trade_id"),
      };
    case "quote":
      return {
        type,
        ...head(fields, "quotes", snapshot),
        bid: quoted(fields["bid"], fields["bid_size"]),
        ask: quoted(fields["ask"], fields["ask_size"]),
      };
    case "bar": {
      const intervalS = small(fields["interval_s"], "interval_s");
      const channel = barChannel(intervalS);
      return channel === undefined
        ? undefined
        : {
            type,
            ...head(fields, channel, snapshot),
            intervalS,
            open: exact("open"),
            high: exact("high"),
            low: exact("low"),
            close: exact("close"),
            volume: exact("volume"),
            tradeCount: small(fields["trade_count"], "trade_count"),
            closed: fields["closed"] === true,
          };
    }
    case "book_snapshot":
    case "book_delta": {
      const channel = bookChannel(small(fields["depth"], "depth"));
      return channel === undefined
        ? undefined
        : {
            type,
            ...head(fields, channel, snapshot),
            bids: levels(fields["bids"], "bids"),
            asks: levels(fields["asks"], "asks"),
            checksum: small(fields["checksum"], "checksum"),
          };
    }
    case "ticker":
      return {
        type,
        ...head(fields, "ticker", snapshot),
        last: exact("last"),
        open: exact("open"),
        high: exact("high"),
        low: exact("low"),
        volume: exact("volume"),
        turnover: typeof fields["turnover"] === "number" ? fields["turnover"] : Number.NaN,
        tradeCount: small(fields["trade_count"], "trade_count"),
      };
    case "status": {
      const known = head(fields, "status", snapshot);
      const said = text(fields["code"], "code");
      const code = MARKET_PHASES.find((phase) => phase === said);
      return code === undefined
        ? { type: "passed", ...known }
        : { type, ...known, code, reason: text(fields["reason"], "reason") };
    }
    case "gap": {
      const channel = text(fields["channel"], "channel");
      return isChannel(channel)
        ? {
            type,
            ...head(fields, channel, false),
            fromSeq: whole(fields["from_seq"], "from_seq"),
            toSeq: whole(fields["to_seq"], "to_seq"),
            reason: text(fields["reason"], "reason"),
          }
        : undefined;
    }
    default:
      return undefined;
  }
}

function head<C extends Channel>(fields: Fields, channel: C, snapshot: boolean) {
  return {
    symbol: text(fields["symbol"], "symbol"),
    channel,
    seq: whole(fields["seq"], "seq"),
    time: time(fields["time"], "time"),
    snapshot,
  };
}

function side(value: unknown): Trade["side"] {
  return value === "buy" || value === "sell" ? value : "unknown";
}

function quoted(price: unknown, size: unknown): Level | undefined {
  return price === null || price === undefined
    ? undefined
    : { price: decimal(price, "price"), size: size === null ? new Decimal(0, 0) : decimal(size, "size") };
}

function levels(value: unknown, name: string): Level[] {
  return list(value, name).map((pair) => {
    const [price, size] = list(pair, name);
    return { price: decimal(price, name), size: decimal(size, name) };
  });
}

function decimal(value: unknown, name: string): Decimal {
  const parsed = Decimal.parse(text(value, name));
  if (parsed === undefined) {
    throw new ProtocolError(`${name} is not a decimal`);
  }
  return parsed;
}

function whole(value: unknown, name: string) {
  return integer(typeof value === "string" && /^\d{1,20}$/.test(value) ? BigInt(value) : value, name);
}

const TIME = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z$/;

function time(value: unknown, name: string): Timestamp {
  const found = TIME.exec(text(value, name));
  const seconds = found === null ? Number.NaN : Date.parse(`${found[1]}Z`) / 1_000;
  if (found === null || Number.isNaN(seconds)) {
    throw new ProtocolError(`${name} is not a time`);
  }
  return BigInt(seconds) * 1_000_000_000n + BigInt((found[2] ?? "").padEnd(9, "0"));
}
