/**
 * What the page says to the server.
 *
 * Invariant: `encode` writes the keys of the protocol and nothing else; names in camel case stay on this side.
 */
import { Encoder } from "@msgpack/msgpack";
import type { CommandId } from "./messages";

/** The subprotocol to ask for. */
export const SUBPROTOCOL = "ticker.v1.msgpack";

/** How often the server sends what changed. */
export type Mode = { readonly mode: "every" } | { readonly mode: "latest"; readonly intervalMs: number };

export type Command =
  | {
      readonly op: "subscribe";
      readonly channels: readonly string[];
      readonly symbols: readonly string[];
      readonly mode: Mode;
    }
  | {
      readonly op: "update";
      readonly channels: readonly string[];
      readonly symbols: readonly string[];
      readonly mode: Mode;
    }
  | { readonly op: "unsubscribe"; readonly symbols: readonly string[] }
  | { readonly op: "instruments" }
  | { readonly op: "ping" };

const encoder = new Encoder();

/** One binary frame. */
export function encode(id: CommandId, command: Command): Uint8Array<ArrayBuffer> {
  return encoder.encode({ op: command.op, id, ...keys(command) });
}

function keys(command: Command): Record<string, unknown> {
  switch (command.op) {
    case "subscribe":
    case "update":
      return { channels: command.channels, symbols: command.symbols, ...modeKeys(command.mode) };
    case "unsubscribe":
      return { symbols: command.symbols };
    case "instruments":
    case "ping":
      return {};
  }
}

function modeKeys(mode: Mode): Record<string, unknown> {
  return mode.mode === "every" ? { mode: "every" } : { mode: "latest", interval_ms: mode.intervalMs };
}
