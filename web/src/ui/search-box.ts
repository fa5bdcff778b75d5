/**
 * The search: a combobox over the server's instruments, after the ARIA authoring practices.
 *
 * Invariant: the focus never leaves the input; the chosen option is told by `aria-activedescendant`.
 */
import { search } from "../model/search";
import type { Instrument } from "../model/update";
import { byId, create, setText } from "./dom";

/** More are found by typing on. */
const OPTIONS_MAX = 50;

export interface WatchPort {
  has(symbol: string): boolean;
  toggle(symbol: string): void;
}

export class SearchBox {
  readonly #input = byId("search-input", HTMLInputElement);
  readonly #popup = byId("search-popup", HTMLDivElement);
  readonly #list = byId("search-list", HTMLUListElement);
  readonly #count = byId("search-count", HTMLParagraphElement);
  readonly #watch: WatchPort;
  #instruments: readonly Instrument[] = [];
  #matches: readonly Instrument[] = [];
  #active = 0;

  constructor(watch: WatchPort) {
    this.#watch = watch;
    this.#input.addEventListener("focus", () => this.#open());
    this.#input.addEventListener("input", () => this.#open());
    this.#input.addEventListener("keydown", (event) => this.#key(event));
    this.#input.addEventListener("blur", () => this.#close());
    // The input keeps the focus while the list is clicked.
    this.#popup.addEventListener("mousedown", (event) => event.preventDefault());
    this.#list.addEventListener("click", (event) => {
      const option = event.target instanceof Element ? event.target.closest("li") : null;
      if (option !== null) {
        this.#active = Number(option.dataset["index"]);
        this.#toggle();
      }
    });
    document.addEventListener("keydown", (event) => {
      const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        this.#input.focus();
        this.#input.select();
      }
    });
  }

  setInstruments(instruments: readonly Instrument[]): void {
    this.#instruments = instruments;
    if (!this.#popup.hidden) {
      this.#render();
    }
  }

  /** The watch list has changed. */
  refresh(): void {
    for (const option of this.#list.children) {
      if (option instanceof HTMLElement) {
        this.#mark(option);
      }
    }
  }

  #open(): void {
    this.#popup.hidden = false;
    this.#input.setAttribute("aria-expanded", "true");
    this.#active = 0;
    this.#render();
  }

  #close(): void {
    this.#popup.hidden = true;
    this.#input.setAttribute("aria-expanded", "false");
    this.#input.removeAttribute("aria-activedescendant");
  }

  #key(event: KeyboardEvent): void {
    switch (event.key) {
      case "ArrowDown":
      case "ArrowUp":
        if (this.#popup.hidden) {
          this.#open();
        } else {
          this.#move(event.key === "ArrowDown" ? 1 : -1);
        }
        break;
      case "Enter":
        if (this.#popup.hidden) {
          this.#open();
        } else {
          this.#toggle();
        }
        break;
      case "Escape":
        if (this.#input.value !== "") {
          this.#input.value = "";
          this.#open();
        } else if (this.#popup.hidden) {
          this.#input.blur();
        } else {
          this.#close();
        }
        break;
      default:
        return;
    }
    event.preventDefault();
  }

  #move(by: 1 | -1): void {
    const count = this.#matches.length;
    if (count > 0) {
      this.#active = (this.#active + by + count) % count;
      this.#activate();
    }
  }

  #toggle(): void {
    const chosen = this.#matches[this.#active];
    if (chosen !== undefined) {
      this.#watch.toggle(chosen.symbol);
      this.#activate();
    }
  }

  #render(): void {
    const { matches, total } = search(this.#instruments, this.#input.value, OPTIONS_MAX);
    this.#matches = matches;
    this.#active = Math.min(this.#active, Math.max(0, matches.length - 1));
    this.#list.replaceChildren(...matches.map((instrument, index) => this.#option(instrument, index)));
    this.#list.scrollTop = 0;
    setText(this.#count, this.#summary(matches.length, total));
    this.#activate();
  }

  #summary(shown: number, total: number): string {
    if (this.#instruments.length === 0) {
      return "Waiting for the server's instruments";
    }
    if (total === 0) {
      return `None of ${this.#instruments.length.toLocaleString("en")} instruments matches`;
    }
    return shown === total
      ? `${total} ${total === 1 ? "instrument" : "instruments"}`
      : `${shown} of ${total.toLocaleString("en")} instruments: type on to narrow`;
  }

  #option(instrument: Instrument, index: number): HTMLLIElement {
    const option = create(
      "li",
      {
        role: "option",
        id: `option-${index}`,
        "data-index": String(index),
        "data-symbol": instrument.symbol,
      },
      create("span", { class: "option-mark", "aria-hidden": "true" }),
      create("span", { class: "option-symbol" }, instrument.symbol),
      create("span", { class: "option-description" }, instrument.description),
      create("span", { class: "option-class" }, instrument.assetClass),
    );
    this.#mark(option);
    return option;
  }

  #mark(option: HTMLElement): void {
    option.setAttribute("aria-selected", String(this.#watch.has(option.dataset["symbol"] ?? "")));
  }

  #activate(): void {
    for (const option of this.#list.querySelectorAll(".active")) {
      option.classList.remove("active");
    }
    const option = this.#list.children[this.#active];
    if (option === undefined) {
      this.#input.removeAttribute("aria-activedescendant");
      return;
    }
    option.classList.add("active");
    option.scrollIntoView({ block: "nearest" });
    this.#input.setAttribute("aria-activedescendant", option.id);
  }
}
