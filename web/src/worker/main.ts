/**
 * The worker that owns the socket: a thin shell that gives the session sockets, timers and a clock.
 *
 * Invariant: at most one update is on its way to the page, so a page that paints slowly or not at all (a hidden tab) costs
 * memory for one state of the market and not for its history.
 */
import { Session } from "../model/session";
import type { PageMessage, Update } from "../model/update";
import { SUBPROTOCOL } from "../protocol/commands";

declare const self: DedicatedWorkerGlobalScope;

/** A timer may be asked for later than a 32-bit number of milliseconds. */
const SLEEP_MAX_MS = 60_000;

/** Finer than `Date.now`, and monotonic; the pings correct for what it drifts from the server's clock. */
const now = (): number => performance.timeOrigin + performance.now();

let url = "";
let socket: WebSocket | undefined;
let timer: ReturnType<typeof setTimeout> | undefined;
let page: "ready" | "painting" = "ready";

const session = new Session(
  {
    connect: open,
    send: (bytes) => {
      if (socket?.readyState === WebSocket.OPEN) {
        socket.send(bytes);
      }
    },
    disconnect: abandon,
  },
  { mode: "latest", intervalMs: 100 },
  Math.random,
);

function open(): void {
  abandon();
  const opened = new WebSocket(url, [SUBPROTOCOL]);
  opened.binaryType = "arraybuffer";
  socket = opened;
  // An abandoned socket may still have events queued; they are nobody's.
  opened.onmessage = (event: MessageEvent<unknown>) => {
    if (socket !== opened) {
      return;
    }
    if (event.data instanceof ArrayBuffer) {
      session.received(new Uint8Array(event.data), now());
    } else {
      session.receivedText(now());
    }
    settle();
  };
  opened.onclose = (event) => {
    if (socket === opened) {
      socket = undefined;
      session.closed(event.code, event.reason, now());
      settle();
    }
  };
}

function abandon(): void {
  const abandoned = socket;
  socket = undefined;
  abandoned?.close(1000);
}

self.onmessage = (event: MessageEvent<PageMessage>) => {
  const message = event.data;
  switch (message.type) {
    case "start":
      url = message.url;
      session.start(now());
      break;
    case "watch":
      session.watch(message.symbols, now());
      break;
    case "mode":
      session.setMode(message.mode, now());
      break;
    case "reconnect":
      session.reconnect(now());
      break;
    case "painted":
      page = "ready";
      break;
  }
  settle();
};

// The network is back: no reason to sit out the wait.
self.addEventListener("online", () => {
  session.reconnect(now());
  settle();
});

/** After every event: what is due is done, what changed is posted, and the alarm is set anew. */
function settle(): void {
  const at = now();
  if (session.deadline() <= at) {
    session.advance(at);
  }
  if (page === "ready") {
    const update = session.take(at);
    if (update !== undefined) {
      page = "painting";
      self.postMessage(update satisfies Update);
    }
  }
  clearTimeout(timer);
  timer = undefined;
  const deadline = session.deadline();
  if (Number.isFinite(deadline)) {
    timer = setTimeout(settle, Math.min(SLEEP_MAX_MS, Math.max(0, deadline - now())));
  }
}
