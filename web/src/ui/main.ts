/**
 * The dashboard: joins the list a person keeps, the worker that follows it and what is on the screen.
 *
 * Invariant: the watch list has one owner, here; address, storage, worker and table are told of every change.
 */
import type { Instrument, Update } from "../model/update";
import { announce, byId } from "./dom";
import { Feed } from "./feed";
import { SearchBox } from "./search-box";
import { StatusView } from "./status-view";
import { fromAddress, fromStorage, toAddress, toStorage, WATCH_DEFAULT, WATCH_MAX } from "./watch-list";
import { WatchTable } from "./watch-table";

const STORAGE_KEY = "tickerplant.watch-list";

/** `undefined`: nothing was chosen yet, so the first instruments are shown as soon as they are known. */
let watched = fromAddress(location.search) ?? fromStorage(stored());
let instruments: ReadonlyMap<string, Instrument> = new Map();

const feed = new Feed(paint);
const table = new WatchTable(toggle);
const status = new StatusView(
  () => feed.reconnect(),
  (mode) => feed.setMode(mode),
);
const search = new SearchBox({ has: (symbol) => watched?.includes(symbol) ?? false, toggle });

byId("fill", HTMLButtonElement).addEventListener("click", () => {
  keep([...instruments.keys()].slice(0, WATCH_DEFAULT));
});
window.addEventListener("popstate", () => {
  watched = fromAddress(location.search) ?? watched;
  follow();
});

if (watched !== undefined) {
  follow();
}
feed.start();

function paint(update: Update): void {
  if (update.instruments !== undefined) {
    instruments = new Map(update.instruments.map((instrument) => [instrument.symbol, instrument]));
    search.setInstruments(update.instruments);
    if (watched === undefined) {
      // Not kept: whoever has chosen nothing also gets what a later server lists first.
      watched = [...instruments.keys()].slice(0, WATCH_DEFAULT);
    }
    follow();
  }
  table.show(update.rows);
  if (update.status !== undefined) {
    status.show(update.status);
  }
}

function toggle(symbol: string): void {
  const list = watched ?? [];
  if (list.includes(symbol)) {
    keep(list.filter((other) => other !== symbol));
    announce(`${symbol} removed`);
  } else if (list.length < WATCH_MAX) {
    keep([...list, symbol]);
    announce(`${symbol} added`);
  } else {
    announce(`The watch list is full: ${WATCH_MAX} symbols`);
  }
}

function keep(symbols: readonly string[]): void {
  watched = [...symbols];
  history.replaceState(null, "", toAddress(location.search, symbols) + location.hash);
  try {
    localStorage.setItem(STORAGE_KEY, toStorage(symbols));
  } catch {
    // Storage is full or forbidden; the address still keeps the list.
  }
  follow();
}

function follow(): void {
  const symbols = watched ?? [];
  feed.watch(symbols);
  table.setSymbols(symbols);
  table.describe(instruments);
  search.refresh();
  status.showCount(symbols.length, instruments.size);
  byId("empty", HTMLDivElement).hidden = symbols.length > 0;
}

function stored(): string | null {
  try {
    return localStorage.getItem(STORAGE_KEY);
  } catch {
    return null;
  }
}
