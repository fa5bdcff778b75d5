"""Data frames in JSON.

Invariant: prices and sizes go from decimal text to integers of the instrument's exponent, exactly or not at all.
"""

from __future__ import annotations

import json
import math
from typing import Any

from ..errors import ProtocolError
from .channels import BAR_CHANNELS, BOOK_CHANNELS, CHANNELS
from .directory import Directory
from .elements import (
    Bar,
    BookDelta,
    BookSnapshot,
    Element,
    Gap,
    InstrumentTerms,
    MantissaLevel,
    Phase,
    Quote,
    Side,
    Status,
    Ticker,
    Trade,
)
from .exact import mantissa
from .fields import Fields, mapping, sequence, text, timestamp, unsigned
from .frame import Frame, Unknown
from .packed import PHASES

_SIDES: dict[str, Side] = {"buy": "buy", "sell": "sell"}
_PHASES: dict[str, Phase] = {phase: phase for phase in PHASES}


def parse(payload: str | bytes) -> Any:
    """JSON to Python's values."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"no JSON: {error}") from None


def decode_plain(message: Fields, directory: Directory) -> Frame:
    """Reads a data frame that has been parsed."""
    sent_at = timestamp(message.get("sent_at"), "sent_at")
    snapshot = message.get("snapshot") is True
    elements: list[Element | Unknown] = []
    for value in sequence(message["data"], "data"):
        fields = mapping(value, "an element")
        symbol = text(fields.get("symbol"), "symbol")
        seq = unsigned(fields.get("seq"), "seq")
        terms = directory.by_symbol.get(symbol)
        if terms is None:
            elements.append(Unknown(None, None, seq))
        else:
            elements.append(_element(fields, terms, seq, sent_at, snapshot))
    return Frame(sent_at, snapshot, elements)


def _element(fields: Fields, terms: InstrumentTerms, seq: int, sent_at: int, snapshot: bool) -> Element | Unknown:
    kind = text(fields.get("type"), "type")
    time = timestamp(fields.get("time"), "time")

    def price(name: str) -> int:
        return mantissa(text(fields.get(name), name), terms.price_exponent, name)

    def size(name: str) -> int:
        return mantissa(text(fields.get(name), name), terms.size_exponent, name)

    def level(name: str) -> MantissaLevel | None:
        sized = f"{name}_size"
        return None if fields.get(name) is None or fields.get(sized) is None else (price(name), size(sized))

    def levels(name: str) -> list[MantissaLevel]:
        found = []
        for pair in sequence(fields.get(name), name):
            if not isinstance(pair, list) or len(pair) < 2:
                raise ProtocolError(f"a level of {name} is not a pair")
            at, much = text(pair[0], name), text(pair[1], name)
            found.append((mantissa(at, terms.price_exponent, name), mantissa(much, terms.size_exponent, name)))
        return found

    def count(name: str) -> int:
        return unsigned(fields.get(name), name)

    match kind:
        case "trade":
            side = _SIDES.get(text(fields.get("side"), "side"), "unknown")
            return Trade(terms, seq, time, sent_at, snapshot, price("price"), size("size"), side, count("trade_id"))
        case "quote":
            return Quote(terms, seq, time, sent_at, snapshot, level("bid"), level("ask"))
        case "bar":
            interval_s = count("interval_s")
            channel = BAR_CHANNELS.get(interval_s)
            if channel is None:
                return Unknown(terms.id, None, seq)
            prices = price("open"), price("high"), price("low"), price("close")
            closed = fields.get("closed") is True
            volume, trades = size("volume"), count("trade_count")
            return Bar(terms, seq, time, sent_at, snapshot, channel, interval_s, *prices, volume, trades, closed)
        case "book_snapshot" | "book_delta":
            depth = count("depth")
            channel = BOOK_CHANNELS.get(depth)
            if channel is None:
                return Unknown(terms.id, None, seq)
            make = BookSnapshot if kind == "book_snapshot" else BookDelta
            sides = levels("bids"), levels("asks")
            return make(terms, seq, time, sent_at, snapshot, channel, depth, *sides, count("checksum"))
        case "ticker":
            turnover = fields.get("turnover")
            turnover = float(turnover) if isinstance(turnover, (int, float)) else math.nan
            prices = price("last"), price("open"), price("high"), price("low")
            volume, trades = size("volume"), count("trade_count")
            return Ticker(terms, seq, time, sent_at, snapshot, *prices, volume, turnover, trades)
        case "status":
            code = _PHASES.get(text(fields.get("code"), "code"))
            if code is None:
                return Unknown(terms.id, "status", seq)
            return Status(terms, seq, time, sent_at, snapshot, code, text(fields.get("reason"), "reason"))
        case "gap":
            name = text(fields.get("channel"), "channel")
            if name not in CHANNELS:
                return Unknown(terms.id, None, seq)
            numbers = count("from_seq"), count("to_seq")
            return Gap(terms, seq, time, sent_at, False, name, *numbers, text(fields.get("reason"), "reason"))
        case _:
            return Unknown(terms.id, None, seq)
