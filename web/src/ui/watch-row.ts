/**
 * One row of the watch list in the document.
 *
 * Invariant: `show` writes only the cells whose text changed, reads nothing back from the layout, and writes nothing at all
 * while the row is scrolled out of sight; the newest update waits until it comes into view.
 */
import type { Moving, RowUpdate } from "../model/update";
import { create, setText } from "./dom";
import type { Flashes } from "./flashes";
import type { Sparkline, SparklinePainter } from "./sparkline";

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
  readonly #painter: SparklinePainter;
  readonly #line: Sparkline;
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
  #sight: "in" | "out" = "out";
  #waiting: RowUpdate | undefined;

  constructor(symbol: string, painter: SparklinePainter, flashes: Flashes, remove: () => void) {
    this.symbol = symbol;
    this.#painter = painter;
    this.#bid = new MovingCell("bid", flashes);
    this.#ask = new MovingCell("ask", flashes);
    this.#last = new MovingCell("last", flashes);
    const canvas = create("canvas", { class: "trace", "aria-hidden": "true" });
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
      create("td", { role: "cell", class: "c-trace" }, canvas),
      this.#time,
      create("td", { role: "cell", class: "c-remove" }, button),
    );
    this.#line = painter.add(canvas);
  }

  describe(description: string): void {
    if (this.row.dataset["state"] !== "refused") {
      setText(this.#description, description);
      this.row.title = description;
    }
  }

  /** The row has come into sight or gone out of it. */
  setSight(sight: "in" | "out"): void {
    this.#sight = sight;
    const update = this.#waiting;
    if (sight === "in" && update !== undefined) {
      this.#waiting = undefined;
      this.#write(update);
    }
  }

  show(update: RowUpdate): void {
    if (this.#sight === "in") {
      this.#write(update);
    } else {
      this.#waiting = { ...update, trace: update.trace ?? this.#waiting?.trace };
    }
  }

  #write(update: RowUpdate): void {
    this.row.dataset["state"] = update.state;
    this.row.dataset["trend"] = update.trend;
    if (update.state === "refused") {
      setText(this.#description, update.reason);
      this.row.title = update.reason;
    }
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
      this.#line.points = update.trace;
      this.#painter.draw(this.#line);
    }
  }

  remove(): void {
    for (const moving of [this.#bid, this.#ask, this.#last]) {
      moving.remove();
    }
    this.#painter.remove(this.#line);
    this.row.remove();
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
