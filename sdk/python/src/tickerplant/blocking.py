"""The same client for programs without asyncio: calls that wait.

Invariant: what `Client.book` shows is the book right after the event that the program was given last.

A thread of its own runs the loop, so the connection lives also while the program does something else; events wait up to the
same bound.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

from . import client as asynchronous
from .books import Book, Books
from .engine import Clock, Counters, Transport
from .errors import Reason
from .events import Event, Ticket
from .protocol.elements import InstrumentDetails
from .subscription import SlowPolicy

T = TypeVar("T")
E = TypeVar("E")
BATCH_MAX = 1024
"""So many events are handed from thread to thread at once."""


class Client:
    """A connection that is made again when it is lost, and its events: an iterator."""

    def __init__(self, opening: asynchronous.connect) -> None:
        """Programs call `connect`."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tickerplant", daemon=True)
        self._thread.start()
        self._books = Books()
        self._events: deque[Event] = deque()
        self._taking: Future[list[Event]] | None = None
        self._over = False
        try:
            self._client = self._wait(opening._open())
        except BaseException:
            self._stop()
            raise

    # Events.

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def next(self, timeout_s: float | None = None) -> Event | None:
        """The next event; none when the connection is lost for good. Raises `TimeoutError` when none has come in time."""
        if not self._events:
            if self._over:
                return None
            if self._taking is None:
                self._taking = asyncio.run_coroutine_threadsafe(self._client.take(BATCH_MAX), self._loop)
            # What has not come in time stays asked for.
            batch = self._taking.result(timeout_s)
            self._taking = None
            self._events.extend(batch)
            if not batch:
                self._over = True
                return None
        event = self._events.popleft()
        problem = self._books.apply(event)
        if problem is not None:
            self._events.appendleft(problem)
            self._loop.call_soon_threadsafe(self._client.repair, problem)
        return event

    def of(self, *types: type[E]) -> Iterator[E]:
        """The events of these types alone; the others are taken and dropped."""
        for event in self:
            if isinstance(event, types):
                yield event

    # Requests.

    def subscribe(
        self,
        channels: str | Iterable[str],
        symbols: str | Iterable[str],
        *,
        latest_ms: int | None = None,
        snapshot: bool = True,
        slow: SlowPolicy = "conflate",
    ) -> Ticket:
        """Wants something to be sent; see the asynchronous `Client.subscribe`."""
        return self._call(
            lambda: self._client.subscribe(channels, symbols, latest_ms=latest_ms, snapshot=snapshot, slow=slow)
        )

    def update(self, channels: str | Iterable[str], symbols: str | Iterable[str], *, latest_ms: int | None) -> Ticket:
        """Changes how often what is subscribed is sent; None is every element."""
        return self._call(lambda: self._client.update(channels, symbols, latest_ms=latest_ms))

    def unsubscribe(
        self, channels: str | Iterable[str] | None = None, symbols: str | Iterable[str] | None = None
    ) -> Ticket:
        """Ends subscriptions; what is left out is all."""
        return self._call(lambda: self._client.unsubscribe(channels, symbols))

    def instruments(self, prefix: str | None = None) -> list[InstrumentDetails]:
        """What there is, those whose symbol begins with `prefix` if it is given."""
        return self._wait(self._client.instruments(prefix))

    # What is known.

    def book(self, symbol: str, depth: int = 10) -> Book | None:
        """The book as of the last event; see the asynchronous `Client.book`."""
        return self._books.of(symbol, depth)

    @property
    def counters(self) -> Counters:
        """What has been counted."""
        return self._client.counters

    @property
    def clock(self) -> Clock | None:
        """How far the server's clock is from ours; none before the first answer to a ping."""
        return self._client.clock

    @property
    def transport(self) -> Transport:
        """The way to the server; see the asynchronous `Client.transport`."""
        return self._client.transport

    @property
    def ended(self) -> Reason | None:
        """Why there will be no more connection, if it is so."""
        return self._client.ended

    # The end.

    def close(self) -> None:
        """Ends the client and its thread; what has come stays to be taken."""
        if self._thread.is_alive():
            self._wait(self._client.close())
            if self._taking is None:
                self._taking = asyncio.run_coroutine_threadsafe(self._client.take(1 << 62), self._loop)
            self._events.extend(self._taking.result())
            self._taking = None
            self._over = True
            self._stop()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _call(self, work: Callable[[], T]) -> T:
        async def called() -> T:
            return work()

        return self._wait(called())

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def connect(url: str, **options: Any) -> Client:
    """Connects, with the options of the asynchronous `connect`; use it in a `with`, or call `close`."""
    return Client(asynchronous.connect(url, **{**options, "books": False}))
