/**
 * Where a person enters the key or token that the server asks for.
 *
 * Invariant: it is kept in this tab's `sessionStorage` and nowhere else: not in the address, not in a log, not on the page. The page
 * begins anew with another one, so nothing of what the last one was shown remains.
 */
import type { Status } from "../model/update";
import { announce, byId, setText } from "./dom";

const STORAGE_KEY = "tickerplant.token";

export class AccessView {
  readonly token = read();
  readonly #panel = byId("access", HTMLElement);
  readonly #toggle = byId("access-toggle", HTMLButtonElement);
  readonly #input = byId("access-token", HTMLInputElement);
  readonly #help = byId("access-help", HTMLParagraphElement);
  #access: Status["access"] = "granted";

  constructor() {
    const forget = byId("access-forget", HTMLButtonElement);
    forget.hidden = this.token === undefined;
    forget.addEventListener("click", () => begin(undefined));
    byId("access-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      const entered = this.#input.value.trim();
      if (entered !== "") {
        begin(entered);
      }
    });
    this.#toggle.addEventListener("click", () => this.#open(this.#panel.hidden ? "open" : "closed"));
    this.#explain();
  }

  show(access: Status["access"]): void {
    if (access !== this.#access) {
      this.#access = access;
      this.#explain();
      this.#open(access === "asked" ? "open" : "closed");
      if (access === "asked") {
        announce(this.#help.textContent ?? "");
      }
    }
  }

  #open(open: "open" | "closed"): void {
    this.#panel.hidden = open === "closed";
    this.#toggle.setAttribute("aria-expanded", String(open === "open"));
    if (open === "open") {
      this.#input.focus();
    }
  }

  #explain(): void {
    const kept = "What is entered stays in this tab, until the tab is closed.";
    setText(
      this.#help,
      this.#access === "granted"
        ? `${this.token === undefined ? "No key is in use." : "A key is in use."} ${kept}`
        : this.token === undefined
          ? `This server serves only whom it knows. ${kept}`
          : "The server does not accept the key that was entered.",
    );
  }
}

function begin(token: string | undefined): void {
  try {
    if (token === undefined) {
      sessionStorage.removeItem(STORAGE_KEY);
    } else {
      sessionStorage.setItem(STORAGE_KEY, token);
    }
  } catch {
    announce("This browser keeps nothing for this page, so the key cannot be used");
    return;
  }
  location.reload();
}

function read(): string | undefined {
  try {
    return sessionStorage.getItem(STORAGE_KEY) ?? undefined;
  } catch {
    return undefined;
  }
}
