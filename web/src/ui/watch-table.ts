/**
 * The watch list in the document: rows in the order that the worker says, one of them in the tab order.
 *
 * Invariant: only the rows on the screen and a few beside it are in the document, however long the list; the space of the others
 * is the table's margin.
 */
import type { Instrument, RowUpdate, Sort, SortKey } from "../model/update";
import { byId, setText } from "./dom";
import { Flashes } from "./flashes";
import { WatchRow } from "./watch-row";

/** Rows beside the screen, so that scrolling does not uncover empty space. */
const MARGIN_ROWS = 8;

export interface TablePort {
  remove(symbol: string): void;
  select(symbol: string): void;
  sort(key: SortKey): void;
  /** Other rows are on the screen now. */
  sight(symbols: readonly string[]): void;
}

export class WatchTable {
  readonly #body = byId("rows", HTMLTableSectionElement);
  readonly #table = byId("watch", HTMLTableElement);
  readonly #scroller = byId("scroller", HTMLDivElement);
  readonly #count = byId("row-count", HTMLSpanElement);
  readonly #flashes = new Flashes();
  readonly #rows = new Map<string, WatchRow>();
  readonly #port: TablePort;
  #order: readonly string[] = [];
  #instruments: ReadonlyMap<string, Instrument> = new Map();
  /** The row in the tab order. */
  #current: string | undefined;
  #selected: string | undefined;
  #sight = "";
  #rowHeight = 29;

  constructor(port: TablePort) {
    this.#port = port;
    this.#body.addEventListener("keydown", (event) => this.#key(event));
    this.#body.addEventListener("focusin", (event) => {
      const symbol = symbolOf(event.target);
      if (symbol !== undefined) {
        this.#makeTabbable(symbol);
      }
    });
    this.#body.addEventListener("click", (event) => {
      const symbol = symbolOf(event.target);
      if (symbol !== undefined && !(event.target instanceof HTMLButtonElement)) {
        this.#port.select(symbol);
      }
    });
    this.#scroller.addEventListener("scroll", () => this.#layOut(), { passive: true });
    new ResizeObserver(() => this.#resized()).observe(this.#scroller);
    for (const button of this.#table.querySelectorAll<HTMLButtonElement>("[data-sort]")) {
      button.addEventListener("click", () => this.#port.sort(button.dataset["sort"] as SortKey));
    }
  }

  setOrder(order: readonly string[]): void {
    const focused = symbolOf(document.activeElement);
    const index = focused === undefined ? -1 : this.#order.indexOf(focused);
    this.#order = order;
    if (this.#current === undefined || !order.includes(this.#current)) {
      this.#current = order[Math.min(Math.max(0, index), order.length - 1)];
    }
    this.#table.setAttribute("aria-rowcount", String(order.length + 1));
    setText(this.#count, `${order.length.toLocaleString("en")} ${order.length === 1 ? "row" : "rows"}`);
    this.#layOut();
    if (index >= 0 && focused !== undefined && !order.includes(focused)) {
      // Whoever removes with the keyboard goes on where they were.
      this.#focus(Math.min(index, order.length - 1));
    }
  }

  describe(instruments: ReadonlyMap<string, Instrument>): void {
    this.#instruments = instruments;
    for (const [symbol, row] of this.#rows) {
      row.describe(instruments.get(symbol)?.description ?? "");
    }
  }

  show(updates: readonly RowUpdate[]): void {
    for (const update of updates) {
      this.#rows.get(update.symbol)?.show(update);
    }
  }

  showSort(sort: Sort): void {
    for (const button of this.#table.querySelectorAll<HTMLButtonElement>("[data-sort]")) {
      const header = button.closest("th");
      if (button.dataset["sort"] === sort.key) {
        header?.setAttribute("aria-sort", sort.order);
      } else {
        header?.removeAttribute("aria-sort");
      }
    }
  }

  /** The instrument in detail, and the row that the focus goes back to. */
  select(symbol: string | undefined): void {
    for (const [other, row] of this.#rows) {
      mark(row, other === symbol);
    }
    if (symbol === undefined && this.#selected !== undefined) {
      const index = this.#order.indexOf(this.#selected);
      if (index >= 0) {
        this.#focus(index);
      }
    }
    this.#selected = symbol;
  }

  #resized(): void {
    const height = Number.parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));
    this.#rowHeight = Number.isFinite(height) ? height : this.#rowHeight;
    this.#layOut();
  }

  #layOut(): void {
    const height = this.#rowHeight;
    const shown = Math.ceil(this.#scroller.clientHeight / height) + 2 * MARGIN_ROWS;
    // A list that has become shorter may end above where it was scrolled to.
    const lowest = Math.max(0, this.#order.length - shown);
    const first = Math.min(lowest, Math.max(0, Math.floor(this.#scroller.scrollTop / height) - MARGIN_ROWS));
    const last = Math.min(this.#order.length, first + shown);
    const symbols = this.#order.slice(first, last);
    const wanted = new Set(symbols);
    for (const [symbol, row] of this.#rows) {
      if (!wanted.has(symbol)) {
        this.#rows.delete(symbol);
        row.remove();
      }
    }
    let before: Element | null = this.#body.firstElementChild;
    symbols.forEach((symbol, at) => {
      const row = this.#rows.get(symbol) ?? this.#make(symbol);
      row.row.setAttribute("aria-rowindex", String(first + at + 2));
      if (row.row === before) {
        before = before.nextElementSibling;
      } else {
        this.#body.insertBefore(row.row, before);
      }
    });
    this.#table.style.marginTop = `${first * height}px`;
    this.#table.style.marginBottom = `${(this.#order.length - last) * height}px`;
    const sight = symbols.join(" ");
    if (sight !== this.#sight) {
      this.#sight = sight;
      this.#port.sight(symbols);
    }
  }

  #make(symbol: string): WatchRow {
    const row = new WatchRow(symbol, this.#flashes, () => this.#port.remove(symbol));
    this.#rows.set(symbol, row);
    row.describe(this.#instruments.get(symbol)?.description ?? "");
    mark(row, symbol === this.#selected);
    setTab(row, symbol === this.#current ? "0" : "-1");
    return row;
  }

  #key(event: KeyboardEvent): void {
    const symbol = symbolOf(event.target);
    if (symbol === undefined || event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    const index = this.#order.indexOf(symbol);
    const target = this.#targetOf(event.key, index);
    if (target !== undefined) {
      this.#focus(Math.max(0, Math.min(this.#order.length - 1, target)));
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.#port.remove(symbol);
    } else if (event.key === "Enter" && !(event.target instanceof HTMLButtonElement)) {
      this.#port.select(symbol);
    } else {
      return;
    }
    event.preventDefault();
  }

  #targetOf(key: string, index: number): number | undefined {
    const page = Math.max(1, Math.floor(this.#scroller.clientHeight / this.#rowHeight) - 2);
    switch (key) {
      case "ArrowDown":
        return index + 1;
      case "ArrowUp":
        return index - 1;
      case "PageDown":
        return index + page;
      case "PageUp":
        return index - page;
      case "Home":
        return 0;
      case "End":
        return this.#order.length - 1;
      default:
        return undefined;
    }
  }

  #focus(index: number): void {
    const symbol = this.#order[index];
    if (symbol === undefined) {
      return;
    }
    const top = index * this.#rowHeight;
    const room = this.#scroller.clientHeight - 2 * this.#rowHeight;
    if (top < this.#scroller.scrollTop) {
      this.#scroller.scrollTop = top;
    } else if (top > this.#scroller.scrollTop + room) {
      this.#scroller.scrollTop = top - room;
    }
    this.#layOut();
    this.#rows.get(symbol)?.row.focus({ preventScroll: true });
  }

  /** One stop of the Tab key for the whole list, and one for its remove button. */
  #makeTabbable(symbol: string): void {
    this.#current = symbol;
    for (const [other, row] of this.#rows) {
      setTab(row, other === symbol ? "0" : "-1");
    }
  }
}

function setTab(row: WatchRow, index: "0" | "-1"): void {
  row.row.setAttribute("tabindex", index);
  row.row.querySelector("button")?.setAttribute("tabindex", index);
}

function mark(row: WatchRow, selected: boolean): void {
  if (selected) {
    row.row.setAttribute("aria-current", "true");
  } else {
    row.row.removeAttribute("aria-current");
  }
}

function symbolOf(target: EventTarget | null): string | undefined {
  const row = target instanceof Element ? target.closest<HTMLElement>("#rows tr") : null;
  return row?.dataset["symbol"];
}
