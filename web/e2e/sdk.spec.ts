/**
 * The SDK in Node against the real server: the README's snippets, cuts, crashes.
 *
 * Invariant: nothing here trusts the client's own counts: each number of a stream is followed by the next, or a gap says why not.
 */
import { execFile } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "@playwright/test";
import WebSocket from "ws";
import { Client, type Element, type WebSocketConstructor } from "../sdk/src/index";
import { Server } from "./server";

const web = fileURLToPath(new URL("..", import.meta.url));

test("each snippet of the README runs", async () => {
  const readme = await readFile(`${web}/sdk/README.md`, "utf8");
  const snippets = [...readme.matchAll(/```js\n([\s\S]*?)```/g)].map(([, code]) => code ?? "");
  expect(snippets.length).toBeGreaterThan(2);
  const folder = `${web}/node_modules/.cache/snippets`;
  await mkdir(folder, { recursive: true });
  const server = await Server.start();
  try {
    for (const [at, snippet] of snippets.entries()) {
      const file = `${folder}/${at}.mjs`;
      const code = snippet
        .replaceAll("http://127.0.0.1:8080", server.url)
        .replaceAll('"@tickerplant/client"', JSON.stringify(new URL("../sdk/dist/index.js", import.meta.url).href));
      await writeFile(file, code);
      const { stdout } = await promisify(execFile)("node", [file], { timeout: 40_000 });
      expect(stdout).not.toBe("");
    }
  } finally {
    await server.stop("SIGKILL");
  }
});

/** Holds every number of a stream to the one before. */
class Ledger {
  readonly gaps: string[] = [];
  readonly faults: string[] = [];
  events = 0;
  readonly #last = new Map<string, number>();

  see(event: Element): void {
    const key = `${event.symbol} ${event.channel}`;
    const before = this.#last.get(key);
    if (event.type === "gap") {
      this.gaps.push(event.reason);
      if (event.reason === "epoch") {
        this.#last.delete(key);
        return;
      }
      if (before !== undefined && Number(event.fromSeq) !== before + 1) {
        this.faults.push(`${key}: a gap from ${event.fromSeq} after ${before}`);
      }
    } else if (!event.snapshot) {
      this.events += 1;
      if (before !== undefined && Number(event.seq) !== before + 1) {
        this.faults.push(`${key}: ${event.seq} after ${before}`);
      }
    }
    this.#last.set(key, Number(event.seq));
  }
}

test("cuts at random leave no hole, and a crash is a declared gap", async () => {
  const server = await Server.start();
  const sockets: WebSocket[] = [];
  class Recorded extends WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      sockets.push(this);
    }
  }
  const client = new Client({ url: server.url, WebSocket: Recorded as unknown as WebSocketConstructor });
  const ledger = new Ledger();
  client.subscribe({
    channels: ["trades", "quotes", "book.10", "ticker"],
    symbols: ["BTC-USD", "AAPL", "ESZ6"],
    onEvent: (event) => {
      if (event.type !== "refused") {
        ledger.see(event);
      }
    },
  });
  const book = client.book("BTC-USD");
  client.connect();
  try {
    for (let cut = 0; cut < 12; cut += 1) {
      const until = ledger.events + Math.floor(Math.random() * 60);
      await expect.poll(() => ledger.events, { intervals: [20] }).toBeGreaterThan(until);
      sockets.at(-1)?.terminate();
    }
    const after = ledger.events;
    await expect.poll(() => ledger.events).toBeGreaterThan(after + 100);
    expect([ledger.faults, ledger.gaps, book.mismatches]).toEqual([[], [], 0]);
    expect(client.statistics.reconnects).toBeGreaterThan(0);

    await server.stop("SIGKILL");
    await server.restart();
    await expect.poll(() => ledger.gaps.length).toBeGreaterThan(0);
    const restarted = ledger.events;
    await expect.poll(() => ledger.events).toBeGreaterThan(restarted + 100);
    await book.ready();
    expect(new Set(ledger.gaps)).toEqual(new Set(["epoch"]));
    expect([ledger.faults, book.mismatches]).toEqual([[], 0]);
  } finally {
    client.close();
    await server.stop("SIGKILL");
  }
});
