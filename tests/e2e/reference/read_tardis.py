"""Reads Tardis.dev CSV files (trades and quotes; plain or gzip) with the standard library.

https://docs.tardis.dev/downloadable-csv-files: `timestamp` is the exchange's and `local_timestamp` the time of arrival,
both in microseconds since the Unix epoch; a missing best bid or ask is an empty field; `side` is that of the liquidity
taker.

    python3 read_tardis.py FILE...     prints one line of JSON per tick
"""

from __future__ import annotations

import csv
import gzip
import sys
from decimal import Decimal

from ticks import Quote, Tick, Trade, merge, print_lines, text

NANOS_PER_MICRO = 1000


def read_tardis(path: str) -> list[Tick]:
    """Every line as a trade or a quote, in file order."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        parse = quote if "bid_price" in (rows.fieldnames or ()) else trade
        return [parse(row) for row in rows]


def trade(row: dict[str, str]) -> Trade:
    trade_id = int(row["id"]) if row["id"].isdecimal() else 0
    price, size = text(Decimal(row["price"])), text(Decimal(row["amount"]))
    return Trade(**common(row), price=price, size=size, side=row["side"], trade_id=trade_id)


def quote(row: dict[str, str]) -> Quote:
    bid, bid_size = level(row["bid_price"], row["bid_amount"])
    ask, ask_size = level(row["ask_price"], row["ask_amount"])
    return Quote(**common(row), bid=bid, bid_size=bid_size, ask=ask, ask_size=ask_size)


def common(row: dict[str, str]) -> dict:
    time, receive = (int(row[column]) * NANOS_PER_MICRO for column in ("timestamp", "local_timestamp"))
    return {"symbol": row["symbol"], "time": time, "receive": receive}


def level(price: str, amount: str) -> tuple[str | None, str | None]:
    return (text(Decimal(price)), text(Decimal(amount))) if price else (None, None)


if __name__ == "__main__":
    print_lines(merge([read_tardis(path) for path in sys.argv[1:]]))
