// Subscribes to everything with one of Node's WebSocket clients and checks the order, then prints what came as JSON.
//
//   node check.mjs URL ws|builtin msgpack|json COUNT
//
// The client `builtin` is Node's own global, which before Node 22 needs `--experimental-websocket`.

import { decode, encode } from "@msgpack/msgpack";

const [url, kind, encoding, countText] = process.argv.slice(2);
const count = Number(countText);
const WebSocketClass = kind === "ws" ? (await import("ws")).WebSocket : globalThis.WebSocket;

const socket = new WebSocketClass(url, [`ticker.v1.${encoding}`]);
socket.binaryType = "arraybuffer";

const last = new Map();
const result = { protocol: null, elements: 0, snapshot: 0, violations: [], close: null };

function take(key, seq, snapshot) {
  if (snapshot) {
    result.snapshot += 1;
  } else {
    result.elements += 1;
    const previous = last.get(key) ?? 0;
    if (seq !== previous + 1) result.violations.push(`${key}: ${seq} after ${previous}`);
  }
  last.set(key, seq);
}

function takePacked(message) {
  if (!Array.isArray(message)) return message;
  const elements = message.slice(1);
  const snapshot = elements[0]?.[0] === 0;
  if (snapshot) elements.shift();
  for (const [elementKind, instrument, seq] of elements) take(`${instrument}/${elementKind}`, seq, snapshot);
  return null;
}

function takeText(message) {
  if (!("data" in message)) return message;
  for (const { type, symbol, seq } of message.data) take(`${symbol}/${type}`, seq, message.snapshot === true);
  return null;
}

socket.addEventListener("open", () => {
  result.protocol = socket.protocol;
  const command = { op: "subscribe", id: 1, channels: ["trades", "quotes"], symbols: ["*"] };
  socket.send(encoding === "json" ? JSON.stringify(command) : encode(command));
});
socket.addEventListener("message", ({ data }) => {
  const control = encoding === "json" ? takeText(JSON.parse(data)) : takePacked(decode(new Uint8Array(data)));
  if (control?.type === "error") result.violations.push(`${control.code}: ${control.message}`);
  if (result.elements >= count) socket.close(1000, "enough");
});
socket.addEventListener("error", (event) => result.violations.push(String(event.message ?? event.type)));
socket.addEventListener("close", ({ code }) => {
  result.close = code;
  console.log(JSON.stringify(result));
});
