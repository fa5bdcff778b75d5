/**
 * Holds the numbers of streams, as they come in JSON, each to the one before.
 *
 * Invariant: what may be sent again is only what came without an id after the last event that had one.
 */

interface Element {
  readonly type: string;
  readonly symbol: string;
  readonly channel?: string;
  readonly seq: number;
}

export interface Message {
  readonly type?: string;
  readonly snapshot?: boolean;
  readonly data?: readonly Element[];
  readonly recovered?: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

export class Ledger {
  readonly faults: string[] = [];
  readonly gaps: string[] = [];
  /** How the streams went on after cuts. */
  readonly recovered = new Set<string>();
  events = 0;
  #id = "";
  readonly #last = new Map<string, number>();
  #withoutId = new Set<string>();
  #repeatable = new Set<string>();

  see(message: Message, id: string): void {
    if (message.type === "welcome") {
      this.#repeatable = this.#withoutId;
      this.#withoutId = new Set();
    }
    for (const channels of Object.values(message.recovered ?? {})) {
      for (const word of Object.values(channels)) {
        this.recovered.add(word);
      }
    }
    for (const element of message.data ?? []) {
      this.#element(element, message.snapshot === true, id === this.#id);
    }
    if (id !== this.#id) {
      this.#id = id;
      this.#withoutId.clear();
    }
  }

  #element(element: Element, snapshot: boolean, withoutId: boolean): void {
    const key = `${element.symbol} ${element.channel ?? element.type}`;
    if (element.type === "gap") {
      this.gaps.push(key);
      return;
    }
    const name = `${key} ${element.seq}`;
    if (withoutId) {
      this.#withoutId.add(name);
    }
    const before = this.#last.get(key);
    if (before !== undefined && element.seq !== before + 1) {
      if (element.seq > before || !this.#repeatable.has(name)) {
        this.faults.push(`${key}: ${element.seq} after ${before}`);
      }
    }
    this.events += snapshot ? 0 : 1;
    this.#last.set(key, Math.max(before ?? 0, element.seq));
  }
}
