/**
 * What the measurements of the page share: a server, a browser, the page with everything at every tick.
 *
 * Invariant: whatever was started is ended, also after a failure.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { chromium } from "@playwright/test";

/** Everything is shown at every tick, with an instrument open: the worst that a person can ask of the page. */
export async function withPage(rate, browserFlags, measure) {
  const binary = process.env["TICKER_BIN"] ?? "target/release/tickerplant";
  const server = spawn(binary, ["serve", "--listen", "127.0.0.1:0", "--sim-rate", rate, "--sim-symbols", "1000"]);
  let browser;
  try {
    const port = await listening(server);
    browser = await chromium.launch({
      executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
      // The last is for pages that Playwright hands out (DIST): Chromium would not let them reach a socket of this machine.
      args: [
        "--no-sandbox",
        "--headless",
        "--disable-gpu",
        "--disable-features=LocalNetworkAccessChecks",
        ...browserFlags,
      ],
    });
    const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
    if (process.env["DIST"] !== undefined) {
      await fromDisk(page, process.env["DIST"]);
    }
    await page.goto(`http://127.0.0.1:${port}/?symbols=*&open=BTC-USD`);
    await page.waitForSelector('#rows tr[data-state="live"]');
    await page.getByLabel("Updates").selectOption("every tick");
    await measure(page);
  } finally {
    await browser?.close();
    server.kill("SIGKILL");
  }
}

function listening(server) {
  let said = "";
  return new Promise((found, failed) => {
    const read = (chunk) => {
      said += chunk;
      const port = /listening on http:\/\/[^\s]+:(\d+)/.exec(said)?.[1];
      if (port !== undefined) {
        found(port);
      }
    };
    server.stdout.on("data", read);
    server.stderr.on("data", read);
    server.once("exit", () => failed(new Error(said)));
  });
}

/** The page as it lies in a folder instead of the one in the server's binary, to compare two of them on one binary. */
async function fromDisk(page, folder) {
  await page.context().route("**/*", (route) => {
    const { pathname } = new URL(route.request().url());
    const file = resolve(folder, `.${pathname === "/" ? "/index.html" : pathname}`);
    return existsSync(file) ? route.fulfill({ path: file }) : route.continue();
  });
}
