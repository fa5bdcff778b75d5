// The publisher that Bun and ws share: a metronome of ticks, in the bytes of the native protocol.
//
// Tick k is due at begin + k / rate. It is a quote or a trade in turns, of the instruments round robin, as in the tested
// server's `uniform` scenario. Its time is the instant at which it was due, whenever it really goes out.

import { parseArgs } from "node:util";

export function options() {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "9001" },
      rate: { type: "string", default: "1000" },
      symbols: { type: "string", default: "1000" },
      // 0: every tick is a message of its own. Otherwise what fell due in an interval is one message.
      "batch-us": { type: "string", default: "0" },
      format: { type: "string", default: "msgpack" },
      deflate: { type: "string", default: "off" },
    },
  });
  return {
    port: Number(values.port),
    rate: Number(values.rate),
    symbols: Number(values.symbols),
    batchMs: Number(values["batch-us"]) / 1000,
    format: values.format,
    deflate: values.deflate === "on",
  };
}

// Milliseconds since the Unix epoch, to the microsecond: Date says only whole ones, and the origin of performance.now() is
// not exact everywhere. Where Date changes the two are compared; whatever comes in between makes the offset too small, so
// the largest of several is right.
const wallOffset = (() => {
  let best = -Infinity;
  for (let tries = 0; tries < 30; tries++) {
    const before = Date.now();
    let now = before;
    let steady = 0;
    while (now === before) {
      steady = performance.now();
      now = Date.now();
    }
    best = Math.max(best, now - steady);
  }
  return best;
})();
export const wallMs = () => wallOffset + performance.now();

const text = new TextEncoder();

/** What the two encodings have to do: elements, messages of elements, and the two control messages of a session. */
export function encoder({ format, symbols }) {
  return format === "json" ? json() : packed(symbols);
}

function rfc3339(ms) {
  const seconds = new Date(Math.floor(ms)).toISOString().slice(0, 23);
  const rest = Math.floor((ms - Math.floor(ms)) * 1e6);
  return `${seconds}${String(rest).padStart(6, "0")}Z`;
}

function json() {
  return {
    control: (type) => JSON.stringify({ type, instruments: [] }),
    element(kind, symbol, seq, timeMs) {
      const head = `"symbol":"S${symbol}","seq":${seq},"time":"${rfc3339(timeMs)}"`;
      return kind === 1
        ? `{"type":"trade",${head},"price":"9682.19","size":"150","side":"buy","trade_id":${seq}}`
        : `{"type":"quote",${head},"bid":"9682.18","bid_size":"200","ask":"9682.20","ask_size":"150"}`;
    },
    message: (elements) => `{"sent_at":"${rfc3339(wallMs())}","data":[${elements.join(",")}]}`,
  };
}

function packed() {
  const scratch = new Uint8Array(64);
  const view = new DataView(scratch.buffer);
  let at = 0;
  const unsigned = (value) => {
    if (value < 128) scratch[at++] = value;
    else if (value < 256) {
      scratch[at++] = 0xcc;
      scratch[at++] = value;
    } else if (value < 65536) {
      scratch[at++] = 0xcd;
      view.setUint16(at, value);
      at += 2;
    } else {
      scratch[at++] = 0xce;
      view.setUint32(at, value);
      at += 4;
    }
  };
  const time = (ms) => {
    scratch[at++] = 0xcf;
    const whole = Math.floor(ms);
    view.setBigUint64(at, BigInt(whole) * 1000000n + BigInt(Math.floor((ms - whole) * 1e6)));
    at += 8;
  };
  return {
    control(type) {
      const name = text.encode(type);
      return Uint8Array.from([0x81, 0xa4, ...text.encode("type"), 0xa0 | name.length, ...name]);
    },
    element(kind, symbol, seq, timeMs) {
      at = 0;
      scratch[at++] = 0x98;
      scratch[at++] = kind;
      unsigned(symbol);
      unsigned(seq);
      time(timeMs);
      for (const value of kind === 1 ? [968219, 150, 1, seq] : [968218, 200, 968220, 150]) unsigned(value);
      return scratch.slice(0, at);
    },
    message(elements) {
      at = 0;
      const count = elements.length + 1;
      if (count < 16) scratch[at++] = 0x90 | count;
      else {
        scratch[at++] = 0xdd;
        view.setUint32(at, count);
        at += 4;
      }
      time(wallMs());
      let bytes = at;
      for (const element of elements) bytes += element.length;
      const out = new Uint8Array(bytes);
      out.set(scratch.subarray(0, at));
      let place = at;
      for (const element of elements) {
        out.set(element, place);
        place += element.length;
      }
      return out;
    },
  };
}

/** Ticks handed out in one go; then the event loop gets its turn, so that a server that is late still reads. */
const TICKS_MAX = 1000;

/**
 * Runs the metronome for good: `tick(symbol, element)` for each tick, `flush()` after those that were due at once.
 */
export function publish({ rate, symbols, batchMs, format }, { tick, flush }) {
  const encode = encoder({ format, symbols });
  const begin = wallMs();
  // Sequence numbers of quotes and of trades, by symbol.
  const seqs = [new Uint32Array(symbols), new Uint32Array(symbols)];
  let next = 0;
  let turns = 0;
  const every = batchMs > 0 ? batchMs : 1;
  const turn = () => {
    const due = Math.min(Math.floor(((wallMs() - begin) * rate) / 1000) + 1, next + TICKS_MAX);
    for (; next < due; next++) {
      const symbol = next % symbols;
      const trade = Math.floor(next / symbols + symbol) % 2;
      const seq = ++seqs[trade][symbol];
      tick(symbol, encode.element(trade ? 1 : 2, symbol, seq, begin + (next * 1000) / rate));
    }
    flush(encode);
    const now = wallMs() - begin;
    if ((now * rate) / 1000 - next > TICKS_MAX / 2) {
      setImmediate(turn);
      return;
    }
    turns = Math.max(turns + 1, Math.ceil(now / every));
    setTimeout(turn, turns * every - now);
  };
  turn();
}

/** The symbols that a subscribe command names, as numbers; "*" stays. */
export function wanted(command) {
  return command.symbols.map((symbol) => (symbol === "*" ? "*" : Number(symbol.slice(1))));
}
