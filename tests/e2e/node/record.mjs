// Opens WebSockets as told on stdin, one JSON object a line, and writes what each receives to a file: for every message its
// length (4 bytes, little-endian) and its bytes. What happens is told on stdout, one JSON object a line.
//
//   {"number": 1, "url": "..", "kind": "ws" | "builtin", "encoding": "json", "path": "..", "subscribe": {..},
//    "perMessageDeflate": the option of that name of `ws`}
//   {"number": 1, "close": true}

import { closeSync, openSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { encode } from "@msgpack/msgpack";
import { WebSocket as Ws } from "ws";

const sockets = new Map();
const say = (number, event, more) => console.log(JSON.stringify({ number, event, ...more }));

function open({ number, url, kind, encoding, path, subscribe, perMessageDeflate }) {
  const protocols = [`ticker.v1.${encoding}`];
  const options = { perMessageDeflate: perMessageDeflate ?? true };
  const socket = kind === "ws" ? new Ws(url, protocols, options) : new globalThis.WebSocket(url, protocols);
  socket.binaryType = "arraybuffer";
  sockets.set(number, socket);
  const file = openSync(path, "w");
  const errors = [];
  socket.addEventListener("open", () => {
    const id = "subscribe";
    socket.send(encoding === "json" ? JSON.stringify({ id, ...subscribe }) : encode({ id, ...subscribe }));
    say(number, "open", { protocol: socket.protocol });
  });
  socket.addEventListener("message", ({ data }) => {
    const bytes = typeof data === "string" ? Buffer.from(data) : Buffer.from(data);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    writeSync(file, Buffer.concat([length, bytes]));
  });
  socket.addEventListener("error", (event) => errors.push(String(event.message ?? event.type)));
  socket.addEventListener("close", ({ code, reason }) => {
    closeSync(file);
    sockets.delete(number);
    say(number, "close", { code, reason, errors });
  });
}

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const told = JSON.parse(line);
  if (told.close) sockets.get(told.number)?.close(1000);
  else open(told);
});
lines.on("close", () => {
  for (const socket of sockets.values()) socket.close(1000);
});
