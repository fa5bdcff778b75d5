"""The vectors that every SDK and the server have to pass: bytes, text, and what they mean."""

import json
import math
from pathlib import Path

import pytest

from tickerplant import Books, InstrumentTerms, ProtocolError
from tickerplant.protocol.directory import Directory
from tickerplant.protocol.elements import Bar, BookDelta, BookSnapshot, Gap, Quote, Status, Ticker, Trade
from tickerplant.protocol.frame import Frame, Unknown
from tickerplant.protocol.message import decode

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "vectors/messages.json").read_text())
DEPTHS = {"book.10": 10, "book.50": 50, "book.full": 0}


def directory():
    known = Directory()
    for symbol, number, price_exponent, size_exponent in VECTORS["instruments"]:
        known.learn(InstrumentTerms(number, symbol, price_exponent, size_exponent))
    return known


def exact(number):
    return format(number, "f")


def level(found):
    return None if found is None else [exact(found.price), exact(found.size)]


def normal_element(element):
    head = {"symbol": element.symbol, "channel": element.channel, "seq": str(element.seq), "time": str(element.time)}
    head["snapshot"] = element.snapshot
    match element:
        case Trade():
            return head | {
                "type": "trade",
                "price": exact(element.price),
                "size": exact(element.size),
                "side": element.side,
                "trade_id": str(element.trade_id),
            }
        case Quote():
            return head | {"type": "quote", "bid": level(element.bid), "ask": level(element.ask)}
        case Bar():
            prices = {name: exact(getattr(element, name)) for name in ("open", "high", "low", "close", "volume")}
            counts = {"trade_count": str(element.trade_count), "closed": element.closed}
            return head | {"type": "bar", "interval_s": element.interval_s} | prices | counts
        case BookSnapshot() | BookDelta():
            return head | {
                "type": "book_snapshot" if isinstance(element, BookSnapshot) else "book_delta",
                "bids": [level(one) for one in element.bids],
                "asks": [level(one) for one in element.asks],
                "checksum": element.checksum,
            }
        case Ticker():
            prices = {name: exact(getattr(element, name)) for name in ("last", "open", "high", "low", "volume")}
            turnover = None if math.isnan(element.turnover) else element.turnover
            return head | {"type": "ticker", "turnover": turnover, "trade_count": str(element.trade_count)} | prices
        case Status():
            return head | {"type": "status", "code": element.code, "reason": element.reason}
        case Gap():
            numbers = {"from_seq": str(element.from_seq), "to_seq": str(element.to_seq)}
            return head | {"type": "gap", "reason": element.reason} | numbers


def terms(one):
    return [one.symbol, one.id, one.price_exponent, one.size_exponent]


def details(one):
    head = zip(("symbol", "instrument_id", "price_exponent", "size_exponent"), terms(one.terms), strict=True)
    steps = {"tick_size": exact(one.tick_size), "lot_size": exact(one.lot_size)}
    words = {"class": one.asset_class, "currency": one.currency, "description": one.description}
    return dict(head) | steps | words


def normal(message):
    """As the vectors write it: numbers that can be large, and prices, as text."""
    if message is None:
        return {"type": None}
    if isinstance(message, Frame):
        elements = [normal_element(element) for element in message.elements if not isinstance(element, Unknown)]
        return {"type": "data", "sent_at": str(message.sent_at), "snapshot": message.snapshot, "elements": elements}
    kind = type(message).__name__.removesuffix("Message").lower()
    found = {"type": kind}
    match kind:
        case "welcome":
            for name in ("version", "session", "epoch", "heartbeat_ms"):
                found[name] = getattr(message, name)
            found["message_bytes_max"] = message.limits.message_bytes_max
        case "subscribed":
            recovered = {}
            for symbol, channel, how in message.recovered:
                recovered.setdefault(symbol, {})[channel] = how
            found |= {"id": message.id, "instruments": [terms(one) for one in message.instruments]}
            found["recovered"] = recovered
        case "unsubscribed":
            found["id"] = message.id
        case "instruments":
            found |= {"id": message.id, "instruments": [details(one) for one in message.instruments]}
        case "error":
            found |= {name: getattr(message, name) for name in ("id", "code", "message", "symbols")}
        case "heartbeat":
            found |= {"delivered": message.delivered, "dropped": message.dropped}
        case "notice":
            found |= {name: getattr(message, name) for name in ("code", "message", "reconnect_after_ms")}
        case "pong":
            found |= {"id": message.id, "time": str(message.time), "sent_bytes": message.sent_bytes}
        case "authenticated" | "subscriptions":
            pass
        case _:
            raise AssertionError(message)
    return found


def payload(vector, encoding):
    return bytes.fromhex(vector["msgpack"]) if encoding == "msgpack" else vector["json"]


CASES = [
    pytest.param(vector, encoding, id=f"{vector['name']} in {encoding}")
    for part in ("frames", "control", "tolerated")
    for vector in VECTORS[part]
    for encoding in ("msgpack", "json")
]


@pytest.mark.parametrize(("vector", "encoding"), CASES)
def test_it_means_what_was_written(vector, encoding):
    found = normal(decode(payload(vector, encoding), directory()))
    assert found == vector["expected"]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_what_no_server_sends_is_refused(vector):
    with pytest.raises(ProtocolError):
        decode(payload(vector, "msgpack" if "msgpack" in vector else "json"), directory())


@pytest.mark.parametrize("vector", VECTORS["books"], ids=lambda vector: vector["name"])
def test_a_book_grows_with_right_checksums(vector):
    books = Books()
    for frame in vector["frames"]:
        for element in decode(bytes.fromhex(frame), directory()).elements:
            assert books.apply(element) is None
    book = books.of(vector["symbol"], DEPTHS[vector["channel"]])
    assert {
        "bids": [level(one) for one in book.bids],
        "asks": [level(one) for one in book.asks],
        "checksum": book.checksum(),
    } == vector["expected"]
