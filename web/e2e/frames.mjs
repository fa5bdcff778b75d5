/**
 * How smooth the page is under load: frames per second and main-thread time in Chromium, written to the terminal.
 *
 *   npm --prefix web run build && cargo build --release -p tickerplant
 *   TICKER_BIN=target/release/tickerplant node web/e2e/frames.mjs
 *
 * Everything is shown at every tick, with an instrument open: the worst that a person can ask of the page.
 */
import { spawn } from "node:child_process";
import { chromium } from "@playwright/test";

const RATE = process.env["RATE"] ?? "10000";
const SECONDS = Number(process.env["SECONDS_MEASURED"] ?? 20);
const server = spawn(process.env["TICKER_BIN"] ?? "target/release/tickerplant", [
  "serve",
  "--listen",
  "127.0.0.1:0",
  "--sim-rate",
  RATE,
  "--sim-symbols",
  "1000",
]);
let said = "";
const port = await new Promise((resolve, reject) => {
  const read = (chunk) => {
    said += chunk;
    const found = /listening on http:\/\/[^\s]+:(\d+)/.exec(said);
    if (found !== null) {
      resolve(found[1]);
    }
  };
  server.stdout.on("data", read);
  server.stderr.on("data", read);
  server.once("exit", () => reject(new Error(said)));
});
const browser = await chromium.launch({
  executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--headless", "--disable-gpu", "--disable-features=LocalNetworkAccessChecks"],
});
try {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  if (process.env["DIST"] !== undefined) {
    await fromDisk(page, process.env["DIST"]);
  }
  await page.goto(`http://127.0.0.1:${port}/?symbols=*&open=BTC-USD`);
  await page.waitForSelector('#rows tr[data-state="live"]');
  await page.getByLabel("Updates").selectOption("every tick");
  await page.waitForTimeout(5_000);
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  const metrics = async () => {
    const answer = await session.send("Performance.getMetrics");
    return Object.fromEntries(answer.metrics.map(({ name, value }) => [name, value]));
  };
  const before = await metrics();
  const frames = await page.evaluate(
    (ms) =>
      new Promise((resolve) => {
        const gaps = [];
        const begun = performance.now();
        let last = begun;
        const step = (now) => {
          gaps.push(now - last);
          last = now;
          if (now - begun < ms) {
            requestAnimationFrame(step);
          } else {
            gaps.sort((a, b) => a - b);
            resolve({ count: gaps.length, p99: gaps[Math.floor(gaps.length * 0.99)], longest: gaps.at(-1) });
          }
        };
        requestAnimationFrame(step);
      }),
    SECONDS * 1_000,
  );
  const after = await metrics();
  const share = (name) =>
    `${(((after[name] - before[name]) / (after.Timestamp - before.Timestamp)) * 100).toFixed(1)} %`;
  console.log(`ticks/s shown: ${await page.locator("#meter-rate").textContent()}`);
  console.log(`latency p50 / p99: ${await page.locator("#meter-latency").textContent()}`);
  console.log(
    `frames: ${(frames.count / SECONDS).toFixed(1)}/s, between two p99 ${frames.p99.toFixed(1)} ms, longest ${frames.longest.toFixed(1)} ms`,
  );
  console.log(
    `main thread: busy ${share("TaskDuration")}, script ${share("ScriptDuration")}, layout ${share("LayoutDuration")}, style ${share("RecalcStyleDuration")}`,
  );
  console.log(
    `heap: ${(before.JSHeapUsedSize / 1e6).toFixed(1)} MB before, ${(after.JSHeapUsedSize / 1e6).toFixed(1)} MB after`,
  );
} finally {
  await browser.close();
  server.kill("SIGKILL");
}

/** The page as it lies in a folder instead of the one in the server's binary, to compare two of them on one binary. */
async function fromDisk(page, folder) {
  const { existsSync } = await import("node:fs");
  const { resolve } = await import("node:path");
  await page.context().route("**/*", (route) => {
    const { pathname } = new URL(route.request().url());
    const file = resolve(folder, `.${pathname === "/" ? "/index.html" : pathname}`);
    return existsSync(file) ? route.fulfill({ path: file }) : route.continue();
  });
}
