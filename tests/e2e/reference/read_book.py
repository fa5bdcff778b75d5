"""Builds order books from Databento DBN files of schema `mbo`, with nothing but dictionaries.

https://databento.com/docs/schemas-and-data-formats/mbo: A adds an order, C takes from one, M changes one, R clears
the book, T and F change nothing. The records of one market event end with F_LAST. The snapshot at the begin of a file
has no such flag; it ends before the first record that is not of it.

    python3 read_book.py FILE     prints one line of JSON per event: the levels that it changed
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from read_dbn import NANO, decode
from ticks import text

LAST, SNAPSHOT = 128, 32
LEVELS = dict[tuple[str, int], int]  # (side, price in 1e-9) -> size


@dataclass(frozen=True)
class Event:
    time: int  # the latest of the exchange's times
    snapshot: bool
    changes: LEVELS  # what is at a level from now on; 0 where nothing is
    levels: LEVELS  # all of them; not a copy


def events(path: str) -> Iterator[Event]:
    """One for each market event that changes a level, in file order. Files of one instrument only."""
    _, *records = decode(path)
    orders: dict[int, tuple[str, int, int]] = {}
    levels: LEVELS = {}
    before: LEVELS = {}  # of the touched levels, as they were before the event
    snapshot, time = False, 0
    for number, record in enumerate(records):
        flags, action, key = int(record.flags), str(record.action), (str(record.side), record.price)
        time = max(time, record.ts_event)
        if action == "R" or (flags & SNAPSHOT and not snapshot):
            orders.clear()
            levels.clear()
            before.clear()
            snapshot = True
        if action == "A":
            assert record.order_id not in orders
            change(levels, before, key, record.size)
            orders[record.order_id] = (*key, record.size)
        elif action == "C":
            side, price, size = orders.pop(record.order_id)
            change(levels, before, (side, price), -record.size)
            if size > record.size:
                orders[record.order_id] = (side, price, size - record.size)
        elif action == "M":
            side, price, size = orders[record.order_id]
            change(levels, before, (side, price), -size)
            change(levels, before, key, record.size)
            orders[record.order_id] = (*key, record.size)
        following = records[number + 1] if number + 1 < len(records) else None
        ends_snapshot = flags & SNAPSHOT and (following is None or not int(following.flags) & SNAPSHOT)
        if flags & LAST or ends_snapshot:
            changes = {key: levels.get(key, 0) for key, size in before.items() if levels.get(key, 0) != size}
            if changes or snapshot:
                yield Event(time, snapshot, changes, levels)
            before.clear()
            snapshot, time = False, 0


def change(levels: LEVELS, before: LEVELS, key: tuple[str, int], by: int) -> None:
    held = levels.get(key, 0)
    before.setdefault(key, held)
    assert held + by >= 0
    if held + by:
        levels[key] = held + by
    else:
        del levels[key]


def best(levels: LEVELS, side: str, count: int) -> list[tuple[int, int]]:
    """(price, size) of the best levels of a side, B or A."""
    of_side = sorted((price, size) for (s, price), size in levels.items() if s == side)
    return (of_side[::-1] if side == "B" else of_side)[:count]


def checksum(levels: LEVELS, price_exponent: int) -> int:
    """CRC-32 over the ten best asks and then bids, as integers of the instrument's exponent (sizes have none here)."""
    unit = 10 ** (9 + price_exponent)
    digits = "".join(f"{price // unit}{size}" for side in "AB" for price, size in best(levels, side, 10))
    return zlib.crc32(digits.encode())


def price_text(price: int) -> str:
    return text(Decimal(price) * NANO)


if __name__ == "__main__":
    for event in events(sys.argv[1]):
        print(json.dumps([event.time, [[side, price_text(p), size] for (side, p), size in event.changes.items()]]))
