/**
 * One page's life with the server: connect, subscribe, apply, fall silent, come back.
 *
 * Invariant: no socket, timer or clock in here. Time comes in as an argument (milliseconds since the Unix epoch), effects go
 * out through `Io`, and `deadline` says when `advance` wants to be called.
 */
import { type Command, encode, type Mode } from "../protocol/commands";
import { decode, ProtocolError } from "../protocol/decode";
import type { CommandError, DataFrame, Instrument, Notice, ServerMessage, Subscribed } from "../protocol/messages";
import { Backoff } from "./backoff";
import { milliseconds, ServerClock } from "./clock";
import { LatencyWindow, RateMeter } from "./meters";
import { Row } from "./row";
import { COMMAND_INTERVAL_MS, Subscriptions } from "./subscriptions";
import { TRACE_STEP_MS } from "./trace";
import type { Connection, Status, Update } from "./update";

/** What the shell does for the session. */
export interface Io {
  /** Open a socket; an earlier one is of no interest any more. */
  connect(): void;
  send(bytes: Uint8Array<ArrayBuffer>): void;
  /** Close the socket; it reports nothing afterwards. */
  disconnect(): void;
}

/** For the hand-shake and the welcome together. */
const CONNECT_TIMEOUT_MS = 10_000;
const PING_INTERVAL_MS = 5_000;
/** Silence that is taken for a dead connection: a server that lives sends heartbeats. */
const SILENT_HEARTBEATS = 3;
const SILENCE_MIN_MS = 5_000;
/** The figures in the status line; quicker cannot be read. */
const STATUS_INTERVAL_MS = 500;
const RATE_LIMIT_PAUSE_MS = 1_500;
/** Not welcome back: authentication failed, and replaced or too many connections. */
const FINAL_CLOSE_CODES: ReadonlySet<number> = new Set([4401, 4409]);
/** Come back, but not soon: over capacity, and rate limit. */
const LATER_CLOSE_CODES: ReadonlySet<number> = new Set([1013, 4429]);
const LATER_MS = 5_000;

type Phase =
  | { readonly name: "idle" }
  | { readonly name: "connecting"; readonly sinceMs: number }
  | { readonly name: "live"; readonly sinceMs: number }
  | { readonly name: "waiting"; readonly retryAtMs: number; readonly attempt: number; readonly reason: string }
  | { readonly name: "stopped"; readonly reason: string };

export class Session {
  readonly #io: Io;
  readonly #backoff: Backoff;
  readonly #subscriptions: Subscriptions;
  readonly #clock = new ServerClock();
  readonly #latency = new LatencyWindow();
  readonly #received = new RateMeter();
  readonly #market = new RateMeter();
  readonly #rows = new Map<string, Row>();
  /** By the server's number, which holds for this connection only. */
  readonly #rowsById = new Map<number, Row>();
  readonly #instruments = new Map<string, Instrument>();
  #instrumentsDue = false;
  #phase: Phase = { name: "idle" };
  #notice = "";
  #welcome = { version: "", session: "", epoch: "", heartbeatMs: 1_000 };
  #dropped = 0;
  #faults = 0;
  #commandId = 0;
  /** Symbols of subscribe commands that have no answer yet. */
  readonly #unanswered = new Map<number, readonly string[]>();
  readonly #pings = new Map<number, number>();
  #heardAtMs = 0;
  #pingAtMs = 0;
  #planAtMs: number | undefined;
  #plannedAtMs = 0;
  #traceAtMs = 0;
  #statusAtMs = 0;
  #statusDue = true;

  constructor(io: Io, mode: Mode, random: () => number) {
    this.#io = io;
    this.#backoff = new Backoff(random);
    this.#subscriptions = new Subscriptions(mode);
  }

  // What a person does.

  start(nowMs: number): void {
    this.#connect(nowMs);
  }

  watch(symbols: readonly string[], nowMs: number): void {
    const wanted = new Set(symbols);
    for (const [symbol] of this.#rows) {
      if (!wanted.has(symbol)) {
        this.#rows.delete(symbol);
      }
    }
    for (const [id, row] of this.#rowsById) {
      if (!wanted.has(row.symbol)) {
        this.#rowsById.delete(id);
      }
    }
    for (const symbol of wanted) {
      if (!this.#rows.has(symbol)) {
        this.#rows.set(symbol, new Row(symbol));
      }
    }
    this.#subscriptions.want(symbols);
    this.#planSoon(nowMs);
  }

  setMode(mode: Mode, nowMs: number): void {
    this.#subscriptions.setMode(mode);
    this.#planSoon(nowMs);
  }

  /** Do not wait any longer. */
  reconnect(nowMs: number): void {
    if (this.#phase.name === "waiting" || this.#phase.name === "stopped") {
      this.#backoff.forget();
      this.#connect(nowMs);
    }
  }

  // What the socket reports.

  received(bytes: Uint8Array, nowMs: number): void {
    this.#heardAtMs = nowMs;
    let message: ServerMessage;
    try {
      message = decode(bytes);
    } catch (error) {
      if (!(error instanceof ProtocolError)) {
        throw error;
      }
      this.#fault(error.message);
      return;
    }
    this.#apply(message, nowMs);
  }

  /** A text frame, which was not agreed upon. */
  receivedText(nowMs: number): void {
    this.#heardAtMs = nowMs;
    this.#fault("the server sent text where binary was agreed");
  }

  closed(code: number, reason: string, nowMs: number): void {
    this.#lost(describeClose(code, reason), code, nowMs);
  }

  // Time.

  advance(nowMs: number): void {
    switch (this.#phase.name) {
      case "connecting":
        if (nowMs >= this.#phase.sinceMs + CONNECT_TIMEOUT_MS) {
          this.#io.disconnect();
          this.#lost("no answer", undefined, nowMs);
        }
        break;
      case "live":
        this.#advanceLive(nowMs);
        break;
      case "waiting":
        if (nowMs >= this.#phase.retryAtMs) {
          this.#connect(nowMs);
        }
        break;
      case "idle":
      case "stopped":
        break;
    }
    if (nowMs >= this.#statusAtMs) {
      this.#statusAtMs = nowMs + STATUS_INTERVAL_MS;
      this.#statusDue = true;
    }
  }

  /** When `advance` wants to be called next. */
  deadline(): number {
    switch (this.#phase.name) {
      case "connecting":
        return this.#phase.sinceMs + CONNECT_TIMEOUT_MS;
      case "live":
        return Math.min(
          this.#traceAtMs,
          this.#pingAtMs,
          this.#statusAtMs,
          this.#silentAtMs(),
          this.#planAtMs ?? Number.POSITIVE_INFINITY,
        );
      case "waiting":
        // The status counts down.
        return Math.min(this.#phase.retryAtMs, this.#statusAtMs);
      case "idle":
      case "stopped":
        return Number.POSITIVE_INFINITY;
    }
  }

  // What the page is to show.

  /** Everything that changed since the last call, or `undefined`. */
  take(nowMs: number): Update | undefined {
    const rows = [...this.#rows.values()].filter((row) => row.pending).map((row) => row.take());
    if (rows.length === 0 && !this.#statusDue && !this.#instrumentsDue) {
      return undefined;
    }
    const status = this.#statusDue ? this.#status(nowMs) : undefined;
    const instruments = this.#instrumentsDue ? [...this.#instruments.values()] : undefined;
    this.#statusDue = false;
    this.#instrumentsDue = false;
    return { status, instruments, rows };
  }

  #connect(nowMs: number): void {
    this.#enter({ name: "connecting", sinceMs: nowMs });
    this.#io.connect();
  }

  #lost(reason: string, code: number | undefined, nowMs: number): void {
    const livedMs = this.#phase.name === "live" ? nowMs - this.#phase.sinceMs : 0;
    this.#rowsById.clear();
    this.#unanswered.clear();
    this.#pings.clear();
    this.#subscriptions.reset();
    this.#planAtMs = undefined;
    this.#clock.reset();
    this.#latency.reset();
    this.#received.reset();
    this.#market.reset();
    this.#notice = "";
    if (code !== undefined && FINAL_CLOSE_CODES.has(code)) {
      this.#enter({ name: "stopped", reason });
      return;
    }
    if (code !== undefined && LATER_CLOSE_CODES.has(code)) {
      this.#backoff.ask(LATER_MS);
    }
    const retryAtMs = nowMs + this.#backoff.next(livedMs);
    this.#enter({ name: "waiting", retryAtMs, attempt: this.#backoff.failures, reason });
  }

  #enter(phase: Phase): void {
    this.#phase = phase;
    this.#statusDue = true;
  }

  #advanceLive(nowMs: number): void {
    if (nowMs >= this.#silentAtMs()) {
      this.#io.disconnect();
      this.#lost("the connection fell silent", undefined, nowMs);
      return;
    }
    if (nowMs >= this.#pingAtMs) {
      this.#pingAtMs = nowMs + PING_INTERVAL_MS;
      this.#pings.set(this.#send({ op: "ping" }), nowMs);
    }
    if (this.#planAtMs !== undefined && nowMs >= this.#planAtMs) {
      this.#plan(nowMs);
    }
    if (nowMs >= this.#traceAtMs) {
      const steps = 1 + Math.floor((nowMs - this.#traceAtMs) / TRACE_STEP_MS);
      this.#traceAtMs += steps * TRACE_STEP_MS;
      for (const row of this.#rows.values()) {
        row.advance(steps);
      }
    }
  }

  #silentAtMs(): number {
    return this.#heardAtMs + Math.max(SILENCE_MIN_MS, SILENT_HEARTBEATS * this.#welcome.heartbeatMs);
  }

  #apply(message: ServerMessage, nowMs: number): void {
    switch (message.type) {
      case "data":
        this.#applyData(message, nowMs);
        break;
      case "welcome":
        this.#welcome = message;
        this.#enter({ name: "live", sinceMs: nowMs });
        this.#pingAtMs = nowMs + 1_000;
        this.#traceAtMs = nowMs + TRACE_STEP_MS;
        this.#send({ op: "instruments" });
        this.#plan(nowMs);
        break;
      case "subscribed":
        this.#subscribed(message);
        break;
      case "error":
        this.#refused(message, nowMs);
        break;
      case "heartbeat":
        this.#dropped = message.dropped;
        break;
      case "notice":
        this.#noticed(message);
        break;
      case "pong": {
        const sentMs = message.id === undefined ? undefined : this.#pings.get(message.id);
        if (message.id !== undefined && sentMs !== undefined) {
          this.#pings.delete(message.id);
          this.#clock.observe(sentMs, milliseconds(message.time), nowMs);
        }
        break;
      }
      case "instruments":
        if (message.id !== undefined) {
          this.#instruments.clear();
        }
        for (const instrument of message.instruments) {
          this.#instruments.set(instrument.symbol, instrument);
        }
        this.#instrumentsDue = true;
        break;
      case "other":
        break;
    }
  }

  #applyData(frame: DataFrame, nowMs: number): void {
    let market = 0;
    let received = 0;
    for (const element of frame.elements) {
      // An unknown number is one whose unsubscribe is still on its way.
      const events = this.#rowsById.get(element.instrumentId)?.apply(element, frame.content) ?? 0;
      market += events;
      received += events > 0 ? 1 : 0;
    }
    if (frame.content === "live") {
      this.#received.record(nowMs, received);
      this.#market.record(nowMs, market);
      this.#latency.record(nowMs, nowMs - milliseconds(frame.sentAt));
    }
  }

  #subscribed(message: Subscribed): void {
    if (message.id !== undefined) {
      this.#unanswered.delete(message.id);
    }
    for (const listing of message.listings) {
      const row = this.#rows.get(listing.symbol);
      if (row !== undefined) {
        row.accept(listing);
        this.#rowsById.set(listing.instrumentId, row);
      }
    }
    this.#subscriptions.confirm(message.listings.map((listing) => listing.symbol));
  }

  #refused(error: CommandError, nowMs: number): void {
    if (error.code === "rate_limited") {
      this.#subscriptions.retry();
      this.#planAtMs = nowMs + RATE_LIMIT_PAUSE_MS;
      return;
    }
    const asked = error.id === undefined ? undefined : this.#unanswered.get(error.id);
    const symbols = error.symbols.length > 0 ? error.symbols : (asked ?? []);
    this.#subscriptions.refuse(symbols);
    for (const symbol of symbols) {
      this.#rows.get(symbol)?.refuse(error.message === "" ? error.code : error.message);
    }
    if (symbols.length === 0) {
      this.#notice = `${error.code}: ${error.message}`;
      this.#statusDue = true;
    }
  }

  #noticed(notice: Notice): void {
    if (notice.reconnectAfterMs !== undefined) {
      this.#backoff.ask(notice.reconnectAfterMs);
    }
    this.#notice = notice.message === "" ? notice.code : notice.message;
    this.#statusDue = true;
  }

  #fault(message: string): void {
    this.#faults += 1;
    this.#notice = message;
    this.#statusDue = true;
  }

  /** Changes that come in quick succession travel in one command. */
  #planSoon(nowMs: number): void {
    if (this.#phase.name === "live") {
      this.#planAtMs ??= Math.max(nowMs, this.#plannedAtMs + COMMAND_INTERVAL_MS);
    }
  }

  #plan(nowMs: number): void {
    this.#planAtMs = undefined;
    this.#plannedAtMs = nowMs;
    for (const command of this.#subscriptions.plan()) {
      const id = this.#send(command);
      if (command.op === "subscribe") {
        this.#unanswered.set(id, command.symbols);
      }
    }
  }

  #send(command: Command): number {
    this.#commandId += 1;
    this.#io.send(encode(this.#commandId, command));
    return this.#commandId;
  }

  #status(nowMs: number): Status {
    const percentiles = this.#latency.percentiles(nowMs, this.#clock.offsetMs);
    return {
      connection: this.#connection(nowMs),
      notice: this.#notice,
      receivedPerSecond: this.#received.perSecond(nowMs),
      marketPerSecond: this.#market.perSecond(nowMs),
      latencyMedianMs: percentiles?.medianMs,
      latencyP99Ms: percentiles?.p99Ms,
      roundTripMs: this.#clock.roundTripMs,
      clockOffsetMs: this.#clock.offsetMs,
      version: this.#welcome.version,
      session: this.#welcome.session,
      epoch: this.#welcome.epoch,
      dropped: this.#dropped,
      faults: this.#faults,
    };
  }

  #connection(nowMs: number): Connection {
    switch (this.#phase.name) {
      case "idle":
      case "connecting":
        return { phase: "connecting" };
      case "live":
        return { phase: "live" };
      case "waiting":
        return {
          phase: "waiting",
          retryInMs: Math.max(0, this.#phase.retryAtMs - nowMs),
          attempt: this.#phase.attempt,
          reason: this.#phase.reason,
        };
      case "stopped":
        return { phase: "stopped", reason: this.#phase.reason };
    }
  }
}

function describeClose(code: number, reason: string): string {
  if (reason !== "") {
    return reason;
  }
  switch (code) {
    case 1001:
    case 1012:
      return "the server is restarting";
    case 1013:
      return "the server is full";
    case 1006:
      return "connection lost";
    case 4401:
      return "authentication failed";
    case 4408:
      return "this page was too slow";
    case 4409:
      return "replaced by another connection";
    case 4429:
      return "too many commands";
    default:
      return `closed with code ${code}`;
  }
}
