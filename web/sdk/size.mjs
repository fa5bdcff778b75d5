/**
 * Fails when the SDK has become larger than its budget: everything, MessagePack included, minified and gzipped.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

/** What `README.md` promises; raise both together, and say in the commit what it was worth. */
const BUDGET_BYTES = 22_000;

const web = fileURLToPath(new URL("..", import.meta.url));
execFileSync("npx", ["vite", "build", "--config", "sdk/vite.config.ts", "--logLevel", "error"], {
  cwd: web,
  env: { ...process.env, SDK: "size" },
  stdio: "inherit",
});
const bytes = gzipSync(readFileSync(`${web}/node_modules/.cache/sdk-size/index.js`), { level: 9 }).length;
console.log(`@tickerplant/client: ${bytes} bytes minified and gzipped, the budget is ${BUDGET_BYTES}`);
process.exitCode = bytes > BUDGET_BYTES ? 1 : 0;
