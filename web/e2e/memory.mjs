/**
 * Whether the page's memory stays level: heaps of the page and of its worker after a forced collection, and the count of nodes.
 *
 *   TICKER_BIN=target/release/tickerplant node web/e2e/memory.mjs
 *
 * A market of ten times the usual ticks (10,000 a second) for six minutes is what an hour brings otherwise: as many trades, book
 * changes and rows. `SECONDS_MEASURED` and `RATE` change that. Ends with 1 when the later half of the samples lies above the
 * earlier half by more than a tenth and a megabyte.
 */
import { withPage } from "./bench.mjs";
import { Devtools } from "./devtools.mjs";

const SECONDS = Number(process.env["SECONDS_MEASURED"] ?? 360);
const SAMPLE_S = 20;
/** Until caches, lines of two minutes and the tape are full. */
const WARM_S = 60;
const port = 9_222 + Math.floor(Math.random() * 1_000);

await withPage(process.env["RATE"] ?? "10000", [`--remote-debugging-port=${port}`], async (page) => {
  const targets = await (await fetch(`http://127.0.0.1:${port}/json/list`)).json();
  const devtools = await Devtools.connect(targets.find(({ type }) => type === "page").webSocketDebuggerUrl);
  await page.waitForTimeout(WARM_S * 1_000);
  const totals = [];
  for (let at = 0; at <= SECONDS; at += SAMPLE_S) {
    const [own, worker] = [await devtools.heap(undefined), await devtools.heap(devtools.worker)];
    const { nodes } = await devtools.send("Memory.getDOMCounters");
    totals.push(own + worker);
    const seen = await page.locator("#meter-rate").textContent();
    console.log(`${String(at).padStart(4)} s  page ${mb(own)}  worker ${mb(worker)}  ${nodes} nodes  ${seen} events/s`);
    await page.waitForTimeout(SAMPLE_S * 1_000);
  }
  devtools.close();
  const middle = Math.ceil(totals.length / 2);
  const [early, late] = [median(totals.slice(0, middle)), median(totals.slice(middle))];
  console.log(`median of both heaps: first half ${mb(early)}, second half ${mb(late)}`);
  process.exitCode = late > early * 1.1 + 1e6 ? 1 : 0;
});

function mb(bytes) {
  return `${(bytes / 1e6).toFixed(2)} MB`;
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}
