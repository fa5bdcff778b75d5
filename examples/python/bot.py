"""A bot that keeps a book and trades on paper: it buys when the bids weigh more than the asks, and sells when they weigh less,
one lot at a time, and says what it would have made.

    python bot.py BTC-USD [http://127.0.0.1:8080]

Money is counted in `Decimal`s; the bot does nothing while its book is not whole.
"""

import asyncio
import sys
from decimal import Decimal

import tickerplant
from tickerplant import BookDelta, BookSnapshot, Connected, Ended, Gap, Lost, Refused

# A side that is more than so many times as heavy as the other is a signal.
WEIGHT = 2
DEPTH = 10


class Paper:
    """What the bot has: lots, and the money that they have cost."""

    def __init__(self):
        self.lots = 0
        self.orders = 0
        self.cash = Decimal(0)

    def decide(self, book):
        """The order that the book is a signal for, if it is one."""
        bid, ask = book.best_bid, book.best_ask
        if bid is None or ask is None:
            return None
        bids = sum(level.size for level in book.bids)
        asks = sum(level.size for level in book.asks)
        if bids > WEIGHT * asks and self.lots < 1:
            return self.trade("buy", 1, ask.price, bid.price, ask.price)
        if asks > WEIGHT * bids and self.lots > -1:
            return self.trade("sell", -1, bid.price, bid.price, ask.price)
        return None

    def trade(self, side, lots, price, bid, ask):
        """Takes a lot from the other side of the book, and says what all would be worth if it were got rid of at once."""
        self.lots += lots
        self.cash -= lots * price
        self.orders += 1
        # A lot that is held is sold at the bid, one that is owed is bought at the ask.
        profit = self.cash + self.lots * (bid if self.lots > 0 else ask)
        return f"{self.orders:6}. {side:4} at {price:>12}   position {self.lots:2}   profit {profit:>12}"


async def main(symbol, url="http://127.0.0.1:8080"):
    paper = Paper()
    async with tickerplant.connect(url) as client:
        client.subscribe(f"book.{DEPTH}", [symbol])
        async for event in client:
            match event:
                case BookSnapshot() | BookDelta():
                    book = client.book(symbol, depth=DEPTH)
                    if book is None:
                        continue
                    if isinstance(event, BookSnapshot):
                        bid = book.best_bid.price if book.best_bid else "none"
                        ask = book.best_ask.price if book.best_ask else "none"
                        say(f"the book is whole: {bid} / {ask}, waiting for a signal")
                    if order := paper.decide(book):
                        say(order)
                case Gap():
                    say(
                        f"{event.from_seq} to {event.to_seq} are missing ({event.reason}), waiting for the book"
                    )
                case Connected():
                    say(f"connected to {url}")
                    if event.epoch_changed:
                        say(
                            "the server began anew: what was in between is unknown, waiting for the book"
                        )
                case Lost():
                    say(
                        f"connection lost: {event.reason}; again in {event.retry_in_s:.1f} s"
                    )
                case Refused():
                    sys.exit(event.message)
                case Ended():
                    sys.exit(str(event.reason))


def say(line):
    print(line, flush=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: bot.py SYMBOL [URL]")
    try:
        asyncio.run(main(*sys.argv[1:]))
    except tickerplant.TickerplantError as error:
        sys.exit(f"bot: {error}")
    except KeyboardInterrupt:
        pass
