// The same as ../digest.py, with one of Node's WebSocket clients.
//
//   node digest.mjs URL msgpack|json ws|builtin PERMESSAGE_DEFLATE     the last is the option of that name of `ws`, in JSON
//
// It ends at the first line on stdin, whatever that says.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { decode } from "@msgpack/msgpack";
import { WebSocket as Ws } from "ws";

const BLOCK = 1000;
const [url, encoding, kind, options] = process.argv.slice(2);
const protocols = [`ticker.v1.${encoding}`];
const perMessageDeflate = JSON.parse(options);
const socket =
  kind === "ws" ? new Ws(url, protocols, { perMessageDeflate }) : new globalThis.WebSocket(url, protocols);
socket.binaryType = "arraybuffer";

const result = { messages: 0, elements: 0, gaps: 0, breaks: [], last: {}, blocks: {}, times: [], extensions: null };
const open = new Map();

function take(key, seq, values, snapshot) {
  if (!snapshot) {
    result.elements += 1;
    const before = result.last[key] ?? 0;
    if (seq !== before + 1) result.breaks.push(`${key}: ${seq} after ${before}`);
    if (seq % BLOCK === 0 || !open.has(key)) open.set(key, []);
    const block = open.get(key);
    // An empty side is null, which `join` makes nothing of.
    block.push(values.join("|"));
    if (seq % BLOCK === BLOCK - 1 && block.length === BLOCK) {
      result.blocks[`${key}#${Math.floor(seq / BLOCK)}`] = createHash("sha1").update(block.join("\n")).digest("hex");
    }
  }
  result.last[key] = seq;
}

function noteTime(time) {
  result.times = [result.times[0] ?? String(time), String(time)];
}

function takeData(message) {
  if (Array.isArray(message)) {
    const snapshot = message[1][0] === 0;
    for (const element of message.slice(snapshot ? 2 : 1)) {
      if (element[0] === 8) result.gaps += 1;
      else take(`${element[1]}/${element[0]}`, Number(element[2]), element, snapshot);
    }
    noteTime(message.at(-1)[3]);
  } else {
    for (const element of message.data) {
      if (element.type === "gap") result.gaps += 1;
      else take(`${element.symbol}/${element.type}`, element.seq, Object.values(element), message.snapshot === true);
    }
    noteTime(message.data.at(-1).time);
  }
}

socket.addEventListener("open", () => {
  result.extensions = socket.extensions;
  socket.send(JSON.stringify({ op: "subscribe", channels: ["trades", "quotes"], symbols: ["*"] }));
});
socket.addEventListener("message", ({ data }) => {
  const message = encoding === "json" ? JSON.parse(data) : decode(new Uint8Array(data), { useBigInt64: true });
  result.messages += 1;
  if (Array.isArray(message) || "data" in message) takeData(message);
  else if (message.type === "subscribed") console.log("ready");
});
socket.addEventListener("error", (event) => result.breaks.push(String(event.message ?? event.type)));
socket.addEventListener("close", ({ code }) => {
  if (code !== 1000) result.breaks.push(`closed with ${code}`);
  // Not before a pipe has taken all of it.
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
});
await once(process.stdin, "data");
socket.close(1000);
