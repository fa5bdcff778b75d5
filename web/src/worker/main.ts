/**
 * The worker that owns the connection: a thin shell around the client and the board.
 *
 * Invariant: at most one update is on its way to the page, so a page that paints slowly or not at all (a hidden tab) costs
 * memory for one state of the market and not for its history.
 */
import { Client, SYSTEM } from "../../sdk/src/index";
import { Board } from "../model/board";
import type { PageMessage, Update } from "../model/update";

declare const self: DedicatedWorkerGlobalScope;

const { now } = SYSTEM;

let client: Client | undefined;
let board: Board | undefined;
let timer: ReturnType<typeof setTimeout> | undefined;
let alarmAtMs = Number.POSITIVE_INFINITY;
let page: "ready" | "painting" = "ready";

function start(url: string, token: string | undefined): void {
  client = new Client(token === undefined ? { url } : { url, token });
  const get = async (path: string): Promise<string> => {
    const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const answer = await fetch(new URL(`api/v1/${path}`, url), { headers });
    if (!answer.ok) {
      throw new Error(`HTTP ${answer.status}`);
    }
    return answer.text();
  };
  board = new Board(client, get, { mode: "latest", intervalMs: 100 });
  client.on("connection", settle);
  client.on("frame", settle);
  client.connect();
}

self.onmessage = (event: MessageEvent<PageMessage>) => {
  const message = event.data;
  switch (message.type) {
    case "start":
      start(message.url, message.token);
      break;
    case "watch":
      board?.watch(message.symbols);
      break;
    case "arrange":
      board?.arrange(message.sort, message.filter);
      break;
    case "sight":
      board?.sight(message.symbols);
      break;
    case "mode":
      board?.setMode(message.mode);
      break;
    case "select":
      board?.select(message.symbol);
      break;
    case "interval":
      board?.setInterval(message.interval);
      break;
    case "depth":
      board?.setDepth(message.depth);
      break;
    case "reconnect":
      client?.reconnect();
      break;
    case "painted":
      page = "ready";
      break;
  }
  settle();
};

// The network is back: no reason to sit out the wait.
self.addEventListener("online", () => client?.reconnect());

/** After every event: what is due is done, what changed is posted, and the alarm is set anew. */
function settle(): void {
  if (board === undefined) {
    return;
  }
  const at = now();
  if (board.deadline() <= at) {
    board.advance(at);
  }
  if (page === "ready") {
    const update = board.take(at);
    if (update !== undefined) {
      page = "painting";
      self.postMessage(update satisfies Update);
    }
  }
  // An alarm that comes too early does no harm, so a frame need not set it anew.
  if (board.deadline() < alarmAtMs) {
    clearTimeout(timer);
    alarmAtMs = board.deadline();
    timer = setTimeout(
      () => {
        alarmAtMs = Number.POSITIVE_INFINITY;
        settle();
      },
      Math.max(0, alarmAtMs - at),
    );
  }
}
