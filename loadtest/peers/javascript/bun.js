// A fan-out server on Bun's own WebSockets and its own publish/subscribe.
import { encoder, options, publish, wanted } from "./feed.js";

const settings = options();
const encode = encoder(settings);
const compress = settings.deflate;

/** Connections with symbols of their own, when what falls due in an interval is one message. */
const gathering = new Set();

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: settings.port,
  fetch(request, server) {
    if (server.upgrade(request, { data: { symbols: null, pending: [] } })) return undefined;
    return new Response("not a WebSocket request\n", { status: 426 });
  },
  websocket: {
    perMessageDeflate: settings.deflate,
    idleTimeout: 0,
    open: (socket) => void socket.send(encode.control("welcome")),
    message(socket, message) {
      const command = JSON.parse(message);
      if (command.op !== "subscribe") return;
      socket.send(encode.control("subscribed"));
      const symbols = wanted(command);
      if (settings.batchMs > 0 && symbols[0] !== "*") {
        socket.data.symbols = new Set(symbols);
        gathering.add(socket);
      } else {
        for (const symbol of symbols) socket.subscribe(String(symbol));
      }
    },
    close: (socket) => void gathering.delete(socket),
  },
});

if (settings.batchMs > 0) {
  let all = [];
  let bySymbol = new Map();
  publish(settings, {
    tick(symbol, element) {
      all.push(element);
      const list = bySymbol.get(symbol);
      if (list) list.push(element);
      else bySymbol.set(symbol, [element]);
    },
    flush(encode) {
      if (all.length === 0) return;
      if (server.subscriberCount("*") > 0) server.publish("*", encode.message(all), compress);
      for (const socket of gathering) {
        const own = [];
        for (const symbol of socket.data.symbols) {
          const list = bySymbol.get(symbol);
          if (list) own.push(...list);
        }
        if (own.length > 0) socket.send(encode.message(own), compress);
      }
      all = [];
      bySymbol = new Map();
    },
  });
} else {
  publish(settings, {
    tick(symbol, element) {
      const message = encode.message([element]);
      server.publish("*", message, compress);
      server.publish(String(symbol), message, compress);
    },
    flush() {},
  });
}
console.log(`listening on http://127.0.0.1:${server.port}`);
