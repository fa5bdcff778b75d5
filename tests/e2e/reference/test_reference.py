"""Checks the reference readers against what is known of the public sample recordings.

TICKER_RECORDINGS=... python3 -m unittest discover -s tests/e2e/reference
"""

from __future__ import annotations

import os
import unittest

from read_dbn import read_dbn
from read_tardis import read_tardis
from ticks import merge, quotes, trades

RECORDINGS = os.environ.get("TICKER_RECORDINGS")


@unittest.skipUnless(RECORDINGS, "not run: TICKER_RECORDINGS is not set")
class ReferenceTest(unittest.TestCase):
    def counts(self, ticks) -> tuple[int, int]:
        return len(trades(ticks)), len(quotes(ticks))

    def path(self, name: str) -> str:
        return os.path.join(RECORDINGS or "", name)

    def test_es_top_of_book(self):
        ticks = read_dbn(self.path("es_mbp-1_2024-07-01.dbn.zst"))
        self.assertEqual(self.counts(ticks), (120, 2168))
        self.assertEqual({tick.symbol for tick in ticks}, {"ESU4"})

    def test_es_trades_are_those_of_the_top_of_book(self):
        ticks = read_dbn(self.path("es_trades_2024-07-01.dbn.zst"))
        self.assertEqual(ticks, trades(read_dbn(self.path("es_mbp-1_2024-07-01.dbn.zst"))))

    def test_btcusdt(self):
        bought = read_tardis(self.path("binance-futures_trades_2020-02-22_BTCUSDT.csv"))
        quoted = read_tardis(self.path("binance-futures_quotes_2020-02-22_BTCUSDT.csv"))
        self.assertEqual(self.counts(bought), (9999, 0))
        self.assertEqual(self.counts(quoted), (0, 9999))
        self.assertEqual(self.counts(merge([bought, quoted])), (9999, 9999))


if __name__ == "__main__":
    unittest.main()
