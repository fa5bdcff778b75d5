"""The shapes of elements: which fields each kind has, in which order, and what they become.

Invariant: the order is that of MessagePack, where an element is a list; JSON's objects are put into it first (`plain`). An
element with more fields than are known is read, the rest left alone; one of an unknown kind is passed over.
"""

from __future__ import annotations

from typing import Any

from ..errors import ProtocolError
from .channels import BAR_CHANNELS, BOOK_CHANNELS, CHANNELS
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
from .frame import Unknown

SIDES: tuple[Side, ...] = ("unknown", "buy", "sell")
PHASES: tuple[Phase, ...] = ("pre_open", "trading", "halted", "auction", "closed")
TRADE, QUOTE, BAR, BOOK_SNAPSHOT, BOOK_DELTA, TICKER, STATUS, GAP = range(1, 9)
_FIELDS = {TRADE: 8, QUOTE: 8, BAR: 12, BOOK_SNAPSHOT: 8, BOOK_DELTA: 8, TICKER: 11, STATUS: 6, GAP: 8}


def element(fields: list[Any], by_id: dict[int, InstrumentTerms], sent_at: int, snapshot: bool) -> Element | Unknown:
    """The value of a list of fields. Raises `ProtocolError`, or what Python raises where a field is of another kind."""
    if not isinstance(fields, list) or len(fields) < 4:
        raise ProtocolError("an element is not a list of at least 4 fields")
    kind, instrument_id, seq, time = fields[:4]
    if not (type(kind) is type(instrument_id) is type(seq) is type(time) is int):
        raise ProtocolError("the head of an element is not of integers")
    known = _FIELDS.get(kind)
    if known is None:
        return Unknown(instrument_id, None, seq)
    if len(fields) < known:
        raise ProtocolError(f"an element of kind {kind} has {len(fields)} fields, not {known}")
    terms = by_id.get(instrument_id)
    if terms is None:
        return Unknown(instrument_id, None, seq)
    if kind == QUOTE:
        bid, bid_size, ask, ask_size = fields[4:8]
        return Quote(terms, seq, time, sent_at, snapshot, _half(bid, bid_size), _half(ask, ask_size))
    if kind == TRADE:
        price, size, side, trade_id = fields[4:8]
        if not (type(price) is type(size) is type(side) is type(trade_id) is int):
            raise ProtocolError("a trade is not of integers")
        return Trade(terms, seq, time, sent_at, snapshot, price, size, SIDES[side] if side < 3 else "unknown", trade_id)
    if kind in (BOOK_DELTA, BOOK_SNAPSHOT):
        depth, bids, asks, checksum = fields[4:8]
        channel = BOOK_CHANNELS.get(depth)
        if channel is None:
            return Unknown(instrument_id, None, seq)
        if type(checksum) is not int:
            raise ProtocolError("a checksum is not an integer")
        make = BookDelta if kind == BOOK_DELTA else BookSnapshot
        return make(terms, seq, time, sent_at, snapshot, channel, depth, _levels(bids), _levels(asks), checksum)
    if kind == BAR:
        interval_s, count, closed = fields[4], fields[10], fields[11]
        channel = BAR_CHANNELS.get(interval_s)
        if channel is None:
            return Unknown(instrument_id, None, seq)
        if type(count) is not int or type(closed) is not bool:
            raise ProtocolError("a bar has no trade_count or closed")
        opened, high, low, close, volume = _integers(fields[5:10])
        return Bar(
            terms, seq, time, sent_at, snapshot, channel, interval_s, opened, high, low, close, volume, count, closed
        )
    if kind == TICKER:
        last, opened, high, low, volume = _integers(fields[4:9])
        turnover, count = fields[9], fields[10]
        if type(turnover) is not float or type(count) is not int:
            raise ProtocolError("a ticker has no turnover or trade_count")
        return Ticker(terms, seq, time, sent_at, snapshot, last, opened, high, low, volume, turnover, count)
    if kind == STATUS:
        code, reason = fields[4:6]
        if type(code) is not int or not isinstance(reason, str):
            raise ProtocolError("a status has no code or reason")
        if code >= len(PHASES):
            return Unknown(instrument_id, "status", seq)
        return Status(terms, seq, time, sent_at, snapshot, PHASES[code], reason)
    channel, from_seq, to_seq, reason = fields[4:8]
    if not (type(from_seq) is type(to_seq) is int and isinstance(channel, str) and isinstance(reason, str)):
        raise ProtocolError("a gap has no channel, numbers or reason")
    if channel not in CHANNELS:
        return Unknown(instrument_id, None, seq)
    return Gap(terms, seq, time, sent_at, False, channel, from_seq, to_seq, reason)


def _half(price: object, size: object) -> MantissaLevel | None:
    if price is None or size is None:
        return None
    if type(price) is not int or type(size) is not int:
        raise ProtocolError("a quote is not of integers")
    return price, size


def _integers(values: list[Any]) -> list[int]:
    for value in values:
        if type(value) is not int:
            raise ProtocolError("a price or size is not an integer")
    return values


def _levels(values: Any) -> list[MantissaLevel]:
    levels = []
    for value in values:
        price, size = value[0], value[1]
        if type(price) is not int or type(size) is not int:
            raise ProtocolError("a level is not of integers")
        levels.append((price, size))
    return levels
