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
  // The traces need a minute of market to look like what a reader will see.
  await page.waitForTimeout(45_000);
  await page.screenshot({ path: target ?? "" });
});
