"""Events as a table of pandas; needs the extra `tickerplant[pandas]`.

Invariant: prices and sizes are `Decimal`s unless floats are asked for by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from .events import Event
from .protocol.elements import Bar, Level, Quote, Ticker, Trade

if TYPE_CHECKING:
    import pandas


def to_frame(events: Iterable[Event], numbers: Literal["decimal", "float"] = "decimal") -> pandas.DataFrame:
    """A row for each trade, quote, bar and ticker among the events, indexed by the exchange's time.

    Columns are `type`, `symbol`, `seq` and the fields of the types that are there. With `numbers="float"` prices and sizes are
    floats, for plotting and statistics; otherwise exact.
    """
    import pandas

    rows = [row for row in map(_row, events) if row is not None]
    frame = pandas.DataFrame(rows, columns=None if rows else ["time", "type", "symbol", "seq"])
    if numbers == "float":
        for name in frame.columns:
            if frame[name].map(lambda value: isinstance(value, Decimal)).any():
                frame[name] = frame[name].map(float, na_action="ignore").astype("float64")
    frame["time"] = pandas.to_datetime(frame["time"], unit="ns", utc=True)
    return frame.set_index("time")


def _row(event: Event) -> dict[str, Any] | None:
    match event:
        case Trade():
            return _head(event) | {
                "price": event.price,
                "size": event.size,
                "side": event.side,
                "trade_id": event.trade_id,
            }
        case Quote():
            return _head(event) | _side("bid", event.bid) | _side("ask", event.ask)
        case Bar():
            names: tuple[str, ...] = ("interval_s", "open", "high", "low", "close", "volume", "trade_count", "closed")
        case Ticker():
            names = ("last", "open", "high", "low", "volume", "turnover", "trade_count")
        case _:
            return None
    return _head(event) | {name: getattr(event, name) for name in names}


def _head(event: Trade | Quote | Bar | Ticker) -> dict[str, Any]:
    return {"time": event.time, "type": type(event).__name__.lower(), "symbol": event.symbol, "seq": event.seq}


def _side(name: str, level: Level | None) -> dict[str, Any]:
    return {name: None if level is None else level.price, f"{name}_size": None if level is None else level.size}
