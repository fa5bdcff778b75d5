"""A client of the native protocol, written from docs/protocol.md and from nothing else.

Both encodings come out as the same `Element`s with exact `Decimal` values, so that tests can compare them with each
other and with a file. It checks as it reads: shapes, the snapshot marker, that `subscribed` precedes data.

Not here: the server (plant.py), what a recording holds (reference/).
"""

import asyncio
import calendar
import contextlib
import itertools
import json
import re
import time
from dataclasses import dataclass, field
from decimal import Decimal

import msgpack
import websockets

RECEIVE_S = 120
INTERVALS = {1: "1s", 5: "5s", 10: "10s", 60: "1m", 300: "5m", 900: "15m", 3600: "1h", 86400: "1d"}
SIDES = {0: "unknown", 1: "buy", 2: "sell"}
RFC3339_NS = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})Z")


@dataclass(frozen=True)
class Element:
    type: str
    symbol: str
    channel: str
    seq: int
    time: int
    """Nanoseconds since the Unix epoch"""
    values: tuple
    snapshot: bool = field(default=False, compare=False)

    @property
    def key(self):
        return self.symbol, self.channel


@dataclass
class Instrument:
    symbol: str
    id: int
    price_exponent: int
    size_exponent: int

    def price(self, integer):
        return None if integer is None else Decimal(integer).scaleb(self.price_exponent)

    def size(self, integer):
        return None if integer is None else Decimal(integer).scaleb(self.size_exponent)

    def integers(self, *sides):
        """Levels of decimal strings as MessagePack has them."""
        return tuple(
            tuple(
                (int(decimal(price).scaleb(-self.price_exponent)), int(decimal(size).scaleb(-self.size_exponent)))
                for price, size in levels
            )
            for levels in sides
        )


def parse_time(text):
    match = RFC3339_NS.fullmatch(text)
    assert match, f"{text!r} is not RFC 3339 with nanoseconds"
    return calendar.timegm(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S")) * 1_000_000_000 + int(match[2])


def decimal(text):
    if text is None:
        return None
    assert isinstance(text, str), f"{text!r} is not a decimal string"
    return Decimal(text)


class Client:
    def __init__(self, socket, encoding):
        self.socket = socket
        self.encoding = encoding
        self.instruments = {}
        self.messages = []
        """Control messages in order of arrival"""
        self.elements = []
        """Elements in order of arrival, snapshots included"""
        self.frames = []
        """(sent_at, elements) of each data message"""
        self._ids = itertools.count(1)

    async def send(self, op, **keys):
        await self.send_raw({"op": op, **keys})

    async def send_raw(self, command):
        await self.socket.send(json.dumps(command) if self.encoding == "json" else msgpack.packb(command))

    async def ask(self, op, **keys):
        """Sends a command with an id of its own and returns the answer that carries it."""
        identity = f"{op}-{next(self._ids)}"
        await self.send(op, id=identity, **keys)
        return await self.answer(identity)

    async def answer(self, identity):
        return await self.message(lambda message: message.get("id") == identity)

    async def subscribe(self, channels, symbols, **keys):
        answer = await self.ask("subscribe", channels=channels, symbols=symbols, **keys)
        assert answer["type"] == "subscribed", answer
        return answer

    async def message(self, wanted):
        """The first control message that is `wanted`, already here or yet to come."""
        for message in self.messages:
            if wanted(message):
                return message
        seen = len(self.messages)
        await self.until(lambda: any(wanted(message) for message in self.messages[seen:]))
        return next(message for message in self.messages[seen:] if wanted(message))

    async def notice(self, code):
        return await self.message(lambda message: message["type"] == "notice" and message["code"] == code)

    async def until(self, reached, seconds=RECEIVE_S):
        async with asyncio.timeout(seconds):
            while not reached():
                self.take(await self.socket.recv())

    async def until_closed(self, seconds=RECEIVE_S):
        """Reads to the close; returns its code and reason."""
        with contextlib.suppress(websockets.ConnectionClosed):
            await self.until(lambda: False, seconds)
        return self.socket.close_code, self.socket.close_reason

    async def lives(self):
        """Whether a ping is answered."""
        return (await self.ask("ping"))["type"] == "pong"

    def take(self, raw):
        if self.encoding == "json":
            assert isinstance(raw, str), "a binary frame on a JSON session"
            message = json.loads(raw, parse_float=Decimal)
            if "data" in message:
                self._take_json(message)
                return
        else:
            assert isinstance(raw, bytes), "a text frame on a MessagePack session"
            message = msgpack.unpackb(raw, strict_map_key=False)
            if isinstance(message, list):
                self._take_packed(message)
                return
        if message["type"] == "subscribed":
            for symbol, identity, price_exponent, size_exponent in message["instruments"]:
                self.instruments[identity] = Instrument(symbol, identity, price_exponent, size_exponent)
        elif message["type"] == "instruments":
            for entry in message["instruments"]:
                names = ("symbol", "instrument_id", "price_exponent", "size_exponent")
                self.instruments[entry["instrument_id"]] = Instrument(*(entry[name] for name in names))
        self.messages.append(message)

    def _take_packed(self, message):
        sent_at, *elements = message
        assert isinstance(sent_at, int)
        snapshot = bool(elements) and elements[0][0] == 0
        if snapshot:
            marker = elements.pop(0)
            assert marker == [0, len(elements)]
        self._keep(sent_at, [self._packed(element, snapshot) for element in elements])

    def _packed(self, element, snapshot):
        kind, identity, seq, when, *rest = element
        instrument = self.instruments[identity]
        price, size = instrument.price, instrument.size
        if kind == 1:
            fill, amount, side, trade_id = rest
            name, channel, values = "trade", "trades", (price(fill), size(amount), SIDES[side], trade_id)
        elif kind == 2:
            bid, bid_size, ask, ask_size = rest
            name, channel, values = "quote", "quotes", (price(bid), size(bid_size), price(ask), size(ask_size))
        elif kind == 3:
            interval_s, *prices, volume, trade_count, closed = rest
            name, channel = "bar", f"bars.{INTERVALS[interval_s]}"
            values = (*map(price, prices), size(volume), trade_count, closed)
        elif kind in (4, 5):
            depth, bids, asks, checksum = rest
            name, channel = ("book_snapshot", "book_delta")[kind - 4], f"book.{depth or 'full'}"
            values = tuple(map(tuple, bids)), tuple(map(tuple, asks)), checksum
        elif kind == 8:
            channel, from_seq, to_seq, reason = rest
            assert seq == to_seq
            name, values = "gap", (from_seq, to_seq, reason)
        else:
            raise AssertionError(f"unexpected element {element}")
        return Element(name, instrument.symbol, channel, seq, when, values, snapshot)

    def _take_json(self, message):
        snapshot = message.get("snapshot", False)
        elements = [self._json(element, snapshot) for element in message["data"]]
        self._keep(parse_time(message["sent_at"]), elements)

    def _json(self, element, snapshot):
        name = element["type"]
        if name == "trade":
            channel = "trades"
            values = (decimal(element["price"]), decimal(element["size"]), element["side"], element["trade_id"])
        elif name == "quote":
            channel = "quotes"
            values = tuple(decimal(element[key]) for key in ("bid", "bid_size", "ask", "ask_size"))
        elif name == "bar":
            channel = f"bars.{INTERVALS[element['interval_s']]}"
            prices = (decimal(element[key]) for key in ("open", "high", "low", "close", "volume"))
            values = (*prices, element["trade_count"], element["closed"])
        elif name in ("book_snapshot", "book_delta"):
            channel = f"book.{element['depth'] or 'full'}"
            of_symbol = (i for i in self.instruments.values() if i.symbol == element["symbol"])
            values = (*next(of_symbol).integers(element["bids"], element["asks"]), element["checksum"])
        elif name == "gap":
            channel = element["channel"]
            values = element["from_seq"], element["to_seq"], element["reason"]
        else:
            raise AssertionError(f"unexpected element {element}")
        return Element(name, element["symbol"], channel, element["seq"], parse_time(element["time"]), values, snapshot)

    def _keep(self, sent_at, elements):
        assert elements, "an empty data message"
        self.frames.append((sent_at, elements))
        self.elements.extend(elements)

    def live(self, channel=None, symbol=None):
        """Live elements in order, gaps included."""
        return [
            element
            for element in self.elements
            if not element.snapshot
            and (channel is None or element.channel == channel)
            and (symbol is None or element.symbol == symbol)
        ]

    def assert_complete(self):
        """Every number of mode `every` is there once and in order, and nothing was declared lost."""
        last = {}
        for element in self.elements:
            assert element.type != "gap", element
            if element.snapshot:
                assert element.key not in last, f"a snapshot in the middle: {element}"
            else:
                assert element.seq == last.get(element.key, 0) + 1, f"{element} after {last.get(element.key, 0)}"
            last[element.key] = element.seq

    def assert_accounted(self):
        """Every number of mode `every` is there once and in order, or a gap in front says that it is missing."""
        last = {}
        for element in self.elements:
            known = last.get(element.key)
            if element.type == "gap":
                from_seq, to_seq, _ = element.values
                assert from_seq == (known or 0) + 1, f"{element} after {known}"
                assert to_seq >= from_seq, element
            elif element.snapshot:
                # Behind a gap a snapshot is where the gap ends.
                assert known is None or element.seq >= known, f"{element} after {known}"
            else:
                assert element.seq == (known or 0) + 1, f"{element} after {known}"
            last[element.key] = element.seq


@contextlib.asynccontextmanager
async def connect(url, encoding="msgpack", **keys):
    """An open session whose welcome has been read."""
    keys.setdefault("subprotocols", [f"ticker.v1.{encoding}"])
    keys.setdefault("compression", None)
    async with websockets.connect(url, max_size=None, max_queue=None, proxy=None, **keys) as socket:
        client = Client(socket, encoding)
        await client.until(lambda: client.messages)
        assert client.messages[0]["type"] == "welcome"
        yield client
