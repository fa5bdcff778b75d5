/** A server that serves only whom it knows, and the page's place to say who one is. */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import AxeBuilder from "@axe-core/playwright";
import { expect, test } from "@playwright/test";
import { BINARY, Server } from "./server";

test("a key is asked for, kept in the tab and nowhere else, and can be forgotten", async ({ page }) => {
  // Five starts of the page, and axe.
  test.setTimeout(240_000);
  const folder = await mkdtemp(join(tmpdir(), "access-"));
  const keys = join(folder, "keys.toml");
  const { stdout } = await promisify(execFile)(BINARY, ["keys", "new", "--file", keys, "--name", "desk"]);
  const key = /tp_\w+/.exec(stdout)?.[0] ?? "";
  expect(key).not.toBe("");
  const server = await Server.start(["--sim-scenario", "busy", "--api-keys-file", keys]);
  try {
    await page.goto(`${server.url}/?open=BTC-USD`);
    const panel = page.locator("#access");
    const field = page.getByLabel("API key or token");
    await expect(panel).toBeVisible();
    await expect(panel).toContainText("serves only whom it knows");
    await expect(field).toBeFocused();
    await expect(page.getByRole("button", { name: "Forget it" })).toBeHidden();
    expect((await new AxeBuilder({ page }).include("#access").analyze()).violations).toEqual([]);

    await field.fill("tp_00000000_wrong");
    await field.press("Enter");
    await expect(panel).toContainText("does not accept");

    await field.fill(key);
    await page.getByRole("button", { name: "Connect" }).click();
    await expect(page.locator('#rows tr[data-state="live"]').first()).toBeVisible();
    await expect(panel).toBeHidden();
    // The history comes over plain HTTP, which asks too.
    await expect(page.locator("#chart")).toHaveAttribute("data-bars", /^[1-9]/);
    expect(page.url()).not.toContain(key);
    const seen = await page.evaluate(() => [JSON.stringify(localStorage), document.cookie, document.body.outerHTML]);
    expect(seen.join(" ")).not.toContain(key);

    await page.reload();
    await expect(page.locator('#rows tr[data-state="live"]').first()).toBeVisible();
    await page.getByRole("button", { name: "Key" }).click();
    await expect(panel).toContainText("A key is in use");
    await page.getByRole("button", { name: "Forget it" }).click();
    await expect(panel).toContainText("serves only whom it knows");
    expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
  } finally {
    await server.stop("SIGKILL");
    await rm(folder, { recursive: true });
  }
});
