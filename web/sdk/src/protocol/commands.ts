/**
 * What this side says to the server.
 *
 * Invariant: `encode` writes the keys of the protocol and nothing else; names in camel case stay on this side.
 */
import { Encoder } from "@msgpack/msgpack";
import type { Integer } from "./integer";
import type { CommandId } from "./messages";

/** The subprotocol to ask for. */
export const SUBPROTOCOL = "ticker.v1.msgpack";

/** How often the server sends what changed. */
export type Mode = { readonly mode: "every" } | { readonly mode: "latest"; readonly intervalMs: number };

/** The last number seen of each stream of an epoch: symbol, channel, number. */
export interface Since {
  readonly epoch: string;
  readonly seqs: ReadonlyMap<string, ReadonlyMap<string, Integer>>;
}

export type Command =
  | { readonly op: "auth"; readonly token: string }
  | {
      readonly op: "subscribe";
      readonly channels: readonly string[];
      readonly symbols: readonly string[];
      readonly mode: Mode;
      /** Whether the current state comes first; it does when this is left out. */
      readonly snapshot?: boolean;
      readonly since?: Since | undefined;
    }
  | {
      readonly op: "update";
      readonly channels: readonly string[];
      readonly symbols: readonly string[];
      readonly mode: Mode;
    }
  | { readonly op: "unsubscribe"; readonly channels: readonly string[]; readonly symbols: readonly string[] }
  | { readonly op: "instruments"; readonly prefix?: string | undefined }
  | { readonly op: "ping" };

/** Numbers past 2^53 are `bigint` here; without this the encoder would refuse them. */
const encoder = new Encoder({ useBigInt64: true });

/** One binary frame. */
export function encode(id: CommandId, command: Command): Uint8Array<ArrayBuffer> {
  return encoder.encode({ op: command.op, id, ...keys(command) });
}

function keys(command: Command): Record<string, unknown> {
  switch (command.op) {
    case "auth":
      return { token: command.token };
    case "subscribe":
      return {
        channels: command.channels,
        symbols: command.symbols,
        ...modeKeys(command.mode),
        ...(command.snapshot === false ? { snapshot: false } : {}),
        ...(command.since === undefined ? {} : { since: sinceKeys(command.since) }),
      };
    case "update":
      return { channels: command.channels, symbols: command.symbols, ...modeKeys(command.mode) };
    case "unsubscribe":
      return { channels: command.channels, symbols: command.symbols };
    case "instruments":
      return command.prefix === undefined ? {} : { prefix: command.prefix };
    case "ping":
      return {};
  }
}

function sinceKeys(since: Since): Record<string, unknown> {
  const seqs = [...since.seqs].map(([symbol, channels]) => [
    symbol,
    // The encoder would write numbers past 32 bits as floats, which are no integers to the server.
    Object.fromEntries([...channels].map(([channel, seq]) => [channel, seq > 0xffff_ffff ? BigInt(seq) : seq])),
  ]);
  return { epoch: since.epoch, seqs: Object.fromEntries(seqs) };
}

function modeKeys(mode: Mode): Record<string, unknown> {
  return mode.mode === "every" ? { mode: "every" } : { mode: "latest", interval_ms: mode.intervalMs };
}
