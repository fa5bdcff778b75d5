/**
 * The market over plain HTTP: server-sent events in JSON, where WebSockets are blocked.
 *
 * Invariant: one request, one answer that goes on; what is wanted stands in its address, so another wish is another request.
 *
 * Read with `fetch` and not with `EventSource`: Node has none, and it can carry no token.
 */
import type { Channels, Transport, TransportHandler, Wish } from "./transport";

/** One event; the server's frames are 128 KiB of elements at most in MessagePack, and JSON takes about four times that. */
const EVENT_CHARACTERS_MAX = 4 * 1_024 * 1_024;

/** As long as any server of ours asks for; whoever comes back later than this seems dead to the reader. */
const RETRY_MS_MAX = 60_000;

/** How a stream ended, in the words of a close frame, or the `error` that stands in the place of the stream. */
type Ending = readonly [code: number, reason: string, retryAfterMs?: number | undefined] | string;

export class EventStreamTransport implements Transport {
  readonly name = "sse";
  readonly direction = "one-way";
  readonly #url: string;
  readonly #fetch: typeof fetch;
  /** Where the last answer broke off, and which wish it was about. */
  #last: { readonly query: string; readonly id: string } | undefined;

  constructor(url: string, fetcher: typeof fetch) {
    this.#url = url;
    this.#fetch = fetcher;
  }

  open(handler: TransportHandler, wish: Wish, token: string | undefined): Channels {
    const abort = new AbortController();
    let listening = true;
    const report = (code: number, reason: string, retryAfterMs?: number): void => {
      if (listening) {
        listening = false;
        handler.closed(code, reason, retryAfterMs);
      }
    };
    const query = queryOf(wish);
    const parser = new EventParser((data, id) => {
      if (!listening) {
        return;
      }
      const closed = closeOf(data);
      if (closed !== undefined) {
        report(...closed, parser.retryMs);
        abort.abort();
        return;
      }
      handler.message(data);
      if (id !== undefined && listening) {
        this.#last = { query, id };
        handler.stated();
      }
    });
    const push = (chunk: string): void => {
      if (listening) {
        handler.alive();
        parser.push(chunk);
      }
    };
    const id = wish.resume && this.#last?.query === query ? this.#last.id : undefined;
    this.#run(query, id, token, abort.signal, push).then(
      (ending) => {
        if (typeof ending === "string") {
          if (listening) {
            listening = false;
            handler.refused(ending);
          }
        } else {
          const [code, reason, retryAfterMs] = ending;
          report(code, reason, retryAfterMs ?? parser.retryMs);
        }
      },
      (error: unknown) => report(1006, error instanceof Error ? error.message : String(error), parser.retryMs),
    );
    return {
      send: () => {},
      close: () => {
        listening = false;
        abort.abort();
      },
    };
  }

  async instruments(token: string | undefined): Promise<string> {
    const fetcher = this.#fetch;
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const answer = await fetcher(this.#url.replace(/stream$/, "instruments"), { headers });
    return answer.text();
  }

  async #run(
    query: string,
    lastId: string | undefined,
    token: string | undefined,
    signal: AbortSignal,
    push: (chunk: string) => void,
  ): Promise<Ending> {
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (token !== undefined) {
      headers["authorization"] = `Bearer ${token}`;
    }
    if (lastId) {
      headers["last-event-id"] = lastId;
    }
    const fetcher = this.#fetch;
    const answer = await fetcher(`${this.#url}?${query}`, { headers, signal, cache: "no-store" });
    if (!answer.ok || answer.body === null) {
      return refusal(answer, await answer.text());
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) {
        return [1006, "the event stream ended"];
      }
      push(value);
    }
  }
}

function queryOf(wish: Wish): string {
  const query = new URLSearchParams({ symbols: wish.symbols.join(","), channels: wish.channels.join(",") });
  if (wish.intervalMs !== undefined) {
    query.set("interval_ms", String(wish.intervalMs));
  }
  return query.toString();
}

/** The event that stands for a close frame. Others are not read here: they would be read twice. */
function closeOf(data: string): [code: number, reason: string] | undefined {
  if (!data.startsWith('{"type":"closed"')) {
    return;
  }
  const { code, message } = JSON.parse(data) as { readonly code: unknown; readonly message: unknown };
  return [typeof code === "number" ? code : 1006, String(message)];
}

function refusal(answer: Response, body: string): Ending {
  const seconds = Number(answer.headers.get("retry-after") ?? Number.NaN);
  const retryAfterMs = Number.isFinite(seconds) ? seconds * 1_000 : undefined;
  // What will never be served as it is, and is not about who asks.
  if ([400, 403, 404].includes(answer.status) && body.startsWith('{"type":"error"')) {
    return body;
  }
  const reason = body.trim() === "" ? `HTTP ${answer.status}` : body.trim().slice(0, 500);
  switch (answer.status) {
    case 401:
    case 403:
      return [4401, reason];
    case 429:
    case 503:
      return [1013, reason, retryAfterMs];
    default:
      return [1006, reason, retryAfterMs];
  }
}

/** The line format of server-sent events, as the HTML standard has it. */
export class EventParser {
  readonly #emit: (data: string, id: string | undefined) => void;
  #rest = "";
  #data: string[] = [];
  #characters = 0;
  #id: string | undefined;
  /** How long the server asks to wait before connecting again. */
  retryMs: number | undefined;

  constructor(emit: (data: string, id: string | undefined) => void) {
    this.#emit = emit;
  }

  push(chunk: string): void {
    // A CR at the end of a chunk may be the first half of a line's end.
    const lines = (this.#rest + chunk).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      this.#line(line);
    }
    if (this.#rest.length + this.#characters > EVENT_CHARACTERS_MAX) {
      throw new Error("an event of the stream is too long");
    }
  }

  #line(line: string): void {
    if (line === "") {
      const data = this.#data.join("\n");
      this.#data = [];
      this.#characters = 0;
      if (data !== "") {
        this.#emit(data, this.#id);
      }
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") {
      this.#data.push(value);
      // A line without characters takes memory too.
      this.#characters += value.length + 1;
    } else if (field === "id" && !value.includes("\0")) {
      this.#id = value;
    } else if (field === "retry" && /^\d+$/.test(value)) {
      this.retryMs = Math.min(RETRY_MS_MAX, Number(value));
    }
  }
}
