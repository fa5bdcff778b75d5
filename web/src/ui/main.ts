/**
 * The dashboard: joins the list a person keeps, the worker that follows it and what is on the screen.
 *
 * Invariant: the watch list, its arrangement and the chosen instrument have one owner, here; address, storage, worker and views
 * are told of every change.
 */
import type { Instrument, Sort, SortKey, Update } from "../model/update";
import { AccessView } from "./access-view";
import { DetailView } from "./detail-view";
import { announce, byId } from "./dom";
import { Feed } from "./feed";
import type { BarInterval } from "./price-chart";
import { SearchBox } from "./search-box";
import { ServerView } from "./server-view";
import { StatusView } from "./status-view";
import { startTheme } from "./theme";
import {
  EVERYTHING,
  fromAddress,
  fromStorage,
  sortOf,
  sortText,
  toAddress,
  toStorage,
  WATCH_DEFAULT,
  WATCH_MAX,
  withParameter,
} from "./watch-list";
import { WatchTable } from "./watch-table";

const STORAGE_KEY = "tickerplant.watch-list";
const SORT_KEY = "tickerplant.sort";
const INTERVAL: BarInterval = "1s";

startTheme(byId("theme", HTMLButtonElement));

/** `undefined`: nothing was chosen yet, so the server's first instruments are shown, whatever they are. */
let chosen = fromAddress(location.search) ?? fromStorage(stored(STORAGE_KEY));
let instruments: ReadonlyMap<string, Instrument> = new Map();
let sort: Sort = sortOf(parameter("sort") ?? stored(SORT_KEY));
let selected = parameter("open") ?? undefined;

const feed = new Feed(paint);
const access = new AccessView();
feed.start(access.token);
feed.send({ type: "interval", interval: INTERVAL });

const filter = byId("filter", HTMLInputElement);
filter.value = parameter("filter") ?? "";
const table = new WatchTable({
  remove: toggle,
  select,
  sort: (key) => arrange(nextSort(key)),
  sight: (symbols) => feed.send({ type: "sight", symbols }),
});
const detail = new DetailView(
  {
    close: () => select(undefined),
    interval: (interval) => feed.send({ type: "interval", interval }),
    depth: (depth) => feed.send({ type: "depth", depth }),
  },
  INTERVAL,
);
const status = new StatusView(
  () => feed.send({ type: "reconnect" }),
  (mode) => feed.send({ type: "mode", mode }),
);
const server = new ServerView();
const search = new SearchBox({ has: (symbol) => watched().includes(symbol), toggle });
const everything = byId("everything", HTMLButtonElement);

panel("link-toggle", (open) => status.setOpen(open));
panel("server-toggle", (open) => server.setOpen(open));
byId("fill", HTMLButtonElement).addEventListener("click", () => keep(defaults()));
everything.addEventListener("click", () => keep(isEverything() ? defaults() : [EVERYTHING]));
filter.addEventListener("input", () => {
  address(withParameter(location.search, "filter", filter.value.trim()));
  feed.send({ type: "arrange", sort, filter: filter.value });
});

if (chosen !== undefined) {
  follow();
}
arrange(sort);
if (selected !== undefined) {
  select(selected);
}

function paint(update: Update): void {
  if (update.instruments !== undefined) {
    instruments = new Map(update.instruments.map((instrument) => [instrument.symbol, instrument]));
    search.setInstruments(update.instruments);
    follow();
  }
  if (update.order !== undefined) {
    table.setOrder(update.order);
  }
  table.show(update.rows);
  if (update.detail !== undefined) {
    detail.show(update.detail);
  }
  if (update.status !== undefined) {
    status.show(update.status);
    access.show(update.status.access);
  }
}

function isEverything(): boolean {
  return chosen?.[0] === EVERYTHING;
}

function watched(): readonly string[] {
  return isEverything() ? [...instruments.keys()] : (chosen ?? defaults());
}

function defaults(): string[] {
  return [...instruments.keys()].slice(0, WATCH_DEFAULT);
}

function toggle(symbol: string): void {
  const list = watched();
  if (isEverything()) {
    announce("All instruments are shown; choose some of them first");
  } else if (list.includes(symbol)) {
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
  address(toAddress(location.search, symbols));
  store(STORAGE_KEY, toStorage(symbols));
  follow();
}

function follow(): void {
  const symbols = watched();
  feed.send({ type: "watch", symbols: isEverything() ? [EVERYTHING] : symbols });
  everything.setAttribute("aria-pressed", String(isEverything()));
  document.body.dataset["list"] = isEverything() ? "everything" : "chosen";
  table.describe(instruments);
  detail.describe(instruments);
  search.refresh();
  status.showCount(symbols.length, instruments.size);
  byId("empty", HTMLDivElement).hidden = symbols.length > 0;
}

/** The first click sorts as one mostly wants it, the second the other way round, the third not at all. */
function nextSort(key: SortKey): Sort {
  const first = key === "symbol" || key === "spread" ? "ascending" : "descending";
  if (sort.key !== key) {
    return { key, order: first };
  }
  return sort.order === first
    ? { key, order: first === "ascending" ? "descending" : "ascending" }
    : { key: "none", order: "ascending" };
}

function arrange(wanted: Sort): void {
  sort = wanted;
  table.showSort(sort);
  const text = sortText(sort);
  store(SORT_KEY, text);
  if (text !== (parameter("sort") ?? "")) {
    address(withParameter(location.search, "sort", text));
  }
  feed.send({ type: "arrange", sort, filter: filter.value });
}

function select(symbol: string | undefined): void {
  selected = symbol;
  detail.open(symbol);
  detail.describe(instruments);
  table.select(symbol);
  feed.send({ type: "select", symbol });
  address(withParameter(location.search, "open", symbol ?? ""));
  if (symbol !== undefined) {
    announce(`${symbol} opened`);
  }
}

function panel(id: string, show: (open: "open" | "closed") => void): void {
  const button = byId(id, HTMLButtonElement);
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(open));
    show(open ? "open" : "closed");
  });
}

function parameter(name: string): string | null {
  return new URLSearchParams(location.search).get(name);
}

function address(query: string): void {
  history.replaceState(null, "", (query === "?" ? location.pathname : query) + location.hash);
}

function stored(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function store(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Storage is full or forbidden; the address still keeps it.
  }
}
