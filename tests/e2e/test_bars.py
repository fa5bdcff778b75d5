"""Bars over the wire, held against those computed from the recording's trades."""

import asyncio
import json
import urllib.request
from decimal import Decimal

import pytest
from read_dbn import read_dbn
from read_tardis import read_tardis

from client import INTERVALS
from plant import PATIENT

NANOS = 10**9


def fetch(url):
    with urllib.request.urlopen(url) as response:
        return json.load(response)["data"]


def bars_of(trades, seconds, end):
    """{opening time: values of a bar element}."""
    inside = {}
    # Stable: of equal times the first to arrive is first.
    for trade in sorted(trades, key=lambda trade: trade.time):
        inside.setdefault(trade.time // NANOS // seconds * seconds * NANOS, []).append(trade)
    bars = {}
    for opens, those in inside.items():
        prices, volume = [Decimal(t.price) for t in those], sum(Decimal(t.size) for t in those)
        shape = prices[0], max(prices), min(prices), prices[-1]
        bars[opens] = (*shape, volume, len(those), opens + seconds * NANOS <= end)
    return bars


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
@pytest.mark.parametrize(
    "name", ["binance-futures_trades_2020-02-22_BTCUSDT.csv", "es_trades_2024-07-01.dbn.zst"], ids=["btcusdt", "es"]
)
async def test_bars_are_those_of_the_trades(plant, session, recordings, name, encoding):
    path = recordings / name
    trades = (read_tardis if path.suffix == ".csv" else read_dbn)(str(path))
    server = plant("--feed", f"recording:{path}", "--replay-speed", "max", "--start-on-first-subscriber", *PATIENT)
    client = await session(server.ws, encoding)
    await client.subscribe([f"bars.{name}" for name in INTERVALS.values()], ["*"])
    await client.notice("feed_ended")
    client.assert_complete()
    end = max(trade.time for trade in trades)
    symbols = {trade.symbol for trade in trades}
    for symbol in symbols:
        mine = [trade for trade in trades if trade.symbol == symbol]
        for seconds, interval in INTERVALS.items():
            want = bars_of(mine, seconds, end)
            # The newest element of a bar counts.
            got = {element.time: element.values for element in client.live(f"bars.{interval}", symbol)}
            assert got == want, (symbol, interval)
            url = f"{server.http}/api/v1/bars?symbol={symbol}&interval={interval}&limit=200"
            kept = await asyncio.to_thread(fetch, url)
            keys = ("open", "high", "low", "close", "volume")
            rows = [(*(Decimal(bar[key]) for key in keys), bar["trade_count"], bar["closed"]) for bar in kept]
            assert rows == [values for _, values in sorted(want.items())][-200:]


async def test_bars_close_by_the_time_and_not_by_the_next_trade(plant, session):
    """A trade in ten seconds and instrument: bars of a second close long before the next."""
    server = plant("--sim-symbols", 20, "--sim-rate", 4, "--sim-scenario", "uniform")
    client = await session(server.ws)
    await client.subscribe(["bars.1s", "trades"], ["*"])
    closed = lambda: [element for element in client.live("bars.1s") if element.values[-1]]  # noqa: E731
    await client.until(lambda: len(closed()) >= 3)
    for bar in closed():
        later = [e for e in client.live("trades", bar.symbol) if e.time >= bar.time + NANOS]
        arrived = client.elements.index(bar)
        assert not any(client.elements.index(trade) < arrived for trade in later)
