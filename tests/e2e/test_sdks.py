"""One scenario of cuts, gaps, spoilt books and restarts, which all three SDKs survive with the same result."""

import asyncio
import json
import sys

import pytest

from plant import BINARY, ROOT, environment
from scripted import CHANNELS, STREAMS, Scenario

DRIVERS = {
    "rust": [str(BINARY.parent / "examples/conformance")],
    "typescript": ["node", str(ROOT / "tests/e2e/node/driver.mjs")],
    "python": [sys.executable, str(ROOT / "tests/e2e/sdk_driver.py")],
}
# Far above what any of it takes; it only turns a hang into a failure.
WAIT_S = 100


async def run(name):
    """The scenario and what the SDK was shown of it."""
    async with Scenario() as scenario:
        process = await asyncio.create_subprocess_exec(
            *DRIVERS[name],
            scenario.url,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment() | {"PYTHONPATH": str(ROOT / "sdk/python/src")},
        )
        try:
            async with asyncio.timeout(WAIT_S):
                stdout, stderr = await process.communicate()
        except TimeoutError:
            process.kill()
            _, stderr = await process.communicate()
            pytest.fail(f"{name} does not end; {scenario.connections} connections, {scenario.failure!r}: {stderr}")
        assert process.returncode == 0, stderr.decode()
        assert scenario.failure is None, scenario.failure
        return scenario, json.loads(stdout)


def assert_complete(market, streams):
    """Each number that happened came live, once and in order, or is named by a gap."""
    for symbol, channel in STREAMS:
        shown = streams[f"{symbol} {channel}"]
        missing = [number for first, last, _ in shown["gaps"] for number in range(first, last + 1)]
        assert shown["live"] == sorted(set(shown["live"])), f"{symbol} {channel}"
        numbers = range(1, len(market.published[symbol, channel]) + 1)
        happened = [number for number in numbers if number not in market.passed_over[symbol, channel]]
        assert sorted(shown["live"] + missing) == happened, f"{symbol} {channel}"


def digest(market, symbol, live):
    found = 0
    for number in live:
        _, price, size, *_ = market.published[symbol, "trades"][number - 1]
        found = (found * 31 + price * 7 + size) % 2_147_483_647
    return found


def levels(side):
    return [[f"{price // 100}.{price % 100:02}", str(size)] for price, size in side]


@pytest.mark.parametrize("name", DRIVERS)
async def test_an_sdk_is_shown_what_happened_or_what_is_missing(name):
    scenario, result = await run(name)
    assert [run["epoch"] for run in result["runs"]] == ["1", "2"]
    assert result["connections"] == len(Scenario.PARTS)
    assert scenario.refusals == 1
    assert result["refused"] == ["NOPE", "SECRET"]
    assert result["wrong_books"] == 1
    first, second = result["runs"]
    for market, shown in zip(scenario.markets, (first, second), strict=True):
        assert set(shown["streams"]) == {f"{symbol} {channel}" for symbol, channel in STREAMS}
        assert_complete(market, shown["streams"])
        for symbol in ("A", "B"):
            trades = shown["streams"][f"{symbol} trades"]
            assert trades["digest"] == digest(market, symbol, trades["live"])
    assert not any(stream["gaps"] for stream in second["streams"].values())
    reasons = {stream: [reason for *_, reason in shown["gaps"]] for stream, shown in first["streams"].items()}
    assert reasons == {f"{symbol} {channel}": ["evicted"] for symbol, channel in STREAMS} | {
        "A trades": ["slow", "evicted"],
        "B quotes": ["slow", "evicted"],
        "B trades": ["hole", "evicted"],
        "B status": [],
    }
    for symbol in ("A", "B"):
        market = scenario.markets[1]
        number = len(market.published[symbol, "book.10"])
        bids, asks = market.states[symbol, number]
        assert result["books"][symbol] == {"seq": number, "bids": levels(bids), "asks": levels(asks)}


async def test_all_sdks_are_shown_the_same():
    results = {}
    for name in DRIVERS:
        _, results[name] = await run(name)
    assert len(CHANNELS) * 2 == len(results["rust"]["runs"][0]["streams"])
    assert results["python"] == results["rust"]
    assert results["typescript"] == results["rust"]
