/**
 * Draws the lines of all rows.
 *
 * Invariant: one painter for every canvas: colours are read once per theme and not once per line, and only lines whose
 * points or size changed are drawn.
 */
import { onThemeChange, colour as themeColour } from "./theme";

interface Colours {
  readonly up: string;
  readonly down: string;
  readonly none: string;
  readonly base: string;
}

/** Room for the stroke and the dot at the end, in CSS pixels. */
const MARGIN = 3;
/** The line fills its cell after this many points (10 s), so that a fresh page is not empty for two minutes. */
const POINTS_MIN = 20;

export class Sparkline {
  readonly canvas: HTMLCanvasElement;
  points: Float64Array = new Float64Array();
  width = 0;
  height = 0;

  constructor(canvas: HTMLCanvasElement) {
    this.canvas = canvas;
  }
}

export class SparklinePainter {
  #colours: Colours | undefined;
  readonly #lines = new Map<Element, Sparkline>();
  readonly #sizes: ResizeObserver;

  constructor() {
    // Sizes come from the observer: reading them while painting would force a layout for each row.
    this.#sizes = new ResizeObserver((entries) => {
      for (const entry of entries) {
        const line = this.#lines.get(entry.target);
        if (line !== undefined) {
          line.width = entry.contentRect.width;
          line.height = entry.contentRect.height;
          this.draw(line);
        }
      }
    });
    onThemeChange(() => {
      this.#colours = undefined;
      for (const line of this.#lines.values()) {
        this.draw(line);
      }
    });
  }

  add(canvas: HTMLCanvasElement): Sparkline {
    const line = new Sparkline(canvas);
    this.#lines.set(canvas, line);
    this.#sizes.observe(canvas);
    return line;
  }

  remove(line: Sparkline): void {
    this.#lines.delete(line.canvas);
    this.#sizes.unobserve(line.canvas);
  }

  draw(line: Sparkline): void {
    const context = line.canvas.getContext("2d");
    const { points, width, height } = line;
    if (context === null || width === 0 || height === 0) {
      return;
    }
    const scale = devicePixelRatio;
    const pixelWidth = Math.round(width * scale);
    const pixelHeight = Math.round(height * scale);
    if (line.canvas.width !== pixelWidth || line.canvas.height !== pixelHeight) {
      line.canvas.width = pixelWidth;
      line.canvas.height = pixelHeight;
    }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const first = points[0];
    const last = points.at(-1);
    if (first === undefined || last === undefined || points.length < 2) {
      return;
    }
    this.#colours ??= readColours();
    const colour = this.#colours[last > first ? "up" : last < first ? "down" : "none"];

    let low = first;
    let high = first;
    for (const point of points) {
      low = Math.min(low, point);
      high = Math.max(high, point);
    }
    const step = (width - 2 * MARGIN) / (Math.max(points.length, POINTS_MIN) - 1);
    const left = width - MARGIN - step * (points.length - 1);
    const range = high - low;
    const yOf = (value: number): number =>
      range === 0 ? height / 2 : MARGIN + ((high - value) / range) * (height - 2 * MARGIN);

    // Where the line began, to read rise and fall without colour.
    context.strokeStyle = this.#colours.base;
    context.lineWidth = 1;
    context.setLineDash([2, 3]);
    context.beginPath();
    const base = Math.round(yOf(first)) + 0.5;
    context.moveTo(MARGIN, base);
    context.lineTo(width - MARGIN, base);
    context.stroke();
    context.setLineDash([]);

    const path = new Path2D();
    points.forEach((point, at) => {
      path.lineTo(left + at * step, yOf(point));
    });
    const area = new Path2D(path);
    area.lineTo(width - MARGIN, height);
    area.lineTo(left, height);
    area.closePath();
    context.globalAlpha = 0.12;
    context.fillStyle = colour;
    context.fill(area);
    context.globalAlpha = 1;
    context.strokeStyle = colour;
    context.lineWidth = 1.25;
    context.lineJoin = "round";
    context.stroke(path);
    context.fillStyle = colour;
    context.beginPath();
    context.arc(width - MARGIN, yOf(last), 1.75, 0, 2 * Math.PI);
    context.fill();
  }
}

function readColours(): Colours {
  return {
    up: themeColour("--up"),
    down: themeColour("--down"),
    none: themeColour("--dim"),
    base: themeColour("--line-strong"),
  };
}
