"""The names of channels, and the numbers that stand for some of them on the wire.

Invariant: what is not in here is a channel of a later server, and is passed over.
"""

from __future__ import annotations

from typing import Final

BAR_CHANNELS: Final = {
    1: "bars.1s",
    5: "bars.5s",
    10: "bars.10s",
    60: "bars.1m",
    300: "bars.5m",
    900: "bars.15m",
    3600: "bars.1h",
    86400: "bars.1d",
}
"""By the seconds of the interval."""

BOOK_CHANNELS: Final = {0: "book.full", 10: "book.10", 50: "book.50"}
"""By the depth; 0 is the full book."""

CHANNELS: Final = frozenset({"trades", "quotes", "ticker", "status", *BAR_CHANNELS.values(), *BOOK_CHANNELS.values()})
