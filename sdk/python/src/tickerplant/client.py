"""A connection to a server, as a program sees it.

Invariant: what `Client.book` shows is the book right after the event that the program was given last.
"""

from __future__ import annotations

import ssl as tls
from collections.abc import AsyncIterator, Generator, Iterable
from itertools import count
from types import TracebackType
from typing import Any, TypeVar

from .books import Book, Books
from .driver import Door, Driver, Token, address
from .engine import Backoff, Clock, Config, Counters, Transport
from .errors import ConnectError, Reason, RequestError
from .events import BookProblem, Connected, Ended, Event, Lost, Ticket
from .protocol.channels import BOOK_CHANNELS
from .protocol.elements import InstrumentDetails
from .protocol.message import Encoding
from .subscription import SlowPolicy, checked_channels, checked_symbols, subscription

E = TypeVar("E")
EVENTS_MAX = 65_536
"""A few seconds of a busy market, at about 300 bytes each."""


class Client:
    """A connection that is made again when it is lost, and its events: an asynchronous iterator.

    Up to `events_max` events wait for the program. When there is no more room, nothing is read from the connection; the
    server's buffer for this client fills, and the server does what the subscription says: it leaves values out and declares
    the gap, or disconnects (`slow="disconnect"`). Nothing is lost without a word, and no memory grows without bound.
    """

    def __init__(self, driver: Driver, books: bool) -> None:
        """Programs call `connect`."""
        self._driver = driver
        self._books = Books() if books else None
        self._problem: BookProblem | None = None
        self._tickets = count(1)

    # Events.

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event = await self.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def next(self) -> Event | None:
        """The next event; none when the connection is lost for good, which the event before says.

        Nothing is lost when this is cancelled, as by `asyncio.timeout`.
        """
        problem, self._problem = self._problem, None
        if problem is not None:
            return problem
        if not self._driver.events:
            await self._driver.arrived()
            if not self._driver.events:
                return None
        event = self._driver.events.popleft()
        self._driver.taken()
        if self._books is not None:
            self._problem = self._books.apply(event)
            if self._problem is not None:
                self.repair(self._problem)
        return event

    async def of(self, *types: type[E]) -> AsyncIterator[E]:
        """The events of these types alone; the others are taken and dropped."""
        async for event in self:
            if isinstance(event, types):
                yield event

    async def take(self, events_max: int) -> list[Event]:
        """Waits for events and takes all that are there, at most so many; none when the connection is lost for good.

        For programs that work in batches and keep books of their own: these have not been applied to `book`.
        """
        await self._driver.arrived()
        events = self._driver.events
        taken = [events.popleft() for _ in range(min(events_max, len(events)))]
        self._driver.taken()
        return taken

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
        """Wants something to be sent: every element, or with `latest_ms` the newest one of each stream per interval.

        The answer comes as `Subscribed` or `Refused` with the ticket, so that events can be taken in the meantime. What is
        subscribed stays so over reconnections. Raises `RequestError` when it names nothing, or what cannot be.
        """
        wanted = subscription(channels, symbols, latest_ms, snapshot, slow)
        ticket = self._ticket()
        self._driver.engine.subscribe(ticket, wanted)
        self._driver.wake()
        return ticket

    def update(self, channels: str | Iterable[str], symbols: str | Iterable[str], *, latest_ms: int | None) -> Ticket:
        """Changes how often what is subscribed is sent; None is every element. No state is sent."""
        wanted = subscription(channels, symbols, latest_ms)
        ticket = self._ticket()
        self._driver.engine.update(ticket, wanted)
        self._driver.wake()
        return ticket

    def unsubscribe(
        self, channels: str | Iterable[str] | None = None, symbols: str | Iterable[str] | None = None
    ) -> Ticket:
        """Ends subscriptions; what is left out is all."""
        ended = None if channels is None else checked_channels(channels)
        of = None if symbols is None else checked_symbols(symbols)
        ticket = self._ticket()
        self._driver.engine.unsubscribe(ticket, ended, of)
        self._driver.wake()
        return ticket

    def request_instruments(self, prefix: str | None = None) -> Ticket:
        """Asks for what there is; it comes as the event `Instruments`."""
        ticket = self._ticket()
        self._driver.engine.request_instruments(ticket, prefix)
        self._driver.wake()
        return ticket

    async def instruments(self, prefix: str | None = None) -> list[InstrumentDetails]:
        """What there is, those whose symbol begins with `prefix` if it is given. Other events wait in the meantime."""
        ticket = self.request_instruments(prefix)
        return await self._driver.answer(ticket)

    def repair(self, problem: BookProblem) -> None:
        """Asks for a book anew. A client that keeps books does it by itself."""
        self._driver.engine.repair(problem.instrument.symbol, BOOK_CHANNELS[problem.depth])
        self._driver.wake()

    def _ticket(self) -> Ticket:
        if self._driver.ended is not None:
            raise RequestError("the client has ended; see its last event")
        return Ticket(next(self._tickets))

    # What is known.

    def book(self, symbol: str, depth: int = 10) -> Book | None:
        """The book of a subscribed symbol and depth (10, 50, or 0 for the full one), as of the last event; none before its
        snapshot, and while elements of it are missing or its checksum was wrong."""
        return None if self._books is None else self._books.of(symbol, depth)

    @property
    def counters(self) -> Counters:
        """What has been counted."""
        return self._driver.engine.counters

    @property
    def clock(self) -> Clock | None:
        """How far the server's clock is from ours; none before the first answer to a ping."""
        return self._driver.engine.clock

    @property
    def transport(self) -> Transport:
        """The way to the server that is in use, or is being tried: `websocket`, or `sse` where that is blocked."""
        return self._driver.engine.transport

    @property
    def ended(self) -> Reason | None:
        """Why there will be no more connection, if it is so."""
        return self._driver.ended

    # The end.

    async def close(self) -> None:
        """Ends the client; its last event says so."""
        await self._driver.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class connect:
    """Connects: `async with connect(url) as client`, or `client = await connect(url)` and later `await client.close()`.

    Raises `ConnectError` when the address cannot be used or the first attempt failed. Later attempts are made by themselves,
    and told as events.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token | None = None,
        auth_command: bool = False,
        encoding: Encoding = "msgpack",
        compression: bool = False,
        ssl: tls.SSLContext | None = None,
        reconnect: Backoff | None = Backoff(),  # noqa: B008
        connect_timeout_s: float = 10.0,
        ping_interval_s: float = 10.0,
        silence_max_s: float | None = None,
        events_max: int = EVENTS_MAX,
        books: bool = True,
        transports: tuple[Transport, ...] = ("websocket", "sse"),
    ) -> None:
        """What can be chosen.

        `token` is an API key or a JWT, sent in the hand-shake's header; a function, also an asynchronous one, is asked anew
        for each connection and when the server says that the token expires. `auth_command` sends it as the command `auth`
        instead. `compression` offers permessage-deflate. `reconnect=None` ends the client with its connection. `silence_max_s`
        is how long nothing may come; two and a half of the server's heartbeats when it is not given. `events_max` events wait
        for the program at most. `books=False` keeps no books and compares no checksums. `transports` are the ways to the
        server: where something refuses WebSockets, server-sent events take over; `("websocket",)` does without.
        """
        self._door = Door(address(url), token, compression, ssl, max(1, events_max))
        self._config = Config(
            encoding=encoding,
            auth_command=auth_command,
            renewable=callable(token),
            reconnect=reconnect,
            connect_timeout_s=connect_timeout_s,
            ping_interval_s=ping_interval_s,
            silence_max_s=silence_max_s,
            transports=transports or ("websocket",),
        )
        self._keep_books = books
        self._client: Client | None = None

    def __await__(self) -> Generator[Any, None, Client]:
        return self._open().__await__()

    async def __aenter__(self) -> Client:
        self._client = await self._open()
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def _open(self) -> Client:
        driver = Driver(self._door, self._config)
        try:
            while not any(isinstance(event, (Connected, Lost, Ended)) for event in driver.events):
                await driver.arrived()
                first = driver.events[0] if driver.events else None
                if isinstance(first, (Lost, Ended)):
                    raise ConnectError(f"cannot connect to {self._door.url}: {first.reason}")
        except BaseException:
            await driver.close()
            raise
        return Client(driver, self._keep_books)
