/**
 * From a stream's elements to those who read it.
 *
 * Invariant: each reader is handed what it is owed in order, and for what is missing a gap comes first; each is counted once.
 */
import { type Integer, subtract } from "../protocol/integer";
import type { Element, Gap, GapReason, Passed } from "../protocol/messages";
import type { Event } from "./queue";
import { ALL, type Reader, type Stream, type Streams } from "./streams";

/** Also told what is no element: that a stream was refused. */
interface Recipient extends Reader {
  event(event: Event): void;
}

export class Delivery<R extends Recipient> {
  readonly #streams: Streams<R>;
  /** As `Statistics` has them. */
  readonly counts = { delivered: 0, conflated: 0, missed: 0 };

  constructor(streams: Streams<R>) {
    this.#streams = streams;
  }

  element(element: Element | Passed): void {
    // What nobody wants any more is still on its way.
    const stream = this.#streams.covering(element.symbol, element.channel);
    if (stream === undefined) {
      return;
    }
    const verdict = this.#streams.judge(stream, element);
    switch (verdict.kind) {
      case "repeat":
        return;
      case "known":
        if (element.type !== "passed") {
          this.#handState(stream, element);
        }
        return;
      case "hole":
        this.declare(stream, verdict.fromSeq, verdict.toSeq, "hole", element.time);
        break;
      case "pass":
        this.counts.conflated += verdict.skipped;
        break;
    }
    if (element.type === "passed") {
      return;
    }
    if (element.type === "gap") {
      this.counts.missed += Number(subtract(element.toSeq, element.fromSeq)) + 1;
    } else if (!element.snapshot) {
      this.counts.delivered += 1;
    }
    if (element.snapshot) {
      stream.fresh.clear();
      stream.due.clear();
    }
    this.hand(stream, element);
  }

  hand(stream: Stream<R>, event: Event): void {
    for (const reader of stream.readers) {
      reader.event(event);
    }
    if (stream.symbol !== ALL) {
      for (const reader of this.#streams.get(ALL, stream.channel)?.readers ?? []) {
        reader.event(event);
      }
    }
  }

  declare(stream: Stream<R>, fromSeq: Integer, toSeq: Integer, reason: GapReason, time: bigint): void {
    if (reason !== "epoch") {
      this.counts.missed += Number(subtract(toSeq, fromSeq)) + 1;
    }
    const { symbol, channel } = stream;
    const gap: Gap = { type: "gap", symbol, channel, seq: toSeq, time, snapshot: false, fromSeq, toSeq, reason };
    this.hand(stream, gap);
  }

  /** A state that others know already. */
  #handState(stream: Stream<R>, element: Element): void {
    const all = this.#streams.get(ALL, stream.channel);
    for (const reader of new Set([...stream.fresh, ...stream.due, ...(all?.fresh ?? []), ...(all?.due ?? [])])) {
      reader.event(element);
    }
    stream.fresh.clear();
    stream.due.clear();
  }
}
