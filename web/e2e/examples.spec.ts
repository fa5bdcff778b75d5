/** The page of `examples/html`, opened from the disk as a person would, on the real server. */
import { pathToFileURL } from "node:url";
import { expect, test } from "@playwright/test";
import { Server } from "./server";

const page = new URL("../../examples/html/ticker.html", pathToFileURL(`${import.meta.dirname}/`)).href;

test("one ticker in a plain page moves, shows a crash of the server, and comes back", async ({ page: tab }) => {
  const server = await Server.start();
  try {
    await tab.goto(`${page}?server=${server.url}`);
    const ticker = tab.locator("#ticker");
    const price = ticker.locator(".price");
    await expect(ticker).toHaveAttribute("data-state", "live");
    await expect(ticker.locator(".symbol")).toHaveText("BTC-USD");
    await expect(price).toHaveText(/^\d+\.\d+$/);
    await expect(ticker.locator(".change")).toHaveText(/^[▲▼] -?\d+\.\d+$/);
    const before = await price.textContent();
    await expect(price).not.toHaveText(before ?? "");

    await server.stop("SIGKILL");
    await expect(ticker).toHaveAttribute("data-state", "waiting");
    await server.restart();
    await expect(ticker).toHaveAttribute("data-state", "live");
    const after = await price.textContent();
    await expect(price).not.toHaveText(after ?? "");
  } finally {
    await server.stop("SIGKILL");
  }
});
