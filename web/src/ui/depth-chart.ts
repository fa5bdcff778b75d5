/**
 * The book as a curve: how much could be bought or sold up to each price.
 *
 * Invariant: sizes come from an observer, so that painting reads nothing back from the layout.
 */
import type { BookLine } from "../model/update";
import { colour, onThemeChange } from "./theme";

export class DepthChart {
  readonly #canvas: HTMLCanvasElement;
  #bids: readonly BookLine[] = [];
  #asks: readonly BookLine[] = [];
  #width = 0;
  #height = 0;

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas;
    new ResizeObserver(([entry]) => {
      this.#width = entry?.contentRect.width ?? 0;
      this.#height = entry?.contentRect.height ?? 0;
      this.#draw();
    }).observe(canvas);
    onThemeChange(() => this.#draw());
  }

  show(bids: readonly BookLine[], asks: readonly BookLine[]): void {
    this.#bids = bids;
    this.#asks = asks;
    this.#draw();
  }

  #draw(): void {
    const context = this.#canvas.getContext("2d");
    const [width, height] = [this.#width, this.#height];
    if (context === null || width === 0 || height === 0) {
      return;
    }
    const scale = devicePixelRatio;
    if (this.#canvas.width !== Math.round(width * scale) || this.#canvas.height !== Math.round(height * scale)) {
      this.#canvas.width = Math.round(width * scale);
      this.#canvas.height = Math.round(height * scale);
    }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const lowest = (this.#bids.at(-1) ?? this.#asks[0])?.priceValue;
    const highest = (this.#asks.at(-1) ?? this.#bids[0])?.priceValue;
    if (lowest === undefined || highest === undefined || lowest === highest) {
      return;
    }
    const most = Math.max(this.#bids.at(-1)?.totalValue ?? 0, this.#asks.at(-1)?.totalValue ?? 0);
    const xOf = (price: number): number => ((price - lowest) / (highest - lowest)) * width;
    const yOf = (total: number): number => height - (total / most) * (height - 4);
    for (const [lines, name, edge] of [
      [this.#bids, "--up", 0],
      [this.#asks, "--down", width],
    ] as const) {
      const path = new Path2D();
      path.moveTo(xOf(lines[0]?.priceValue ?? 0), height);
      let level = height;
      for (const line of lines) {
        path.lineTo(xOf(line.priceValue), level);
        level = yOf(line.totalValue);
        path.lineTo(xOf(line.priceValue), level);
      }
      path.lineTo(edge, level);
      context.strokeStyle = colour(name);
      context.lineWidth = 1.5;
      context.stroke(path);
      path.lineTo(edge, height);
      context.globalAlpha = 0.16;
      context.fillStyle = colour(name);
      context.fill(path);
      context.globalAlpha = 1;
    }
  }
}
