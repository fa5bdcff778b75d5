/**
 * The client: one connection, any number of subscriptions.
 *
 * Invariant: a subscription outlives connections. What it was owed and did not get is declared to it by a gap, whoever lost it.
 */

import { milliseconds } from "./core/clock";
import { Delivery } from "./core/delivery";
import { type Connection, Link } from "./core/link";
import { ALL, type Planned, type Stream, Streams } from "./core/streams";
import { type Environment, SYSTEM } from "./environment";
import { type BookOptions, LiveBook } from "./live-book";
import type { ClientEvents, ClientOptions, Statistics } from "./options";
import { type Command, encode } from "./protocol/commands";
import { decode, ProtocolError } from "./protocol/decode";
import { decodeJson } from "./protocol/decode-json";
import { subtract } from "./protocol/integer";
import type {
  Channel,
  CommandError,
  DataFrame,
  Element,
  Instrument,
  Listing,
  Passed,
  ServerMessage,
  Welcome,
} from "./protocol/messages";
import { RequestError, Requests } from "./requests";
import { transportsOf } from "./runtime";
import { type SubscribeOptions, Subscription, type SubscriptionPort } from "./subscription";
import type { Channels, Transport } from "./transport/transport";

/** Four times below the server's sustained limit of 10 commands a second, and changes in between travel together. */
const COMMAND_INTERVAL_MS = 400;
const RATE_LIMIT_PAUSE_MS = 1_500;
/** After so many failures in a row to open a connection the next transport is tried. */
const FAILURES_PER_TRANSPORT = 2;
/** A stream of events without a `welcome`: how often it says something at least. */
const STREAM_HEARTBEAT_MS = 15_000;
const MESSAGE_BYTES_MAX = 65_536;

export class Client {
  readonly #environment: Environment;
  readonly #token: ClientOptions["token"];
  readonly #transports: readonly Transport[];
  readonly #link: Link;
  readonly #streams = new Streams<Subscription>();
  readonly #delivery = new Delivery(this.#streams);
  readonly #subscriptions = new Set<Subscription>();
  readonly #requests = new Requests();
  readonly #listeners = new Map<keyof ClientEvents, Set<(event: never) => void>>();
  readonly #listings = new Map<string, Listing>();
  /** By the server's number, which holds for an epoch. */
  readonly #directory = new Map<number, Listing>();
  readonly #pings = new Map<number, number>();
  /** Commands about streams that have no answer yet. */
  readonly #unanswered = new Map<number, Planned<Subscription>>();
  #transport: Transport | undefined;
  /** What a one-way transport was told that the server does not serve, until the connection is lost. */
  #unserved = new WeakSet<Stream<Subscription>>();
  /** What this connection of a one-way transport was opened for. */
  #wished: readonly Stream<Subscription>[] = [];
  /** The token of this connection. */
  #presented: string | undefined;
  /** The next connection is another request over this one, which works. */
  #again: Transport | undefined;
  #channels: Channels | undefined;
  #welcome: Welcome | undefined;
  #commandId = 0;
  #planAtMs = Number.POSITIVE_INFINITY;
  #plannedAtMs = Number.NEGATIVE_INFINITY;
  #alarmAtMs = Number.POSITIVE_INFINITY;
  #cancelAlarm: (() => void) | undefined;
  #counts = { frames: 0, bytes: 0, faults: 0 };
  /** What this connection has brought, as of the last pong: decoded, and on the wire. */
  #wire: { readonly decoded: number; readonly sent: number } | undefined;
  #bytesBefore = 0;

  constructor(options: ClientOptions) {
    this.#environment = options.environment ?? SYSTEM;
    this.#token = options.token;
    this.#transports = options.transports ?? transportsOf(options);
    if (this.#transports.length === 0) {
      throw new TypeError("this runtime has neither WebSocket nor fetch: pass one of them in the options");
    }
    this.#link = new Link(
      {
        connect: (attempt) => this.#open(attempt),
        disconnect: () => this.#abandon(),
        ping: () => this.#ping(),
        changed: (connection) => this.#emit("connection", connection),
      },
      this.#environment.random,
    );
  }

  // What a program does.

  /** Begins to connect, and from then on stays connected until `close`. */
  connect(): this {
    if (this.#link.connection.phase === "idle") {
      this.#link.connect(this.#now());
      this.#settle();
    }
    return this;
  }

  /** Tries again now, without waiting any longer; also after the server has refused. */
  reconnect(): void {
    this.#link.reconnect(this.#now());
    this.#settle();
  }

  subscribe<C extends Channel>(options: SubscribeOptions<C>): Subscription<C> {
    const subscription = new Subscription<C>(options, this.#port);
    const plain = subscription as unknown as Subscription;
    this.#subscriptions.add(plain);
    this.#port.want(plain, subscription.symbols);
    return subscription;
  }

  /** An order book that is kept, verified and mended for you. */
  book(symbol: string, options: BookOptions = {}): LiveBook {
    return new LiveBook(symbol, options, {
      subscribe: (wish) => this.subscribe(wish),
      schedule: this.#environment.schedule,
    });
  }

  /** The server's instruments, those whose symbol begins with `prefix` if it is given. */
  instruments(prefix?: string): Promise<readonly Instrument[]> {
    if (this.#link.connection.phase === "stopped") {
      return Promise.reject(new RequestError("closed", "the client is not connected"));
    }
    const answer = this.#requests.instruments(prefix, this.#now());
    this.#flushRequests();
    this.#settle();
    return answer;
  }

  /** Calls `listener` for each event of this kind; the answer ends that. */
  on<K extends keyof ClientEvents>(kind: K, listener: (event: ClientEvents[K]) => void): () => void {
    const listeners = this.#listeners.get(kind) ?? new Set();
    listeners.add(listener as (event: never) => void);
    this.#listeners.set(kind, listeners);
    return () => listeners.delete(listener as (event: never) => void);
  }

  /** Ends everything; iterators end once they have been read to the end. */
  close(): void {
    for (const subscription of [...this.#subscriptions]) {
      subscription.close();
    }
    this.#requests.end(new RequestError("closed", "the client was closed"));
    this.#link.stop("closed");
    this.#cancelAlarm?.();
  }

  get connection(): Connection {
    return this.#link.connection;
  }

  get transport(): Transport["name"] | undefined {
    return this.#transport?.name;
  }

  get welcome(): Welcome | undefined {
    return this.#welcome;
  }

  /** The server's clock less ours, 0 while it cannot be told from 0. */
  get clockOffsetMs(): number {
    return this.#link.clock.offsetMs;
  }

  get roundTripMs(): number | undefined {
    return this.#link.clock.roundTripMs;
  }

  get statistics(): Statistics {
    const wire = this.#wire;
    return {
      ...this.#counts,
      ...this.#delivery.counts,
      reconnects: this.#link.reconnects,
      wireBytes: wire?.sent,
      compression: wire && wire.decoded / wire.sent,
    };
  }

  /** What an instrument's numbers mean, once it was subscribed or listed. */
  listing(symbol: string): Listing | undefined {
    return this.#listings.get(symbol);
  }

  // What subscriptions ask.

  readonly #port: SubscriptionPort = {
    want: (subscription, symbols) => {
      this.#each(subscription, symbols, (symbol, channel) => {
        this.#streams.want(subscription, symbol, channel);
        const stream = this.#streams.get(symbol, channel);
        if (stream !== undefined) {
          // Whoever comes later is told too.
          this.#unserved.delete(stream);
        }
      });
    },
    leave: (subscription, symbols) => {
      this.#each(subscription, symbols, (symbol, channel) => this.#streams.leave(subscription, symbol, channel));
      if (subscription.closed) {
        this.#subscriptions.delete(subscription);
      }
    },
    changed: (subscription) => {
      this.#each(subscription, subscription.symbols, (symbol, channel) => this.#streams.touch(symbol, channel));
    },
    refresh: (subscription, streams) => {
      for (const { symbol, channel } of streams) {
        this.#streams.refresh(subscription, symbol, channel as Channel);
      }
      this.#planSoon();
    },
  };

  #each(
    subscription: Subscription,
    symbols: readonly string[],
    call: (symbol: string, channel: Channel) => void,
  ): void {
    for (const symbol of symbols) {
      for (const channel of subscription.channels) {
        call(symbol, channel);
      }
    }
    this.#planSoon();
  }

  // The connection.

  #open(attempt: number): void {
    this.#abandon();
    const transports = this.#transports;
    const transport = this.#again ?? transports[Math.floor(attempt / FAILURES_PER_TRANSPORT) % transports.length];
    this.#again = undefined;
    if (transport === undefined) {
      return;
    }
    this.#transport = transport;
    if (typeof this.#token === "function") {
      // Whoever comes first, the token or another attempt, decides.
      const waiting: Channels = { send: () => {}, close: () => {} };
      this.#channels = waiting;
      Promise.resolve(this.#token()).then(
        (token) => {
          if (this.#channels === waiting) {
            this.#openWith(transport, token);
          }
        },
        (error: unknown) => {
          if (this.#channels === waiting) {
            this.#lost(undefined, `no token: ${error instanceof Error ? error.message : String(error)}`);
          }
        },
      );
    } else {
      this.#openWith(transport, this.#token);
    }
  }

  #openWith(transport: Transport, token: string | undefined): void {
    this.#presented = token;
    const wanted = this.#streams.wanted().filter(({ stream }) => !this.#unserved.has(stream));
    const intervals = wanted.map(({ mode }) => (mode.mode === "every" ? undefined : mode.intervalMs));
    if (transport.direction === "one-way") {
      this.#planAtMs = Number.POSITIVE_INFINITY;
      // All of it stands in the request; what changes from now on is another one.
      this.#streams.settle();
      this.#wished = wanted.map(({ stream }) => stream);
      if (wanted.length === 0) {
        // There is nothing to ask for, and nothing to be told.
        this.#channels = { send: () => {}, close: () => {} };
        this.#link.welcomed(Number.POSITIVE_INFINITY, this.#now());
        return;
      }
    }
    const every = intervals.includes(undefined);
    const wish = {
      channels: [...new Set(wanted.map(({ stream }) => stream.channel))],
      symbols: wanted.some(({ stream }) => stream.symbol === ALL)
        ? [ALL]
        : [...new Set(wanted.map(({ stream }) => stream.symbol))],
      intervalMs: every ? undefined : Math.min(...intervals.filter((interval) => interval !== undefined)),
      // Who goes on from an id is sent what was missed and no state, which is owed to whoever has joined.
      resume: wanted.every(({ stream }) => stream.fresh.size === 0),
    };
    let channels: Channels | undefined;
    try {
      channels = transport.open(
        {
          message: (data) => {
            if (this.#channels === channels) {
              this.#received(data, token);
              this.#settle();
            }
          },
          alive: () => {
            if (this.#channels === channels) {
              this.#link.heard(this.#now());
            }
          },
          stated: () => {
            if (this.#channels === channels) {
              this.#streams.stated();
            }
          },
          refused: (error) => {
            if (this.#channels === channels) {
              this.#unserve(error);
              this.#settle();
            }
          },
          closed: (code, reason, retryAfterMs) => {
            if (this.#channels === channels) {
              if (retryAfterMs !== undefined) {
                this.#link.ask(retryAfterMs);
              }
              this.#lost(code, reason);
              this.#settle();
            }
          },
        },
        wish,
        token,
      );
      this.#channels = channels;
    } catch (error) {
      // A page's policy, or an address that is none.
      this.#lost(undefined, error instanceof Error ? error.message : String(error));
    }
  }

  #abandon(): void {
    const channels = this.#channels;
    this.#channels = undefined;
    channels?.close();
    this.#pings.clear();
    this.#wire = undefined;
    this.#bytesBefore = this.#counts.bytes;
    this.#unanswered.clear();
    this.#requests.forget();
    this.#streams.reset();
  }

  /** What the server does not serve is left out of the next request, which goes on with the rest. */
  #unserve(json: string): void {
    let error: ServerMessage;
    try {
      error = decodeJson(json);
    } catch {
      this.#lost(undefined, json);
      return;
    }
    const refused = error.type === "error" ? this.#wished.filter(({ symbol }) => concerns(error, symbol)) : [];
    if (error.type !== "error" || refused.length === 0) {
      this.#lost(undefined, json);
      return;
    }
    for (const stream of refused) {
      this.#unserved.add(stream);
      this.#refuse(stream, error);
    }
    this.#again = this.#transport;
    this.#link.connect(this.#now());
  }

  #lost(code: number | undefined, reason: string): void {
    this.#abandon();
    this.#unserved = new WeakSet();
    if (this.#link.connection.phase === "live") {
      // What worked is tried first: where WebSockets are blocked, each cut would cost two failures and their waits.
      this.#again = this.#transport;
    }
    this.#link.lost(code, reason, this.#now());
    if (this.#link.connection.phase === "stopped") {
      this.#requests.end(new RequestError("closed", this.#link.connection.reason));
    }
  }

  #ping(): void {
    if (this.#transport?.direction === "two-way") {
      this.#pings.set(this.#send({ op: "ping" }), this.#now());
    }
  }

  #send(command: Command): number {
    this.#commandId += 1;
    this.#channels?.send(encode(this.#commandId, command));
    return this.#commandId;
  }

  // What comes.

  #received(data: Uint8Array | string, token: string | undefined): void {
    const nowMs = this.#now();
    this.#link.heard(nowMs);
    this.#counts.frames += 1;
    this.#counts.bytes += data.length;
    let message: ServerMessage;
    try {
      message = typeof data === "string" ? decodeJson(data) : decode(data, this.#directory);
    } catch (error) {
      if (!(error instanceof ProtocolError)) {
        throw error;
      }
      this.#counts.faults += 1;
      this.#emit("fault", error.message);
      return;
    }
    if (this.#link.connection.phase === "connecting" && this.#transport?.direction === "one-way") {
      if (message.type !== "welcome") {
        this.#link.welcomed(STREAM_HEARTBEAT_MS, nowMs);
      }
      this.#settled();
      this.#planSoon();
      this.#flushRequests();
    }
    this.#apply(message, nowMs, token);
  }

  #apply(message: ServerMessage, nowMs: number, token: string | undefined): void {
    switch (message.type) {
      case "data":
        this.#data(message, nowMs);
        break;
      case "welcome":
        this.#welcomed(message, nowMs, token);
        break;
      case "subscribed":
        for (const listing of message.listings) {
          this.#list(listing);
        }
        this.#answered(message.id, (planned) => this.#streams.confirm(planned));
        break;
      case "unsubscribed":
        this.#answered(message.id, () => {});
        break;
      case "error":
        this.#refused(message, nowMs);
        break;
      case "heartbeat":
        this.#emit("heartbeat", message);
        break;
      case "notice":
        if (message.reconnectAfterMs !== undefined) {
          this.#link.ask(message.reconnectAfterMs);
        }
        this.#emit("notice", message);
        break;
      case "pong": {
        const sentMs = message.id === undefined ? undefined : this.#pings.get(message.id);
        if (message.id !== undefined && sentMs !== undefined) {
          this.#pings.delete(message.id);
          this.#link.clock.observe(sentMs, milliseconds(message.time), nowMs);
        }
        if (message.sentBytes !== undefined) {
          this.#wire = { decoded: this.#counts.bytes - this.#bytesBefore, sent: message.sentBytes };
        }
        break;
      }
      case "instruments":
        for (const instrument of message.instruments) {
          this.#list(instrument);
        }
        if (message.id === undefined) {
          this.#emit("instruments", message.instruments);
        } else {
          this.#requests.answered(message.id, message.instruments);
        }
        break;
      case "authenticated":
      case "other":
        break;
    }
  }

  #welcomed(welcome: Welcome, nowMs: number, token: string | undefined): void {
    this.#welcome = welcome;
    this.#directory.clear();
    for (const { stream, seq } of this.#streams.begin(welcome.epoch)) {
      this.#delivery.declare(stream, subtract(seq, -1), seq, "epoch", 0n);
    }
    const twoWay = this.#transport?.direction === "two-way";
    if (twoWay && token !== undefined) {
      // Before anybody is told: what a listener asks for is refused unless the token has gone before it.
      this.#send({ op: "auth", token });
    }
    this.#link.welcomed(welcome.heartbeatMs, nowMs);
    this.#emit("welcome", welcome);
    if (twoWay) {
      this.#flushRequests();
      this.#plan(nowMs);
    } else {
      this.#planSoon();
    }
  }

  /** A one-way transport was asked for everything when it was opened. */
  #settled(): void {
    for (const stream of this.#wished) {
      this.#streams.confirm({
        command: { op: "subscribe", channels: [], symbols: [], mode: { mode: "every" } },
        streams: [stream],
      });
    }
  }

  #list(listing: Listing): void {
    this.#listings.set(listing.symbol, listing);
    this.#directory.set(listing.instrumentId, listing);
  }

  #answered(id: number | undefined, apply: (planned: Planned<Subscription>) => void): void {
    const planned = id === undefined ? undefined : this.#unanswered.get(id);
    if (id !== undefined && planned !== undefined) {
      this.#unanswered.delete(id);
      apply(planned);
      // An error about some of its symbols may follow.
      this.#lastAnswered = { id, planned };
    }
  }

  #lastAnswered: { readonly id: number; readonly planned: Planned<Subscription> } | undefined;

  #refused(error: CommandError, nowMs: number): void {
    if (error.code === "rate_limited") {
      for (const planned of this.#unanswered.values()) {
        this.#streams.retry(planned);
      }
      this.#unanswered.clear();
      this.#requests.forget();
      this.#planAtMs = nowMs + RATE_LIMIT_PAUSE_MS;
      return;
    }
    if (error.id !== undefined) {
      this.#requests.refused(error.id, error.code, error.message);
    }
    const last = this.#lastAnswered?.id === error.id ? this.#lastAnswered?.planned : undefined;
    const planned = error.id === undefined ? undefined : (this.#unanswered.get(error.id) ?? last);
    if (planned === undefined || planned.command.op === "unsubscribe") {
      if (error.id === undefined || planned !== undefined) {
        this.#emit("fault", `${error.code}: ${error.message}`);
      }
      return;
    }
    if (error.id !== undefined) {
      this.#unanswered.delete(error.id);
    }
    for (const stream of planned.streams) {
      if (concerns(error, stream.symbol)) {
        stream.refused = true;
        this.#refuse(stream, error);
      }
    }
  }

  #refuse(stream: Stream<Subscription>, { code, message }: CommandError): void {
    const { symbol, channel } = stream;
    this.#delivery.hand(stream, { type: "refused", symbol, channel, code, message });
  }

  #data(frame: DataFrame, nowMs: number): void {
    for (const element of frame.elements) {
      this.#delivery.element(element);
    }
    const elements = frame.elements.every(isElement) ? frame.elements : frame.elements.filter(isElement);
    this.#emit("frame", { sentAt: frame.sentAt, receivedMs: nowMs, elements });
  }

  // Time.

  #now(): number {
    return this.#environment.now();
  }

  /** Changes that come in quick succession travel in one command. */
  #planSoon(): void {
    if (this.#link.connection.phase === "live" && this.#streams.pending) {
      this.#planAtMs = Math.min(this.#planAtMs, Math.max(this.#now(), this.#plannedAtMs + COMMAND_INTERVAL_MS));
    }
    this.#alarm();
  }

  #plan(nowMs: number): void {
    this.#planAtMs = Number.POSITIVE_INFINITY;
    this.#plannedAtMs = nowMs;
    if (this.#transport?.direction === "one-way") {
      if (this.#streams.pending) {
        this.#again = this.#transport;
        this.#link.connect(nowMs);
      }
      return;
    }
    for (const planned of this.#streams.plan()) {
      this.#sendPlanned(planned);
    }
    this.#flushRequests();
  }

  /** Commands that are longer than the server takes go in halves. */
  #sendPlanned(planned: Planned<Subscription>): void {
    const { command, streams } = planned;
    const bytesMax = this.#welcome?.messageBytesMax || MESSAGE_BYTES_MAX;
    if (encode(this.#commandId + 1, command).length <= bytesMax) {
      this.#unanswered.set(this.#send(command), planned);
    } else if (command.symbols.length > 1) {
      const middle = Math.ceil(command.symbols.length / 2);
      for (const symbols of [command.symbols.slice(0, middle), command.symbols.slice(middle)]) {
        const half = new Set<string>(symbols);
        this.#sendPlanned({
          command: { ...command, symbols },
          streams: streams.filter((stream) => half.has(stream.symbol)),
        });
      }
    } else if (command.op === "subscribe" && command.since !== undefined) {
      // `*` with more streams than one command can list: their states come, and what was missed is declared as a hole.
      this.#sendPlanned({ command: { ...command, since: undefined }, streams });
    }
  }

  #flushRequests(): void {
    const channels = this.#channels;
    if (this.#link.connection.phase !== "live" || channels === undefined) {
      return;
    }
    this.#requests.flush((command) => {
      if (this.#transport?.direction === "two-way") {
        return this.#send(command);
      }
      this.#commandId += 1;
      this.#ask(channels, this.#commandId, command.op === "instruments" ? (command.prefix ?? "") : "");
      return this.#commandId;
    });
  }

  /** Beside a one-way transport the list of instruments is a request of its own. */
  #ask(channels: Channels, id: number, prefix: string): void {
    this.#transport?.instruments?.(this.#presented).then(
      (json) => {
        const message = decodeJson(json);
        if (message.type === "instruments" && this.#channels === channels) {
          const instruments = message.instruments.filter((one) => one.symbol.startsWith(prefix));
          this.#requests.answered(id, instruments);
        }
      },
      (error: unknown) => this.#requests.refused(id, "lost", String(error)),
    );
  }

  /** After every event: what is due is done, and the alarm is set anew. */
  #settle(): void {
    const nowMs = this.#now();
    if (this.#deadline() <= nowMs) {
      this.#link.advance(nowMs);
      this.#requests.advance(nowMs);
      if (nowMs >= this.#planAtMs) {
        this.#plan(nowMs);
      }
    }
    this.#alarm();
  }

  #deadline(): number {
    return Math.min(this.#link.deadline(), this.#requests.deadline(), this.#planAtMs);
  }

  /** An alarm that comes too early does no harm, so it is set anew only for something sooner. */
  #alarm(): void {
    const deadline = this.#deadline();
    if (deadline < this.#alarmAtMs) {
      this.#cancelAlarm?.();
      this.#alarmAtMs = deadline;
      this.#cancelAlarm = this.#environment.schedule(() => {
        this.#alarmAtMs = Number.POSITIVE_INFINITY;
        this.#cancelAlarm = undefined;
        this.#settle();
      }, deadline - this.#now());
    }
  }

  #emit<K extends keyof ClientEvents>(kind: K, event: ClientEvents[K]): void {
    for (const listener of this.#listeners.get(kind) ?? []) {
      (listener as (event: ClientEvents[K]) => void)(event);
    }
  }
}

function isElement(one: Element | Passed): one is Element {
  return one.type !== "passed";
}

/** An error that names no symbols is about all of them. */
function concerns(error: CommandError, symbol: string): boolean {
  return error.symbols.length === 0 || error.symbols.includes(symbol);
}
