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

/** How a stream ended, in the words of a close frame. */
type Ending = readonly [code: number, reason: string, retryAfterMs?: number | undefined];

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
    this.#run(handler, wish, token, abort.signal, () => listening).then(
      ([code, reason, retryAfterMs]) => report(code, reason, retryAfterMs),
      (error: unknown) => report(1006, error instanceof Error ? error.message : String(error)),
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
    handler: TransportHandler,
    wish: Wish,
    token: string | undefined,
    signal: AbortSignal,
    listening: () => boolean,
  ): Promise<Ending> {
    const query = new URLSearchParams({ symbols: wish.symbols.join(","), channels: wish.channels.join(",") });
    if (wish.intervalMs !== undefined) {
      query.set("interval_ms", String(wish.intervalMs));
    }
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (token !== undefined) {
      headers["authorization"] = `Bearer ${token}`;
    }
    if (this.#last !== undefined && this.#last.query === query.toString()) {
      headers["last-event-id"] = this.#last.id;
    }
    const fetcher = this.#fetch;
    const answer = await fetcher(`${this.#url}?${query}`, { headers, signal, cache: "no-store" });
    if (!answer.ok || answer.body === null) {
      return refusal(answer, await answer.text());
    }
    const parser = new EventParser((data, id) => {
      if (listening()) {
        if (id !== undefined) {
          this.#last = { query: query.toString(), id };
        }
        handler.message(data);
      }
    });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) {
        return [1006, "the event stream ended"];
      }
      if (listening()) {
        handler.alive();
        parser.push(value);
      }
    }
  }
}

function refusal(answer: Response, body: string): Ending {
  const seconds = Number(answer.headers.get("retry-after") ?? Number.NaN);
  const retryAfterMs = Number.isFinite(seconds) ? seconds * 1_000 : undefined;
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
      this.#characters += value.length;
    } else if (field === "id" && !value.includes("\0")) {
      this.#id = value;
    }
  }
}
