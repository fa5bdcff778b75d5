/**
 * Says when a price crosses a threshold: once, and again only after it has been back on the other side.
 *
 *   npm run alert -- "BTC-USD>61000" "AAPL<180.50"
 *
 * `TICKER_URL` names the server, http://127.0.0.1:8080 if it is not set.
 *
 * Invariant: every trade is looked at. If some are missing it says so, because the price may have crossed and come back.
 */
import { Client, Decimal, type WebSocketConstructor } from "@tickerplant/client";
import WebSocket from "ws";

class Threshold {
  readonly symbol: string;
  readonly #beyond: -1 | 1;
  readonly #price: Decimal;
  readonly #text: string;
  #ringing = false;

  private constructor(text: string, symbol: string, beyond: -1 | 1, price: Decimal) {
    this.#text = text;
    this.symbol = symbol;
    this.#beyond = beyond;
    this.#price = price;
  }

  static parse(text: string): Threshold | undefined {
    const [, symbol = "", sign, price = ""] = /^([^<>]+)([<>])(.+)$/.exec(text) ?? [];
    const value = Decimal.parse(price.trim());
    return value && new Threshold(text, symbol.trim(), sign === ">" ? 1 : -1, value);
  }

  /** The alert, at the first price beyond the threshold. */
  see(price: Decimal): string | undefined {
    const before = this.#ringing;
    this.#ringing = price.compare(this.#price) === this.#beyond;
    return this.#ringing && !before ? `${this.#text}: ${price}` : undefined;
  }
}

const thresholds = process.argv.slice(2).map((text) => {
  const threshold = Threshold.parse(text);
  if (threshold === undefined) {
    console.error(`${text} is not of the form "SYMBOL>PRICE" or "SYMBOL<PRICE"`);
    process.exit(2);
  }
  return threshold;
});
if (thresholds.length === 0) {
  console.error('usage: npm run alert -- "SYMBOL>PRICE" ...');
  process.exit(2);
}

const url = process.env["TICKER_URL"] ?? "http://127.0.0.1:8080";
const client = new Client({ url, WebSocket: WebSocket as unknown as WebSocketConstructor }).connect();
const symbols = [...new Set(thresholds.map(({ symbol }) => symbol))];
for await (const event of client.subscribe({ channels: ["trades"], symbols })) {
  if (event.type === "trade") {
    for (const threshold of thresholds.filter(({ symbol }) => symbol === event.symbol)) {
      const alert = threshold.see(event.price);
      if (alert !== undefined) {
        console.log(`${alert} (trade ${event.seq})`);
      }
    }
  } else if (event.type === "gap") {
    console.log(`${event.symbol}: trades are missing (${event.reason}), a crossing may have been among them`);
  } else {
    console.error(`${event.symbol}: ${event.message}`);
    process.exit(1);
  }
}
