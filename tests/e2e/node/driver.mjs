/**
 * The TypeScript SDK in the conformance scenario: prints what it was shown, as the drivers of the other SDKs do.
 *
 * Usage: node driver.mjs ws://127.0.0.1:PORT/ws
 */
import { WebSocket } from "ws";
import { Client, SYSTEM } from "../../../web/sdk/dist/index.js";

const symbols = ["A", "B", "NOPE", "SECRET"];
const channels = ["trades", "quotes", "book.10", "status"];
const runs = [];
const refused = new Set();
let connections = 0;

/** Of the run of numbers: what came live, what is missing and why, and a digest of what the trades said. */
const stream = (symbol, channel) => {
  const run = runs.at(-1).streams;
  run[`${symbol} ${channel}`] ??= { live: [], gaps: [], digest: 0 };
  return run[`${symbol} ${channel}`];
};

const client = new Client({
  url: process.argv[2],
  WebSocket,
  // The shortest pauses that may be drawn.
  environment: { ...SYSTEM, random: () => 0 },
});
client.on("welcome", (welcome) => {
  connections += 1;
  if (runs.at(-1)?.epoch !== welcome.epoch) {
    runs.push({ epoch: welcome.epoch, streams: {} });
  }
});
const books = ["A", "B"].map((symbol) => client.book(symbol));
client.subscribe({
  channels,
  symbols,
  onEvent: (event) => {
    if (event.type === "refused") {
      refused.add(event.symbol);
      return;
    }
    if (event.type === "gap") {
      // That the numbers begin anew is told by `runs`.
      if (event.reason !== "epoch") {
        stream(event.symbol, event.channel).gaps.push([Number(event.fromSeq), Number(event.toSeq), event.reason]);
      }
      return;
    }
    if (event.snapshot) {
      return;
    }
    const shown = stream(event.symbol, event.channel);
    shown.live.push(Number(event.seq));
    if (event.type === "trade") {
      const said = Number(event.price.mantissa) * 7 + Number(event.size.mantissa);
      shown.digest = (shown.digest * 31 + said) % 2_147_483_647;
    }
    if (event.type === "status" && event.reason === "done") {
      // The books have the same events, and come behind in the same turn.
      setImmediate(finish);
    }
  },
});
client.connect();

function finish() {
  const levels = (side) => side.map((level) => [String(level.price), String(level.size)]);
  const shown = books.map((book) => [
    book.symbol,
    book.known ? { seq: Number(book.seq), bids: levels(book.bids), asks: levels(book.asks) } : null,
  ]);
  const result = {
    books: Object.fromEntries(shown),
    connections,
    refused: [...refused],
    runs,
    wrong_books: books.reduce((sum, book) => sum + book.mismatches, 0),
  };
  console.log(JSON.stringify(result));
  client.close();
}
