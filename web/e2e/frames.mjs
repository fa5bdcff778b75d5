/**
 * How smooth the page is under load: frames per second and main-thread time in Chromium, written to the terminal.
 *
 *   npm --prefix web run build && cargo build --release -p tickerplant
 *   TICKER_BIN=target/release/tickerplant node web/e2e/frames.mjs
 *
 * `RATE` are the market's ticks a second, `SECONDS_MEASURED` how long; `DIST` is a folder to take the page from.
 */
import { withPage } from "./bench.mjs";

const SECONDS = Number(process.env["SECONDS_MEASURED"] ?? 20);

await withPage(process.env["RATE"] ?? "10000", [], async (page) => {
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
});
