/**
 * One instrument in depth: bars, book, trades one by one, the day's statistics.
 *
 * Invariant: what is kept is bounded: `TRADES_MAX` trades, `BARS_MAX` bars, the book's depth.
 */
import {
  type Bar,
  type BarInterval,
  type BookDepth,
  type Client,
  type Decimal,
  decodeJson,
  type Event,
  formatDecimal,
  formatTrimmed,
  type Integer,
  type Level,
  type LiveBook,
  type MarketPhase,
  type Rate,
  type Subscription,
  subtract,
  type Ticker,
} from "../../sdk/src/index";
import type {
  BarsUpdate,
  BookLine,
  BookUpdate,
  ChartBar,
  DayStatistics,
  Depth,
  DetailUpdate,
  RowUpdate,
  TradeLine,
} from "./update";

/** A screen shows forty; more only scroll by. */
const TRADES_MAX = 60;
/** What the server keeps of each interval, if it is not told otherwise. */
const BARS_MAX = 1_000;
/** Between two pictures of the book; eyes cannot follow more, and 100 lines take a while to lay out. */
const BOOK_STEP_MS = 80;

/** Text of `GET` below `/api/v1/`. */
export type Get = (path: string) => Promise<string>;

export class Detail {
  readonly symbol: string;
  readonly #client: Client;
  readonly #get: Get;
  readonly #subscription: Subscription<"trades" | "ticker" | "status" | "quotes">;
  #book: LiveBook;
  #bookDepth: Depth;
  #rate: Rate;
  #bookDirty = true;
  #bookAtMs = 0;
  #bars: Subscription<`bars.${BarInterval}`> | undefined;
  #interval: BarInterval;
  readonly #barsByTime = new Map<number, ChartBar>();
  #newBars = new Map<number, ChartBar>();
  #barsKind: BarsUpdate["kind"] = "all";
  #barsDue = false;
  #decimals = 2;
  #trades: TradeLine[] = [];
  #newTrades: TradeLine[] = [];
  #ticker: Ticker | undefined;
  #tickerDue = false;
  #market: { phase: MarketPhase | undefined; reason: string } = { phase: undefined, reason: "" };
  #marketDue = true;
  #lines = 0;

  constructor(client: Client, get: Get, symbol: string, interval: BarInterval, depth: Depth, rate: Rate) {
    this.symbol = symbol;
    this.#client = client;
    this.#get = get;
    this.#interval = interval;
    this.#bookDepth = depth;
    this.#rate = rate;
    this.#subscription = client.subscribe({
      channels: ["trades", "quotes", "ticker", "status"],
      symbols: [symbol],
      rate,
      onEvent: (event) => this.#event(event),
    });
    this.#book = this.#openBook();
    this.#openBars();
  }

  setRate(rate: Rate): void {
    this.#rate = rate;
    this.#subscription.setRate(rate);
    this.#bars?.setRate(rate);
    this.#book.setRate(rate);
  }

  setInterval(interval: BarInterval): void {
    if (interval !== this.#interval) {
      this.#interval = interval;
      this.#openBars();
    }
  }

  setDepth(depth: Depth): void {
    if (depth !== this.#bookDepth) {
      this.#bookDepth = depth;
      this.#book.close();
      this.#book = this.#openBook();
    }
  }

  close(): void {
    this.#subscription.close();
    this.#book.close();
    this.#bars?.close();
  }

  /** The connection is live again: what came in between is not in the live bars. */
  reload(): void {
    this.#loadBars();
  }

  /** What the page must show now, if there is anything. */
  take(row: RowUpdate | undefined, nowMs: number): DetailUpdate | undefined {
    const book = this.#bookDirty && nowMs >= this.#bookAtMs ? this.#takeBook(nowMs) : undefined;
    const bars = this.#barsDue ? this.#takeBars() : undefined;
    const statistics = this.#tickerDue && this.#ticker !== undefined ? dayStatistics(this.#ticker) : undefined;
    const market = this.#marketDue ? this.#market : undefined;
    const trades = this.#newTrades;
    if (row === undefined && !book && !bars && !statistics && !market && trades.length === 0) {
      return undefined;
    }
    this.#tickerDue = false;
    this.#marketDue = false;
    this.#newTrades = [];
    return { symbol: this.symbol, row, statistics, market, book, trades, bars };
  }

  #openBook(): LiveBook {
    this.#bookDirty = true;
    return this.#client.book(this.symbol, {
      depth: this.#bookDepth satisfies BookDepth,
      rate: this.#rate,
      onChange: () => {
        this.#bookDirty = true;
      },
    });
  }

  #openBars(): void {
    this.#bars?.close();
    this.#barsByTime.clear();
    this.#newBars.clear();
    this.#barsKind = "all";
    this.#barsDue = true;
    this.#bars = this.#client.subscribe({
      channels: [`bars.${this.#interval}`],
      symbols: [this.symbol],
      rate: this.#rate,
      onEvent: (event) => {
        if (event.type === "bar") {
          this.#bar(event);
        }
      },
    });
    this.#loadBars();
  }

  /** The past, over REST. */
  #loadBars(): void {
    const interval = this.#interval;
    const path = `bars?symbol=${encodeURIComponent(this.symbol)}&interval=${interval}&limit=${BARS_MAX}`;
    this.#get(path).then(
      (text) => {
        const message = decodeJson(text);
        if (message.type === "data" && interval === this.#interval) {
          for (const element of message.elements) {
            if (element.type === "bar") {
              this.#history(element);
            }
          }
          this.#barsKind = "all";
          this.#barsDue = true;
        }
      },
      // Without a past the chart begins now; the connection's state is told elsewhere.
      () => {},
    );
  }

  #history(element: Bar): void {
    const bar = chartBar(element);
    // What has come live is newer than what was read.
    if (!this.#newBars.has(bar.time)) {
      this.#barsByTime.set(bar.time, bar);
    }
    this.#decimals = Math.max(0, -element.close.exponent);
  }

  #bar(event: Bar): void {
    const bar = chartBar(event);
    this.#barsByTime.set(bar.time, bar);
    this.#newBars.set(bar.time, bar);
    this.#decimals = Math.max(0, -event.close.exponent);
    this.#barsDue = true;
    if (this.#barsByTime.size > 2 * BARS_MAX) {
      const times = [...this.#barsByTime.keys()].sort((a, b) => a - b);
      for (const time of times.slice(0, times.length - BARS_MAX)) {
        this.#barsByTime.delete(time);
      }
    }
  }

  #takeBars(): BarsUpdate {
    const kind = this.#barsKind;
    const source = kind === "all" ? this.#barsByTime : this.#newBars;
    const bars = [...source.values()].sort((a, b) => a.time - b.time);
    this.#barsKind = "newer";
    this.#newBars = new Map();
    this.#barsDue = false;
    return { interval: this.#interval, kind, bars, decimals: this.#decimals };
  }

  #event(event: Event): void {
    switch (event.type) {
      case "trade":
        this.#trade({
          timeMs: Number(event.time) / 1e6,
          price: formatDecimal(event.price.mantissa, event.price.exponent),
          size: formatTrimmed(event.size.mantissa, event.size.exponent),
          side: event.side,
          gap: undefined,
        });
        break;
      case "gap":
        if (event.channel === "trades") {
          const count = Number(subtract(event.toSeq, event.fromSeq)) + 1;
          const gap = event.reason === "epoch" ? "the server began anew" : `${count} missed (${event.reason})`;
          this.#trade({ timeMs: Number(event.time) / 1e6, price: "", size: "", side: "unknown", gap });
        }
        break;
      case "ticker":
        this.#ticker = event;
        this.#tickerDue = true;
        break;
      case "status":
        this.#market = { phase: event.code, reason: event.reason };
        this.#marketDue = true;
        break;
      default:
        break;
    }
  }

  #trade(line: Omit<TradeLine, "key">): void {
    this.#lines += 1;
    const keyed = { key: String(this.#lines), ...line };
    this.#trades = [keyed, ...this.#trades].slice(0, TRADES_MAX);
    this.#newTrades = [keyed, ...this.#newTrades].slice(0, TRADES_MAX);
  }

  #takeBook(nowMs: number): BookUpdate {
    this.#bookDirty = false;
    this.#bookAtMs = nowMs + BOOK_STEP_MS;
    const book = this.#book;
    const [bid] = book.bids;
    const [ask] = book.asks;
    const refusal = book.refusal;
    return {
      state: refusal !== undefined ? "refused" : book.known ? "verified" : book.verified > 0 ? "mending" : "waiting",
      reason: refusal?.message ?? "",
      bids: lines(book.bids.slice(0, Number(this.#bookDepth))),
      asks: lines(book.asks.slice(0, Number(this.#bookDepth))),
      spread: bid === undefined || ask === undefined ? "" : text(ask.price.minus(bid.price)),
      verified: book.verified,
      mismatches: book.mismatches,
    };
  }
}

function text(value: Decimal): string {
  return formatDecimal(value.mantissa, value.exponent);
}

function lines(levels: readonly Level[]): BookLine[] {
  let total: Integer = 0;
  return levels.map(({ price, size }) => {
    total = subtract(total, subtract(0, size.mantissa));
    const scale = 10 ** size.exponent;
    return {
      price: text(price),
      size: formatTrimmed(size.mantissa, size.exponent),
      total: formatTrimmed(total, size.exponent),
      priceValue: price.toNumber(),
      sizeValue: Number(size.mantissa) * scale,
      totalValue: Number(total) * scale,
    };
  });
}

function chartBar(bar: Bar): ChartBar {
  return {
    time: Number(bar.time / 1_000_000_000n),
    open: bar.open.toNumber(),
    high: bar.high.toNumber(),
    low: bar.low.toNumber(),
    close: bar.close.toNumber(),
    volume: bar.volume.toNumber(),
  };
}

const LARGE = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });

function dayStatistics(ticker: Ticker): DayStatistics {
  const range = ticker.high.minus(ticker.low).toNumber();
  return {
    open: text(ticker.open),
    high: text(ticker.high),
    low: text(ticker.low),
    last: text(ticker.last),
    volume: formatTrimmed(ticker.volume.mantissa, ticker.volume.exponent),
    turnover: Number.isFinite(ticker.turnover) ? LARGE.format(ticker.turnover) : "",
    trades: ticker.tradeCount.toLocaleString("en"),
    position: range === 0 ? 0.5 : ticker.last.minus(ticker.low).toNumber() / range,
  };
}
