/**
 * The watch list in the document: rows in the order they were added, one of them in the tab order.
 *
 * Invariant: the table holds a row for every symbol of the list and no other.
 */
import type { Instrument, RowUpdate } from "../model/update";
import { byId } from "./dom";
import { Flashes } from "./flashes";
import { SparklinePainter } from "./sparkline";
import { WatchRow } from "./watch-row";

export class WatchTable {
  readonly #body = byId("rows", HTMLTableSectionElement);
  readonly #painter = new SparklinePainter();
  readonly #flashes = new Flashes();
  /** Rows a little out of sight count as seen, so that scrolling does not uncover old prices. */
  readonly #sight = new IntersectionObserver((entries) => this.#seen(entries), { rootMargin: "200px 0px" });
  readonly #rows = new Map<string, WatchRow>();
  readonly #onRemove: (symbol: string) => void;

  constructor(onRemove: (symbol: string) => void) {
    this.#onRemove = onRemove;
    this.#body.addEventListener("keydown", (event) => this.#key(event));
    this.#body.addEventListener("focusin", (event) => {
      const row = event.target instanceof Element ? event.target.closest("tr") : null;
      if (row !== null) {
        this.#makeTabbable(row);
      }
    });
  }

  setSymbols(symbols: readonly string[]): void {
    const wanted = new Set(symbols);
    for (const [symbol, row] of this.#rows) {
      if (!wanted.has(symbol)) {
        this.#removeRow(symbol, row);
      }
    }
    for (const symbol of symbols) {
      if (!this.#rows.has(symbol)) {
        const row = new WatchRow(symbol, this.#painter, this.#flashes, () => this.#onRemove(symbol));
        this.#sight.observe(row.row);
        this.#rows.set(symbol, row);
        this.#body.append(row.row);
      }
    }
    const first = this.#body.rows[0];
    if (first !== undefined && this.#body.querySelector('tr[tabindex="0"]') === null) {
      this.#makeTabbable(first);
    }
  }

  describe(instruments: ReadonlyMap<string, Instrument>): void {
    for (const [symbol, row] of this.#rows) {
      row.describe(instruments.get(symbol)?.description ?? "");
    }
  }

  show(updates: readonly RowUpdate[]): void {
    for (const update of updates) {
      this.#rows.get(update.symbol)?.show(update);
    }
  }

  #removeRow(symbol: string, row: WatchRow): void {
    if (row.row.contains(document.activeElement)) {
      // Whoever removes with the keyboard goes on where they were.
      const next = row.row.nextElementSibling ?? row.row.previousElementSibling;
      if (next instanceof HTMLElement) {
        next.focus();
      }
    }
    this.#rows.delete(symbol);
    this.#sight.unobserve(row.row);
    row.remove();
  }

  #seen(entries: readonly IntersectionObserverEntry[]): void {
    for (const { target, isIntersecting } of entries) {
      if (target instanceof HTMLElement) {
        this.#rows.get(target.dataset["symbol"] ?? "")?.setSight(isIntersecting ? "in" : "out");
      }
    }
  }

  #key(event: KeyboardEvent): void {
    const row = event.target instanceof Element ? event.target.closest("tr") : null;
    if (row === null || event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    const target = this.#targetOf(event.key, row);
    if (target instanceof HTMLElement) {
      target.focus();
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.#onRemove(row.dataset["symbol"] ?? "");
    } else {
      return;
    }
    event.preventDefault();
  }

  #targetOf(key: string, row: Element): Element | null | undefined {
    switch (key) {
      case "ArrowDown":
        return row.nextElementSibling;
      case "ArrowUp":
        return row.previousElementSibling;
      case "Home":
        return this.#body.firstElementChild;
      case "End":
        return this.#body.lastElementChild;
      default:
        return undefined;
    }
  }

  /** One stop of the Tab key for the whole list, and one for its remove button. */
  #makeTabbable(chosen: HTMLTableRowElement): void {
    for (const row of this.#body.rows) {
      const index = row === chosen ? "0" : "-1";
      row.setAttribute("tabindex", index);
      row.querySelector("button")?.setAttribute("tabindex", index);
    }
  }
}
