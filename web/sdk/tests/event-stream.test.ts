/**
 * The line format of server-sent events, and the requests around it.
 *
 * Invariant: no server and no clock: `fetch` is the test's, and its answers are cut where the test says.
 */
import { describe, expect, test } from "vitest";
import { EventParser, EventStreamTransport } from "../src/transport/event-stream";
import type { Wish } from "../src/transport/transport";

type Told = readonly [data: string, id: string | undefined];

function parse(chunks: readonly string[]): Told[] {
  const told: Told[] = [];
  const parser = new EventParser((data, id) => told.push([data, id]));
  for (const chunk of chunks) {
    parser.push(chunk);
  }
  return told;
}

const TEXT = [
  "retry: 1384\n",
  'data: {"type":"welcome"}\n\n',
  ": a comment\n",
  "id: e-1\ndata:first\ndata: second\ndata:  third\n\n",
  "event: message\nunknown: field\nid: e-2\ndata: Straße 漢字\n\n",
  "id: e-3\n\n",
  "data\n\n",
  "data: last\n\n",
  "data: never ended\n",
].join("");

const EVENTS: Told[] = [
  ['{"type":"welcome"}', undefined],
  ["first\nsecond\n third", "e-1"],
  ["Straße 漢字", "e-2"],
  ["last", "e-3"],
];

describe("the line format", () => {
  for (const [name, end] of [
    ["LF", "\n"],
    ["CRLF", "\r\n"],
    ["CR", "\r"],
  ] as const) {
    const text = `${TEXT.replaceAll("\n", end)}`;
    test(`with ${name} is read the same wherever it is cut in two`, () => {
      for (let at = 0; at <= text.length; at += 1) {
        expect(parse([text.slice(0, at), text.slice(at)])).toEqual(EVENTS);
      }
    });

    test(`with ${name} is read the same in chunks of any size`, () => {
      for (let size = 1; size <= 40; size += 1) {
        const chunks = Array.from({ length: Math.ceil(text.length / size) }, (_, at) =>
          text.slice(at * size, (at + 1) * size),
        );
        expect(parse(chunks)).toEqual(EVENTS);
      }
    });
  }

  test("has ids that are kept until the next, without NUL", () => {
    expect(parse(["id: a\ndata: 1\n\ndata: 2\n\nid: b\0\ndata: 3\n\nid\ndata: 4\n\n"])).toEqual([
      ["1", "a"],
      ["2", "a"],
      ["3", "a"],
      ["4", ""],
    ]);
  });

  test("says how long to wait, in digits alone", () => {
    const parser = new EventParser(() => {});
    expect(parser.retryMs).toBeUndefined();
    parser.push("retry: 1384\n");
    expect(parser.retryMs).toBe(1384);
    for (const wrong of ["retry: soon\n", "retry: -5\n", "retry: 1.5\n", "retry:\n", "retry: 1e3\n"]) {
      parser.push(wrong);
    }
    expect(parser.retryMs).toBe(1384);
  });

  test("has a bound for one event, in a line or in many", () => {
    const line = "x".repeat(1_048_576);
    expect(() => parse(["data: ", line, line, line, line])).toThrow("too long");
    expect(() => parse(Array.from({ length: 4 }, () => `data: ${line}\n`).concat("data: x\n"))).toThrow("too long");
    expect(() => parse(["data\n".repeat(4_194_305)])).toThrow("too long");
    expect(parse([`data: ${line}\n\n`, `data: ${line}\n\n`, `data: ${line}\n\n`, `data: ${line}\n\n`]).length).toBe(4);
  }, 60_000);
});

const WISH: Wish = { channels: ["trades"], symbols: ["ES", "NQ"], intervalMs: undefined, resume: true };

/** One request: what was asked, and what the handler was told until the end. */
async function request(
  transport: EventStreamTransport,
  wish: Wish = WISH,
): Promise<{ told: string[]; end: readonly [number, string, number | undefined] }> {
  const told: string[] = [];
  const end = await new Promise<readonly [number, string, number | undefined]>((resolve) => {
    transport.open(
      {
        message: (data) => told.push(String(data)),
        alive: () => {},
        stated: () => told.push("stated"),
        refused: (error) => resolve([0, error, undefined]),
        closed: (code, reason, retryAfterMs) => resolve([code, reason, retryAfterMs]),
      },
      wish,
      undefined,
    );
  });
  return { told, end };
}

/** Answers in turn, and keeps the requests. */
function scripted(...answers: readonly (() => Response)[]): {
  transport: EventStreamTransport;
  asked: { url: string; id: string | undefined }[];
} {
  const asked: { url: string; id: string | undefined }[] = [];
  const fetcher = (url: string, options: { headers: Record<string, string> }): Promise<Response> => {
    asked.push({ url, id: options.headers["last-event-id"] });
    return Promise.resolve(answers[asked.length - 1]?.() ?? new Response("", { status: 500 }));
  };
  return { transport: new EventStreamTransport("http://test/api/v1/stream", fetcher as typeof fetch), asked };
}

/** An answer in chunks of bytes; the connection then ends, or breaks. */
function stream(text: string, bytesPerChunk: number, ending: "ends" | "breaks" = "ends"): () => Response {
  const bytes = new TextEncoder().encode(text);
  let at = 0;
  return () =>
    new Response(
      new ReadableStream({
        pull: (controller) => {
          if (at < bytes.length) {
            controller.enqueue(bytes.slice(at, at + bytesPerChunk));
            at += bytesPerChunk;
          } else if (ending === "ends") {
            controller.close();
          } else {
            controller.error(new Error("cut"));
          }
        },
      }),
    );
}

describe("a request", () => {
  test("brings events whose letters are cut between bytes", async () => {
    const { transport, asked } = scripted(stream("data: Straße 漢字\n\n", 1));
    expect(await request(transport)).toEqual({
      told: ["Straße 漢字"],
      end: [1006, "the event stream ended", undefined],
    });
    expect(asked).toEqual([{ url: "http://test/api/v1/stream?symbols=ES%2CNQ&channels=trades", id: undefined }]);
  });

  test("goes on from the last id of the same wish, and from none for another", async () => {
    const { transport, asked } = scripted(
      stream("id: e-1\ndata: a\n\nid: e-2\ndata: b\n\nid: e-3\ndata: torn", 7, "breaks"),
      stream("data: c\n\n", 7),
      stream("id: e-4\ndata: d\n\n", 7),
      stream("id: e-5\ndata: d\n\n", 7),
      stream("", 7),
    );
    expect(await request(transport)).toEqual({ told: ["a", "stated", "b", "stated"], end: [1006, "cut", undefined] });
    await request(transport);
    await request(transport, { ...WISH, symbols: ["ES"] });
    await request(transport, { ...WISH, symbols: ["ES"], resume: false });
    await request(transport, { ...WISH, symbols: ["ES"] });
    expect(asked.map(({ id }) => id)).toEqual([undefined, "e-2", undefined, undefined, "e-5"]);
  });

  test("that ends or breaks says what the server asked to wait", async () => {
    const { transport } = scripted(stream("retry: 1384\n\n", 3), stream("retry: 1500\n\n", 3, "breaks"));
    expect((await request(transport)).end).toEqual([1006, "the event stream ended", 1384]);
    expect((await request(transport)).end).toEqual([1006, "cut", 1500]);
  });

  test("ends with the code of the closed event, as a WebSocket would", async () => {
    const closed = '{"type":"closed","reason":"replaced","code":4409,"may_reconnect":false,"message":"by another"}';
    const { transport } = scripted(stream(`retry: 1000\ndata: ${closed}\n\n`, 9));
    expect(await request(transport)).toEqual({ told: [], end: [4409, "by another", 1000] });
  });

  test("that is refused says so in the words of a close", async () => {
    const refused = (status: number, headers: Record<string, string> = {}): (() => Response) => {
      return () => new Response("no", { status, headers });
    };
    const { transport } = scripted(refused(401), refused(503, { "retry-after": "7" }), refused(429), refused(500));
    expect((await request(transport)).end).toEqual([4401, "no", undefined]);
    expect((await request(transport)).end).toEqual([1013, "no", 7_000]);
    expect((await request(transport)).end).toEqual([1013, "no", undefined]);
    expect((await request(transport)).end).toEqual([1006, "no", undefined]);
  });

  test("whose wish is not served says what of it, and nothing of who asks", async () => {
    const error = '{"type":"error","code":"unknown_symbol","message":"no","symbols":["NQ"]}';
    const answer = (status: number, body: string) => () => new Response(body, { status });
    const { transport } = scripted(answer(404, error), answer(403, error), answer(401, error), answer(404, "what?"));
    expect((await request(transport)).end).toEqual([0, error, undefined]);
    expect((await request(transport)).end).toEqual([0, error, undefined]);
    expect((await request(transport)).end).toEqual([4401, error, undefined]);
    expect((await request(transport)).end).toEqual([1006, "what?", undefined]);
  });

  test("reports nothing once it is closed", async () => {
    const { transport } = scripted(stream("data: a\n\n", 2));
    let told = 0;
    const count = (): void => {
      told += 1;
    };
    const channels = transport.open(
      { message: count, alive: count, stated: count, refused: count, closed: count },
      WISH,
      undefined,
    );
    channels.close();
    await new Promise((resolve) => setImmediate(resolve));
    expect(told).toBe(0);
  });
});
