/**
 * Messages and elements per second from the payload of a frame to checked elements, of both encodings: `make bench-sdk`.
 *
 * Each figure is the best of several rounds, in processor time. The frames are those of `sdk/python/bench/decode.py`. What is
 * measured ends with `decode` and `decodeJson`; who wants which element comes on top.
 */
import { Encoder } from "@msgpack/msgpack";
import { decode, decodeJson } from "./dist/index.js";

const ROUNDS = 7;
const ELEMENTS = 40_000;
const SENT_AT = 1_719_840_600_000_000_001n;
const TIME = "2024-07-01T13:30:00.000000001Z";
const DIRECTORY = new Map([[7, { symbol: "BTC-USD", instrumentId: 7, priceExponent: -2, sizeExponent: -4 }]]);
const encoder = new Encoder({ useBigInt64: true });

const text = (value) => `${Math.floor(value / 100)}.${String(value % 100).padStart(2, "0")}`;

function packed(seq, quote) {
  const price = 6_700_000 + (seq % 1000);
  return quote ? [2, 7, seq, SENT_AT, price, 12_345, price + 1, 5] : [1, 7, seq, SENT_AT, price, 12_345, 1, seq];
}

function plain(seq, quote) {
  const price = 6_700_000 + (seq % 1000);
  const head = { type: quote ? "quote" : "trade", symbol: "BTC-USD", seq, time: TIME };
  return quote
    ? { ...head, bid: text(price), bid_size: "1.2345", ask: text(price + 1), ask_size: "0.0005" }
    : { ...head, price: text(price), size: "1.2345", side: "buy", trade_id: seq };
}

function frames(encoding, perMessage) {
  const made = [];
  for (let first = 0; first < ELEMENTS; first += perMessage) {
    const numbers = Array.from({ length: perMessage }, (_, step) => first + step);
    const element = (number) => [Math.floor(number / 2) + 1, number % 2 === 1];
    made.push(
      encoding === "msgpack"
        ? encoder.encode([SENT_AT, ...numbers.map((number) => packed(...element(number)))])
        : JSON.stringify({ sent_at: TIME, data: numbers.map((number) => plain(...element(number))) }),
    );
  }
  return made;
}

for (const perMessage of [20, 1]) {
  for (const encoding of ["msgpack", "json"]) {
    const messages = frames(encoding, perMessage);
    const read = encoding === "msgpack" ? (message) => decode(message, DIRECTORY) : decodeJson;
    let fastest = Number.POSITIVE_INFINITY;
    for (let round = 0; round < ROUNDS; round += 1) {
      const began = process.cpuUsage();
      let elements = 0;
      for (const message of messages) {
        elements += read(message).elements.length;
      }
      const { user, system } = process.cpuUsage(began);
      fastest = Math.min(fastest, (user + system) / 1_000_000);
      if (elements !== ELEMENTS) {
        throw new Error(`${elements} elements came of ${ELEMENTS}`);
      }
    }
    const rate = (count) => Math.round(count / fastest).toLocaleString("en");
    const bytes = Math.round(messages.reduce((sum, message) => sum + message.length, 0) / messages.length);
    console.log(
      `typescript  ${encoding.padEnd(8)} ${String(perMessage).padStart(3)} per message  ${rate(messages.length).padStart(12)} messages/s` +
        `  ${rate(ELEMENTS).padStart(12)} elements/s  ${String(bytes).padStart(6)} B a message`,
    );
  }
}
