/**
 * A client whose server, clock and chance are the test's.
 *
 * Invariant: nothing waits: time passes when `pass` is called, and only then.
 */
import { Decoder, Encoder } from "@msgpack/msgpack";
import { Client } from "../src/client";
import type { Environment } from "../src/environment";
import type { Transport, TransportHandler, Wish } from "../src/transport/transport";

const encoder = new Encoder({ useBigInt64: true });
const decoder = new Decoder();

export class Scripted {
  nowMs = 1_700_000_000_000;
  connects = 0;
  disconnects = 0;
  wish: Wish | undefined;
  /** Tokens that came with questions for the list of instruments. */
  readonly presented: (string | undefined)[] = [];
  #sent: Record<string, unknown>[] = [];
  #handler: TransportHandler | undefined;
  #timers = new Set<{ atMs: number; call: () => void }>();
  readonly client: Client;

  constructor(
    options: { direction?: Transport["direction"]; random?: () => number; token?: string | (() => string) } = {},
  ) {
    const environment: Environment = {
      now: () => this.nowMs,
      random: options.random ?? (() => 0),
      schedule: (call, afterMs) => {
        const timer = { atMs: this.nowMs + afterMs, call };
        this.#timers.add(timer);
        return () => this.#timers.delete(timer);
      },
    };
    const transport: Transport = {
      name: "websocket",
      direction: options.direction ?? "two-way",
      open: (handler, wish) => {
        this.connects += 1;
        this.#handler = handler;
        this.wish = wish;
        return {
          send: (bytes) => this.#sent.push(decoder.decode(bytes) as Record<string, unknown>),
          close: () => {
            this.disconnects += 1;
          },
        };
      },
      instruments: (token) => {
        this.presented.push(token);
        return Promise.resolve('{"type":"instruments","instruments":[]}');
      },
    };
    this.client = new Client({
      url: "http://test",
      transports: [transport],
      environment,
      ...(options.token === undefined ? {} : { token: options.token }),
    });
  }

  get nowNs(): bigint {
    return BigInt(this.nowMs) * 1_000_000n;
  }

  receive(message: unknown): void {
    this.#handler?.message(encoder.encode(message));
  }

  receiveRaw(data: Uint8Array | string): void {
    this.#handler?.message(data);
  }

  welcome(epoch = "e1"): void {
    this.receive({
      type: "welcome",
      version: "0.1.0",
      session: "s",
      epoch,
      time: this.nowNs,
      heartbeat_ms: 1_000,
      limits: { message_bytes_max: 65_536 },
    });
  }

  refused(error: unknown): void {
    this.#handler?.refused(JSON.stringify(error));
  }

  closed(code = 1006, reason = ""): void {
    this.#handler?.closed(code, reason);
  }

  /** Commands since the last call. */
  commands(op?: string): Record<string, unknown>[] {
    const sent = this.#sent;
    this.#sent = [];
    return op === undefined ? sent : sent.filter((command) => command["op"] === op);
  }

  /** Answers a subscribe as the server does, each symbol with a number of its own. */
  confirm(command: Record<string, unknown> | undefined, recovered: unknown = {}): void {
    const symbols = (command?.["symbols"] ?? []) as string[];
    this.receive({
      type: "subscribed",
      id: command?.["id"],
      instruments: symbols.flatMap((symbol) => (symbol === "*" ? ["ES", "NQ"] : [symbol]).map(listing)),
      channels: command?.["channels"],
      mode: command?.["mode"],
      interval_ms: 0,
      recovered,
    });
  }

  /** Lets time pass, with each timer at its moment. */
  pass(ms: number): void {
    const until = this.nowMs + ms;
    for (;;) {
      const [next] = [...this.#timers].sort((a, b) => a.atMs - b.atMs);
      if (next === undefined || next.atMs > until) {
        break;
      }
      this.#timers.delete(next);
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.call();
    }
    this.nowMs = until;
  }
}

export const IDS: Readonly<Record<string, number>> = { ES: 7, NQ: 8 };

function listing(symbol: string): unknown[] {
  return [symbol, IDS[symbol] ?? 9, -2, 0];
}
