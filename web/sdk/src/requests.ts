/**
 * Questions that have one answer, such as the list of instruments.
 *
 * Invariant: each promise is settled: by its answer, an error, the time limit, or the end of the client. A lost connection
 * asks again.
 */
import type { Command } from "./protocol/commands";
import type { Instrument } from "./protocol/messages";

export class RequestError extends Error {
  override readonly name = "RequestError";
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

const TIME_LIMIT_MS = 15_000;
/** Nobody has this many questions; a program that loops is told so instead of eating memory. */
const REQUESTS_MAX = 1_000;

interface Request {
  readonly command: Command;
  readonly untilMs: number;
  id: number | undefined;
  resolve(instruments: readonly Instrument[]): void;
  reject(error: Error): void;
}

export class Requests {
  readonly #requests = new Set<Request>();

  instruments(prefix: string | undefined, nowMs: number): Promise<readonly Instrument[]> {
    if (this.#requests.size >= REQUESTS_MAX) {
      return Promise.reject(new RequestError("too_many_requests", `${REQUESTS_MAX} requests wait already`));
    }
    return new Promise((resolve, reject) => {
      const command = { op: "instruments", prefix } as const;
      this.#requests.add({ command, untilMs: nowMs + TIME_LIMIT_MS, id: undefined, resolve, reject });
    });
  }

  /** Sends what has not been sent on this connection. */
  flush(send: (command: Command) => number): void {
    for (const request of this.#requests) {
      request.id ??= send(request.command);
    }
  }

  answered(id: number, instruments: readonly Instrument[]): void {
    this.#settle(id, (request) => request.resolve(instruments));
  }

  refused(id: number, code: string, message: string): void {
    this.#settle(id, (request) => request.reject(new RequestError(code, message)));
  }

  /** They are asked again: the connection is lost, or the server has thrown commands away. */
  forget(): void {
    for (const request of this.#requests) {
      request.id = undefined;
    }
  }

  advance(nowMs: number): void {
    for (const request of this.#requests) {
      if (nowMs >= request.untilMs) {
        this.#requests.delete(request);
        request.reject(new RequestError("timeout", "no answer within 15 s"));
      }
    }
  }

  deadline(): number {
    let deadline = Number.POSITIVE_INFINITY;
    for (const request of this.#requests) {
      deadline = Math.min(deadline, request.untilMs);
    }
    return deadline;
  }

  end(error: Error): void {
    for (const request of this.#requests) {
      request.reject(error);
    }
    this.#requests.clear();
  }

  #settle(id: number, settle: (request: Request) => void): void {
    for (const request of this.#requests) {
      if (request.id === id) {
        this.#requests.delete(request);
        settle(request);
      }
    }
  }
}
