/**
 * A scripted server for each test, and what its subscriptions are told, in short words.
 */
import { beforeEach } from "vitest";
import type { Event } from "../src/core/queue";
import { Scripted } from "./scripted";

export let server: Scripted;

beforeEach(() => serve());

/** Another server than the usual one. */
export function serve(options?: ConstructorParameters<typeof Scripted>[0]): void {
  server = new Scripted(options);
}

/** What a subscription was told, in short words. */
export function told(
  channels: readonly ("trades" | "quotes" | "book.10")[] = ["trades"],
  symbols = ["ES"],
  rate: "every" | { latestMs: number } = "every",
) {
  const words: string[] = [];
  const subscription = server.client.subscribe({
    channels,
    symbols,
    rate,
    onEvent: (event) => words.push(word(event)),
  });
  return { words, subscription };
}

export function word(event: Event): string {
  switch (event.type) {
    case "gap":
      return `${event.symbol} gap ${event.fromSeq}-${event.toSeq} ${event.reason}`;
    case "refused":
      return `${event.symbol} refused ${event.code}`;
    default:
      return `${event.symbol} ${event.snapshot ? "state" : event.type} ${event.seq}`;
  }
}

export const trade = (seq: number, id = 7): unknown[] => [1, id, seq, server.nowNs, 500_000 + seq, 2, 1, seq];
export const live = (...elements: unknown[]): void => server.receive([server.nowNs, ...elements]);
export const state = (...elements: unknown[]): void =>
  server.receive([server.nowNs, [0, elements.length], ...elements]);
export const gap = (channel: string, from: number, to: number, reason: string): unknown[] => [
  8,
  7,
  to,
  server.nowNs,
  channel,
  from,
  to,
  reason,
];

export function begin(): void {
  server.client.connect();
  server.welcome();
  server.confirm(server.commands("subscribe")[0]);
}
