/**
 * Which commands bring the server from what it sends to what the page wants.
 *
 * Invariant: the only commands are differences: a symbol is asked for once per connection, and only while it is wanted.
 */
import type { Command, Mode } from "../protocol/commands";

/** Quotes and trades are the rows; `ticker` brings the day's open, where it is served, to hold the change against. */
const CHANNELS: readonly string[] = ["trades", "quotes", "ticker"];

/** Four times below the server's sustained limit of 10 commands a second, and changes in between travel together. */
export const COMMAND_INTERVAL_MS = 400;

export class Subscriptions {
  #wanted = new Set<string>();
  #mode: Mode;
  /** Asked for on this connection, whether or not it has been answered. */
  readonly #asked = new Set<string>();
  /** Asked for and confirmed. */
  readonly #confirmed = new Set<string>();
  readonly #refused = new Set<string>();
  /** The mode of what has been asked for. */
  #askedMode: Mode;

  constructor(mode: Mode) {
    this.#mode = mode;
    this.#askedMode = mode;
  }

  want(symbols: readonly string[]): void {
    this.#wanted = new Set(symbols);
  }

  setMode(mode: Mode): void {
    this.#mode = mode;
  }

  /** The commands that are due. They count as sent. */
  plan(): Command[] {
    const commands: Command[] = [];
    const removed = [...this.#asked].filter((symbol) => !this.#wanted.has(symbol));
    // Refused symbols are asked for and not subscribed: there is nothing to end.
    const subscribed = removed.filter((symbol) => !this.#refused.has(symbol));
    for (const symbol of removed) {
      this.#asked.delete(symbol);
      this.#confirmed.delete(symbol);
      this.#refused.delete(symbol);
    }
    if (subscribed.length > 0) {
      commands.push({ op: "unsubscribe", symbols: subscribed });
    }
    const kept = [...this.#asked].filter((symbol) => !this.#refused.has(symbol));
    if (kept.length > 0 && !sameMode(this.#mode, this.#askedMode)) {
      commands.push({ op: "update", channels: CHANNELS, symbols: kept, mode: this.#mode });
    }
    this.#askedMode = this.#mode;
    const added = [...this.#wanted].filter((symbol) => !this.#asked.has(symbol));
    if (added.length > 0) {
      commands.push({ op: "subscribe", channels: CHANNELS, symbols: added, mode: this.#mode });
      for (const symbol of added) {
        this.#asked.add(symbol);
      }
    }
    return commands;
  }

  confirm(symbols: readonly string[]): void {
    for (const symbol of symbols) {
      if (this.#asked.has(symbol)) {
        this.#confirmed.add(symbol);
        this.#refused.delete(symbol);
      }
    }
  }

  refuse(symbols: readonly string[]): void {
    for (const symbol of symbols) {
      if (this.#asked.has(symbol)) {
        this.#refused.add(symbol);
      }
    }
  }

  /** The server threw a command away (rate limit): ask again for what has not been answered. */
  retry(): void {
    for (const symbol of [...this.#asked]) {
      if (!this.#confirmed.has(symbol) && !this.#refused.has(symbol)) {
        this.#asked.delete(symbol);
      }
    }
  }

  /** A new connection knows nothing of the old one's subscriptions. */
  reset(): void {
    this.#asked.clear();
    this.#confirmed.clear();
    this.#refused.clear();
    this.#askedMode = this.#mode;
  }
}

function sameMode(a: Mode, b: Mode): boolean {
  return a.mode === "latest" && b.mode === "latest" ? a.intervalMs === b.intervalMs : a.mode === b.mode;
}
