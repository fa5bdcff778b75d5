/**
 * Light, dark, or what the system says.
 *
 * Invariant: colours are CSS variables that follow `color-scheme`; whoever paints by itself is told when they change.
 */
const STORAGE_KEY = "tickerplant.theme";
const listeners = new Set<() => void>();

export function onThemeChange(listener: () => void): void {
  listeners.add(listener);
}

export function colour(name: string): string {
  const known = resolved.get(name);
  if (known !== undefined) {
    return known;
  }
  // A computed variable is still `light-dark(...)`; a computed colour is resolved.
  probe.style.color = `var(${name})`;
  const { color } = getComputedStyle(probe);
  resolved.set(name, color);
  return color;
}

/** Asking for one would have the page's style computed. */
const resolved = new Map<string, string>();

const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);

export function startTheme(button: HTMLButtonElement): void {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = read();
  if (stored === "light" || stored === "dark") {
    document.documentElement.dataset["theme"] = stored;
  }
  system.addEventListener("change", changed);
  button.addEventListener("click", () => {
    const now = document.documentElement.dataset["theme"] ?? (system.matches ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    document.documentElement.dataset["theme"] = next;
    try {
      localStorage.setItem(STORAGE_KEY, next);
    } catch {
      // It holds for this visit.
    }
    changed();
  });
}

function changed(): void {
  resolved.clear();
  for (const listener of listeners) {
    listener();
  }
}

function read(): string | null {
  try {
    return localStorage.getItem(STORAGE_KEY);
  } catch {
    return null;
  }
}
