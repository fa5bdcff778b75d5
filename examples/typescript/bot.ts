/**
 * A bot that keeps a book and trades on paper: it buys when the bids weigh more than the asks, and sells when they weigh
 * less, one lot at a time, and says what it would have made.
 *
 *   npm run bot -- BTC-USD [http://127.0.0.1:8080]
 *
 * Invariant: it does nothing while its book is not whole.
 */
import { Client, Decimal, type Level, type LiveBook, type WebSocketConstructor } from "@tickerplant/client";
import WebSocket from "ws";
import { Paper } from "./paper.ts";

/** A side that is more than so many times as heavy as the other is a signal. */
const WEIGHT = 2;

const [symbol, url = "http://127.0.0.1:8080"] = process.argv.slice(2);
if (symbol === undefined) {
  console.error("usage: npm run bot -- SYMBOL [URL]");
  process.exit(2);
}

// As with `| head`.
process.stdout.on("error", () => process.exit(0));
const paper = new Paper();

/** Called after each change of the book. */
function decide(book: LiveBook): void {
  const [bid] = book.bids;
  const [ask] = book.asks;
  if (!book.known || bid === undefined || ask === undefined) {
    return;
  }
  const bids = weight(book.bids);
  const asks = weight(book.asks);
  if (bids.compare(times(WEIGHT, asks)) > 0 && paper.lots < 1) {
    console.log(paper.trade("buy", bid, ask));
  } else if (asks.compare(times(WEIGHT, bids)) > 0 && paper.lots > -1) {
    console.log(paper.trade("sell", bid, ask));
  }
}

function weight(levels: readonly Level[]): Decimal {
  return levels.reduce((sum, level) => sum.plus(level.size), new Decimal(0, 0));
}

function times(count: number, value: Decimal): Decimal {
  return Array.from({ length: count }, () => value).reduce((sum, one) => sum.plus(one));
}

// Node before 22 has no WebSocket of its own.
const client = new Client({ url, WebSocket: WebSocket as unknown as WebSocketConstructor });
client.on("connection", (connection) => {
  if (connection.phase === "live") {
    console.log(`connected to ${url}`);
  } else if (connection.phase === "waiting") {
    const seconds = (connection.retryAtMs - Date.now()) / 1000;
    console.log(`connection lost: ${connection.reason}; again in ${seconds.toFixed(1)} s`);
  } else if (connection.phase === "stopped") {
    console.error(`the server does not want this client back: ${connection.reason}`);
    process.exit(1);
  }
});
// The book below mends itself; this is to say what it begins with and what it missed. The stream is sent once all the same.
client.subscribe({
  channels: ["book.10"],
  symbols: [symbol],
  onEvent: (event) => {
    if (event.type === "book_snapshot") {
      const [bid] = event.bids;
      const [ask] = event.asks;
      console.log(`the book is whole: ${bid?.price ?? "none"} / ${ask?.price ?? "none"}, waiting for a signal`);
    } else if (event.type === "refused") {
      console.error(event.message);
      process.exit(1);
    } else if (event.type === "gap" && event.reason === "epoch") {
      console.log("the server began anew: what was in between is unknown, waiting for the book");
    } else if (event.type === "gap") {
      console.log(`${event.fromSeq} to ${event.toSeq} are missing (${event.reason}), waiting for the book`);
    }
  },
});
client.book(symbol, { depth: "10", onChange: decide });
client.connect();
