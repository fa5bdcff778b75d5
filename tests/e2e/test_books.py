"""Order books, bars and statistics of recorded sessions, held against independent builds from the same files.

The replay is that of the crate `feed`, printed by its example `dump`, without the server in between.
"""

import json
import random
import subprocess
from decimal import Decimal

import pandas as pd
import pytest
from read_book import best, checksum, events
from read_dbn import read_dbn
from read_tardis import read_tardis
from ticks import quotes

from plant import BINARY, ROOT

ESH4 = "esh4_mbo_2023-12-25.dbn.zst"
BTC_TRADES = "binance-futures_trades_2020-02-22_BTCUSDT.csv"
ES = "es_mbp-1_2024-07-01.dbn.zst"
SIDES = {"bids": "B", "asks": "A"}
NANOS = 10**9


@pytest.fixture(scope="session")
def dump():
    """Prints a recording's ticks; `cargo test` has built it, and else it is built now."""
    path = BINARY.parent / "examples/dump"
    if not path.exists():
        command = ["cargo", "build", "--quiet", "--package", "feed", "--example", "dump"]
        subprocess.run([*command, "--target-dir", str(BINARY.parent.parent)], cwd=ROOT, check=True)

    def lines(*arguments):
        printed = subprocess.run([path, *arguments], check=True, capture_output=True, text=True).stdout
        return [json.loads(line) for line in printed.splitlines()]

    return lines


def levels(tick):
    """{(side, price in 1e-9): size} of a book tick."""
    pairs = [(side, pair) for key, side in SIDES.items() for pair in tick[key]]
    assert len({(side, price) for side, (price, _) in pairs}) == len(pairs), "a price twice"
    return {(side, int(Decimal(price) * NANOS)): int(size) for side, (price, size) in pairs}


def apply(mine, tick):
    """What a client does with a delta, or with a snapshot when it has nothing yet."""
    for key, size in levels(tick).items():
        if size:
            mine[key] = size
        else:
            del mine[key]


@pytest.fixture(scope="module")
def esh4(dump, recordings):
    return dump(recordings / ESH4)


def books(ticks):
    return [tick for tick in ticks if tick["type"].startswith("book_")]


def test_every_event_of_the_book_is_that_of_an_independent_build(esh4, recordings):
    instrument, got = esh4[0], books(esh4)
    assert (instrument["symbol"], instrument["price_exponent"]) == ("ESH4", -2)
    mine, count = {}, 0
    for tick, event in zip(got, events(str(recordings / ESH4)), strict=True):
        count += 1
        assert tick["type"] == ("book_snapshot" if event.snapshot else "book_delta")
        assert tick["time"] == event.time
        if event.snapshot:
            assert levels(tick) == event.levels
            mine = {}
        else:
            assert levels(tick) == event.changes
        apply(mine, tick)
        assert mine == event.levels
        if count % 50 == 1:
            assert tick["checksum"] == checksum(event.levels, -2)
    assert count > 30_000
    assert checksum(mine, -2) == got[-1]["checksum"]
    assert [best(mine, side, 1)[0][0] for side in "BA"] == [4_810_000_000_000, 4_810_250_000_000]


def test_the_book_at_any_cut_is_that_of_an_independent_build(esh4, recordings):
    got = books(esh4)
    cuts = {random.Random(seed).randrange(len(got)) for seed in range(40)}
    mine = {}
    for number, (tick, event) in enumerate(zip(got, events(str(recordings / ESH4)), strict=True)):
        apply(mine, tick)
        if number in cuts:
            assert mine == event.levels
            assert tick["checksum"] == checksum(event.levels, -2)


def test_quotes_of_an_mbo_file_are_the_best_levels(esh4, recordings):
    want, last = [], None
    for event in events(str(recordings / ESH4)):
        top = tuple(best(event.levels, side, 1) for side in "BA")
        if top != last:
            want.append((event.time, top))
            last = top
    assert len(want) > 10_000
    got = []
    for tick in esh4:
        if tick["type"] == "quote":
            pairs = [(tick["bid"], tick["bid_size"]), (tick["ask"], tick["ask_size"])]
            top = tuple([] if p is None else [(int(Decimal(p) * NANOS), int(s))] for p, s in pairs)
            got.append((tick["time"], top))
    assert got == want


def test_trades_of_an_mbo_file_are_its_records(esh4, recordings):
    trades = [tick for tick in esh4 if tick["type"] == "trade"]
    want = read_dbn(str(recordings / ESH4))
    assert len(trades) == 2973
    assert [(t["time"], Decimal(t["price"]), Decimal(t["size"]), t["side"], t["trade_id"]) for t in trades] == [
        (t.time, Decimal(t.price), Decimal(t.size), t.side, t.trade_id) for t in want
    ]


def test_books_of_an_mbp_file_are_its_quotes(dump, recordings):
    """Each record of `mbp-1` is a book of one level a side."""
    mine, got = {}, []
    for tick in books(dump(recordings / ES)):
        apply(mine, tick)
        got.append((tick["time"], [best(mine, side, 9) for side in "BA"]))
    want = [
        (
            quote.time,
            [
                [(int(Decimal(p) * NANOS), int(s))]
                for p, s in ((quote.bid, quote.bid_size), (quote.ask, quote.ask_size))
            ],
        )
        for quote in quotes(read_dbn(str(recordings / ES)))
    ]
    assert got == want


@pytest.mark.parametrize("name", [BTC_TRADES, ESH4])
def test_bars_are_those_of_an_independent_build(dump, recordings, name):
    path = recordings / name
    trades = read_tardis(str(path)) if path.suffix == ".csv" else read_dbn(str(path))
    printed = dump("--derived", path)
    end = max(tick["time"] for tick in printed if "time" in tick and tick["type"] != "bar")
    keys = ("time", "open", "high", "low", "close", "volume", "trade_count", "closed")
    for seconds in (1, 5, 10, 60, 300, 900, 3600, 86400):
        bars = {}
        for trade in sorted(
            trades, key=lambda trade: trade.time
        ):  # stable: of equal times the first to arrive is first
            bars.setdefault(trade.time // NANOS // seconds * seconds * NANOS, []).append(trade)
        want = []
        for opens, inside in sorted(bars.items()):
            prices, sizes = [Decimal(t.price) for t in inside], [Decimal(t.size) for t in inside]
            shape = prices[0], max(prices), min(prices), prices[-1]
            want.append((opens, *shape, sum(sizes), len(inside), opens + seconds * NANOS <= end))
        got = [
            tuple(Decimal(value) if isinstance(value, str) else value for value in (bar[key] for key in keys))
            for bar in printed
            if bar["type"] == "bar" and bar["interval_s"] == seconds
        ]
        assert got == want
        assert sum(bar[5] for bar in got) == sum(Decimal(t.size) for t in trades)


@pytest.mark.parametrize("seconds", [1, 5, 10, 60, 300, 900, 3600, 86400])
def test_bars_and_volumes_are_those_of_pandas(dump, recordings, seconds):
    """Resampled by a library that knows neither the protocol nor our readers; all numbers are scaled to integers."""
    frame = pd.read_csv(recordings / BTC_TRADES, dtype={"price": str, "amount": str})
    scaled = {name: frame[name].map(lambda text: int(Decimal(text).scaleb(8))) for name in ("price", "amount")}
    frame = frame.assign(**scaled).sort_values("timestamp", kind="stable")
    frame.index = pd.to_datetime(frame["timestamp"], unit="us")
    inside = frame.resample(f"{seconds}s", origin="epoch")
    want = inside["price"].ohlc().assign(volume=inside["amount"].sum(), trade_count=inside["price"].count())
    want = want[want["trade_count"] > 0]
    bars = [
        bar
        for bar in dump("--derived", recordings / BTC_TRADES)
        if bar["type"] == "bar" and bar["interval_s"] == seconds
    ]
    assert [bar["time"] for bar in bars] == want.index.as_unit("ns").astype("int64").tolist()
    for key in ("open", "high", "low", "close", "volume"):
        assert [int(Decimal(bar[key]).scaleb(8)) for bar in bars] == want[key].astype("int64").tolist()
    assert [bar["trade_count"] for bar in bars] == want["trade_count"].tolist()


def test_statistics_are_those_of_an_independent_build(dump, recordings):
    """The recording is shorter than a day, so all of it counts."""
    trades = sorted(read_tardis(str(recordings / BTC_TRADES)), key=lambda trade: trade.time)
    (ticker,) = [tick for tick in dump("--derived", recordings / BTC_TRADES) if tick["type"] == "ticker"]
    prices, sizes = [Decimal(t.price) for t in trades], [Decimal(t.size) for t in trades]
    assert [Decimal(ticker[key]) for key in ("last", "open", "high", "low", "volume")] == [
        prices[-1],
        prices[0],
        max(prices),
        min(prices),
        sum(sizes),
    ]
    assert ticker["trade_count"] == len(trades) == 9999
    # The one approximate value is the nearest float of the exact one.
    assert ticker["turnover"] == float(sum(price * size for price, size in zip(prices, sizes, strict=True)))
