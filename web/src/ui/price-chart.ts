/**
 * Candles and volume, on TradingView's lightweight-charts.
 *
 * Invariant: a live bar costs one `update`; all is set anew only when the instrument or the interval changes.
 */
import {
  CandlestickSeries,
  createChart,
  HistogramSeries,
  type IChartApi,
  type ISeriesApi,
  type UTCTimestamp,
} from "lightweight-charts";
import type { BarsUpdate, ChartBar, DetailUpdate } from "../model/update";
import { colour, onThemeChange } from "./theme";

export type BarInterval = BarsUpdate["interval"];
type Phase = NonNullable<DetailUpdate["market"]>["phase"];

export const INTERVALS: readonly BarInterval[] = ["1s", "5s", "10s", "1m", "5m", "15m", "1h", "1d"];

const BARS_SHOWN = 90;
/** Bars of an interval that are kept; a page that is left open for a day would see 86,400 of a second. At the bound a half goes. */
const BARS_MAX = 4_000;

export class PriceChart {
  readonly #chart: IChartApi;
  readonly #candles: ISeriesApi<"Candlestick">;
  readonly #volume: ISeriesApi<"Histogram">;
  readonly #container: HTMLDivElement;
  #bars = 0;
  #decimals: number | undefined;
  #lastTime = Number.NEGATIVE_INFINITY;
  #all: ChartBar[] = [];

  constructor(container: HTMLDivElement) {
    this.#container = container;
    this.#chart = createChart(container, {
      autoSize: true,
      // It would bring a style element, which the page's policy forbids; the footer names and links the makers.
      layout: { attributionLogo: false, background: { color: "transparent" }, fontSize: 11 },
      timeScale: { timeVisible: true, secondsVisible: true, rightOffset: 3, borderVisible: false },
      rightPriceScale: { borderVisible: false },
      localization: { timeFormatter: (time: number) => new Date(time * 1_000).toLocaleString() },
    });
    this.#candles = this.#chart.addSeries(CandlestickSeries, { priceLineVisible: true });
    this.#volume = this.#chart.addSeries(HistogramSeries, {
      priceScaleId: "volume",
      priceFormat: { type: "volume" },
      lastValueVisible: false,
      priceLineVisible: false,
    });
    this.#chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
    this.#candles.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.24 } });
    this.#paint();
    onThemeChange(() => {
      this.#paint();
      this.#volume.setData(this.#all.map(volumeOf));
    });
  }

  setPhase(phase: Phase): void {
    this.#container.dataset["market"] = phase ?? "trading";
  }

  clear(): void {
    this.#set([]);
  }

  show(update: BarsUpdate): void {
    if (update.decimals !== this.#decimals) {
      // Other options have the whole chart laid out anew.
      this.#decimals = update.decimals;
      this.#candles.applyOptions({
        priceFormat: { type: "price", precision: update.decimals, minMove: 10 ** -update.decimals },
      });
    }
    if (update.kind === "all" || this.#bars === 0) {
      this.#set(update.bars);
      this.#chart.timeScale().setVisibleLogicalRange({ from: this.#bars - BARS_SHOWN, to: this.#bars + 2 });
      return;
    }
    for (const bar of update.bars) {
      const at = this.#all.findLastIndex((one) => one.time <= bar.time);
      if (this.#all[at]?.time === bar.time) {
        this.#all[at] = bar;
      } else {
        this.#all.splice(at + 1, 0, bar);
      }
      if (bar.time < this.#lastTime) {
        // A late trade has amended an old bar.
        this.#set(this.#all);
      } else {
        this.#candles.update(candleOf(bar));
        this.#volume.update(volumeOf(bar));
        this.#lastTime = bar.time;
        this.#bars = this.#all.length;
      }
    }
    if (this.#all.length > BARS_MAX) {
      this.#set(this.#all.slice(-BARS_MAX / 2));
    }
    this.#describe();
  }

  #set(bars: readonly ChartBar[]): void {
    this.#all = [...bars];
    this.#candles.setData(bars.map(candleOf));
    this.#volume.setData(bars.map(volumeOf));
    this.#bars = bars.length;
    this.#lastTime = bars.at(-1)?.time ?? Number.NEGATIVE_INFINITY;
    this.#describe();
  }

  #describe(): void {
    const bar = this.#all.at(-1);
    this.#container.dataset["bars"] = String(this.#bars);
    this.#container.setAttribute(
      "aria-label",
      bar === undefined
        ? "Candles and volume: no bars yet"
        : `Candles and volume: ${this.#bars} bars, the newest opened at ${bar.open}, high ${bar.high}, low ${bar.low}, now ${bar.close}`,
    );
  }

  #paint(): void {
    const [up, down, line, dim] = [colour("--up"), colour("--down"), colour("--line"), colour("--dim")];
    this.#chart.applyOptions({
      layout: { textColor: dim },
      grid: { vertLines: { color: line }, horzLines: { color: line } },
    });
    // Rising candles are hollow, falling ones full: told apart without colour.
    this.#candles.applyOptions({
      upColor: colour("--panel"),
      borderUpColor: up,
      wickUpColor: up,
      downColor: down,
      borderDownColor: down,
      wickDownColor: down,
    });
  }
}

function candleOf({ time, open, high, low, close }: ChartBar) {
  return { time: time as UTCTimestamp, open, high, low, close };
}

function volumeOf({ time, open, close, volume }: ChartBar) {
  return {
    time: time as UTCTimestamp,
    value: volume,
    color: colour(close >= open ? "--up-flash" : "--down-flash"),
  };
}
