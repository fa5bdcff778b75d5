/**
 * One instrument: chart, book, trades, statistics.
 *
 * Invariant: what is not on the screen is not written; rows of book and trades are made once and filled again.
 */
import type { BookUpdate, Depth, DetailUpdate, Instrument, RowUpdate, TradeLine } from "../model/update";
import { DepthChart } from "./depth-chart";
import { byId, create, setText } from "./dom";
import { type BarInterval, INTERVALS, PriceChart } from "./price-chart";
import { showPhase } from "./watch-row";

export interface DetailPort {
  close(): void;
  interval(interval: BarInterval): void;
  depth(depth: Depth): void;
}

const TRADES_SHOWN = 60;

export class DetailView {
  readonly #aside = byId("detail", HTMLElement);
  readonly #symbol = byId("detail-symbol", HTMLElement);
  readonly #phase = byId("detail-phase", HTMLSpanElement);
  readonly #description = byId("detail-description", HTMLSpanElement);
  readonly #last = byId("detail-last", HTMLSpanElement);
  readonly #change = byId("detail-change", HTMLSpanElement);
  readonly #facts = byId("detail-facts", HTMLElement);
  readonly #range = byId("detail-range", HTMLDivElement);
  readonly #bookState = byId("book-state", HTMLSpanElement);
  readonly #spread = byId("book-spread", HTMLTableCellElement);
  readonly #ladder = byId("ladder", HTMLElement);
  readonly #asks = byId("asks", HTMLTableSectionElement);
  readonly #bids = byId("bids", HTMLTableSectionElement);
  readonly #tape = byId("tape", HTMLTableSectionElement);
  readonly #chart = new PriceChart(byId("chart", HTMLDivElement));
  readonly #depthChart = new DepthChart(byId("depth-chart", HTMLCanvasElement));
  #shown: string | undefined;

  constructor(port: DetailPort, interval: BarInterval) {
    byId("detail-close", HTMLButtonElement).addEventListener("click", () => port.close());
    this.#aside.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        port.close();
      }
    });
    byId("depth", HTMLSelectElement).addEventListener("change", (event) => {
      if (event.target instanceof HTMLSelectElement) {
        port.depth(event.target.value === "50" ? "50" : "10");
      }
    });
    const group = byId("intervals", HTMLFieldSetElement);
    for (const name of INTERVALS) {
      const button = create("button", { type: "button", "aria-pressed": String(name === interval) }, name);
      button.addEventListener("click", () => {
        for (const other of group.children) {
          other.setAttribute("aria-pressed", String(other === button));
        }
        port.interval(name);
      });
      group.append(button);
    }
  }

  open(symbol: string | undefined): void {
    this.#shown = symbol;
    this.#aside.hidden = symbol === undefined;
    document.body.dataset["detail"] = symbol === undefined ? "closed" : "open";
    if (symbol === undefined) {
      return;
    }
    setText(this.#symbol, symbol);
    this.#description.textContent = "";
    this.#last.textContent = "";
    this.#change.textContent = "";
    this.#phase.hidden = true;
    this.#facts.replaceChildren();
    this.#tape.replaceChildren();
    this.#chart.clear();
    this.#showBook({ state: "waiting", reason: "", bids: [], asks: [], spread: "", verified: 0, mismatches: 0 });
  }

  describe(instruments: ReadonlyMap<string, Instrument>): void {
    const instrument = this.#shown === undefined ? undefined : instruments.get(this.#shown);
    setText(this.#description, instrument === undefined ? "" : `${instrument.description} · ${instrument.currency}`);
  }

  show(update: DetailUpdate): void {
    if (update.symbol !== this.#shown) {
      return;
    }
    if (update.row !== undefined) {
      this.#showRow(update.row);
    }
    if (update.market !== undefined) {
      showPhase(this.#phase, update.market.phase);
      this.#phase.title = update.market.reason;
      this.#chart.setPhase(update.market.phase);
    }
    if (update.statistics !== undefined) {
      const { open, high, low, volume, turnover, trades, position } = update.statistics;
      showFacts(this.#facts, [
        ["Open", open],
        ["High", high],
        ["Low", low],
        ["Volume", volume],
        ["Turnover", turnover],
        ["Trades", trades],
      ]);
      this.#range.style.setProperty("--at", String(position));
    }
    if (update.book !== undefined) {
      this.#showBook(update.book);
    }
    if (update.trades.length > 0) {
      this.#showTrades(update.trades);
    }
    if (update.bars !== undefined) {
      this.#chart.show(update.bars);
    }
  }

  #showRow(row: RowUpdate): void {
    setText(this.#last, row.last.text);
    setText(this.#change, `${row.change} (${row.changePercent})`);
    this.#aside.dataset["trend"] = row.trend;
  }

  #showBook(book: BookUpdate): void {
    this.#bookState.dataset["state"] = book.state;
    setText(this.#bookState, STATES[book.state]);
    this.#bookState.title =
      book.state === "refused"
        ? book.reason
        : `${book.verified.toLocaleString("en")} changes whose checksum came out, ${book.mismatches} mended`;
    setText(this.#spread, book.spread === "" ? NO_BOOK[book.state] : `spread ${book.spread}`);
    const most = Math.max(book.bids.at(-1)?.totalValue ?? 0, book.asks.at(-1)?.totalValue ?? 0, Number.MIN_VALUE);
    const lines = this.#asks.rows.length + this.#bids.rows.length;
    fill(this.#asks, [...book.asks].reverse(), most);
    fill(this.#bids, book.bids, most);
    if (this.#spread.checkVisibility() && Math.abs(this.#asks.rows.length + this.#bids.rows.length - lines) > 4) {
      // Another depth, or the first book: the spread is what one looks at first.
      const scroller = this.#ladder;
      const middle = this.#spread.offsetTop - (scroller.clientHeight - this.#spread.offsetHeight) / 2;
      scroller.scrollTop = Math.max(0, middle);
    }
    this.#depthChart.show(book.bids, book.asks);
  }

  #showTrades(trades: readonly TradeLine[]): void {
    this.#tape.prepend(...trades.map(tradeRow));
    while (this.#tape.rows.length > TRADES_SHOWN) {
      this.#tape.deleteRow(-1);
    }
  }
}

const STATES: Readonly<Record<BookUpdate["state"], string>> = {
  waiting: "waiting",
  verified: "verified",
  mending: "mending",
  refused: "none",
};

const NO_BOOK: Readonly<Record<BookUpdate["state"], string>> = {
  waiting: "no book has come yet",
  verified: "one side is empty",
  mending: "a new snapshot is on its way",
  refused: "this feed brings no books",
};

function fill(body: HTMLTableSectionElement, lines: BookUpdate["bids"], most: number): void {
  while (body.rows.length > lines.length) {
    body.deleteRow(-1);
  }
  while (body.rows.length < lines.length) {
    body.append(
      create(
        "tr",
        {},
        create("td", { class: "num" }),
        create("td", { class: "num" }),
        create("td", { class: "num price" }),
      ),
    );
  }
  lines.forEach((line, at) => {
    const row = body.rows[at];
    const [total, size, price] = row?.cells ?? [];
    if (row !== undefined && total !== undefined && size !== undefined && price !== undefined) {
      setText(total, line.total);
      setText(size, line.size);
      setText(price, line.price);
      row.style.setProperty("--part", (line.totalValue / most).toFixed(3));
    }
  });
}

function tradeRow(trade: TradeLine): HTMLTableRowElement {
  if (trade.gap !== undefined) {
    return create("tr", { class: "gap" }, create("td", { colspan: "4" }, trade.gap));
  }
  return create(
    "tr",
    { "data-side": trade.side },
    create("td", {}, timeOf(trade.timeMs)),
    create("td", { class: "num" }, trade.price),
    create("td", { class: "num" }, trade.size),
    create("td", {}, trade.side === "unknown" ? "" : trade.side === "buy" ? "▲ buy" : "▼ sell"),
  );
}

function timeOf(ms: number): string {
  const date = new Date(ms);
  const two = (value: number): string => value.toString().padStart(2, "0");
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return `${clock}.${date.getMilliseconds().toString().padStart(3, "0")}`;
}

/** A list of names and values, its elements made once. */
export function showFacts(target: HTMLElement, facts: readonly (readonly [name: string, value: string])[]): void {
  if (target.children.length !== facts.length) {
    target.replaceChildren(...facts.map(([name]) => create("div", {}, create("dt", {}, name), create("dd", {}))));
  }
  facts.forEach(([, value], at) => {
    const cell = target.children[at]?.lastElementChild;
    if (cell instanceof HTMLElement) {
      setText(cell, value);
    }
  });
}
