/**
 * Which streams are wanted, which have been asked for, and how far each has been seen.
 *
 * Invariant: the only commands are differences: a stream is asked for once per connection, and only while it is wanted. A stream
 * that several subscriptions want comes once, at the fastest of their rates.
 *
 * A stream is one channel of one symbol; the symbol `*` is all of them. Where a channel is wanted with `*`, names beside it are
 * part of it and are not asked for by themselves.
 */
import type { Command, Mode, Since } from "../protocol/commands";
import { type Integer, subtract } from "../protocol/integer";
import type { Channel, Element, Passed } from "../protocol/messages";

/** Who is told of a stream's elements. */
export interface Reader {
  readonly mode: Mode;
  event(element: Element): void;
}

export const ALL = "*";

export class Stream<R extends Reader = Reader> {
  readonly symbol: string;
  readonly channel: Channel;
  readonly readers = new Set<R>();
  /** Of them, those for whom the state has yet to be asked for. */
  readonly fresh = new Set<R>();
  /** And those for whom it has been, and is on its way. */
  readonly due = new Set<R>();
  /** What the server was asked for on this connection. */
  asked: Mode | undefined;
  /** What the server has said that it does. */
  confirmed: Mode | undefined;
  refused = false;
  /** The state is to be sent again. */
  refresh = false;
  /** The newest number that was seen, of the epoch that `Streams` knows. */
  seq: Integer | undefined;
  /** Whether the next number must be `seq` + 1. */
  counting = false;
  /** `seq` was declared missing and not seen, so a state with this number is news. */
  missed = false;

  constructor(symbol: string, channel: Channel) {
    this.symbol = symbol;
    this.channel = channel;
  }
}

/** One command, and the streams that it is about. */
export interface Planned<R extends Reader> {
  readonly command: Extract<Command, { op: "subscribe" | "update" | "unsubscribe" }>;
  readonly streams: readonly Stream<R>[];
}

/** What becomes of an element. */
export type Verdict =
  | { readonly kind: "pass"; readonly skipped: number }
  | { readonly kind: "hole"; readonly fromSeq: Integer; readonly toSeq: Integer }
  /** Known state: only for those who have not seen it. */
  | { readonly kind: "known" }
  | { readonly kind: "repeat" };

export class Streams<R extends Reader> {
  readonly #bySymbol = new Map<string, Map<Channel, Stream<R>>>();
  readonly #dirty = new Set<Stream<R>>();
  /** The epoch that the numbers of all streams belong to. */
  #epoch = "";
  /** Whether any stream has someone in `due`. */
  #anyDue = false;

  get(symbol: string, channel: Channel): Stream<R> | undefined {
    return this.#bySymbol.get(symbol)?.get(channel);
  }

  *all(): Generator<Stream<R>> {
    for (const channels of this.#bySymbol.values()) {
      yield* channels.values();
    }
  }

  /** The stream of an element, also one that only `*` covers. */
  covering(symbol: string, channel: Channel): Stream<R> | undefined {
    const named = this.get(symbol, channel);
    if (named !== undefined) {
      return named;
    }
    return this.get(ALL, channel) === undefined ? undefined : this.#make(symbol, channel);
  }

  want(reader: R, symbol: string, channel: Channel): void {
    const stream = this.get(symbol, channel) ?? this.#make(symbol, channel);
    stream.readers.add(reader);
    stream.fresh.add(reader);
    if (stream.asked !== undefined && !stream.refused) {
      stream.refresh = true;
    }
    this.#touch(stream);
  }

  leave(reader: R, symbol: string, channel: Channel): void {
    const stream = this.get(symbol, channel);
    if (stream?.readers.delete(reader)) {
      stream.fresh.delete(reader);
      stream.due.delete(reader);
      this.#touch(stream);
    }
  }

  /** A reader's mode has changed. */
  touch(symbol: string, channel: Channel): void {
    const stream = this.get(symbol, channel);
    if (stream !== undefined) {
      this.#touch(stream);
    }
  }

  /** A reader wants the state again. */
  refresh(reader: R, symbol: string, channel: Channel): void {
    const stream = [this.get(symbol, channel), this.get(ALL, channel)].find((one) => one?.readers.has(reader));
    if (stream !== undefined) {
      stream.fresh.add(reader);
      stream.refresh = true;
      this.#touch(stream);
    }
  }

  /** A new connection knows nothing of the old one's subscriptions. */
  reset(): void {
    this.#dirty.clear();
    for (const stream of this.all()) {
      stream.asked = undefined;
      stream.confirmed = undefined;
      stream.refused = false;
      stream.refresh = false;
      for (const reader of stream.due) {
        stream.fresh.add(reader);
      }
      stream.due.clear();
      if (stream.readers.size > 0) {
        this.#dirty.add(stream);
      } else if (this.get(ALL, stream.channel) === undefined) {
        this.#drop(stream);
      }
    }
  }

  /** What numbers mean from now on. Returns the streams whose count has been broken off, with their last numbers. */
  begin(epoch: string): { readonly stream: Stream<R>; readonly seq: Integer }[] {
    if (epoch === this.#epoch) {
      return [];
    }
    this.#epoch = epoch;
    const broken: { stream: Stream<R>; seq: Integer }[] = [];
    for (const stream of this.all()) {
      if (stream.seq !== undefined && stream.counting && this.#mode(this.#asking(stream))?.mode === "every") {
        broken.push({ stream, seq: stream.seq });
      }
      stream.seq = undefined;
      stream.counting = false;
      stream.missed = false;
    }
    return broken;
  }

  get pending(): boolean {
    return this.#dirty.size > 0;
  }

  /** The commands that are due. They count as sent. */
  plan(): Planned<R>[] {
    const ends = new Groups<R>();
    const updates = new Groups<R>();
    const begins = new Groups<R>();
    for (const stream of [...this.#dirty]) {
      const wanted = this.#mode(stream);
      if (wanted === undefined) {
        if (stream.asked !== undefined && !stream.refused) {
          ends.add(stream, NO_MODE);
        }
        stream.asked = undefined;
        stream.confirmed = undefined;
        if (stream.readers.size === 0 && (stream.symbol === ALL || this.get(ALL, stream.channel) === undefined)) {
          this.#drop(stream);
        }
      } else if (stream.asked === undefined || (stream.refresh && !stream.refused)) {
        begins.add(stream, wanted);
        stream.asked = wanted;
      } else if (!stream.refused && !sameMode(stream.asked, wanted)) {
        updates.add(stream, wanted);
        stream.asked = wanted;
      }
    }
    // Ends go first: `*` begun before the end of names would be ended by it in part.
    const planned: Planned<R>[] = ends.commands((symbols, channels) => ({ op: "unsubscribe", channels, symbols }));
    planned.push(...updates.commands((symbols, channels, mode) => ({ op: "update", channels, symbols, mode })));
    planned.push(
      ...begins.commands((symbols, channels, mode, streams) => ({
        op: "subscribe",
        channels,
        symbols,
        mode,
        since: this.#since(streams),
      })),
    );
    for (const stream of this.#dirty) {
      stream.refresh = false;
    }
    this.#dirty.clear();
    return planned;
  }

  /** The server threw commands away (rate limit): their streams are asked for again. */
  retry(planned: Planned<R>): void {
    for (const stream of planned.streams) {
      if (this.get(stream.symbol, stream.channel) !== stream) {
        // It was dropped since; the server still sends it, and it is passed over.
        continue;
      }
      stream.asked = planned.command.op === "subscribe" ? undefined : NO_MODE;
      this.#touch(stream);
    }
  }

  /** Everything that is wanted, for transports that cannot be told differences. */
  wanted(): { readonly stream: Stream<R>; readonly mode: Mode }[] {
    const wanted: { stream: Stream<R>; mode: Mode }[] = [];
    for (const stream of this.all()) {
      const mode = this.#mode(stream);
      if (mode !== undefined) {
        wanted.push({ stream, mode });
      }
    }
    return wanted;
  }

  /** All differences are settled in another way. */
  settle(): void {
    this.#dirty.clear();
    for (const { stream, mode } of this.wanted()) {
      stream.asked = mode;
      stream.refresh = false;
    }
  }

  /** The server has answered a `subscribe` or an `update`. */
  confirm(planned: Planned<R>): void {
    for (const stream of planned.streams) {
      stream.confirmed = stream.asked;
      if (planned.command.op === "update") {
        // From `latest` to `every` the first element begins the count.
        stream.counting = false;
      } else if (planned.command.op === "subscribe") {
        for (const reader of stream.fresh) {
          stream.due.add(reader);
          this.#anyDue = true;
        }
        stream.fresh.clear();
      }
    }
  }

  /** All states that were asked for have come; a stream that has had no value has none. */
  stated(): void {
    // Said with each event of a stream: there may be thousands of streams, and nearly always nothing is due.
    if (this.#anyDue) {
      this.#anyDue = false;
      for (const stream of this.all()) {
        stream.due.clear();
      }
    }
  }

  /** Judges the number of an element that has come, and counts it as seen. */
  judge(stream: Stream<R>, element: Element | Passed): Verdict {
    const before = stream.seq;
    const seq = element.seq;
    const every = this.#asking(stream).confirmed?.mode === "every";
    const missed = stream.missed;
    stream.missed = element.type === "gap";
    if (!element.snapshot) {
      stream.due.clear();
      this.get(ALL, stream.channel)?.due.clear();
    }
    if (before === undefined || !stream.counting) {
      stream.seq = seq;
      stream.counting = true;
      const skipped = before === undefined || element.snapshot || every ? 0 : Number(subtract(seq, before)) - 1;
      return skipped <= 0 ? PASS : { kind: "pass", skipped };
    }
    if (compareSeq(seq, before) <= 0) {
      if (element.snapshot) {
        return missed ? PASS : KNOWN;
      }
      stream.missed = missed;
      return REPEAT;
    }
    stream.seq = seq;
    const expected = subtract(before, -1);
    // A state that is newer than what was seen was missed as an event.
    const upTo = element.type === "gap" ? subtract(element.fromSeq, 1) : element.snapshot ? seq : subtract(seq, 1);
    if (compareSeq(expected, upTo) > 0) {
      return PASS;
    }
    if (every) {
      return { kind: "hole", fromSeq: expected, toSeq: upTo };
    }
    return element.snapshot ? PASS : { kind: "pass", skipped: Number(subtract(upTo, before)) };
  }

  /** The stream by which the server was asked for this one. */
  #asking(stream: Stream<R>): Stream<R> {
    const all = this.get(ALL, stream.channel);
    return all !== undefined && all.readers.size > 0 ? all : stream;
  }

  #mode(stream: Stream<R>): Mode | undefined {
    if (stream.symbol === ALL) {
      // Names of the channel are covered too, so their rate counts.
      let fastest = fastestOf(stream.readers);
      if (fastest !== undefined) {
        for (const other of this.all()) {
          if (other.channel === stream.channel && other !== stream) {
            fastest = faster(fastest, fastestOf(other.readers));
          }
        }
      }
      return fastest;
    }
    return this.#covered(stream) ? undefined : fastestOf(stream.readers);
  }

  #covered(stream: Stream<R>): boolean {
    return (this.get(ALL, stream.channel)?.readers.size ?? 0) > 0;
  }

  #touch(stream: Stream<R>): void {
    this.#dirty.add(stream);
    const all = this.get(ALL, stream.channel);
    if (all === undefined) {
      return;
    }
    if (stream.symbol === ALL) {
      for (const other of this.all()) {
        if (other.channel === stream.channel && other !== stream) {
          if (stream.readers.size > 0) {
            // The `*` replaces names: the server has forgotten that they were asked for.
            other.asked = undefined;
          }
          this.#dirty.add(other);
        }
      }
    } else {
      if (stream.fresh.size > 0 && all.asked !== undefined) {
        all.refresh = true;
      }
      this.#dirty.add(all);
    }
  }

  #make(symbol: string, channel: Channel): Stream<R> {
    const stream = new Stream<R>(symbol, channel);
    const channels = this.#bySymbol.get(symbol);
    if (channels === undefined) {
      this.#bySymbol.set(symbol, new Map([[channel, stream]]));
    } else {
      channels.set(channel, stream);
    }
    return stream;
  }

  #drop(stream: Stream<R>): void {
    const channels = this.#bySymbol.get(stream.symbol);
    channels?.delete(stream.channel);
    if (channels?.size === 0) {
      this.#bySymbol.delete(stream.symbol);
    }
    if (stream.symbol === ALL) {
      for (const other of [...this.all()]) {
        if (other.channel === stream.channel && other.readers.size === 0) {
          this.#drop(other);
        }
      }
    }
  }

  /** Of the streams that were counted one by one; of the others the state is all there is to have. */
  #since(streams: readonly Stream<R>[]): Since | undefined {
    const seqs = new Map<string, Map<string, Integer>>();
    const add = (stream: Stream<R>): void => {
      if (stream.seq !== undefined && stream.counting && !stream.refresh && stream.fresh.size === 0) {
        const channels = seqs.get(stream.symbol) ?? new Map<string, Integer>();
        channels.set(stream.channel, stream.seq);
        seqs.set(stream.symbol, channels);
      }
    };
    for (const stream of streams) {
      if (stream.asked?.mode !== "every" || stream.refresh || stream.fresh.size > 0) {
        continue;
      }
      if (stream.symbol === ALL) {
        for (const other of this.all()) {
          if (other.channel === stream.channel && other !== stream) {
            add(other);
          }
        }
      } else {
        add(stream);
      }
    }
    return seqs.size === 0 ? undefined : { epoch: this.#epoch, seqs };
  }
}

const PASS: Verdict = { kind: "pass", skipped: 0 };
const KNOWN: Verdict = { kind: "known" };
const REPEAT: Verdict = { kind: "repeat" };
/** Equal to no mode that anyone asks for. */
const NO_MODE: Mode = { mode: "latest", intervalMs: -1 };

export function sameMode(a: Mode, b: Mode): boolean {
  return a.mode === "latest" && b.mode === "latest" ? a.intervalMs === b.intervalMs : a.mode === b.mode;
}

function fastestOf(readers: Iterable<Reader>): Mode | undefined {
  let fastest: Mode | undefined;
  for (const reader of readers) {
    fastest = fastest === undefined ? reader.mode : faster(fastest, reader.mode);
  }
  return fastest;
}

function faster(a: Mode, b: Mode | undefined): Mode {
  if (b === undefined || a.mode === "every") {
    return a;
  }
  return b.mode === "every" || b.intervalMs < a.intervalMs ? b : a;
}

function compareSeq(a: Integer, b: Integer): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A command is a product of channels and symbols: symbols with the same channels and mode go together. */
class Groups<R extends Reader> {
  readonly #symbols = new Map<string, { mode: Mode; symbol: string; streams: Stream<R>[] }>();

  add(stream: Stream<R>, mode: Mode): void {
    const key = `${modeKey(mode)} ${stream.symbol}`;
    const group = this.#symbols.get(key) ?? { mode, symbol: stream.symbol, streams: [] };
    group.streams.push(stream);
    this.#symbols.set(key, group);
  }

  commands(
    make: (
      symbols: readonly string[],
      channels: readonly Channel[],
      mode: Mode,
      streams: readonly Stream<R>[],
    ) => Planned<R>["command"],
  ): Planned<R>[] {
    const products = new Map<string, { mode: Mode; channels: Channel[]; symbols: string[]; streams: Stream<R>[] }>();
    for (const { mode, symbol, streams } of this.#symbols.values()) {
      const channels = streams.map((stream) => stream.channel);
      const key = `${modeKey(mode)} ${symbol === ALL ? ALL : ""} ${[...channels].sort().join(" ")}`;
      const product = products.get(key) ?? { mode, channels, symbols: [], streams: [] };
      product.symbols.push(symbol);
      product.streams.push(...streams);
      products.set(key, product);
    }
    return [...products.values()].map(({ mode, channels, symbols, streams }) => ({
      command: make(symbols, channels, mode, streams),
      streams,
    }));
  }
}

function modeKey(mode: Mode): string {
  return mode.mode === "every" ? "every" : String(mode.intervalMs);
}
