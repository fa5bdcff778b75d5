"""Whatever a server sends is read or is a `ProtocolError`, and ends the connection instead of the program."""

import contextlib
import json

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as some

from tickerplant import InstrumentTerms, Lost, ProtocolError
from tickerplant.engine import Config, Engine, Now
from tickerplant.protocol.directory import Directory
from tickerplant.protocol.message import decode


def directory():
    known = Directory()
    known.learn(InstrumentTerms(7, "BTC-USD", -2, -4))
    return known


SCALARS = some.none() | some.booleans() | some.integers(-(2**63), 2**64 - 1) | some.floats() | some.text(max_size=5)
VALUES = some.recursive(
    SCALARS, lambda inner: some.lists(inner, max_size=9) | some.dictionaries(SCALARS, inner, max_size=4)
)
# What fields are, or could be taken for.
FIELDS = SCALARS | some.lists(some.lists(SCALARS, max_size=3), max_size=2)
KINDS = some.integers(0, 9)
ELEMENTS = some.builds(lambda kind, rest: [kind, 7, 1, 1, *rest], KINDS, some.lists(FIELDS, max_size=8))
NAMES = ["type", "symbol", "seq", "time", "data", "sent_at", "channels", "instruments", "price", "bids", "id", "code"]
TYPES = [
    "trade",
    "quote",
    "bar",
    "book_delta",
    "ticker",
    "status",
    "gap",
    "welcome",
    "subscribed",
    "error",
    "heartbeat",
]
MAPS = some.dictionaries(some.sampled_from(NAMES), VALUES | some.sampled_from([*TYPES, "BTC-USD"]), max_size=12)


def read(payload):
    with contextlib.suppress(ProtocolError):
        decode(payload, directory())


@given(some.binary(max_size=60))
def test_any_bytes(payload):
    read(payload)


@given(some.text(max_size=60) | VALUES.map(lambda value: json.dumps(value, default=str, skipkeys=True)))
def test_any_text(payload):
    read(payload)


@given(some.lists(ELEMENTS, max_size=3))
def test_any_elements(elements):
    read(msgpack.packb([1, *elements]))


@given(MAPS)
def test_any_maps(fields):
    read(msgpack.packb(fields))
    read(json.dumps(fields, skipkeys=True))
    read(json.dumps({"sent_at": "2024-07-01T13:30:00.000000001Z", "data": [fields]}, skipkeys=True))


@pytest.mark.parametrize("payload", ["[" * 100_000, b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"", "", b"\xc1"])
def test_traps(payload):
    with pytest.raises(ProtocolError):
        decode(payload, directory())


def test_a_message_that_cannot_be_read_ends_the_connection():
    engine = Engine(Config(), Now(0.0, 0))
    engine.connected(Now(0.0, 0))
    engine.message(b"\xc1", Now(0.0, 0))
    (lost,) = engine.take_events()
    assert isinstance(lost, Lost)
    assert "not the protocol" in str(lost.reason)
