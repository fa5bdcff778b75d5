"""Reads Databento DBN files (schemas trades, mbp-1, tbbo; plain or Zstandard) with the PyPI package databento-dbn.

https://databento.com/docs/standards-and-conventions: prices are integers of 1e-9 and 2**63 - 1 is an undefined one;
the side of a trade is that of the aggressor; times are nanoseconds since the Unix epoch. A record of mbp-1 or tbbo
shows the book before the effect of its trade, hence the quote of such a record comes before its trade.

    python3 read_dbn.py FILE...     prints one line of JSON per tick
"""

from __future__ import annotations

import datetime
import sys
from decimal import Decimal

import databento_dbn
from ticks import Quote, Tick, Trade, merge, print_lines, text

NANO = Decimal(1).scaleb(-9)
UNDEFINED_PRICE = 2**63 - 1
AGGRESSORS = {"A": "sell", "B": "buy", "N": "unknown"}
ZSTANDARD_MAGIC = b"\x28\xb5\x2f\xfd"


def read_dbn(path: str) -> list[Tick]:
    """Trades (records with action T) and quotes, in file order. A record is a quote when its best bid or ask has
    another price or size than in the record before of the same instrument; the first one always is."""
    metadata, *records = decode(path)
    ticks: list[Tick] = []
    tops: dict[int, tuple] = {}
    for record in records:
        symbol = symbol_of(metadata, record)
        common = {"symbol": symbol, "time": record.ts_event, "receive": record.ts_recv}
        if hasattr(record, "levels"):
            level = record.levels[0]
            top = (*side(level.bid_px, level.bid_sz), *side(level.ask_px, level.ask_sz))
            if tops.get(record.instrument_id) != top:
                tops[record.instrument_id] = top
                bid, bid_size, ask, ask_size = top
                ticks.append(Quote(**common, bid=bid, bid_size=bid_size, ask=ask, ask_size=ask_size))
        if str(record.action) == "T":
            ticks.append(
                Trade(
                    **common,
                    price=text(record.price * NANO),
                    size=str(record.size),
                    side=AGGRESSORS[str(record.side)],
                    trade_id=record.sequence,
                )
            )
    return ticks


def decode(path: str) -> list:
    """The metadata and then all records."""
    with open(path, "rb") as file:
        content = file.read()
    compressed = content.startswith(ZSTANDARD_MAGIC)
    compression = databento_dbn.Compression.ZSTD if compressed else databento_dbn.Compression.NONE
    decoder = databento_dbn.DBNDecoder(compression=compression)
    decoder.write(content)
    return decoder.decode()


def side(price: int, size: int) -> tuple[str | None, str | None]:
    return (None, None) if price == UNDEFINED_PRICE else (text(price * NANO), str(size))


def symbol_of(metadata: databento_dbn.Metadata, record) -> str:
    """The raw symbol that stood for the record's instrument on the day it was received."""
    seconds = record.ts_recv // 1_000_000_000
    day = datetime.datetime.fromtimestamp(seconds, datetime.UTC).date()
    for symbol, intervals in metadata.mappings.items():
        for interval in intervals:
            in_time = interval["start_date"] <= day < interval["end_date"]
            if in_time and interval["symbol"] == str(record.instrument_id):
                return symbol
    return str(record.instrument_id)


if __name__ == "__main__":
    print_lines(merge([read_dbn(path) for path in sys.argv[1:]]))
