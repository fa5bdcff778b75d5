/**
 * What a bot on paper owns: lots, and the money that they have cost.
 *
 * Invariant: money is a `Decimal` throughout; each order and the value that it leads to are exact.
 */
import { Decimal, type Level } from "@tickerplant/client";

export type Side = "buy" | "sell";

export class Paper {
  lots = 0;
  orders = 0;
  #cash = new Decimal(0, 0);

  /** Takes a lot from the other side of the book, and says what all would be worth if it were got rid of at once. */
  trade(side: Side, bid: Level, ask: Level): string {
    const price = side === "buy" ? ask.price : bid.price;
    this.orders += 1;
    if (side === "buy") {
      this.lots += 1;
      this.#cash = this.#cash.minus(price);
    } else {
      this.lots -= 1;
      this.#cash = this.#cash.plus(price);
    }
    const profit = this.#worth(bid.price, ask.price);
    const number = String(this.orders).padStart(6);
    const position = String(this.lots).padStart(2);
    return `${number}. ${side.padEnd(4)} at ${`${price}`.padStart(12)}   position ${position}   profit ${`${profit}`.padStart(12)}`;
  }

  /** A lot that is held is sold at the bid, one that is owed is bought at the ask. */
  #worth(bid: Decimal, ask: Decimal): Decimal {
    let worth = this.#cash;
    for (let lot = 0; lot < Math.abs(this.lots); lot += 1) {
      worth = this.lots > 0 ? worth.plus(bid) : worth.minus(ask);
    }
    return worth;
  }
}
