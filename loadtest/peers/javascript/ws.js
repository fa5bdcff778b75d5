// A fan-out server on Node's most used WebSocket library.
import { WebSocketServer } from "ws";
import { encoder, options, publish, wanted } from "./feed.js";

const settings = options();
const encode = encoder(settings);

/** Everyone on everything, and everyone by symbol. */
const everything = new Set();
const bySymbol = new Map();
/** Connections with symbols of their own, when what falls due in an interval is one message. */
const gathering = new Map();

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: settings.port,
  backlog: 4096,
  // Without a threshold of its own ws would send short messages as they are.
  perMessageDeflate: settings.deflate ? { threshold: 64 } : false,
});

server.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.send(encode.control("welcome"));
  socket.on("message", (message) => {
    const command = JSON.parse(message);
    if (command.op !== "subscribe") return;
    socket.send(encode.control("subscribed"));
    const symbols = wanted(command);
    if (symbols[0] === "*") everything.add(socket);
    else if (settings.batchMs > 0) gathering.set(socket, symbols);
    else {
      for (const symbol of symbols) {
        if (!bySymbol.has(symbol)) bySymbol.set(symbol, new Set());
        bySymbol.get(symbol).add(socket);
      }
    }
  });
  socket.on("close", () => {
    everything.delete(socket);
    gathering.delete(socket);
    for (const sockets of bySymbol.values()) sockets.delete(socket);
  });
});

if (settings.batchMs > 0) {
  let all = [];
  let lists = new Map();
  publish(settings, {
    tick(symbol, element) {
      all.push(element);
      const list = lists.get(symbol);
      if (list) list.push(element);
      else lists.set(symbol, [element]);
    },
    flush(encode) {
      if (all.length === 0) return;
      if (everything.size > 0) {
        const message = encode.message(all);
        for (const socket of everything) socket.send(message);
      }
      for (const [socket, symbols] of gathering) {
        const own = [];
        for (const symbol of symbols) {
          const list = lists.get(symbol);
          if (list) own.push(...list);
        }
        if (own.length > 0) socket.send(encode.message(own));
      }
      all = [];
      lists = new Map();
    },
  });
} else {
  publish(settings, {
    tick(symbol, element) {
      const message = encode.message([element]);
      for (const socket of everything) socket.send(message);
      for (const socket of bySymbol.get(symbol) ?? []) socket.send(message);
    },
    flush() {},
  });
}
server.on("listening", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
