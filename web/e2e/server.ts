/**
 * The real server as a child process.
 *
 * Invariant: ready means that it said where it listens; nothing here waits for a length of time.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const BINARY =
  process.env["TICKERPLANT_BIN"] ?? fileURLToPath(new URL("../../target/debug/tickerplant", import.meta.url));

const READY = /listening on (http:\/\/[^\s]+:(\d+))/;

export class Server {
  readonly url: string;
  readonly port: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, url: string, port: number) {
    this.#child = child;
    this.url = url;
    this.port = port;
  }

  /** Port 0: any that is free. */
  static async start(port = 0): Promise<Server> {
    if (!existsSync(BINARY)) {
      throw new Error(`${BINARY} does not exist: build it (cargo build) or name another in TICKERPLANT_BIN`);
    }
    const child = spawn(BINARY, ["serve", "--listen", `127.0.0.1:${port}`, "--sim-seed", "7"], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    const address = await new Promise<RegExpExecArray>((resolve, reject) => {
      const read = (chunk: Buffer): void => {
        output += chunk.toString();
        const found = READY.exec(output);
        if (found !== null) {
          resolve(found);
        }
      };
      // Both are read to the end, or a talkative server would stand still once the pipe is full.
      child.stdout.on("data", read);
      child.stderr.on("data", read);
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`the server ended with code ${code}:\n${output}`)));
    });
    return new Server(child, address[1] ?? "", Number(address[2]));
  }

  /** Ends it and waits for its end: SIGKILL is a crash, SIGTERM an orderly restart. */
  async stop(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, "exit");
      this.#child.kill(signal);
      await ended;
    }
  }
}
