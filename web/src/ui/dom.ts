/**
 * The few things this page asks of the document.
 *
 * Invariant: text reaches the document as text: nothing from the network is parsed as markup.
 */

/** The element of the page with this id; that it exists is the page's promise. */
export function byId<T extends HTMLElement>(id: string, type: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof type)) {
    throw new Error(`the page has no ${type.name} #${id}`);
  }
  return found;
}

export function create<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string>>,
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[K] {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    created.setAttribute(name, value);
  }
  created.append(...children);
  return created;
}

/** Writes only what differs: an equal text would still cost a layout, and a new node more than a new text. */
export function setText(target: HTMLElement, text: string): void {
  const only = target.firstChild;
  if (only instanceof Text && only.nextSibling === null) {
    if (only.data !== text) {
      only.data = text;
    }
  } else if (target.textContent !== text) {
    target.textContent = text;
  }
}

/** Tells what happened to those who cannot see it. */
export function announce(text: string): void {
  byId("announcer", HTMLDivElement).textContent = text;
}
