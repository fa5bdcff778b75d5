/**
 * One row of the watch list in the document.
 *
 * Invariant: `show` writes only the cells whose text changed, and reads nothing back from the layout. Rows exist only while they are
 * on the screen or just beside it.
 */
import type { Moving, RowUpdate } from "../model/update";

import { create, setText } from "./dom";
import type { Flashes } from "./flashes";
import { Sparkline } from "./sparkline";

type MarketPhase = NonNullable<RowUpdate["market"]>;

class MovingCell {
  readonly cell: HTMLTableCellElement;
  readonly #flashes: Flashes;

  constructor(name: string, flashes: Flashes) {
    this.cell = numberCell(name);
    this.#flashes = flashes;
  }

  show(value: Moving): void {
    setText(this.cell, value.text);
    if (value.moved !== "none") {
      // The arrow stays until the next move, the tint does not.
      this.cell.dataset["moved"] = value.moved;
      this.#flashes.light(this.cell);
    }
  }

  remove(): void {
    this.#flashes.forget(this.cell);
  }
}

export class WatchRow {
  readonly symbol: string;
  readonly row: HTMLTableRowElement;
  readonly #line = new Sparkline();
  readonly #description = create("span", { class: "description" });
  readonly #bid: MovingCell;
  readonly #bidSize = numberCell("bid-size");
  readonly #ask: MovingCell;
  readonly #askSize = numberCell("ask-size");
  readonly #spread = numberCell("spread");
  readonly #last: MovingCell;
  readonly #lastSize = numberCell("last-size");
  readonly #change = numberCell("change");
  readonly #percent = numberCell("percent");
  readonly #time = numberCell("time");
  readonly #phase = create("span", { class: "phase", hidden: "" });

  constructor(symbol: string, flashes: Flashes, remove: () => void) {
    this.symbol = symbol;
    this.#bid = new MovingCell("bid", flashes);
    this.#ask = new MovingCell("ask", flashes);
    this.#last = new MovingCell("last", flashes);
    const button = create(
      "button",
      { type: "button", class: "remove", "aria-label": `Remove ${symbol} from the watch list`, tabindex: "-1" },
      "\u00d7",
    );
    button.addEventListener("click", remove);
    this.row = create(
      "tr",
      { role: "row", tabindex: "-1", "data-symbol": symbol, "data-state": "waiting" },
      create(
        "th",
        { role: "rowheader", scope: "row", class: "c-symbol" },
        create("span", { class: "symbol" }, symbol),
        this.#phase,
        this.#description,
      ),
      this.#bidSize,
      this.#bid.cell,
      this.#ask.cell,
      this.#askSize,
      this.#spread,
      this.#last.cell,
      this.#lastSize,
      this.#change,
      this.#percent,
      create("td", { role: "cell", class: "c-trace" }, this.#line.picture),
      this.#time,
      create("td", { role: "cell", class: "c-remove" }, button),
    );
  }

  describe(description: string): void {
    if (this.row.dataset["state"] !== "refused") {
      setText(this.#description, description);
      this.row.title = description;
    }
  }

  show(update: RowUpdate): void {
    this.row.dataset["state"] = update.state;
    this.row.dataset["trend"] = update.trend;
    if (update.state === "refused") {
      setText(this.#description, update.reason);
      this.row.title = update.reason;
    }
    showPhase(this.#phase, update.market);
    this.#bid.show(update.bid);
    setText(this.#bidSize, update.bidSize);
    this.#ask.show(update.ask);
    setText(this.#askSize, update.askSize);
    setText(this.#spread, update.spread);
    this.#last.show(update.last);
    setText(this.#lastSize, update.lastSize);
    setText(this.#change, update.change);
    setText(this.#percent, update.changePercent);
    setText(this.#time, update.lastTimeMs === undefined ? "" : timeOfDay(update.lastTimeMs));
    if (update.trace !== undefined) {
      this.#line.show(update.trace);
    }
  }

  remove(): void {
    for (const moving of [this.#bid, this.#ask, this.#last]) {
      moving.remove();
    }
    this.row.remove();
  }
}

/** Trading is the rule and not told. */
export function showPhase(badge: HTMLElement, phase: MarketPhase | undefined): void {
  badge.hidden = phase === undefined || phase === "trading";
  if (!badge.hidden) {
    badge.dataset["market"] = phase;
    setText(badge, (phase ?? "").replace("_", "-"));
  }
}

function numberCell(name: string): HTMLTableCellElement {
  return create("td", { role: "cell", class: `c-${name} num`, "data-field": name });
}

/** Local time to the second, by hand: `Intl` would cost more than the rest of the row. */
function timeOfDay(ms: number): string {
  const date = new Date(ms);
  const two = (value: number): string => value.toString().padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}
