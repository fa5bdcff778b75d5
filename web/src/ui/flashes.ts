/**
 * Puts the tint of a move on its cell, and takes it off again.
 *
 * Invariant: one timer for all cells, and no CSS animation: a fade would have the page styled and painted sixty times a second
 * as long as the market moves, which is always. So it is painted when something changes and otherwise not.
 */

/** Long enough to catch the eye, short enough to be gone before the next move of most instruments. */
const FLASH_MS = 350;
/** Cells that are due within this go out together. */
const GRAIN_MS = 50;

export class Flashes {
  /** When each lit cell goes out, soonest first: a cell that is lit anew moves to the end. */
  readonly #lit = new Map<HTMLElement, number>();
  #waiting = false;

  light(cell: HTMLElement): void {
    if (!this.#lit.delete(cell)) {
      cell.dataset["flash"] = "";
    }
    this.#lit.set(cell, performance.now() + FLASH_MS);
    this.#wait();
  }

  forget(cell: HTMLElement): void {
    this.#lit.delete(cell);
  }

  #wait(): void {
    const [soonest] = this.#lit.values();
    if (soonest !== undefined && !this.#waiting) {
      this.#waiting = true;
      setTimeout(
        () => requestAnimationFrame(() => this.#expire()),
        Math.max(0, soonest - performance.now()) + GRAIN_MS,
      );
    }
  }

  #expire(): void {
    this.#waiting = false;
    const now = performance.now();
    for (const [cell, until] of this.#lit) {
      if (until > now) {
        break;
      }
      this.#lit.delete(cell);
      delete cell.dataset["flash"];
    }
    this.#wait();
  }
}
