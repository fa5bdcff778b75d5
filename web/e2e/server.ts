/**
 * The real server as a child process.
 *
 * Invariant: ready means that it said where it listens; nothing here waits for a length of time.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const BINARY =
  process.env["TICKER_BIN"] ?? fileURLToPath(new URL("../../target/debug/tickerplant", import.meta.url));

const READY = /listening on http:\/\/[^\s]+:(\d+)/;

export class Server {
  #child: ChildProcess;
  readonly #port: number;
  readonly #flags: readonly string[];

  private constructor(child: ChildProcess, port: number, flags: readonly string[]) {
    this.#child = child;
    this.#port = port;
    this.#flags = flags;
  }

  /** On any port that is free; a market with books if the flags do not say otherwise. */
  static async start(flags: readonly string[] = ["--sim-scenario", "busy"]): Promise<Server> {
    const { child, port } = await launch(0, flags);
    return new Server(child, port, flags);
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Ends it and waits for its end: SIGKILL is a crash, SIGTERM an orderly one. */
  async stop(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, "exit");
      this.#child.kill(signal);
      await ended;
    }
  }

  /** Starts it again, on the same port. */
  async restart(): Promise<void> {
    const { child } = await launch(this.#port, this.#flags);
    this.#child = child;
  }
}

async function launch(port: number, flags: readonly string[]): Promise<{ child: ChildProcess; port: number }> {
  if (!existsSync(BINARY)) {
    throw new Error(`${BINARY} does not exist: build it (cargo build) or name another in TICKER_BIN`);
  }
  const child = spawn(BINARY, ["serve", "--listen", `127.0.0.1:${port}`, "--sim-seed", "7", ...flags], {
    stdio: ["ignore", "pipe", "pipe"],
    env: environment(),
  });
  let output = "";
  return new Promise((resolve, reject) => {
    const read = (chunk: Buffer): void => {
      output += chunk.toString();
      const found = READY.exec(output);
      if (found !== null) {
        resolve({ child, port: Number(found[1]) });
      }
    };
    // Both are read to the end, or a talkative server would stand still once the pipe is full.
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`the server ended with code ${code}:\n${output}`)));
  });
}

/** Ours without the server's own variables: they would configure it, and it refuses those it does not know. */
function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("TICKERPLANT_"));
  return Object.fromEntries(kept);
}
