import { describe, expect, test } from "vitest";
import { encode } from "../src/protocol/commands";
import { Decimal, formatDecimal, formatTrimmed } from "../src/protocol/decimal";
import { decode as decodeWith, ProtocolError } from "../src/protocol/decode";
import { decodeJson } from "../src/protocol/decode-json";
import { asInteger, compare, type Integer, subtract } from "../src/protocol/integer";

function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ""), "hex"));
}

/** Integers as they are: the exponents are 0. */
const DIRECTORY = new Map(
  [0, 1, 7].map((instrumentId) => [
    instrumentId,
    { symbol: `I${instrumentId}`, instrumentId, priceExponent: 0, sizeExponent: 0 },
  ]),
);

/** Decimals of exponent 0 as their integers. */
function plain(value: unknown): unknown {
  if (value instanceof Decimal) {
    return value.mantissa;
  }
  if (Array.isArray(value)) {
    return value.map(plain);
  }
  if (value instanceof Map) {
    return plain(Object.fromEntries(value));
  }
  return typeof value === "object" && value !== null
    ? Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]))
    : value;
}

const decode = (frame: Uint8Array): unknown => plain(decodeWith(frame, DIRECTORY));

/** 1719835200123456789, which a double would make ...456700. */
const TIME = "cf 17 de 12 ee d5 1d e5 15";
const TIME_NS = 0x17de12eed51de515n;

describe("data frames", () => {
  test("a trade", () => {
    const frame = bytes(`92 ${TIME}  98 01 07 ce 00 01 00 00 ${TIME} ce 00 53 ff 7a cd 01 2c 01 2a`);
    expect(decode(frame)).toEqual({
      type: "data",
      sentAt: TIME_NS,
      skipped: 0,
      elements: [
        {
          type: "trade",
          symbol: "I7",
          channel: "trades",
          snapshot: false,
          tradeId: 42,
          seq: 65536,
          time: TIME_NS,
          price: 5504890,
          size: 300,
          side: "buy",
        },
      ],
    });
  });

  test("a snapshot with a quote whose bid side is empty", () => {
    const frame = bytes(`93 ${TIME}  92 00 01  98 02 00 05 ${TIME} c0 c0 d0 85 03`);
    expect(decode(frame)).toEqual({
      type: "data",
      sentAt: TIME_NS,
      skipped: 0,
      elements: [
        {
          type: "quote",
          symbol: "I0",
          channel: "quotes",
          snapshot: true,
          seq: 5,
          time: TIME_NS,
          bid: undefined,
          ask: { price: -123, size: 3 },
        },
      ],
    });
  });

  test("a ticker and a gap", () => {
    const frame = bytes(
      `93 ${TIME}  9b 06 01 09 ${TIME} 64 5a 6e 50 cd 03 e8 cb 40 f8 6a 00 00 00 00 00 07  98 08 01 09 ${TIME} a6 74 72 61 64 65 73 03 09 a4 73 6c 6f 77`,
    );
    expect(decode(frame)).toMatchObject({
      elements: [
        { type: "ticker", last: 100, open: 90, high: 110, low: 80, volume: 1000 },
        { type: "gap", channel: "trades", fromSeq: 3, seq: 9, reason: "slow" },
      ],
    });
  });

  test("prices past 2^53 keep every digit", () => {
    const frame = bytes(`92 ${TIME}  98 01 00 01 ${TIME} cf 00 20 00 00 00 00 00 01 01 00 00`);
    expect(decode(frame)).toMatchObject({ elements: [{ price: 9007199254740993n, size: 1 }] });
  });

  test("a 64-bit encoding of a small number is the same number", () => {
    const frame = bytes(`92 ${TIME}  98 01 00 cf 00 00 00 00 00 00 00 07 ${TIME} d3 ff ff ff ff ff ff ff fe 01 00 00`);
    expect(decode(frame)).toMatchObject({ elements: [{ seq: 7, price: -2 }] });
  });

  test("kinds of a later version are passed over", () => {
    expect(decode(bytes(`93 ${TIME}  92 63 00  95 63 00 01 ${TIME} 0a`))).toMatchObject({ elements: [], skipped: 2 });
  });
});

describe("the server's golden bytes: the same as in crates/wire/tests/elements.rs", () => {
  const GOLDEN = "cf17de19e9e14b7001";
  const time = 1_719_840_600_000_000_001n;
  const cases: readonly (readonly [string, string, object])[] = [
    [
      "trade",
      `98 01 07 01 ${GOLDEN} ce000ec61b cd3039 01 cd012c`,
      { type: "trade", symbol: "I7", seq: 1, time, price: 968_219, size: 12_345, side: "buy" },
    ],
    [
      "trade at a negative price by nobody known",
      `98 01 07 cfffffffffffffffff ${GOLDEN} d1f14d 00 00 00`,
      { type: "trade", seq: 18_446_744_073_709_551_615n, price: -3763, size: 0, side: "unknown" },
    ],
    [
      "quote",
      `98 02 07 cc80 ${GOLDEN} ce000ec61a cd2710 ce000ec61c 05`,
      { type: "quote", seq: 128, bid: { price: 968_218, size: 10_000 }, ask: { price: 968_220, size: 5 } },
    ],
    [
      "quote with an empty side",
      `98 02 07 02 ${GOLDEN} c0 c0 01 01`,
      { type: "quote", bid: undefined, ask: { price: 1, size: 1 } },
    ],
    [
      "ticker",
      `9b 06 07 04 ${GOLDEN} cc96 64 ccc8 32 ce00011170 cb40934a0000000000 0c`,
      { type: "ticker", seq: 4, last: 150, open: 100, high: 200, low: 50, volume: 70_000 },
    ],
    [
      "gap",
      `98 08 07 cd03e8 ${GOLDEN} a6 71756f746573 04 cd03e8 a9 636f6e666c61746564`,
      { type: "gap", seq: 1000, channel: "quotes", fromSeq: 4, reason: "conflated" },
    ],
  ];
  test.each(cases)("%s", (_, hex, expected) => {
    expect(decode(bytes(`92 ${GOLDEN} ${hex}`))).toMatchObject({ sentAt: time, elements: [expected] });
  });

  test("a bar and a status", () => {
    const bar = `9c 03 07 03 ${GOLDEN} 3c 64 ccc8 32 cc96 ce00011170 0c c3`;
    const status = `96 07 07 05 ${GOLDEN} 02 ab 73617920224c554c44220a`;
    expect(decode(bytes(`93 ${GOLDEN} ${bar} ${status}`))).toMatchObject({
      elements: [
        { type: "bar", channel: "bars.1m", open: 100, high: 200, low: 50, close: 150, volume: 70_000, closed: true },
        { type: "status", code: "halted", reason: 'say "LULD"\n' },
      ],
    });
  });
});

describe("what cannot be read is an error with a name", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["", "nothing"],
    ["c1", "a byte that MessagePack never uses"],
    ["92 01", "an array that ends early"],
    ["07", "a bare number"],
    ["90", "a frame without sent_at"],
    [`92 ${TIME} 07`, "an element that is no array"],
    [`92 ${TIME} 98 01 00 01 ${TIME} cb 3f f8 00 00 00 00 00 00 01 00 00`, "a price that is a fraction"],
    [`92 ${TIME} 98 01 ff 01 ${TIME} 01 01 00 00`, "a negative instrument"],
    ["80", "a map without a type"],
    ["82 a4 74 79 70 65 a6 6e 6f 74 69 63 65 a4 63 6f 64 65 05", "a notice whose code is a number"],
  ];
  test.each(cases)("%s: %s", (hex) => {
    expect(() => decode(bytes(hex))).toThrow(ProtocolError);
  });
});

describe("control messages", () => {
  test("notice", () => {
    const frame = bytes(
      "83 a4 74797065 a6 6e6f74696365 a4 636f6465 a8 647261696e696e67 b2 7265636f6e6e6563745f61667465725f6d73 cd 05dc",
    );
    expect(decode(frame)).toEqual({ type: "notice", code: "draining", message: "", reconnectAfterMs: 1500 });
  });

  test("subscribed", () => {
    const frame = bytes(
      "83 a4 74797065 aa 73756273637269626564 a2 6964 03 ab 696e737472756d656e7473 91 94 a4 45535534 07 fe 00",
    );
    expect(decode(frame)).toEqual({
      type: "subscribed",
      id: 3,
      listings: [{ symbol: "ESU4", instrumentId: 7, priceExponent: -2, sizeExponent: 0 }],
      recovered: {},
    });
  });

  test("one of a later version", () => {
    expect(decode(bytes("81 a4 74797065 a5 68656c6c6f"))).toEqual({ type: "other", name: "hello" });
  });
});

test("commands are maps in the words of the protocol", () => {
  const subscribe = encode(1, {
    op: "subscribe",
    channels: ["trades"],
    symbols: ["ES"],
    mode: { mode: "latest", intervalMs: 100 },
  });
  expect(Buffer.from(subscribe).toString("hex")).toBe(
    [
      "86 a2 6f70 a9 737562736372696265 a2 6964 01 a8 6368616e6e656c73 91 a6 747261646573",
      "a7 73796d626f6c73 91 a2 4553 a4 6d6f6465 a6 6c6174657374 ab 696e74657276616c5f6d73 64",
    ]
      .join("")
      .replaceAll(" ", ""),
  );
  expect(Buffer.from(encode(2, { op: "ping" })).toString("hex")).toBe("82a26f70a470696e67a2696402");
});

describe("decimals", () => {
  const cases: readonly (readonly [Integer, number, string])[] = [
    [0, 0, "0"],
    [0, -2, "0.00"],
    [0, 3, "0"],
    [5, -2, "0.05"],
    [-5, -2, "\u22120.05"],
    [123456, -2, "1,234.56"],
    [-100, -2, "\u22121.00"],
    [1, -8, "0.00000001"],
    [7, 3, "7,000"],
    [999, 0, "999"],
    [1000, 0, "1,000"],
    [1234567, 0, "1,234,567"],
    [9223372036854775807n, -9, "9,223,372,036.854775807"],
    [-9223372036854775808n, -9, "\u22129,223,372,036.854775808"],
    // 0.1 + 0.2 and friends: no digit comes from a double.
    [30000000000000004n, -17, "0.30000000000000004"],
  ];
  test.each(cases)("%s x 10^%s is %s", (mantissa, exponent, expected) => {
    expect(formatDecimal(mantissa, exponent)).toBe(expected);
  });

  test("a plus for what is above zero only", () => {
    expect([5, 0, -5].map((value) => formatDecimal(value, -1, "plus"))).toEqual(["+0.5", "0.0", "\u22120.5"]);
  });

  test("sizes without the zeros at the end", () => {
    const texts = [1200, 1000, 1001, 0].map((value) => formatTrimmed(value, -3));
    expect(texts).toEqual(["1.2", "1", "1.001", "0"]);
    expect(formatTrimmed(100, 0)).toBe("100");
  });

  test("agree with division over many values", () => {
    for (let value = -3_000; value <= 3_000; value += 7) {
      const plain = formatDecimal(value, -2).replace("\u2212", "-").replaceAll(",", "");
      expect(plain).toBe((value / 100).toFixed(2));
    }
  });
});

test("integers stay exact across 2^53", () => {
  const edge = Number.MAX_SAFE_INTEGER;
  expect(subtract(edge, -1)).toBe(9007199254740992n);
  expect(subtract(9007199254740993n, 9007199254740990n)).toBe(3);
  expect(compare(9007199254740993n, 9007199254740992n)).toBe(1);
  expect(compare(2, 3)).toBe(-1);
  expect([asInteger(1.5), asInteger("1"), asInteger(2 ** 53), asInteger(4n)]).toEqual([
    undefined,
    undefined,
    undefined,
    4,
  ]);
});

describe("JSON is the same in other words", () => {
  const json = (element: object): unknown =>
    plain(
      decodeJson(
        JSON.stringify({
          sent_at: "2024-07-01T13:30:00.000000001Z",
          data: [{ symbol: "I7", seq: 1, time: "2024-07-01T13:30:00.000000001Z", ...element }],
        }),
      ),
    );
  const time = 0x17de19e9e14b7001n;

  test("a trade, exact", () => {
    const frame = decodeJson(
      `{"sent_at":"2024-07-01T13:30:00.000000001Z","data":[{"type":"trade","symbol":"BTC-USD","seq":1,` +
        `"time":"2024-07-01T13:30:00.000000001Z","price":"9682.19","size":"1.2345","side":"buy","trade_id":9007199254740993}]}`,
    );
    expect(frame).toMatchObject({
      sentAt: time,
      elements: [{ price: new Decimal(968_219, -2), size: new Decimal(12_345, -4), tradeId: 9_007_199_254_740_993n }],
    });
  });

  test("a book, a bar, a ticker, a status, a quote and a gap", () => {
    const book = { type: "book_delta", depth: 10, bids: [["5", "0"]], asks: [], checksum: 7 };
    expect(json(book)).toMatchObject({ elements: [{ channel: "book.10", bids: [{ price: 5, size: 0 }] }] });
    const bar = {
      interval_s: 60,
      open: "1",
      high: "2",
      low: "0",
      close: "1",
      volume: "9",
      trade_count: 3,
      closed: false,
    };
    expect(json({ type: "bar", ...bar })).toMatchObject({ elements: [{ channel: "bars.1m", high: 2, closed: false }] });
    const ticker = { last: "1", open: "1", high: "1", low: "1", volume: "1", turnover: null, trade_count: 1 };
    expect(json({ type: "ticker", ...ticker })).toMatchObject({ elements: [{ turnover: Number.NaN }] });
    expect(json({ type: "status", code: "auction", reason: "" })).toMatchObject({ elements: [{ code: "auction" }] });
    const quote = { bid: null, bid_size: null, ask: "3", ask_size: "4" };
    expect(json({ type: "quote", ...quote })).toMatchObject({ elements: [{ bid: undefined, ask: { price: 3 } }] });
    const gap = { channel: "trades", from_seq: 1, to_seq: 4, reason: "slow" };
    expect(json({ type: "gap", ...gap })).toMatchObject({ elements: [{ fromSeq: 1, toSeq: 4, reason: "slow" }] });
  });

  test.each(["", "[]", "{}", '{"data":[]}', '{"sent_at":"yesterday","data":[]}', '{"type":7}'])(
    "%s is refused",
    (text) => {
      expect(() => decodeJson(text)).toThrow(ProtocolError);
    },
  );
});

describe("a decimal", () => {
  test("is read and written exactly", () => {
    for (const text of ["0", "-0.05", "123456789012345678901.5", "1.000", "-7"]) {
      expect(String(Decimal.parse(text))).toBe(text);
    }
    for (const text of ["", "1.", ".5", "1e3", "0x1", " 1", "--1"]) {
      expect(Decimal.parse(text)).toBeUndefined();
    }
  });

  test("adds and compares across exponents", () => {
    const [a, b] = [new Decimal(15, -1), new Decimal(125, -2)];
    expect([String(a.minus(b)), String(a.plus(b)), a.compare(b), a.equals(new Decimal(1500, -3))]).toEqual([
      "0.25",
      "2.75",
      1,
      true,
    ]);
    expect(new Decimal(7, 3).toString()).toBe("7000");
    expect(new Decimal(968_219, -2).toNumber()).toBe(9682.19);
  });
});
