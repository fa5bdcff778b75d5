"""The ticks that a recording contains, as exact values.

Written from the documentation of the formats, independently of the server, so that the two can be held against each
other. Nothing here passes through binary floating point.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from decimal import Decimal


def text(value: Decimal) -> str:
    """The shortest plain decimal text: no exponent, no trailing zeros, so that equal values have equal texts."""
    plain = format(value, "f")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return "0" if plain in ("-0", "") else plain


@dataclass(frozen=True)
class Trade:
    symbol: str
    time: int  # the exchange's, nanoseconds since the Unix epoch
    receive: int  # when it was recorded, likewise
    price: str
    size: str
    side: str  # of the aggressor: buy, sell or unknown
    trade_id: int


@dataclass(frozen=True)
class Quote:
    symbol: str
    time: int
    receive: int
    bid: str | None
    bid_size: str | None
    ask: str | None
    ask_size: str | None


Tick = Trade | Quote


def trades(ticks: Iterable[Tick]) -> list[Trade]:
    return [tick for tick in ticks if isinstance(tick, Trade)]


def quotes(ticks: Iterable[Tick]) -> list[Quote]:
    return [tick for tick in ticks if isinstance(tick, Quote)]


def merge(files: list[list[Tick]]) -> list[Tick]:
    """All ticks by receive time. The order within a file is kept; at equal times the file named first comes first."""
    keyed = []
    for number, ticks in enumerate(files):
        latest = 0
        for tick in ticks:
            latest = max(latest, tick.receive)
            keyed.append((latest, number, tick))
    keyed.sort(key=lambda entry: entry[:2])  # stable
    return [tick for _, _, tick in keyed]


def print_lines(ticks: Iterable[Tick]) -> None:
    for tick in ticks:
        print(json.dumps({"type": type(tick).__name__.lower(), **asdict(tick)}))
