"""Data frames in JSON.

Invariant: prices and sizes go from decimal text to integers of the instrument's exponent, exactly or not at all; then an
element is what it is in MessagePack.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, TypeAlias

from ..errors import ProtocolError
from .directory import Directory
from .elements import Element, InstrumentTerms
from .exact import mantissa
from .fields import Fields, mapping, sequence, text, timestamp, unsigned
from .frame import Frame, Unknown
from .shapes import (
    BAR,
    BOOK_DELTA,
    BOOK_SNAPSHOT,
    GAP,
    PHASES,
    QUOTE,
    SIDES,
    STATUS,
    TICKER,
    TRADE,
    element,
)

_SIDE_NUMBERS = {side: number for number, side in enumerate(SIDES)}
_PHASE_NUMBERS = {phase: number for number, phase in enumerate(PHASES)}

Reader: TypeAlias = Callable[[Any, str, InstrumentTerms], Any]
"""From a field as JSON has it, its name and its instrument, to what MessagePack has in its place."""


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
            elements.append(element(_packed(fields, seq, terms), directory.by_id, sent_at, snapshot))
    return Frame(sent_at, snapshot, elements)


def _packed(fields: Fields, seq: int, terms: InstrumentTerms) -> list[Any]:
    """The fields in the order in which MessagePack has them; those of an unknown kind are left out."""
    kind, layout = _LAYOUTS.get(text(fields.get("type"), "type"), _UNKNOWN)
    time = timestamp(fields.get("time"), "time")
    return [kind, terms.id, seq, time, *[read(fields.get(name), name, terms) for name, read in layout]]


def _price(value: Any, name: str, terms: InstrumentTerms) -> int:
    return mantissa(text(value, name), terms.price_exponent, name)


def _size(value: Any, name: str, terms: InstrumentTerms) -> int:
    return mantissa(text(value, name), terms.size_exponent, name)


def _price_if_any(value: Any, name: str, terms: InstrumentTerms) -> int | None:
    return None if value is None else _price(value, name, terms)


def _size_if_any(value: Any, name: str, terms: InstrumentTerms) -> int | None:
    return None if value is None else _size(value, name, terms)


def _count(value: Any, name: str, _: InstrumentTerms) -> int:
    return unsigned(value, name)


def _flag(value: Any, _: str, __: InstrumentTerms) -> bool:
    return value is True


def _approximate(value: Any, _: str, __: InstrumentTerms) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _side(value: Any, name: str, _: InstrumentTerms) -> int:
    return _SIDE_NUMBERS.get(text(value, name), 0)  # type: ignore[call-overload, no-any-return]


def _phase(value: Any, name: str, _: InstrumentTerms) -> int:
    return _PHASE_NUMBERS.get(text(value, name), len(PHASES))  # type: ignore[call-overload, no-any-return]


def _word(value: Any, name: str, _: InstrumentTerms) -> str:
    return text(value, name)


def _levels(value: Any, name: str, terms: InstrumentTerms) -> list[tuple[int, int]]:
    found = []
    for pair in sequence(value, name):
        if not isinstance(pair, list) or len(pair) < 2:
            raise ProtocolError(f"a level of {name} is not a pair")
        found.append((_price(pair[0], name, terms), _size(pair[1], name, terms)))
    return found


_BOOK: tuple[tuple[str, Reader], ...] = (
    ("depth", _count),
    ("bids", _levels),
    ("asks", _levels),
    ("checksum", _count),
)
_LAYOUTS: dict[str, tuple[int, tuple[tuple[str, Reader], ...]]] = {
    "trade": (TRADE, (("price", _price), ("size", _size), ("side", _side), ("trade_id", _count))),
    "quote": (
        QUOTE,
        (("bid", _price_if_any), ("bid_size", _size_if_any), ("ask", _price_if_any), ("ask_size", _size_if_any)),
    ),
    "bar": (
        BAR,
        (
            ("interval_s", _count),
            ("open", _price),
            ("high", _price),
            ("low", _price),
            ("close", _price),
            ("volume", _size),
            ("trade_count", _count),
            ("closed", _flag),
        ),
    ),
    "book_snapshot": (BOOK_SNAPSHOT, _BOOK),
    "book_delta": (BOOK_DELTA, _BOOK),
    "ticker": (
        TICKER,
        (
            ("last", _price),
            ("open", _price),
            ("high", _price),
            ("low", _price),
            ("volume", _size),
            ("turnover", _approximate),
            ("trade_count", _count),
        ),
    ),
    "status": (STATUS, (("code", _phase), ("reason", _word))),
    "gap": (GAP, (("channel", _word), ("from_seq", _count), ("to_seq", _count), ("reason", _word))),
}
"""By the type: the number of its kind, and its fields in their order."""
_UNKNOWN: tuple[int, tuple[tuple[str, Reader], ...]] = (0, ())
