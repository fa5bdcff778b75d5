import { fileURLToPath } from "node:url";
import AxeBuilder from "@axe-core/playwright";
import { test as base, expect, type Locator, type Page } from "@playwright/test";
import { Server } from "./server";

/** Every test has a server of its own, at which addresses begin. */
const test = base.extend<{ server: Server }>({
  // biome-ignore lint/correctness/noEmptyPattern: Playwright reads the names from the pattern.
  server: async ({}, use) => {
    const server = await Server.start();
    await use(server);
    await server.stop("SIGKILL");
  },
  baseURL: async ({ server }, use) => use(server.url),
});

/** Whatever the page logs as an error fails the test, a breach of the content policy included. */
function errorsOf(page: Page): string[] {
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    // While the server is away the browser reports each refused connection.
    if (message.type() === "error" && !/ERR_CONNECTION|WebSocket connection to/.test(message.text())) {
      errors.push(message.text());
    }
  });
  return errors;
}

const rows = (page: Page): Locator => page.locator("#rows tr");
const connection = (page: Page): Locator => page.locator("#connection");

async function expectToMove(page: Page): Promise<void> {
  const prices = async (): Promise<string> =>
    (await rows(page).locator('[data-field="bid"], [data-field="ask"], [data-field="last"]').allTextContents()).join(
      " ",
    );
  const before = await prices();
  await expect.poll(prices).not.toBe(before);
}

test("a first visit shows a market that moves", async ({ page }) => {
  const errors = errorsOf(page);
  await page.goto("/");
  await expect(connection(page)).toContainText("Live");
  await expect(rows(page)).toHaveCount(20);
  await expect(page.locator('#rows tr[data-state="live"]')).toHaveCount(20);
  await expectToMove(page);
  // A move is told by an arrow in its cell.
  await expect(page.locator("#rows td[data-moved]").first()).toBeVisible();
  await expect(page.locator("#meter-rate")).toHaveText(/\d/);
  await expect(page.locator("#meter-latency")).toHaveText(/\d+(\.\d)? \/ \d+(\.\d)? ms/);
  expect(errors).toEqual([]);
});

test("bid stays below ask, digit by digit", async ({ page }) => {
  await page.goto("/");
  await expect(page.locator('#rows tr[data-state="live"]')).toHaveCount(20);
  const crossed = await rows(page).evaluateAll((all) =>
    all
      .map((row) => ["bid", "ask"].map((field) => row.querySelector(`[data-field="${field}"]`)?.textContent ?? ""))
      .filter(([bid, ask]) => /\d/.test(bid ?? "") && /\d/.test(ask ?? ""))
      .filter(([bid, ask]) => Number(bid?.replaceAll(",", "")) >= Number(ask?.replaceAll(",", ""))),
  );
  expect(crossed).toEqual([]);
});

test("a symbol is found, added and removed with the keyboard, and kept", async ({ page }) => {
  await page.goto("/");
  await expect(rows(page)).toHaveCount(20);
  const search = page.getByRole("combobox", { name: /find instruments/i });
  await page.keyboard.press("/");
  await expect(search).toBeFocused();
  const options = page.getByRole("option");
  // The first instrument in the list that is not watched, whatever this server lists.
  const symbol = await page
    .locator('[role="option"][aria-selected="false"]')
    .first()
    .getAttribute("data-symbol")
    .then((found) => found ?? "");
  await page.keyboard.type(symbol.toLowerCase());
  await expect(options.first()).toHaveAttribute("data-symbol", symbol);
  await page.keyboard.press("Enter");
  await expect(options.first()).toHaveAttribute("aria-selected", "true");

  const added = page.locator(`#rows tr[data-symbol="${symbol}"]`);
  await expect(rows(page)).toHaveCount(21);
  await expect(added).toHaveAttribute("data-state", "live");
  await expect(added.locator('[data-field="bid"]')).toHaveText(/\d/);
  expect(page.url()).toContain(symbol);

  await page.reload();
  await expect(rows(page)).toHaveCount(21);
  // Without the address, the browser's own memory.
  await page.goto("/");
  await expect(added).toHaveAttribute("data-state", "live");

  await added.focus();
  await page.keyboard.press("Delete");
  await expect(added).toHaveCount(0);
  await expect(rows(page)).toHaveCount(20);
  await expect(rows(page).last()).toBeFocused();
});

test("a symbol that does not exist is told, the others go on", async ({ page }) => {
  await page.goto("/");
  const first = (await rows(page).first().getAttribute("data-symbol")) ?? "";
  await page.goto(`/?symbols=${first},NO-SUCH.SYMBOL`);
  await expect(page.locator('#rows tr[data-symbol="NO-SUCH.SYMBOL"]')).toHaveAttribute("data-state", "refused");
  await expect(page.locator(`#rows tr[data-symbol="${first}"]`)).toHaveAttribute("data-state", "live");
});

for (const [name, signal] of [
  ["crashes", "SIGKILL"],
  ["restarts in good order", "SIGTERM"],
] as const) {
  test(`the page comes back by itself when the server ${name}`, async ({ page, server }) => {
    const errors = errorsOf(page);
    await page.goto("/");
    await expect(connection(page)).toContainText("Live");
    await expectToMove(page);
    await server.stop(signal);
    await expect(connection(page)).toContainText(/Reconnecting|Connecting/);
    await server.restart();
    await expect(connection(page)).toContainText("Live");
    await expect(rows(page)).toHaveCount(20);
    await expectToMove(page);
    expect(errors).toEqual([]);
  });
}

test("an instrument opens with candles, book, trades and statistics, by keyboard alone", async ({ page }) => {
  const errors = errorsOf(page);
  await page.goto("/?symbols=BTC-USD,AAPL");
  const row = page.locator('#rows tr[data-symbol="AAPL"]');
  await expect(row).toHaveAttribute("data-state", "live");
  await page.locator('#rows tr[tabindex="0"]').focus();
  await page.keyboard.press("ArrowDown");
  await expect(row).toBeFocused();
  await page.keyboard.press("Enter");
  const detail = page.getByRole("complementary", { name: "Instrument" });
  await expect(detail.getByRole("heading", { name: "AAPL" })).toBeVisible();
  await expect(page.locator("#book-state")).toHaveText("verified");
  await expect(page.locator("#bids tr")).toHaveCount(10);
  await expect(page.locator("#tape tr").first()).toContainText(/\d/);
  await expect(page.locator("#detail-facts")).toContainText(/Volume\s*\d/);
  await expect(page.locator("#chart")).toHaveAttribute("aria-label", /[1-9]\d* bars, the newest opened at/);
  await expect(page.locator("#chart canvas").first()).toBeVisible();
  const best = page.locator("#bids tr").first();
  const before = await best.textContent();
  await expect.poll(() => best.textContent()).not.toBe(before);

  await page.getByLabel("Depth", { exact: true }).selectOption("50");
  await expect.poll(() => page.locator("#bids tr").count()).toBeGreaterThan(10);
  await page.getByRole("button", { name: "1m", exact: true }).click();
  await expect(page.locator("#chart")).toHaveAttribute("data-bars", /^[12]$/);

  await page.reload();
  await expect(detail.getByRole("heading", { name: "AAPL" })).toBeVisible();
  // The heading is there before the rows, and the focus returns to a row.
  await expect(row).toHaveAttribute("data-state", "live");
  await page.locator("#detail-close").focus();
  await page.keyboard.press("Escape");
  await expect(detail).toBeHidden();
  await expect(row).toBeFocused();
  expect(errors).toEqual([]);
});

test("thousands of rows are a few in the document, sorted and filtered", async ({ page }) => {
  await page.goto("/");
  await page.getByRole("button", { name: "All instruments" }).click();
  await expect(page.locator("#row-count")).toHaveText("1,000 rows");
  expect(await rows(page).count()).toBeLessThan(80);
  await rows(page).first().focus();
  await page.keyboard.press("End");
  await expect(rows(page).last()).toBeFocused();
  await expect(rows(page).last()).toHaveAttribute("aria-rowindex", "1001");
  await expect(rows(page).last()).toHaveAttribute("data-state", "live");
  await page.getByRole("button", { name: "Symbol" }).click();
  await expect(page.getByRole("columnheader", { name: "Symbol" })).toHaveAttribute("aria-sort", "ascending");
  await page.getByLabel("Filter rows").fill("bitcoin");
  await expect(page.locator("#row-count")).not.toHaveText("1,000 rows");
  const shown = async (): Promise<(string | null)[]> =>
    rows(page).evaluateAll((all) => all.map((row) => row.getAttribute("data-symbol")));
  const symbols = await shown();
  expect(symbols.length).toBeGreaterThan(0);
  expect(symbols).toEqual([...symbols].sort());
  await page.reload();
  await expect.poll(shown).toEqual(symbols);
});

test("a halt is told in the row and over the chart", async ({ page, server }) => {
  await server.stop("SIGKILL");
  const halted = await Server.start(["--sim-script", fileURLToPath(new URL("halt.toml", import.meta.url))]);
  try {
    const symbol = "AAPL";
    await page.goto(`${halted.url}/?symbols=${symbol}&open=${symbol}`);
    await expect(page.locator("#detail-phase")).toHaveText("halted");
    await expect(page.locator(`#rows tr[data-symbol="${symbol}"] .phase`)).toHaveText("halted");
  } finally {
    await halted.stop("SIGKILL");
  }
});

test("the panels show the connection, what conflation leaves out, and the server's metrics", async ({ page }) => {
  await page.goto("/");
  await expect(connection(page)).toContainText("Live");
  await page.locator("#link-toggle").click();
  const panel = page.getByRole("region", { name: "Connection" });
  await expect(panel).toContainText(/Delivered\s*[1-9]/);
  await expect(panel).toContainText(/On the wire\s*\d+\.\d [kM]B/);
  await expect(panel).toContainText(/Compression\s*[1-9]\d*\.\d ×/);
  await page.getByLabel("Updates").selectOption("1 s");
  await expect(panel.locator("#conflation-text")).toContainText("were replaced by newer ones");
  await page.getByLabel("Updates").selectOption("every tick");
  await expect(panel.locator("#conflation-text")).toHaveText("nothing, every tick is sent");
  await page.getByRole("button", { name: "Server" }).click();
  const feed = page.getByRole("region", { name: "Server" }).locator("figure", { hasText: "Feed" }).first();
  await expect(feed.locator("output")).toHaveText(/\d/);
});

test("a crash under an open instrument is a declared gap, and the book is verified again", async ({ page, server }) => {
  await page.goto("/?symbols=BTC-USD&open=BTC-USD");
  await page.getByLabel("Updates").selectOption("every tick");
  await expect(page.locator("#book-state")).toHaveText("verified");
  // Trades that are owed one by one have come: from here on one that is missing is a gap.
  const newest = (): Promise<string | null> => page.locator("#tape tr").first().textContent();
  for (let change = 0; change < 3; change += 1) {
    const before = await newest();
    await expect.poll(newest).not.toBe(before);
  }
  // Looked for in every frame from here on: the trades that follow push it out of the tape.
  const declared = page.waitForFunction(() =>
    document.querySelector("#tape .gap")?.textContent?.includes("the server began anew"),
  );
  await server.stop("SIGKILL");
  await expect(connection(page)).toContainText(/Reconnecting|Connecting/);
  await server.restart();
  await expect(connection(page)).toContainText("Live");
  await declared;
  await expect(page.locator("#book-state")).toHaveText("verified");
  await expectToMove(page);
});

for (const scheme of ["dark", "light"] as const) {
  for (const [name, width, height] of [
    ["desk", 1440, 900],
    ["phone", 390, 844],
    ["4K", 3840, 2160],
  ] as const) {
    test(`axe finds nothing (${scheme}, ${name})`, async ({ page }) => {
      await page.emulateMedia({ colorScheme: scheme });
      await page.setViewportSize({ width, height });
      await page.goto("/");
      await expect(page.locator('#rows tr[data-state="live"]').first()).toBeVisible();
      const found = async (): Promise<string[]> => {
        const { violations } = await new AxeBuilder({ page }).analyze();
        return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(" ")).join(", ")}`);
      };
      expect(await found()).toEqual([]);
      await rows(page).first().click();
      await expect(page.locator("#book-state")).toHaveText("verified");
      await page.locator("#link-toggle").click();
      await page.locator("#server-toggle").click();
      expect(await found()).toEqual([]);
      // Nothing is wider than the screen.
      expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
    });
  }
}

test("every rate can be chosen", async ({ page }) => {
  await page.goto("/");
  await expect(connection(page)).toContainText("Live");
  const rate = page.getByLabel("Updates");
  for (const name of ["every tick", "1 s", "50 ms"]) {
    await rate.selectOption(name);
    await expectToMove(page);
  }
  await expect(page.locator("#notice")).toBeHidden();
});

test("the README's picture @screenshot", async ({ page }) => {
  const target = process.env["SCREENSHOT"];
  test.skip(target === undefined, "SCREENSHOT names no file");
  await page.goto("/");
  await expect(page.locator('#rows tr[data-state="live"]')).toHaveCount(20);
  await rows(page).nth(1).click();
  // The traces need a minute of market to look like what a reader will see.
  await page.waitForTimeout(45_000);
  await page.screenshot({ path: target ?? "" });
});
