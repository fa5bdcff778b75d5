/**
 * The life of the connection: open, welcomed, silent, lost, opened again.
 *
 * Invariant: no socket, timer or clock in here. Time comes in as an argument (milliseconds since the Unix epoch), effects go
 * out through `LinkIo`, and `deadline` says when `advance` wants to be called.
 */
import { Backoff } from "./backoff";
import { ServerClock } from "./clock";

export type Connection =
  | { readonly phase: "idle" }
  | { readonly phase: "connecting"; readonly sinceMs: number }
  | { readonly phase: "live"; readonly sinceMs: number }
  | { readonly phase: "waiting"; readonly retryAtMs: number; readonly attempt: number; readonly reason: string }
  /** The server does not want this client back as it is; `reconnect` tries all the same. */
  | { readonly phase: "stopped"; readonly code: number | undefined; readonly reason: string };

export interface LinkIo {
  /** Open a connection; an earlier one is of no interest any more. `attempt` counts failures in a row before a welcome. */
  connect(attempt: number): void;
  /** Close it; it reports nothing afterwards. */
  disconnect(): void;
  ping(): void;
  changed(connection: Connection): void;
}

/** For the hand-shake and the welcome together. */
const CONNECT_TIMEOUT_MS = 10_000;
const PING_INTERVAL_MS = 5_000;
const FIRST_PING_MS = 1_000;
/** Silence that is taken for a dead connection: a server that lives sends heartbeats. */
const SILENT_HEARTBEATS = 3;
const SILENCE_MIN_MS = 5_000;
/**
 * Reconnecting would lead to the same end until the client is changed: protocol violations, a message that is too big,
 * authentication failed, and replaced or too many connections.
 */
const FINAL_CLOSE_CODES: ReadonlySet<number> = new Set([1002, 1003, 1007, 1009, 4401, 4409]);
/** Come back, but not soon: over capacity, and rate limit. */
const LATER_CLOSE_CODES: ReadonlySet<number> = new Set([1013, 4429]);
const LATER_MS = 5_000;

export class Link {
  readonly clock = new ServerClock();
  readonly #io: LinkIo;
  readonly #backoff: Backoff;
  #connection: Connection = { phase: "idle" };
  #heartbeatMs = 0;
  #heardAtMs = 0;
  #pingAtMs = 0;
  #attempts = 0;
  #reconnects = 0;

  constructor(io: LinkIo, random: () => number) {
    this.#io = io;
    this.#backoff = new Backoff(random);
  }

  get connection(): Connection {
    return this.#connection;
  }

  /** Connections that were live and got lost. */
  get reconnects(): number {
    return this.#reconnects;
  }

  connect(nowMs: number): void {
    this.#enter({ phase: "connecting", sinceMs: nowMs });
    this.#io.connect(this.#attempts);
  }

  /** Do not wait any longer. */
  reconnect(nowMs: number): void {
    if (this.#connection.phase === "waiting" || this.#connection.phase === "stopped") {
      this.#backoff.forget();
      this.connect(nowMs);
    }
  }

  stop(reason: string): void {
    this.#io.disconnect();
    this.#enter({ phase: "stopped", code: undefined, reason });
  }

  welcomed(heartbeatMs: number, nowMs: number): void {
    this.#heartbeatMs = heartbeatMs;
    this.#attempts = 0;
    this.#heardAtMs = nowMs;
    this.#pingAtMs = nowMs + FIRST_PING_MS;
    this.#enter({ phase: "live", sinceMs: nowMs });
  }

  heard(nowMs: number): void {
    this.#heardAtMs = nowMs;
  }

  /** The server has said when to come back. */
  ask(afterMs: number): void {
    this.#backoff.ask(afterMs);
  }

  lost(code: number | undefined, reason: string, nowMs: number): void {
    const live = this.#connection.phase === "live" ? this.#connection.sinceMs : undefined;
    if (this.#connection.phase === "stopped" || this.#connection.phase === "idle") {
      return;
    }
    this.clock.reset();
    this.#attempts = live === undefined ? this.#attempts + 1 : 0;
    this.#reconnects += live === undefined ? 0 : 1;
    const words = reason === "" ? describeClose(code) : reason;
    if (code !== undefined && FINAL_CLOSE_CODES.has(code)) {
      this.#enter({ phase: "stopped", code, reason: words });
      return;
    }
    if (code !== undefined && LATER_CLOSE_CODES.has(code)) {
      this.#backoff.ask(LATER_MS);
    }
    const retryAtMs = nowMs + this.#backoff.next(live === undefined ? 0 : nowMs - live);
    this.#enter({ phase: "waiting", retryAtMs, attempt: this.#backoff.failures, reason: words });
  }

  advance(nowMs: number): void {
    switch (this.#connection.phase) {
      case "connecting":
        if (nowMs >= this.#connection.sinceMs + CONNECT_TIMEOUT_MS) {
          this.#io.disconnect();
          this.lost(undefined, "no answer", nowMs);
        }
        break;
      case "live":
        if (nowMs >= this.#silentAtMs()) {
          this.#io.disconnect();
          this.lost(undefined, "the connection fell silent", nowMs);
        } else if (nowMs >= this.#pingAtMs) {
          this.#pingAtMs = nowMs + PING_INTERVAL_MS;
          this.#io.ping();
        }
        break;
      case "waiting":
        if (nowMs >= this.#connection.retryAtMs) {
          this.connect(nowMs);
        }
        break;
      case "idle":
      case "stopped":
        break;
    }
  }

  /** When `advance` wants to be called next. */
  deadline(): number {
    switch (this.#connection.phase) {
      case "connecting":
        return this.#connection.sinceMs + CONNECT_TIMEOUT_MS;
      case "live":
        return Math.min(this.#silentAtMs(), this.#pingAtMs);
      case "waiting":
        return this.#connection.retryAtMs;
      case "idle":
      case "stopped":
        return Number.POSITIVE_INFINITY;
    }
  }

  #silentAtMs(): number {
    // Without heartbeats the answers to our pings are what a living server says at least.
    const expectedMs = this.#heartbeatMs === 0 ? PING_INTERVAL_MS : this.#heartbeatMs;
    return this.#heardAtMs + Math.max(SILENCE_MIN_MS, SILENT_HEARTBEATS * expectedMs);
  }

  #enter(connection: Connection): void {
    this.#connection = connection;
    this.#io.changed(connection);
  }
}

function describeClose(code: number | undefined): string {
  switch (code) {
    case 1001:
    case 1012:
      return "the server is restarting";
    case 1013:
      return "the server is full";
    case undefined:
    case 1005:
    case 1006:
      return "connection lost";
    case 4401:
      return "authentication failed";
    case 4408:
      return "this client was too slow";
    case 4409:
      return "replaced by another connection";
    case 4429:
      return "too many commands";
    default:
      return `closed with code ${code}`;
  }
}
