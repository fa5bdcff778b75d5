"""What data frames are made of, and what programs are handed: the events of the market.

Invariant: prices and sizes are integers of the instrument's exponent (`..._mantissa`); the properties without that word
give the same value as a `Decimal`, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import ClassVar, Literal, NamedTuple, TypeAlias

from .exact import decimal

Side = Literal["buy", "sell", "unknown"]
Phase = Literal["pre_open", "trading", "halted", "auction", "closed"]


@dataclass(frozen=True, slots=True)
class InstrumentTerms:
    """What is needed to read an instrument's elements."""

    id: int
    """Its number in MessagePack elements, good for the epoch"""
    symbol: str
    price_exponent: int
    size_exponent: int

    def price(self, mantissa: int) -> Decimal:
        """A price of this instrument."""
        return decimal(mantissa, self.price_exponent)

    def size(self, mantissa: int) -> Decimal:
        """A size of this instrument."""
        return decimal(mantissa, self.size_exponent)


@dataclass(frozen=True, slots=True)
class InstrumentDetails:
    """All that a server says about an instrument."""

    terms: InstrumentTerms
    tick_size: Decimal
    lot_size: Decimal
    asset_class: str
    """`crypto`, `equity`, `future`, or what a later server knows"""
    currency: str
    description: str

    @property
    def symbol(self) -> str:
        """Its name."""
        return self.terms.symbol


class Level(NamedTuple):
    """A price and how much there is at it."""

    price: Decimal
    size: Decimal


MantissaLevel: TypeAlias = tuple[int, int]
"""The same as integers of the instrument's exponents."""


@dataclass(slots=True)
class _Element:
    instrument: InstrumentTerms
    """Of which instrument, with the exponents of its integers"""
    seq: int
    """Its number in its stream"""
    time: int
    """The exchange's time, in nanoseconds since the Unix epoch"""
    sent_at: int
    """When the server sent it, by the server's clock, in nanoseconds since the Unix epoch"""
    snapshot: bool
    """Whether it is how things stand, and not something that has just happened"""

    @property
    def symbol(self) -> str:
        """The instrument's name."""
        return self.instrument.symbol

    @property
    def datetime(self) -> datetime:
        """The exchange's time, cut to microseconds."""
        seconds, nanoseconds = divmod(self.time, 1_000_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)


@dataclass(slots=True)
class Trade(_Element):
    """A trade."""

    price_mantissa: int
    size_mantissa: int
    side: Side
    """Who took: the aggressor"""
    trade_id: int
    """0: unknown"""
    channel: ClassVar[str] = "trades"

    @property
    def price(self) -> Decimal:
        """At what price."""
        return decimal(self.price_mantissa, self.instrument.price_exponent)

    @property
    def size(self) -> Decimal:
        """How much."""
        return decimal(self.size_mantissa, self.instrument.size_exponent)


@dataclass(slots=True)
class Quote(_Element):
    """The best bid and offer."""

    bid_mantissa: MantissaLevel | None
    ask_mantissa: MantissaLevel | None
    channel: ClassVar[str] = "quotes"

    @property
    def bid(self) -> Level | None:
        """Price and size of the best bid; none when that side is empty."""
        return _level(self.instrument, self.bid_mantissa)

    @property
    def ask(self) -> Level | None:
        """Price and size of the best offer; none when that side is empty."""
        return _level(self.instrument, self.ask_mantissa)


@dataclass(slots=True)
class Bar(_Element):
    """A bar; `time` is its opening time, and the newest one with a time counts."""

    channel: str
    interval_s: int
    open_mantissa: int
    high_mantissa: int
    low_mantissa: int
    close_mantissa: int
    volume_mantissa: int
    trade_count: int
    closed: bool

    @property
    def open(self) -> Decimal:
        """The first price."""
        return self.instrument.price(self.open_mantissa)

    @property
    def high(self) -> Decimal:
        """The highest price."""
        return self.instrument.price(self.high_mantissa)

    @property
    def low(self) -> Decimal:
        """The lowest price."""
        return self.instrument.price(self.low_mantissa)

    @property
    def close(self) -> Decimal:
        """The last price."""
        return self.instrument.price(self.close_mantissa)

    @property
    def volume(self) -> Decimal:
        """The sum of the sizes."""
        return self.instrument.size(self.volume_mantissa)


@dataclass(slots=True)
class Ticker(_Element):
    """Statistics of the last 24 hours."""

    last_mantissa: int
    open_mantissa: int
    high_mantissa: int
    low_mantissa: int
    volume_mantissa: int
    turnover: float
    """The one approximate value of the protocol"""
    trade_count: int
    channel: ClassVar[str] = "ticker"

    @property
    def last(self) -> Decimal:
        """The last price."""
        return self.instrument.price(self.last_mantissa)

    @property
    def open(self) -> Decimal:
        """The first price."""
        return self.instrument.price(self.open_mantissa)

    @property
    def high(self) -> Decimal:
        """The highest price."""
        return self.instrument.price(self.high_mantissa)

    @property
    def low(self) -> Decimal:
        """The lowest price."""
        return self.instrument.price(self.low_mantissa)

    @property
    def volume(self) -> Decimal:
        """The sum of the sizes."""
        return self.instrument.size(self.volume_mantissa)


@dataclass(slots=True)
class Status(_Element):
    """A halt, an auction."""

    code: Phase
    reason: str
    channel: ClassVar[str] = "status"


@dataclass(slots=True)
class _BookUpdate(_Element):
    channel: str
    depth: int
    """10, 50, or 0 for the full book"""
    bid_mantissas: list[MantissaLevel]
    ask_mantissas: list[MantissaLevel]
    checksum: int
    """CRC-32 of the ten best levels a side after this element"""

    @property
    def bids(self) -> list[Level]:
        """Best first."""
        return [_exact_level(self.instrument, level) for level in self.bid_mantissas]

    @property
    def asks(self) -> list[Level]:
        """Best first."""
        return [_exact_level(self.instrument, level) for level in self.ask_mantissas]


@dataclass(slots=True)
class BookSnapshot(_BookUpdate):
    """The book is this, whatever it was."""


@dataclass(slots=True)
class BookDelta(_BookUpdate):
    """These levels are new; size 0 deletes. `Client.book` has them applied already."""


@dataclass(slots=True)
class Gap(_Element):
    """Elements that do not come: `from_seq` to `to_seq`, both included."""

    channel: str
    from_seq: int
    to_seq: int
    reason: str
    """The server's: `slow`, `conflated`, `evicted`, `source`. Ours: `not_resumed` (the connection was lost and this stream
    could not go on where it was), `undeclared` (the numbers jumped without a word)"""

    @property
    def count(self) -> int:
        """How many elements are missing."""
        return self.to_seq - self.from_seq + 1


Element: TypeAlias = Trade | Quote | Bar | Ticker | Status | BookSnapshot | BookDelta | Gap


def _exact_level(instrument: InstrumentTerms, level: MantissaLevel) -> Level:
    return Level(instrument.price(level[0]), instrument.size(level[1]))


def _level(instrument: InstrumentTerms, level: MantissaLevel | None) -> Level | None:
    return None if level is None else _exact_level(instrument, level)
