"""The session over server-sent events, where something on the way refuses WebSockets.

Invariant: what is wanted stands in the request, so every other wish is another request; nothing is sent beside it.

Not here: HTTP (`event_stream`), and which numbers are missing when a request goes on without an id (`tape`).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from ..errors import ProtocolError
from ..events import Event, Instruments, Refused, Subscribed, Unsubscribed
from ..protocol.channels import CHANNELS
from ..protocol.control import ErrorMessage, InstrumentsMessage, SubscribedMessage
from ..protocol.elements import InstrumentTerms
from ..protocol.message import decode
from ..subscription import ALL
from .requests import Requests, of_program
from .tape import Tape
from .wishes import Wishes

REQUEST_INTERVAL_S = 0.4
"""Wishes that come in quick succession are asked for together."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a connection is opened for."""

    query: str | None
    """None when nothing is wanted: it is only found out whether the server can be reached"""
    last_event_id: str | None = None


class Stream:
    """The request that is open, and what of the program's requests it answers."""

    def __init__(self, wishes: Wishes, tape: Tape, requests: Requests) -> None:
        self.request = StreamRequest(None)
        self.covers = 0
        """Requests of the program with a number below stand in it"""
        self.due: float | None = None
        """When what has changed since is asked for"""
        self.changing = False
        """Whether it takes the place of one that worked"""
        self._wishes = wishes
        self._tape = tape
        self._requests = requests
        self._opened_at = 0.0
        self._last: tuple[str, str] | None = None

    def open(self, now: float) -> StreamRequest:
        """The next request."""
        query = query_of(self._wishes)
        # Whoever joins is owed the state, which no resumed stream begins with.
        joins = any(asked.op == "subscribe" for asked in self._requests.waiting.values())
        last = self._last if not joins and self._last is not None and self._last[0] == query else None
        self.request = StreamRequest(query, None if last is None else last[1])
        self.covers, self.due, self._opened_at = self._requests.next_number, None, now
        return self.request

    def changed(self) -> None:
        """Something else is wanted."""
        self.due = self._opened_at + REQUEST_INTERVAL_S

    def passed(self, event_id: str) -> None:
        """Everything up to this id has been seen."""
        if self.request.query is not None:
            self._last = (self.request.query, event_id)

    def began(self, message: SubscribedMessage) -> list[Event]:
        """Which streams the request brings; each is delivered as it was wanted."""
        anew = self.request.last_event_id is None
        known = []
        for terms in message.instruments:
            shared = self._tape.learn(terms)
            if shared is None:
                continue
            known.append(shared)
            for channel in message.channels:
                setting = self._wishes.setting(channel, terms.symbol)
                if setting is not None:
                    self._tape.subscribed(shared, [channel], setting.interval_ms is None, anew)
        return self.answered(known, message.recovered)

    def answered(
        self, instruments: list[InstrumentTerms], recovered: list[tuple[str, str, str]] | None = None
    ) -> list[Event]:
        """The stream has begun, and so has everything that stands in its request."""
        events: list[Event] = []
        for number, asked in list(self._requests.waiting.items()):
            if number >= self.covers or asked.op == "instruments":
                continue
            self._requests.answered(number)
            ticket, command = of_program(asked), asked.subscribe
            if asked.op == "unsubscribe":
                self._forget(dict(asked.fields))
                events.append(Unsubscribed(ticket))
            elif command is not None and ticket is not None:
                mine = [one for one in instruments if command.symbols == (ALL,) or one.symbol in command.symbols]
                interval_ms = command.setting.interval_ms
                events.append(Subscribed(ticket, mine, list(command.channels), interval_ms, recovered or []))
        if instruments and not any(isinstance(event, Subscribed) for event in events):
            channels, _, interval_ms = self._wishes.joined() or ([], [], None)
            events.append(Subscribed(None, instruments, channels, interval_ms, recovered or []))
        return events

    def _forget(self, fields: dict[str, object]) -> None:
        channels, symbols = fields.get("channels"), fields.get("symbols")
        named = list(symbols) if isinstance(symbols, tuple) and ALL not in symbols else None
        self._tape.unsubscribed(list(channels if isinstance(channels, tuple) else CHANNELS), named)

    def refused(self, error: ErrorMessage) -> list[Event]:
        """What the server does not serve is left out; an error that names no symbols is about all that is new."""
        events: list[Event] = []
        for number, asked in list(self._requests.waiting.items()):
            command = asked.subscribe
            if number >= self.covers or command is None:
                continue
            named = tuple(symbol for symbol in command.symbols if symbol in error.symbols)
            refused = named if error.symbols else command.symbols
            if refused:
                self._wishes.remove(command.channels, refused)
                events.append(Refused(of_program(asked), error.code, error.message, list(error.symbols)))
            if refused == command.symbols:
                self._requests.answered(number)
        if error.symbols or not events:
            self._wishes.remove(None, tuple(error.symbols) or None)
        return events or [Refused(None, error.code, error.message, list(error.symbols))]

    def fetched(self, number: int, body: str) -> list[Event]:
        """The list of instruments, or the error in its place."""
        try:
            message = decode(body, self._tape.directory)
        except ProtocolError as error:
            return self.not_fetched(number, str(error))
        if isinstance(message, InstrumentsMessage):
            asked = self._requests.answered(number)
            prefix = "" if asked is None else str(dict(asked.fields).get("prefix", ""))
            found = [one for one in message.instruments if one.symbol.startswith(prefix)]
            return [Instruments(of_program(asked), found)]
        words = message.message if isinstance(message, ErrorMessage) else "the answer is no list of instruments"
        return self.not_fetched(number, words)

    def not_fetched(self, number: int, why: str) -> list[Event]:
        """The list of instruments could not be had."""
        return [Refused(of_program(self._requests.answered(number)), "lost", why, [])]


def query_of(wishes: Wishes) -> str | None:
    """All that is wanted, as one request can say it: some of it may come though nobody asked, or more often."""
    wanted = wishes.joined()
    if wanted is None:
        return None
    channels, symbols, interval_ms = wanted
    query = {"symbols": ",".join(symbols), "channels": ",".join(channels)}
    if interval_ms is not None:
        query["interval_ms"] = str(interval_ms)
    return urlencode(query)
