"""The Python SDK of Tickerplant: a server's market data as typed events, in order, with every loss declared.

    async with tickerplant.connect("ws://127.0.0.1:8080/ws") as client:
        client.subscribe("trades", ["BTC-USD"])
        async for event in client:
            print(event)

| part | what it is |
| --- | --- |
| `connect`, `Client` | a connection and its events, on asyncio |
| `blocking` | the same in calls that wait |
| `engine` | what decides: messages and the time in, events and messages out; no socket, no clock |
| `protocol` | bytes to checked values |
| `Books` | books and their checksums |
| `frames` | events as a table of pandas |

Invariant: no price passes through a float; every number of a stream in mode `every` is delivered once, in order, or named by
a gap.
"""

from .books import Book, Books
from .client import Client, connect
from .engine import Backoff, Clock, Counters
from .errors import ConnectError, ProtocolError, Reason, RequestError, TickerplantError
from .events import (
    BookProblem,
    Connected,
    Ended,
    Event,
    Instruments,
    Lost,
    Notice,
    Refused,
    SnapshotBegin,
    SnapshotEnd,
    Subscribed,
    Ticket,
    Unsubscribed,
)
from .protocol.elements import (
    Bar,
    BookDelta,
    BookSnapshot,
    Gap,
    InstrumentDetails,
    InstrumentTerms,
    Level,
    Quote,
    Status,
    Ticker,
    Trade,
)

__all__ = [
    "Backoff",
    "Bar",
    "Book",
    "BookDelta",
    "BookProblem",
    "BookSnapshot",
    "Books",
    "Client",
    "Clock",
    "ConnectError",
    "Connected",
    "Counters",
    "Ended",
    "Event",
    "Gap",
    "InstrumentDetails",
    "InstrumentTerms",
    "Instruments",
    "Level",
    "Lost",
    "Notice",
    "ProtocolError",
    "Quote",
    "Reason",
    "Refused",
    "RequestError",
    "SnapshotBegin",
    "SnapshotEnd",
    "Status",
    "Subscribed",
    "Ticker",
    "TickerplantError",
    "Ticket",
    "Trade",
    "Unsubscribed",
    "connect",
]
