/**
 * `@tickerplant/client`: the TypeScript SDK of Tickerplant.
 *
 * Invariant: what is not exported here is not part of the package.
 */
export { Client } from "./client";
export { type Applied, OrderBook } from "./core/book";
export type { Connection } from "./core/link";
export type { Event, Refused } from "./core/queue";
export { type Environment, SYSTEM } from "./environment";
export { type BookOptions, LiveBook } from "./live-book";
export type { ClientEvents, ClientOptions, Statistics } from "./options";
export { BAR_INTERVALS } from "./protocol/channels";
export type { Mode } from "./protocol/commands";
export { Decimal, formatDecimal, formatTrimmed, type PlusSign } from "./protocol/decimal";
export { decode, ProtocolError } from "./protocol/decode";
export { decodeJson } from "./protocol/decode-json";
export { compare, type Integer, subtract } from "./protocol/integer";
export type * from "./protocol/messages";
export { RequestError } from "./requests";
export type { EventOf, Rate, SubscribeOptions } from "./subscription";
export { Subscription } from "./subscription";
export { EventStreamTransport } from "./transport/event-stream";
export type { Channels, Transport, TransportHandler, Wish } from "./transport/transport";
export { type WebSocketConstructor, type WebSocketLike, WebSocketTransport } from "./transport/websocket";
