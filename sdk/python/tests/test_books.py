"""Books: the document's checksums, and a naive model."""

from zlib import crc32

from hypothesis import given
from hypothesis import strategies as some

from tickerplant import BookDelta, Books, BookSnapshot, Connected, Gap, InstrumentTerms

TERMS = InstrumentTerms(8, "ESU4", -2, 0)


def snapshot(seq, bids, asks, checksum, state=True):
    return BookSnapshot(TERMS, seq, 0, 0, state, "book.10", 10, bids, asks, checksum)


def delta(seq, bids, asks, checksum):
    return BookDelta(TERMS, seq, 0, 0, False, "book.10", 10, bids, asks, checksum)


FIRST = snapshot(41, [(552000, 5), (551975, 31)], [(552025, 7)], 412604185)
SECOND = delta(42, [(552000, 0)], [(552025, 9)], 3058486870)


def test_the_examples_of_the_document():
    books = Books()
    assert books.apply(FIRST) is None
    assert books.apply(SECOND) is None
    book = books.of("ESU4", 10)
    assert [tuple(map(str, level)) for level in book.bids] == [("5519.75", "31")]
    assert [tuple(map(str, level)) for level in book.asks] == [("5520.25", "9")]
    assert (book.seq, str(book.best_bid.price)) == (42, "5519.75")


def test_a_wrong_checksum_hides_the_book_until_its_next_snapshot():
    books = Books()
    books.apply(FIRST)
    problem = books.apply(delta(42, [(552000, 1)], [], 1))
    assert (problem.seq, problem.said, problem.depth) == (42, 1, 10)
    assert books.of("ESU4", 10) is None
    assert books.apply(SECOND) is None, "a delta while nothing is known means nothing"
    assert books.of("ESU4", 10) is None
    books.apply(FIRST)
    assert books.of("ESU4", 10).seq == 41


def test_gaps_and_another_epoch_hide_the_book():
    books = Books()
    books.apply(FIRST)
    books.apply(Gap(TERMS, 50, 0, 0, False, "trades", 42, 50, "slow"))
    assert books.of("ESU4", 10) is not None
    books.apply(Gap(TERMS, 50, 0, 0, False, "book.10", 42, 50, "slow"))
    assert books.of("ESU4", 10) is None
    books.apply(FIRST)
    books.apply(Connected("s", "e", epoch_changed=True))
    assert books.of("ESU4", 10) is None


def test_an_empty_live_snapshot_says_that_nothing_is_known():
    books = Books()
    books.apply(snapshot(1, [], [], 0))
    assert books.of("ESU4", 10) is not None, "as state it is an empty book"
    books.apply(snapshot(2, [], [], 0, state=False))
    assert books.of("ESU4", 10) is None


LEVELS = some.lists(some.tuples(some.integers(-20, 20), some.integers(0, 3)), max_size=30)


@given(LEVELS, some.lists(some.tuples(LEVELS, LEVELS), max_size=10))
def test_books_agree_with_a_naive_model(first, changes):
    books = Books()
    bids, asks = {}, {}
    for number, (more_bids, more_asks) in enumerate([(first, []), *changes]):
        for side, levels in ((bids, more_bids), (asks, more_asks)):
            for price, size in levels:
                side[price] = size
        best = sorted((p, s) for p, s in asks.items() if s)[:10]
        best += sorted(((p, s) for p, s in bids.items() if s), reverse=True)[:10]
        checksum = crc32("".join(f"{price}{size}" for price, size in best).encode())
        make = delta if number else snapshot
        assert books.apply(make(number, more_bids, more_asks, checksum)) is None
    book = books.of("ESU4", 10)
    assert book.bid_mantissas() == sorted(((p, s) for p, s in bids.items() if s), reverse=True)
    assert book.ask_mantissas() == sorted((p, s) for p, s in asks.items() if s)
    assert book.bid_mantissas(3) == book.bid_mantissas()[:3]
