/**
 * What a program holds of a subscription: its events, as calls or as async iterators, and the wish to change or end it.
 *
 * Invariant: an iterator that is not read costs a bounded queue; the connection never waits for a reader.
 */
import { type Event, EventQueue, type Folded, type Refused } from "./core/queue";
import type { Mode } from "./protocol/commands";
import type {
  Bar,
  BarInterval,
  BookDelta,
  BookDepth,
  BookSnapshot,
  Channel,
  Gap,
  Quote,
  Status,
  Ticker,
  Trade,
} from "./protocol/messages";

interface Payloads {
  trades: Trade;
  quotes: Quote;
  ticker: Ticker;
  status: Status;
}

/** What a channel brings. */
export type EventOf<C extends Channel> =
  | (C extends keyof Payloads
      ? Payloads[C]
      : C extends `bars.${BarInterval}`
        ? Bar
        : C extends `book.${BookDepth}`
          ? BookSnapshot | BookDelta
          : never)
  | Gap
  | Refused;

/** `every` element, or the newest one each so many milliseconds (0: with each flush of the server). */
export type Rate = "every" | { readonly latestMs: number };

export interface SubscribeOptions<C extends Channel> {
  readonly channels: readonly C[];
  /** `["*"]`: all there are and will be. */
  readonly symbols: readonly string[];
  /** Default `every`. A stream that several subscriptions want comes once, at the fastest of their rates. */
  readonly rate?: Rate;
  /** Called for each event as it arrives, instead of a queue. It must not throw. */
  readonly onEvent?: (event: EventOf<C>) => void;
  /** How many events wait for an iterator, 10,000 if not given; more are folded (see the README). */
  readonly queueMax?: number;
}

/** What a subscription asks of the client. */
export interface SubscriptionPort {
  want(subscription: Subscription, symbols: readonly string[]): void;
  leave(subscription: Subscription, symbols: readonly string[]): void;
  changed(subscription: Subscription): void;
  refresh(subscription: Subscription, streams: Folded): void;
}

/** Half a second of a very busy market (20,000 events a second), at about 200 bytes each. */
const QUEUE_MAX = 10_000;

export class Subscription<C extends Channel = Channel> implements AsyncIterable<EventOf<C>> {
  readonly channels: readonly C[];
  readonly #port: SubscriptionPort;
  readonly #symbols: Set<string>;
  readonly #onEvent: ((event: EventOf<C>) => void) | undefined;
  readonly #queueMax: number;
  readonly #queues = new Set<EventQueue>();
  /** What came before the first iterator was made is its own. */
  #unclaimed: EventQueue | undefined;
  #mode: Mode;
  #ended: { readonly error: Error | undefined } | undefined;

  /** Programs call `Client.subscribe`. */
  constructor(options: SubscribeOptions<C>, port: SubscriptionPort) {
    this.channels = [...new Set(options.channels)];
    this.#port = port;
    this.#symbols = new Set(options.symbols);
    this.#onEvent = options.onEvent;
    this.#queueMax = options.queueMax ?? QUEUE_MAX;
    this.#mode = modeOf(options.rate ?? "every");
    if (options.onEvent === undefined) {
      this.#unclaimed = this.#queue();
    }
  }

  get symbols(): readonly string[] {
    return [...this.#symbols];
  }

  get mode(): Mode {
    return this.#mode;
  }

  get closed(): boolean {
    return this.#ended !== undefined;
  }

  /** How often queues of this subscription were folded because they were not read. */
  get folds(): number {
    let folds = 0;
    for (const queue of this.#queues) {
      folds += queue.folds;
    }
    return folds;
  }

  /** Another rate, from now on and without a new state. */
  setRate(rate: Rate): void {
    this.#mode = modeOf(rate);
    this.#port.changed(this as unknown as Subscription);
  }

  /** These symbols and no others. What stays goes on undisturbed. */
  setSymbols(symbols: readonly string[]): void {
    const wanted = new Set(symbols);
    this.remove([...this.#symbols].filter((symbol) => !wanted.has(symbol)));
    this.add(symbols);
  }

  add(symbols: readonly string[]): void {
    const added = symbols.filter((symbol) => !this.#symbols.has(symbol));
    for (const symbol of added) {
      this.#symbols.add(symbol);
    }
    this.#port.want(this as unknown as Subscription, [...new Set(added)]);
  }

  remove(symbols: readonly string[]): void {
    const removed = symbols.filter((symbol) => this.#symbols.delete(symbol));
    this.#port.leave(this as unknown as Subscription, removed);
  }

  /** Asks for the state of a stream once more. */
  refresh(symbol: string, channel: C): void {
    this.#port.refresh(this as unknown as Subscription, [{ symbol, channel }]);
  }

  /** Iterators end once they have been read to the end. */
  close(): void {
    this.end(undefined);
  }

  [Symbol.asyncIterator](): AsyncIterator<EventOf<C>, undefined> {
    if (this.#onEvent !== undefined) {
      throw new TypeError("the subscription has onEvent, so there is nothing to iterate over");
    }
    const queue = this.#unclaimed ?? this.#queue();
    this.#unclaimed = undefined;
    return {
      // The server was asked for these channels alone, so what comes is of their types.
      next: () => queue.next() as Promise<IteratorResult<EventOf<C>, undefined>>,
      return: () => {
        this.#queues.delete(queue);
        queue.end();
        return Promise.resolve({ value: undefined, done: true });
      },
    };
  }

  /** For the client: an event has come. */
  event(event: Event): void {
    this.#onEvent?.(event as EventOf<C>);
    for (const queue of this.#queues) {
      queue.push(event);
    }
  }

  /** For the client: it is over, and why if there is a reason. */
  end(error: Error | undefined): void {
    if (this.#ended === undefined) {
      this.#ended = { error };
      this.#port.leave(this as unknown as Subscription, [...this.#symbols]);
      for (const queue of this.#queues) {
        queue.end(error);
      }
    }
  }

  #queue(): EventQueue {
    const queue = new EventQueue(this.#queueMax, (books) => this.#port.refresh(this as unknown as Subscription, books));
    if (this.#ended === undefined) {
      this.#queues.add(queue);
    } else {
      queue.end(this.#ended.error);
    }
    return queue;
  }
}

function modeOf(rate: Rate): Mode {
  return rate === "every" ? { mode: "every" } : { mode: "latest", intervalMs: rate.latestMs };
}
