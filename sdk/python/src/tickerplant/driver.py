"""What performs what the engine decides, on asyncio: WebSockets with the library `websockets`, streams in `event_stream`.

Invariant: while the program has not taken the events that are there, up to the bound, nothing more is read from the socket:
the pressure goes back to the server, which leaves values out for this client and says so by gaps.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from .engine import Close, Config, Connect, Engine, FetchInstruments, Now, Send
from .engine.server_events import ServerEvent
from .engine.stream import StreamRequest
from .errors import ConnectError, ProtocolError, Reason, RequestError, closed, refused
from .events import Ended, Event, Instruments, Notice, Refused, Ticket
from .protocol.elements import InstrumentDetails
from .protocol.message import SUBPROTOCOLS

Token: TypeAlias = str | Callable[[], str | Awaitable[str]]

# A frame of elements has at most 128 KiB; a list of instruments grows with their number, about 200 bytes each, and this is a
# quarter of a million of them.
MESSAGE_BYTES_MAX = 64 << 20
# Messages that wait between the socket and us; with the server's frames 2 MiB.
MESSAGES_WAITING_MAX = 16
CLOSE_TIMEOUT_S = 0.5
SEND_TIMEOUT_S = 10.0
BODY_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Door:
    """Where to, and how."""

    url: str
    token: Token | None = None
    compression: bool = False
    ssl: ssl.SSLContext | None = None
    events_max: int = 65_536


def address(url: str) -> str:
    """The address of the WebSocket; `http://host:port` is understood too."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConnectError(f"{url!r} is not an address of a server: {error}") from None
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not host:
        raise ConnectError(f"{url!r} is not an address of a server; it should be like ws://127.0.0.1:8080/ws")
    path = parts.path.rstrip("/")
    return urlunsplit((scheme, parts.netloc, path if path.endswith("/ws") else f"{path}/ws", parts.query, ""))


def now() -> Now:
    """Our clocks."""
    return Now(time.monotonic(), time.time_ns())


class Driver:
    """Runs until the engine has ended, or it is closed."""

    def __init__(self, door: Door, config: Config) -> None:
        self.engine = Engine(config, now())
        self.events: deque[Event] = deque()
        """What the program has not taken yet"""
        self.ended: Reason | None = None
        self._door = door
        self._config = config
        self._socket: ClientConnection | None = None
        self._connection: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._answers: dict[Ticket, asyncio.Future[list[InstrumentDetails]]] = {}
        self._task = asyncio.create_task(self._run())

    # What the client calls.

    def wake(self) -> None:
        """The engine was asked for something."""
        self._wake.set()

    async def arrived(self) -> None:
        """Waits until there are events, or will be none."""
        while not self.events and self.ended is None:
            self._arrived.clear()
            await self._arrived.wait()

    def taken(self) -> None:
        """The program has taken events."""
        if not self._room.is_set() and len(self.events) <= self._door.events_max // 2:
            # The silence was ours.
            self.engine.heard(now())
            self._room.set()
            self._wake.set()

    def answer(self, ticket: Ticket) -> asyncio.Future[list[InstrumentDetails]]:
        """The answer to a request for instruments, which then is no event."""
        future: asyncio.Future[list[InstrumentDetails]] = asyncio.get_running_loop().create_future()
        self._answers[ticket] = future
        if self.ended is not None:
            self._fail_answers("the client has ended; see its last event")
        elif not self._room.is_set():
            self._fail_answers("nothing is read while events wait; take them first")
        return future

    async def close(self) -> None:
        """Ends it, and waits until nothing of it runs any more."""
        self.engine.close()
        self.wake()
        await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*self._background, return_exceptions=True)

    # The task.

    async def _run(self) -> None:
        try:
            while True:
                await self._perform()
                self._publish()
                if self.engine.ended:
                    return
                due = self.engine.due() if self._room.is_set() else None
                pause = None if due is None else max(0.0, due - time.monotonic())
                try:
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    self.engine.timeout(now())
                self._wake.clear()
        finally:
            self._let_go()
            if self.ended is None:
                self.ended = Reason("the program's loop has ended", may_reconnect=False)
            self._fail_answers("the client has ended; see its last event")
            self._arrived.set()

    async def _perform(self) -> None:
        while (action := self.engine.action(now())) is not None:
            match action:
                case Connect(request=None):
                    self._let_go()
                    self._connection = asyncio.create_task(self._connect())
                case Connect(request=StreamRequest() as request):
                    self._let_go()
                    self._connection = asyncio.create_task(self._stream(request))
                case FetchInstruments(number=number):
                    self._spawn(self._fetch(number))
                case Send(payload=payload):
                    await self._send(payload)
                case Close():
                    self._let_go()

    async def _send(self, payload: bytes | str) -> None:
        if self._socket is None:
            return
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._socket.send(payload)
        except TimeoutError:
            self._let_go()
            self.engine.lost(Reason(f"the server did not take a command within {SEND_TIMEOUT_S:g} s"), now())
        except ConnectionClosed:
            # Whoever reads says why.
            pass

    def _let_go(self) -> None:
        connection, socket = self._connection, self._socket
        self._connection = self._socket = None
        if connection is not None and connection is not asyncio.current_task():
            connection.cancel()
        if socket is not None:
            self._spawn(_goodbye(socket))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _publish(self) -> None:
        events = self.engine.take_events()
        if not events:
            return
        for event in events:
            match event:
                case Instruments(ticket=ticket, instruments=instruments) if ticket in self._answers:
                    self._settle(ticket, instruments)
                    continue
                case Refused(ticket=ticket, code=code, message=message) if ticket in self._answers:
                    self._settle(ticket, RequestError(message, code))
                    continue
                case Ended(reason=reason):
                    self.ended = reason
                case Notice(code="token_expires") if callable(self._door.token):
                    self._spawn(self._renew())
            self.events.append(event)
        if len(self.events) >= self._door.events_max and self._room.is_set():
            self._room.clear()
            self._fail_answers("nothing is read while events wait; take them first")
        self._arrived.set()

    def _settle(self, ticket: Ticket | None, answer: list[InstrumentDetails] | RequestError) -> None:
        future = None if ticket is None else self._answers.pop(ticket, None)
        if future is None or future.done():
            return
        if isinstance(answer, RequestError):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _fail_answers(self, why: str) -> None:
        for ticket in list(self._answers):
            self._settle(ticket, RequestError(why))

    # One connection.

    async def _connect(self) -> None:
        try:
            socket = await self._open()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._lost(_why(error))
            return
        self._socket = socket
        self.engine.connected(now())
        try:
            while True:
                message = await socket.recv()
                self.engine.message(message, now())
                self._publish()
                if self.engine.pending:
                    self._wake.set()
                if not self._room.is_set():
                    await self._room.wait()
        except ConnectionClosed as end:
            self._lost(_end(end))

    async def _stream(self, request: StreamRequest) -> None:
        # Only who needs it waits for the library.
        from . import event_stream

        async def arrived(events: list[ServerEvent]) -> None:
            self.engine.heard(now())
            for event in events:
                self.engine.event(event, now())
            self._publish()
            if self.engine.pending:
                self._wake.set()
            if not self._room.is_set():
                await self._room.wait()

        def opened() -> None:
            self.engine.connected(now())
            self._wake.set()

        url = event_stream.base(self._door.url)
        try:
            token = await self._token()
            async with event_stream.client(self._door.url, self._door.ssl) as http:
                await event_stream.read(http, url, request, token, opened, arrived)
        except event_stream.RefusedStream as refusal:
            self._connection = None
            self.engine.stream_refused(refusal.body, refusal.reason, now())
            self._wake.set()
        except ProtocolError as error:
            self._lost(Reason(f"the server sent what is not the protocol: {error}"))
        except Exception as error:
            self._lost(event_stream.why(error))
        else:
            if request.query is not None:
                self._lost(Reason("the event stream ended"))

    async def _fetch(self, number: int) -> None:
        from . import event_stream

        try:
            token = await self._token()
            async with event_stream.client(self._door.url, self._door.ssl) as http:
                body = await event_stream.instruments(http, event_stream.base(self._door.url), token)
            self.engine.fetched(number, body)
        except Exception as error:
            self.engine.not_fetched(number, event_stream.why(error).message)
        self._wake.set()

    async def _open(self) -> ClientConnection:
        token = await self._token()
        headers = {}
        if token is not None and self._config.auth_command:
            self.engine.token = token
        elif token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await connect(
            self._door.url,
            subprotocols=[Subprotocol(SUBPROTOCOLS[self._config.encoding])],
            additional_headers=headers,
            compression="deflate" if self._door.compression else None,
            ssl=self._door.ssl,
            max_size=MESSAGE_BYTES_MAX,
            max_queue=MESSAGES_WAITING_MAX,
            # The engine has limits of its own for all of these.
            open_timeout=None,
            ping_interval=None,
            close_timeout=CLOSE_TIMEOUT_S,
        )

    async def _token(self) -> str | None:
        token = self._door.token
        if callable(token):
            given = token()
            return await given if isawaitable(given) else given
        return token

    async def _renew(self) -> None:
        with contextlib.suppress(Exception):
            # Without another token the session is closed, and the next attempt asks for one again and says why.
            token = await self._token()
            if token is not None:
                self.engine.authenticate(token)
                self.wake()

    def _lost(self, reason: Reason) -> None:
        self._connection = self._socket = None
        self.engine.lost(reason, now())
        self._wake.set()


async def _goodbye(socket: ClientConnection) -> None:
    with contextlib.suppress(Exception):
        await socket.close()


def _end(error: ConnectionClosed) -> Reason:
    if error.rcvd is None:
        if error.sent is not None and error.sent.code != 1000:
            return Reason(f"the server sent what is not the protocol: {error.sent.reason or error.sent.code}")
        return closed(None, "")
    if error.sent is not None and error.rcvd_then_sent is False:
        return Reason(f"the server sent what is not the protocol: {error.sent.reason or error.sent.code}")
    return closed(error.rcvd.code, error.rcvd.reason)


def _why(error: Exception) -> Reason:
    match error:
        case InvalidStatus(response=response):
            lines = (response.body or b"").decode(errors="replace").splitlines() or [""]
            after = response.headers.get("Retry-After", "").strip()
            retry_after_s = float(after) if after.isdecimal() else None
            return refused(response.status_code, lines[0][:BODY_CHARS_MAX], retry_after_s)
        case InvalidURI():
            return Reason(str(error), may_reconnect=False)
        case InvalidHandshake():
            return Reason(f"the server sent what is not the protocol: {error}", blocked="perhaps")
        case ConnectionRefusedError():
            return Reason("nobody listens there (connection refused)")
        case ConnectionResetError() | EOFError():
            return Reason(str(error) or "the connection ended", blocked="perhaps")
        case OSError():
            return Reason(str(error) or "the connection ended")
        case _:
            return Reason(f"no connection: {error or type(error).__name__}")
