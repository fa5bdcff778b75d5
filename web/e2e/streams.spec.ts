/**
 * The market over plain HTTP: the browser's own EventSource, polls, and the SDK where WebSockets are refused.
 *
 * Invariant: the server is the real one, and connections are cut between it and the client, who is not told.
 */
import { test as base, expect, type Page } from "@playwright/test";
import WebSocket from "ws";
import { Client, type Element, type WebSocketConstructor } from "../sdk/src/index";
import { Ledger, type Message } from "./ledger";
import { Relay } from "./relay";
import { Server } from "./server";

const test = base.extend<{ server: Server; relay: Relay }>({
  // biome-ignore lint/correctness/noEmptyPattern: Playwright reads the names from the pattern.
  server: async ({}, use) => {
    const server = await Server.start();
    await use(server);
    await server.stop("SIGKILL");
  },
  relay: async ({ server }, use) => {
    const relay = await Relay.start(server.url, "refuse");
    await use(relay);
    relay.stop();
  },
});

interface Seen {
  readonly data: string;
  readonly id: string;
}

/** Waits that began with an error, in milliseconds. */
interface Listening {
  seen: Seen[];
  reopened: number;
}

/** An empty page of the server's origin that listens. */
async function listen(page: Page, origin: string, query: string): Promise<void> {
  await page.route("**/empty", (route) => route.fulfill({ contentType: "text/html", body: "<!doctype html>" }));
  await page.goto(`${origin}/empty`);
  await page.evaluate((address) => {
    const listening: Listening = { seen: [], reopened: 0 };
    let lost = false;
    const source = new EventSource(address);
    source.onmessage = (event) => listening.seen.push({ data: String(event.data), id: event.lastEventId });
    source.onerror = () => {
      lost = true;
    };
    source.onopen = () => {
      listening.reopened += Number(lost);
      lost = false;
    };
    Object.assign(window, { listening });
  }, `/api/v1/stream?${query}`);
}

test("EventSource goes on by itself where it was cut, without a hole or a repeat", async ({ page, relay }) => {
  await listen(page, relay.url, "symbols=BTC-USD,AAPL,ESZ6&channels=trades,quotes");
  const ledger = new Ledger();
  const take = async (): Promise<number> => {
    const seen = await page.evaluate(() => (window as unknown as { listening: Listening }).listening.seen.splice(0));
    for (const { data, id } of seen) {
      ledger.see(JSON.parse(data) as Message, id);
    }
    return ledger.events;
  };
  const cuts = 5;
  for (let cut = 0; cut < cuts; cut += 1) {
    const until = ledger.events + 10;
    await expect.poll(take, { intervals: [50] }).toBeGreaterThan(until);
    relay.cut();
    const lost = cut + 1;
    await expect
      .poll(() => page.evaluate(() => (window as unknown as { listening: Listening }).listening.reopened), {
        intervals: [50],
      })
      .toBe(lost);
  }
  const after = ledger.events;
  await expect.poll(take).toBeGreaterThan(after + 50);
  expect([ledger.faults, ledger.gaps, [...ledger.recovered]]).toEqual([[], [], ["recovered"]]);

  const requests = relay.heads.filter((head) => head.startsWith("GET /api/v1/stream"));
  const ids = requests.map((head) => /^last-event-id: *(\S+)/im.exec(head)?.[1]);
  expect(ids[0]).toBeUndefined();
  expect(new Set(ids).size).toBe(cuts + 1);
});

test("polls that are chained by their ids see every number", async ({ server }) => {
  const ledger = new Ledger();
  let next: string | null = null;
  for (let poll = 0; poll < 30; poll += 1) {
    const after: string = next === null ? "" : `&after=${encodeURIComponent(next)}`;
    const answer = await fetch(
      `${server.url}/api/v1/stream?symbols=*&channels=trades,quotes&poll=1&timeout_ms=5000${after}`,
    );
    expect(answer.status).toBe(200);
    const { next: id, messages } = (await answer.json()) as { next: string | null; messages: Message[] };
    expect(id).toMatch(/^[0-9a-f]{16}-\d+$/);
    expect(id).not.toBe(next);
    for (const message of messages) {
      ledger.see(message, id ?? "");
    }
    next = id;
  }
  expect(ledger.events).toBeGreaterThan(30);
  expect([ledger.faults, ledger.gaps]).toEqual([[], []]);
});

/** What a client of the SDK is told, number by number. */
function follow(client: Client): { faults: string[]; events: number } {
  const followed = { faults: [] as string[], events: 0 };
  const last = new Map<string, number>();
  client.subscribe({
    channels: ["trades", "quotes", "book.10"],
    symbols: ["BTC-USD", "AAPL", "ESZ6"],
    onEvent: (event) => {
      const { symbol, channel } = event;
      const before = last.get(`${symbol} ${channel}`);
      if (event.type === "gap" || event.type === "refused") {
        followed.faults.push(`${symbol} ${channel}: ${event.type}`);
        return;
      }
      const seq = Number((event as Element).seq);
      if (before !== undefined && seq !== before + 1) {
        followed.faults.push(`${symbol} ${channel}: ${seq} after ${before}`);
      }
      followed.events += 1;
      last.set(`${symbol} ${channel}`, seq);
    },
  });
  return followed;
}

test("the SDK goes on over server-sent events where WebSockets are refused", async ({ relay }) => {
  const client = new Client({ url: relay.url, WebSocket: WebSocket as unknown as WebSocketConstructor });
  const followed = follow(client);
  const book = client.book("BTC-USD");
  client.connect();
  try {
    await book.ready();
    expect(client.transport).toBe("sse");
    expect((await client.instruments("BTC")).map(({ symbol }) => symbol)).toContain("BTC-USD");
    for (let cut = 0; cut < 4; cut += 1) {
      const until = followed.events + 30;
      await expect.poll(() => followed.events, { intervals: [20] }).toBeGreaterThan(until);
      relay.cut();
      // What was on its way when it was cut still comes; the next cut is to meet a connection.
      await expect.poll(() => client.statistics.reconnects, { intervals: [20] }).toBe(cut + 1);
    }
    const after = followed.events;
    await expect.poll(() => followed.events).toBeGreaterThan(after + 50);
    expect([followed.faults, book.mismatches, client.transport]).toEqual([[], 0, "sse"]);
    expect(relay.heads.filter((head) => /^last-event-id:/im.test(head)).length).toBeGreaterThanOrEqual(4);
  } finally {
    client.close();
  }
});

test("over server-sent events another reader of the same stream gets its state", async ({ relay }) => {
  const client = new Client({ url: relay.url, WebSocket: WebSocket as unknown as WebSocketConstructor });
  const first = client.book("BTC-USD");
  client.connect();
  try {
    await first.ready();
    const second = client.book("BTC-USD");
    await second.ready();
    expect([client.transport, second.mismatches]).toEqual(["sse", 0]);
  } finally {
    client.close();
  }
});
