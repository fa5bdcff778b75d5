import { describe, expect, test } from "vitest";
import { encode } from "../src/protocol/commands";
import { formatDecimal, formatTrimmed } from "../src/protocol/decimal";
import { decode, ProtocolError } from "../src/protocol/decode";
import { asInteger, compare, type Integer, subtract } from "../src/protocol/integer";

function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ""), "hex"));
}

/** 1719835200123456789, which a double would make ...456700. */
const TIME = "cf 17 de 12 ee d5 1d e5 15";
const TIME_NS = 0x17de12eed51de515n;

describe("data frames", () => {
  test("a trade", () => {
    const frame = bytes(`92 ${TIME}  98 01 07 ce 00 01 00 00 ${TIME} ce 00 53 ff 7a cd 01 2c 01 2a`);
    expect(decode(frame)).toEqual({
      type: "data",
      sentAt: TIME_NS,
      content: "live",
      elements: [
        {
          kind: "trade",
          instrumentId: 7,
          seq: 65536,
          time: TIME_NS,
          price: 5504890,
          size: 300,
          aggressor: "buy",
        },
      ],
    });
  });

  test("a snapshot with a quote whose bid side is empty", () => {
    const frame = bytes(`93 ${TIME}  92 00 01  98 02 00 05 ${TIME} c0 c0 d0 85 03`);
    expect(decode(frame)).toEqual({
      type: "data",
      sentAt: TIME_NS,
      content: "snapshot",
      elements: [
        {
          kind: "quote",
          instrumentId: 0,
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
        { kind: "ticker", last: 100, open: 90, high: 110, low: 80, volume: 1000 },
        { kind: "gap", channel: "trades", fromSeq: 3, seq: 9, reason: "slow" },
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
    expect(decode(bytes(`93 ${TIME}  92 63 00  95 04 00 01 ${TIME} 0a`))).toMatchObject({ elements: [] });
  });
});

describe("the server's golden bytes: the same as in crates/wire/tests/elements.rs", () => {
  const GOLDEN = "cf17de19e9e14b7001";
  const time = 1_719_840_600_000_000_001n;
  const cases: readonly (readonly [string, string, object])[] = [
    [
      "trade",
      `98 01 07 01 ${GOLDEN} ce000ec61b cd3039 01 cd012c`,
      { kind: "trade", instrumentId: 7, seq: 1, time, price: 968_219, size: 12_345, aggressor: "buy" },
    ],
    [
      "trade at a negative price by nobody known",
      `98 01 07 cfffffffffffffffff ${GOLDEN} d1f14d 00 00 00`,
      { kind: "trade", seq: 18_446_744_073_709_551_615n, price: -3763, size: 0, aggressor: "unknown" },
    ],
    [
      "quote",
      `98 02 07 cc80 ${GOLDEN} ce000ec61a cd2710 ce000ec61c 05`,
      { kind: "quote", seq: 128, bid: { price: 968_218, size: 10_000 }, ask: { price: 968_220, size: 5 } },
    ],
    [
      "quote with an empty side",
      `98 02 07 02 ${GOLDEN} c0 c0 01 01`,
      { kind: "quote", bid: undefined, ask: { price: 1, size: 1 } },
    ],
    [
      "ticker",
      `9b 06 07 04 ${GOLDEN} cc96 64 ccc8 32 ce00011170 cb40934a0000000000 0c`,
      { kind: "ticker", seq: 4, last: 150, open: 100, high: 200, low: 50, volume: 70_000 },
    ],
    [
      "gap",
      `98 08 07 cd03e8 ${GOLDEN} a6 71756f746573 04 cd03e8 a9 636f6e666c61746564`,
      { kind: "gap", seq: 1000, channel: "quotes", fromSeq: 4, reason: "conflated" },
    ],
  ];
  test.each(cases)("%s", (_, hex, expected) => {
    expect(decode(bytes(`92 ${GOLDEN} ${hex}`))).toMatchObject({ sentAt: time, elements: [expected] });
  });

  test("elements that are not shown are passed over", () => {
    const bar = `9c 03 07 03 ${GOLDEN} 3c 64 ccc8 32 cc96 ce00011170 0c c3`;
    const status = `96 07 07 05 ${GOLDEN} 02 ab 73617920224c554c44220a`;
    expect(decode(bytes(`93 ${GOLDEN} ${bar} ${status}`))).toMatchObject({ elements: [] });
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
