import { describe, expect, test } from "vitest";
import { Backoff } from "../src/core/backoff";
import { ServerClock } from "../src/core/clock";

describe("backoff", () => {
  test("waits are drawn from nothing to a ceiling that doubles", () => {
    const shortest = new Backoff(() => 0);
    const longest = new Backoff(() => 0.999_999);
    const waits = (backoff: Backoff) => Array.from({ length: 8 }, () => backoff.next(0));
    expect(waits(shortest)).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    expect(waits(longest)).toEqual([500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
  });

  test("a connection that lasted begins anew, one that did not goes on", () => {
    const backoff = new Backoff(() => 0.5);
    backoff.next(0);
    backoff.next(0);
    expect(backoff.next(4_999)).toBe(1000);
    expect(backoff.next(5_000)).toBe(250);
    for (let cut = 0; cut < 10; cut += 1) {
      expect(backoff.next(1)).toBeLessThanOrEqual(1000);
    }
  });

  test("never comes back before the server asked to, once", () => {
    const backoff = new Backoff(() => 0.5);
    backoff.ask(3_000);
    expect(backoff.next(60_000)).toBe(3_250);
    expect(backoff.next(0)).toBe(500);
  });
});

describe("the clock of the server", () => {
  test("a difference within the round trip is none", () => {
    const clock = new ServerClock();
    clock.observe(1_000, 1_009, 1_020);
    expect(clock.offsetMs).toBe(0);
    expect(clock.roundTripMs).toBe(20);
  });

  test("a larger one is corrected for, by the quickest round trip", () => {
    const clock = new ServerClock();
    clock.observe(1_000, 61_050, 1_100);
    clock.observe(2_000, 62_001, 2_002);
    clock.observe(3_000, 63_400, 3_500);
    expect(clock.offsetMs).toBe(60_000);
  });
});
