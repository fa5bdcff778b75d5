"""Books and bars as clients get them, held against independent builds from the same recordings."""

import asyncio
import json
import random
import urllib.request
import zlib

import pytest
from read_book import best, checksum, events

from plant import PATIENT

ESH4 = "esh4_mbo_2023-12-25.dbn.zst"
TICK = 10**7  # the integers of ESH4 are hundredths, those of the file are 1e-9
DEPTHS = {"book.10": 10, "book.50": 50, "book.full": None}


class Book:
    """What docs/protocol.md has a client keep."""

    def __init__(self):
        self.sides = {}, {}
        self.seq = None

    def apply(self, element):
        *sides, want = element.values
        for mine, levels in zip(self.sides, sides, strict=True):
            if element.type == "book_snapshot":
                mine.clear()
            for price, size in levels:
                if size:
                    mine[price] = size
                else:
                    mine.pop(price, None)
        self.seq = element.seq
        assert self.checksum() == want, element

    def checksum(self):
        bids, asks = self.sides
        levels = sorted(asks.items())[:10] + sorted(bids.items(), reverse=True)[:10]
        return zlib.crc32("".join(f"{price}{size}" for price, size in levels).encode())

    def levels(self):
        return {("BA"[n], price * TICK): size for n, side in enumerate(self.sides) for price, size in side.items()}


def built(client, channel):
    """The book that a client has kept, checked at each element."""
    book = Book()
    for element in client.elements:
        # After a gap comes a snapshot.
        if element.channel == channel and element.type != "gap":
            book.apply(element)
    return book


def cut(levels, count):
    """The best levels a side."""
    if count is None:
        return dict(levels)
    return {(side, price): size for side in "BA" for price, size in best(levels, side, count)}


def fetch(url):
    with urllib.request.urlopen(url) as response:
        return json.load(response)["data"]


def final(path):
    *_, last = events(str(path))
    return dict(last.levels)


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_every_element_of_a_book_is_that_of_an_independent_build(plant, session, recordings, encoding):
    path = recordings / ESH4
    server = plant("--feed", f"recording:{path}", "--replay-speed", "max", "--start-on-first-subscriber", *PATIENT)
    client = await session(server.ws, encoding)
    await client.subscribe(list(DEPTHS), ["ESH4"])
    await client.notice("feed_ended")
    client.assert_complete()
    book, count = Book(), 0
    for element, event in zip(client.live("book.full"), events(str(path)), strict=True):
        count += 1
        book.apply(element)
        assert element.time == event.time
        assert (element.type == "book_snapshot") == event.snapshot
        if count % 50 == 1:
            assert book.levels() == event.levels
            assert element.values[2] == checksum(event.levels, -2)
    assert count > 30_000
    for channel, depth in DEPTHS.items():
        assert built(client, channel).levels() == cut(final(path), depth), channel


async def test_whoever_joins_at_any_moment_has_the_same_book(plant, session, recordings):
    """Clients that join on the way, in both modes; the speed is such that the session takes seconds."""
    path = recordings / ESH4
    times = [event.time for event in events(str(path))]
    speed = max(1.0, (times[-1] - times[0]) / 5e9)
    server = plant(
        "--feed", f"recording:{path}", "--replay-speed", f"{speed:.1f}", "--start-on-first-subscriber", *PATIENT
    )
    first = await session(server.ws)
    await first.subscribe(list(DEPTHS), ["*"])
    whole = asyncio.create_task(first.notice("feed_ended"))
    luck, joined = random.Random(6), []
    for number in range(12):
        await asyncio.sleep(luck.uniform(0.1, 0.4))  # a moment drawn by lot; nothing depends on it
        client = await session(server.ws, luck.choice(["msgpack", "json"]))
        mode = {"mode": "latest", "interval_ms": luck.choice([0, 20, 100])} if number % 2 else {}
        await client.subscribe(list(DEPTHS), ["ESH4"], **mode)
        joined.append((client, asyncio.create_task(client.notice("feed_ended"))))
    await whole
    want, truth = {channel: built(first, channel) for channel in DEPTHS}, final(path)
    on_the_way = 0
    for client, ended in joined:
        await ended
        newest = {channel: want[channel].seq for channel in DEPTHS}
        await client.until(lambda c=client, n=newest: n.items() <= {e.channel: e.seq for e in c.elements}.items())
        states = [element for element in client.elements if element.snapshot]
        on_the_way += any(1 < state.seq < newest[state.channel] for state in states)
        for channel, depth in DEPTHS.items():
            book = built(client, channel)
            assert book.sides == want[channel].sides
            assert book.levels() == cut(truth, depth)
    assert on_the_way > 0, "nobody joined in the middle"
    (element,) = await asyncio.to_thread(fetch, f"{server.http}/api/v1/book?symbol=ESH4&depth=full")
    assert element["seq"] == want["book.full"].seq
    assert element["checksum"] == checksum(truth, -2)
    assert len(element["bids"]) + len(element["asks"]) == len(truth)


@pytest.mark.parametrize("mode", [{}, {"mode": "latest", "interval_ms": 50}], ids=["every", "latest"])
async def test_books_of_a_scripted_market_are_kept_by_clients(plant, session, tmp_path, mode):
    script = tmp_path / "day.scenario"
    script.write_text("repeat_seconds = 2\n[[at]]\nseconds = 0\nactivity = 3\n[[at]]\nseconds = 1\nspread = 4\n")
    server = plant("--sim-script", script, "--sim-symbols", 10, "--sim-rate", 3000)
    client = await session(server.ws)
    await client.subscribe(["book.10", "book.full"], ["*"], **mode)
    await client.until(lambda: len(client.elements) > 3000)
    books = {}
    for element in client.elements:
        assert element.type != "gap"
        books.setdefault(element.key, Book()).apply(element)  # compares the checksum of each
    symbols = {symbol for symbol, _ in books}
    assert len(symbols) == 10
    assert all(len(books[symbol, "book.10"].sides[side]) <= 10 for symbol in symbols for side in (0, 1))
