"""Events as a table of pandas."""

from decimal import Decimal

import pytest

from tickerplant import Bar, Connected, InstrumentTerms, Quote, Ticker, Trade
from tickerplant.frames import to_frame

TERMS = InstrumentTerms(1, "A", -2, -1)
NOON = 1_719_840_600_000_000_001
EVENTS = [
    Connected("s", "e", epoch_changed=False),
    Trade(TERMS, 1, NOON, 0, False, 150, 25, "buy", 7),
    Quote(TERMS, 2, NOON + 1, 0, False, None, (151, 10)),
    Bar(TERMS, 3, NOON, 0, False, "bars.1s", 1, 100, 200, 50, 150, 25, 1, True),
    Ticker(TERMS, 4, NOON, 0, False, 150, 100, 200, 50, 25, 1.5, 1),
]


def test_prices_stay_exact_and_times_have_nanoseconds():
    frame = to_frame(EVENTS)
    assert list(frame["type"]) == ["trade", "quote", "bar", "ticker"]
    assert frame["price"].iloc[0] == Decimal("1.50")
    assert frame["ask_size"].iloc[1] == Decimal("1.0")
    assert frame.index[0].isoformat() == "2024-07-01T13:30:00.000000001+00:00"


def test_floats_come_where_they_are_asked_for():
    frame = to_frame(EVENTS, numbers="float")
    assert frame["price"].dtype == "float64"
    assert frame["price"].iloc[0] == pytest.approx(1.5)
    assert frame["bid"].isna().all()


def test_nothing_is_an_empty_table():
    assert to_frame([]).empty
