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

/** `undefined`: nothing was chosen yet, so the server's first instruments are shown, whatever they are. */
let chosen = fromAddress(location.search) ?? fromStorage(stored());
let instruments: ReadonlyMap<string, Instrument> = new Map();

const feed = new Feed(paint);
const table = new WatchTable(toggle);
const status = new StatusView(
  () => feed.reconnect(),
  (mode) => feed.setMode(mode),
);
const search = new SearchBox({ has: (symbol) => watched().includes(symbol), toggle });

byId("fill", HTMLButtonElement).addEventListener("click", () => {
  keep(defaults());
});

if (chosen !== undefined) {
  follow();
}
feed.start();

function paint(update: Update): void {
  if (update.instruments !== undefined) {
    instruments = new Map(update.instruments.map((instrument) => [instrument.symbol, instrument]));
    search.setInstruments(update.instruments);
    follow();
  }
  table.show(update.rows);
  if (update.status !== undefined) {
    status.show(update.status);
  }
}

function watched(): readonly string[] {
  return chosen ?? defaults();
}

function defaults(): string[] {
  return [...instruments.keys()].slice(0, WATCH_DEFAULT);
}

function toggle(symbol: string): void {
  const list = watched();
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
  chosen = [...symbols];
  history.replaceState(null, "", toAddress(location.search, symbols) + location.hash);
  try {
    localStorage.setItem(STORAGE_KEY, toStorage(symbols));
  } catch {
    // Storage is full or forbidden; the address still keeps the list.
  }
  follow();
}

function follow(): void {
  const symbols = watched();
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
