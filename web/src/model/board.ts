/**
 * What the page shows, kept from what the client brings: rows, their order, the instrument in detail, figures.
 *
 * Invariant: no socket, timer or clock in here. Time comes in as an argument (milliseconds since the Unix epoch); `deadline`
 * says when there is something to do although nothing has come.
 */
import {
  type BarInterval,
  type Client,
  type Event,
  type Rate,
  RequestError,
  type Subscription,
} from "../../sdk/src/index";
import { Detail, type Get } from "./detail";
import { LatencyWindow, RateMeter } from "./meters";
import { Row } from "./row";
import { TRACE_STEP_MS } from "./trace";
import {
  type Connection,
  type Depth,
  type DetailUpdate,
  type Instrument,
  LATENCY_STEPS_MS,
  type Mode,
  type Sort,
  type Status,
  type Update,
} from "./update";

/** The figures in the status line; quicker cannot be read. */
const STATUS_INTERVAL_MS = 500;
/** Rows that change places more often than this cannot be read either. */
const ORDER_INTERVAL_MS = 1_000;
/** The close code that says so. */
const AUTHENTICATION_FAILED = 4401;
/** Everything that the server has. */
export const EVERYTHING = "*";

type RowChannel = "trades" | "quotes" | "ticker" | "status";
const CHANNELS: readonly RowChannel[] = ["trades", "quotes", "ticker", "status"];

export class Board {
  readonly #client: Client;
  readonly #get: Get;
  readonly #rows = new Map<string, Row>();
  readonly #subscription: Subscription<RowChannel>;
  readonly #latency = new LatencyWindow();
  readonly #received = new RateMeter();
  readonly #market = new RateMeter();
  readonly #bytes = new RateMeter();
  readonly #instruments = new Map<string, Instrument>();
  #watched: readonly string[] = [];
  #instrumentsDue = false;
  #sort: Sort = { key: "none", order: "ascending" };
  #filter = "";
  #orderDue = false;
  #orderAtMs = 0;
  #shownOrder = "";
  #sight: ReadonlySet<string> = new Set();
  #detail: Detail | undefined;
  #interval: BarInterval = "1m";
  #depth: Depth = "10";
  #rate: Rate;
  #notice = "";
  #conflated = 0;
  #bytesSeen = 0;
  #traceAtMs = 0;
  #statusAtMs = 0;
  #statusDue = true;
  #access: Status["access"] = "granted";

  constructor(client: Client, get: Get, mode: Mode) {
    this.#client = client;
    this.#get = get;
    this.#rate = rateOf(mode);
    this.#subscription = client.subscribe({
      channels: CHANNELS,
      symbols: [],
      rate: this.#rate,
      onEvent: (event) => this.#event(event),
    });
    client.on("connection", (connection) => {
      this.#statusDue = true;
      if (connection.phase === "live") {
        this.#notice = "";
      } else if (connection.phase === "stopped" && connection.code === AUTHENTICATION_FAILED) {
        this.#access = "asked";
      }
    });
    client.on("welcome", () => {
      this.#list();
      this.#detail?.reload();
    });
    client.on("notice", (notice) => this.#say(notice.message === "" ? notice.code : notice.message));
    client.on("fault", (message) => this.#say(message));
    client.on("instruments", (instruments) => this.#listed(instruments));
    client.on("frame", ({ sentAt, receivedMs, elements }) => {
      const live = elements.reduce((count, element) => count + (element.snapshot || element.type === "gap" ? 0 : 1), 0);
      const statistics = client.statistics;
      if (live > 0) {
        this.#received.record(receivedMs, live);
        this.#market.record(receivedMs, live + statistics.conflated - this.#conflated);
        this.#latency.record(receivedMs, receivedMs - Number(sentAt) / 1e6);
      }
      this.#bytes.record(receivedMs, statistics.bytes - this.#bytesSeen);
      this.#conflated = statistics.conflated;
      this.#bytesSeen = statistics.bytes;
    });
  }

  // What a person does.

  watch(symbols: readonly string[]): void {
    this.#watched = symbols;
    const wanted = new Set(symbols.includes(EVERYTHING) ? this.#instruments.keys() : symbols);
    for (const symbol of this.#rows.keys()) {
      if (!wanted.has(symbol)) {
        this.#rows.delete(symbol);
      }
    }
    for (const symbol of wanted) {
      if (!this.#rows.has(symbol)) {
        this.#rows.set(symbol, new Row(symbol));
      }
    }
    this.#subscription.setSymbols(symbols.includes(EVERYTHING) ? [EVERYTHING] : symbols);
    this.#orderDue = true;
    this.#orderAtMs = 0;
  }

  arrange(sort: Sort, filter: string): void {
    this.#sort = sort;
    this.#filter = filter.trim().toLowerCase();
    this.#orderDue = true;
    this.#orderAtMs = 0;
  }

  /** Which rows the page has on the screen: what is new there must be shown at once. */
  sight(symbols: readonly string[]): void {
    for (const symbol of symbols) {
      if (!this.#sight.has(symbol)) {
        this.#rows.get(symbol)?.invalidate();
      }
    }
    this.#sight = new Set(symbols);
  }

  setMode(mode: Mode): void {
    this.#rate = rateOf(mode);
    this.#subscription.setRate(this.#rate);
    this.#detail?.setRate(this.#rate);
  }

  select(symbol: string | undefined): void {
    if (this.#detail?.symbol !== symbol) {
      this.#detail?.close();
      this.#detail =
        symbol === undefined
          ? undefined
          : new Detail(this.#client, this.#get, symbol, this.#interval, this.#depth, this.#rate);
    }
  }

  setInterval(interval: BarInterval): void {
    this.#interval = interval;
    this.#detail?.setInterval(interval);
  }

  setDepth(depth: Depth): void {
    this.#depth = depth;
    this.#detail?.setDepth(depth);
  }

  // Time.

  /** When `advance` wants to be called next. */
  deadline(): number {
    return Math.min(this.#statusAtMs, this.#traceAtMs);
  }

  advance(nowMs: number): void {
    if (nowMs >= this.#statusAtMs) {
      this.#statusAtMs = nowMs + STATUS_INTERVAL_MS;
      this.#statusDue = true;
      if (this.#sort.key !== "none" && this.#sort.key !== "symbol") {
        this.#orderDue = true;
      }
    }
    if (nowMs >= this.#traceAtMs) {
      const live = this.#client.connection.phase === "live" && this.#traceAtMs > 0;
      const steps = live ? 1 + Math.floor((nowMs - this.#traceAtMs) / TRACE_STEP_MS) : 0;
      this.#traceAtMs = live ? this.#traceAtMs + steps * TRACE_STEP_MS : nowMs + TRACE_STEP_MS;
      for (const row of this.#rows.values()) {
        row.advance(steps);
      }
    }
  }

  /** What the page must show now, if there is anything. */
  take(nowMs: number): Update | undefined {
    const rows = [];
    for (const symbol of this.#sight) {
      const row = this.#rows.get(symbol);
      if (row?.pending) {
        rows.push(row.take());
      }
    }
    const status = this.#statusDue ? this.#status(nowMs) : undefined;
    const instruments = this.#instrumentsDue ? [...this.#instruments.values()] : undefined;
    const order = this.#orderDue && nowMs >= this.#orderAtMs ? this.#order(nowMs) : undefined;
    const detail = this.#takeDetail(
      rows.find((row) => row.symbol === this.#detail?.symbol),
      nowMs,
    );
    this.#statusDue = false;
    this.#instrumentsDue = false;
    if (status === undefined && instruments === undefined && order === undefined && rows.length === 0 && !detail) {
      return undefined;
    }
    return { status, instruments, order, rows, detail };
  }

  #takeDetail(row: Update["rows"][number] | undefined, nowMs: number): DetailUpdate | undefined {
    return this.#detail?.take(row, nowMs);
  }

  #order(nowMs: number): readonly string[] | undefined {
    this.#orderDue = false;
    this.#orderAtMs = nowMs + ORDER_INTERVAL_MS;
    const symbols =
      this.#filter === "" ? [...this.#rows.keys()] : [...this.#rows.keys()].filter((one) => this.#passes(one));
    const { key, order } = this.#sort;
    const sign = order === "ascending" ? 1 : -1;
    if (key === "symbol") {
      symbols.sort((a, b) => sign * (a < b ? -1 : a > b ? 1 : 0));
    } else if (key !== "none") {
      const ranks = new Map(symbols.map((symbol) => [symbol, this.#rows.get(symbol)?.rank(key)]));
      // Rows that have no value stand last, whichever the order.
      symbols.sort((a, b) => {
        const [rankA, rankB] = [ranks.get(a), ranks.get(b)];
        return rankA === undefined || rankB === undefined
          ? Number(rankA === undefined) - Number(rankB === undefined)
          : sign * (rankA - rankB);
      });
    }
    const shown = symbols.join(" ");
    if (shown === this.#shownOrder) {
      return undefined;
    }
    this.#shownOrder = shown;
    return symbols;
  }

  #passes(symbol: string): boolean {
    const instrument = this.#instruments.get(symbol);
    const words = `${symbol} ${instrument?.description ?? ""} ${instrument?.assetClass ?? ""}`.toLowerCase();
    return this.#filter.split(/\s+/).every((word) => words.includes(word));
  }

  // What comes.

  #event(event: Event): void {
    let row = this.#rows.get(event.symbol);
    if (row === undefined && this.#watched.includes(EVERYTHING) && event.symbol !== EVERYTHING) {
      row = new Row(event.symbol);
      this.#rows.set(event.symbol, row);
      this.#orderDue = true;
    }
    row?.apply(event);
  }

  #list(): void {
    this.#client.instruments().then(
      (instruments) => {
        this.#access = "granted";
        this.#instruments.clear();
        this.#listed(instruments);
      },
      (error: unknown) => {
        if (error instanceof RequestError && error.code === "auth_required") {
          // Told by the panel that opens, in words for people.
          this.#access = "asked";
          this.#statusDue = true;
        } else {
          this.#say(`no list of instruments: ${error instanceof Error ? error.message : String(error)}`);
        }
      },
    );
  }

  #listed(instruments: readonly Instrument[]): void {
    for (const { symbol, assetClass, currency, description } of instruments) {
      this.#instruments.set(symbol, { symbol, assetClass, currency, description });
    }
    this.#instrumentsDue = true;
    if (this.#watched.includes(EVERYTHING)) {
      this.watch(this.#watched);
    }
    this.#orderDue = true;
  }

  #say(notice: string): void {
    this.#notice = notice;
    this.#statusDue = true;
  }

  #status(nowMs: number): Status {
    const client = this.#client;
    const offsetMs = client.clockOffsetMs;
    const percentiles = this.#latency.percentiles(nowMs, offsetMs);
    const { delivered, conflated, missed, bytes, wireBytes, compression, frames, reconnects, faults } =
      client.statistics;
    return {
      connection: connectionOf(client, nowMs),
      transport: client.transport,
      notice: this.#notice,
      access: this.#access,
      receivedPerSecond: this.#received.perSecond(nowMs),
      marketPerSecond: this.#market.perSecond(nowMs),
      bytesPerSecond: this.#bytes.perSecond(nowMs),
      latencyMedianMs: percentiles?.medianMs,
      latencyP99Ms: percentiles?.p99Ms,
      latencyHistogram: this.#latency.histogram(nowMs, offsetMs, LATENCY_STEPS_MS),
      roundTripMs: client.roundTripMs,
      clockOffsetMs: offsetMs,
      version: client.welcome?.version ?? "",
      session: client.welcome?.session ?? "",
      epoch: client.welcome?.epoch ?? "",
      delivered,
      conflated,
      missed,
      bytes,
      wireBytes,
      compression,
      frames,
      reconnects,
      faults,
    };
  }
}

function rateOf(mode: Mode): Rate {
  return mode.mode === "every" ? "every" : { latestMs: mode.intervalMs };
}

function connectionOf(client: Client, nowMs: number): Connection {
  const connection = client.connection;
  switch (connection.phase) {
    case "idle":
    case "connecting":
      return { phase: "connecting" };
    case "live":
      return { phase: "live" };
    case "waiting":
      return {
        phase: "waiting",
        retryInMs: Math.max(0, connection.retryAtMs - nowMs),
        attempt: connection.attempt,
        reason: connection.reason,
      };
    case "stopped":
      return { phase: "stopped", reason: connection.reason };
  }
}
