"""Data frames in MessagePack.

Invariant: an element with more fields than are known is read, the rest left alone; one of an unknown kind is passed over.
"""

from __future__ import annotations

from typing import Any

import msgpack

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
from .frame import Frame, Unknown

SIDES: tuple[Side, ...] = ("unknown", "buy", "sell")
PHASES: tuple[Phase, ...] = ("pre_open", "trading", "halted", "auction", "closed")
_SNAPSHOT = 0
_TRADE, _QUOTE, _BAR, _BOOK_SNAPSHOT, _BOOK_DELTA, _TICKER, _STATUS, _GAP = range(1, 9)
_FIELDS = {_TRADE: 8, _QUOTE: 8, _BAR: 12, _BOOK_SNAPSHOT: 8, _BOOK_DELTA: 8, _TICKER: 11, _STATUS: 6, _GAP: 8}


def unpack(payload: bytes) -> Any:
    """MessagePack to Python's values."""
    try:
        return msgpack.unpackb(payload, raw=False, strict_map_key=False, unicode_errors="replace")
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise ProtocolError(f"no MessagePack: {error}") from None


def is_packed_data(payload: bytes) -> bool:
    """Whether the message is a data frame; what is not is a control message."""
    first = payload[0] if payload else 0
    return 0x90 <= first <= 0x9F or first in (0xDC, 0xDD)


def decode_packed(payload: bytes, directory: Directory) -> Frame:
    """Reads a data frame."""
    message = unpack(payload)
    if not isinstance(message, list) or not message or type(message[0]) is not int:
        raise ProtocolError("a data frame does not begin with a time")
    sent_at = message[0]
    first = message[1] if len(message) > 1 else None
    snapshot = isinstance(first, list) and len(first) >= 2 and first[0] == _SNAPSHOT
    if isinstance(first, list) and snapshot and first[1] != len(message) - 2:
        raise ProtocolError("a snapshot frame has not as many elements as its marker says")
    by_id = directory.by_id
    elements: list[Element | Unknown] = []
    for fields in message[2 if snapshot else 1 :]:
        try:
            elements.append(_element(fields, by_id, sent_at, snapshot))
        except (TypeError, ValueError, IndexError, KeyError) as error:
            if isinstance(error, ProtocolError):
                raise
            raise ProtocolError(f"an element is malformed: {error}") from None
    return Frame(sent_at, snapshot, elements)


def _element(fields: list[Any], by_id: dict[int, InstrumentTerms], sent_at: int, snapshot: bool) -> Element | Unknown:
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
    if kind == _QUOTE:
        bid, bid_size, ask, ask_size = fields[4:8]
        return Quote(terms, seq, time, sent_at, snapshot, _half(bid, bid_size), _half(ask, ask_size))
    if kind == _TRADE:
        price, size, side, trade_id = fields[4:8]
        if not (type(price) is type(size) is type(side) is type(trade_id) is int):
            raise ProtocolError("a trade is not of integers")
        return Trade(terms, seq, time, sent_at, snapshot, price, size, SIDES[side] if side < 3 else "unknown", trade_id)
    if kind in (_BOOK_DELTA, _BOOK_SNAPSHOT):
        depth, bids, asks, checksum = fields[4:8]
        channel = BOOK_CHANNELS.get(depth)
        if channel is None:
            return Unknown(instrument_id, None, seq)
        if type(checksum) is not int:
            raise ProtocolError("a checksum is not an integer")
        make = BookDelta if kind == _BOOK_DELTA else BookSnapshot
        return make(terms, seq, time, sent_at, snapshot, channel, depth, _levels(bids), _levels(asks), checksum)
    if kind == _BAR:
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
    if kind == _TICKER:
        last, opened, high, low, volume = _integers(fields[4:9])
        turnover, count = fields[9], fields[10]
        if type(turnover) is not float or type(count) is not int:
            raise ProtocolError("a ticker has no turnover or trade_count")
        return Ticker(terms, seq, time, sent_at, snapshot, last, opened, high, low, volume, turnover, count)
    if kind == _STATUS:
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
