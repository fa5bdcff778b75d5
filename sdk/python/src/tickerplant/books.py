"""Order books as a client keeps them, and their checksums.

Invariant: `Books.of` gives a book only while it is whole: from a snapshot on, until elements are missing or a checksum
differs.

Not here: asking for a book anew, which is the client's doing.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from zlib import crc32

from .events import BookProblem, Connected, Event
from .protocol.channels import BOOK_CHANNELS
from .protocol.elements import BookDelta, BookSnapshot, Gap, InstrumentTerms, Level, MantissaLevel

CHECKED_LEVELS = 10
"""The checksum covers so many levels a side."""


class Book:
    """The levels of both sides, as integers of the instrument's exponents and, asked for, as decimals."""

    def __init__(self, instrument: InstrumentTerms, depth: int) -> None:
        self.instrument = instrument
        self.depth = depth
        """10, 50, or 0 for the full book"""
        self.seq = 0
        """Of the last element in it"""
        self.time = 0
        """The exchange's time of it, in nanoseconds since the Unix epoch"""
        self.whole = False
        """Whether a snapshot has come and everything since, and the checksum was right"""
        # Prices from the lowest up, of both sides, and the sizes at them.
        self._bid_prices: list[int] = []
        self._ask_prices: list[int] = []
        self._bid_sizes: dict[int, int] = {}
        self._ask_sizes: dict[int, int] = {}

    @property
    def bids(self) -> list[Level]:
        """Highest price first."""
        return [self._level(level) for level in self.bid_mantissas()]

    @property
    def asks(self) -> list[Level]:
        """Lowest price first."""
        return [self._level(level) for level in self.ask_mantissas()]

    @property
    def best_bid(self) -> Level | None:
        """The highest bid."""
        return next((self._level(level) for level in self.bid_mantissas(1)), None)

    @property
    def best_ask(self) -> Level | None:
        """The lowest offer."""
        return next((self._level(level) for level in self.ask_mantissas(1)), None)

    def bid_mantissas(self, levels: int | None = None) -> list[MantissaLevel]:
        """Highest price first, at most so many levels."""
        prices = self._bid_prices[::-1] if levels is None else self._bid_prices[: -levels - 1 : -1]
        return [(price, self._bid_sizes[price]) for price in prices]

    def ask_mantissas(self, levels: int | None = None) -> list[MantissaLevel]:
        """Lowest price first, at most so many levels."""
        return [(price, self._ask_sizes[price]) for price in self._ask_prices[:levels]]

    def checksum(self) -> int:
        """As the protocol has it: of the ten best levels a side."""
        levels = self.ask_mantissas(CHECKED_LEVELS) + self.bid_mantissas(CHECKED_LEVELS)
        return crc32("".join([f"{price}{size}" for price, size in levels]).encode())

    def apply(self, update: BookSnapshot | BookDelta) -> bool:
        """Takes in a change; whether the checksum was right. A delta while nothing is known means nothing."""
        if isinstance(update, BookSnapshot):
            for part in (self._bid_prices, self._ask_prices, self._bid_sizes, self._ask_sizes):
                part.clear()
            nothing = not (update.bid_mantissas or update.ask_mantissas or update.checksum or update.snapshot)
            # A live one that is empty says that nothing is known of the book until the next.
            self.whole = not nothing
        elif not self.whole:
            return True
        for level in update.bid_mantissas:
            _put(self._bid_prices, self._bid_sizes, level)
        for level in update.ask_mantissas:
            _put(self._ask_prices, self._ask_sizes, level)
        self.seq, self.time = update.seq, update.time
        if self.checksum() != update.checksum:
            self.whole = False
            return False
        return True

    def _level(self, level: MantissaLevel) -> Level:
        return Level(self.instrument.price(level[0]), self.instrument.size(level[1]))


class Books:
    """The books of all instruments and depths that are subscribed."""

    def __init__(self) -> None:
        self._books: dict[tuple[str, str], Book] = {}

    def apply(self, event: Event) -> BookProblem | None:
        """Takes in an event. Gives the problem when a checksum differs: the book is then not whole until its next snapshot."""
        if isinstance(event, (BookDelta, BookSnapshot)):
            key = (event.channel, event.instrument.symbol)
            book = self._books.get(key)
            if book is None:
                book = self._books[key] = Book(event.instrument, event.depth)
            if not book.apply(event):
                return BookProblem(book.instrument, book.depth, event.seq, event.checksum, book.checksum())
        elif isinstance(event, Gap):
            book = self._books.get((event.channel, event.instrument.symbol))
            if book is not None:
                book.whole = False
        elif isinstance(event, Connected) and event.epoch_changed:
            self._books.clear()
        return None

    def of(self, symbol: str, depth: int) -> Book | None:
        """The book of that name, while it is whole."""
        book = self._books.get((BOOK_CHANNELS.get(depth, ""), symbol))
        return book if book is not None and book.whole else None


def _put(prices: list[int], sizes: dict[int, int], level: MantissaLevel) -> None:
    price, size = level
    if size:
        if price not in sizes:
            insort(prices, price)
        sizes[price] = size
    elif sizes.pop(price, None) is not None:
        del prices[bisect_left(prices, price)]
