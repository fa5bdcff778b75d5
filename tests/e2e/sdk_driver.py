"""The Python SDK in the conformance scenario: prints what it was shown, as the drivers of the other SDKs do.

Usage: PYTHONPATH=sdk/python/src python sdk_driver.py ws://127.0.0.1:PORT/ws
"""

import asyncio
import json
import sys

import tickerplant
from tickerplant import Backoff, BookProblem, Connected, Gap, Refused, Status, Trade

REASONS = {"not_resumed": "hole", "undeclared": "hole"}
"""What the TypeScript SDK calls what nobody declared"""


async def main(url):
    runs, refused, connections, wrong_books = [], [], 0, 0

    def stream(event):
        """Of the run of numbers: what came live, what is missing and why, and a digest of what the trades said."""
        empty = {"live": [], "gaps": [], "digest": 0}
        return runs[-1]["streams"].setdefault(f"{event.symbol} {event.channel}", empty)

    async with tickerplant.connect(url, reconnect=Backoff(first_s=0.001, longest_s=0.01)) as client:
        client.subscribe(["trades", "quotes", "book.10", "status"], ["A", "B", "NOPE", "SECRET"])
        async for event in client:
            match event:
                case Connected():
                    connections += 1
                    if not runs or event.epoch_changed:
                        runs.append({"epoch": event.epoch, "streams": {}})
                case Refused():
                    refused += [symbol for symbol in event.symbols if symbol not in refused]
                case BookProblem():
                    wrong_books += 1
                case Gap():
                    gap = [event.from_seq, event.to_seq, REASONS.get(event.reason, event.reason)]
                    stream(event)["gaps"].append(gap)
                case _ if getattr(event, "snapshot", True):
                    pass
                case _:
                    shown = stream(event)
                    shown["live"].append(event.seq)
                    if isinstance(event, Trade):
                        said = event.price_mantissa * 7 + event.size_mantissa
                        shown["digest"] = (shown["digest"] * 31 + said) % 2_147_483_647
                    if isinstance(event, Status) and event.reason == "done":
                        break
        books = {symbol: book(client.book(symbol)) for symbol in ("A", "B")}
    result = {"books": books, "connections": connections, "refused": refused, "runs": runs, "wrong_books": wrong_books}
    print(json.dumps(result))


def book(found):
    if found is None:
        return None
    sides = {"bids": found.bids, "asks": found.asks}
    return {"seq": found.seq} | {
        name: [[format(number, "f") for number in level] for level in levels] for name, levels in sides.items()
    }


asyncio.run(main(sys.argv[1]))
