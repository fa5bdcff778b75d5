import { expect, test } from "vitest";
import { fromAddress, fromStorage, toAddress, toStorage, WATCH_MAX } from "../src/ui/watch-list";

test("an address says which symbols, in order, or nothing of them", () => {
  expect(fromAddress("?symbols=ES,BTC-USD,EUR/USD,^SPX,a:b_c,ES=F")).toEqual([
    "ES",
    "BTC-USD",
    "EUR/USD",
    "^SPX",
    "a:b_c",
    "ES=F",
  ]);
  expect(fromAddress("?symbols=")).toEqual([]);
  expect(fromAddress("?theme=dark")).toBeUndefined();
});

test("what cannot be a symbol is left out, as are repetitions and what is too much", () => {
  expect(fromAddress("?symbols=ES,,ES,%3Cb%3E,*,A B")).toEqual(["ES"]);
  const many = Array.from({ length: 2 * WATCH_MAX }, (_, at) => `S${at}`);
  expect(fromAddress(`?symbols=${many.join(",")}`)).toHaveLength(WATCH_MAX);
});

test("an address keeps its other parameters", () => {
  expect(toAddress("?a=1&symbols=X&b=2", ["ES", "ES=F"])).toBe("?a=1&b=2&symbols=ES,ES=F");
  expect(fromAddress(toAddress("", ["ES=F", "EUR/USD"]))).toEqual(["ES=F", "EUR/USD"]);
  expect(fromAddress(toAddress("", []))).toEqual([]);
});

test("storage gives back what it was given, and nothing for anything else", () => {
  expect(fromStorage(toStorage(["ES", "NQ"]))).toEqual(["ES", "NQ"]);
  expect([null, "", "{}", "7", "[1"].map(fromStorage)).toEqual([undefined, undefined, undefined, undefined, undefined]);
  expect(fromStorage('["ES", 7, null, "<b>"]')).toEqual(["ES"]);
});
