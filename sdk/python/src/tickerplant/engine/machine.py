"""The connection: its phases, its clock, its end; and what the server says.

Invariant: a message that cannot be read ends the connection, with the events before it told; none raises.

Not here: WebSocket frames, sockets, tasks (`driver`); books (`Books`), which are kept where events are read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count
from random import Random

from ..errors import UNAUTHENTICATED_CODE, ProtocolError, Reason, closed
from ..events import (
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
from ..protocol.control import (
    Authenticated,
    ControlMessage,
    ErrorMessage,
    Heartbeat,
    InstrumentsMessage,
    Limits,
    NoticeMessage,
    Pong,
    SubscribedMessage,
    UnsubscribedMessage,
    Welcome,
)
from ..protocol.frame import Frame
from ..protocol.message import decode
from ..subscription import ALL, Subscription
from .actions import Action, Close, Config, Connect, FetchInstruments, Now, Send
from .backoff import FAILURES_AFTER_SESSION_MAX
from .clock import Clock, Estimate
from .requests import Asked, Requests, of_program
from .route import Route, Transport
from .server_events import ServerEvent, close_of
from .stream import Stream, query_of
from .tape import Counters, Resumable, Tape
from .wishes import Anew, Subscribe, Wishes, parts

SILENCE_MAX_S = 30.0
"""How long nothing may come from a server that sends no heartbeats; pings are answered in between."""
SILENT_HEARTBEATS = 2.5
SILENCE_MIN_S = 1.0
"""The shortest silence that counts, whatever a server announces."""
RATE_LIMITED_PAUSE_S = 2.0
"""How long commands wait after the server has refused one for its rate."""
COMMAND_BYTES_MAX = 1 << 20
"""A command is at most so long when the server has no limit."""


# The phases of a connection.


@dataclass(slots=True)
class _Pausing:
    until: float


@dataclass(slots=True)
class _Opening:
    stage: str
    until: float


@dataclass(slots=True)
class _Ready:
    since: float


_ANSWER = "answer"
_AUTHENTICATE = "answer the authentication"


class Engine:
    """A connection and what is subscribed on it, decided."""

    def __init__(self, config: Config, now: Now, draw: Callable[[], float] | None = None) -> None:
        """A machine that wants to connect at once. `draw` yields numbers from 0 up to 1, for the jitter."""
        self.counters = Counters()
        self.token: str | None = None
        """Of this connection, for the command `auth`"""
        self._config = config
        self._draw = draw or Random().random
        self._phase: _Pausing | _Opening | _Ready | None = _Pausing(now.monotonic)
        self._wishes = Wishes()
        self._tape = Tape(self.counters)
        self._route = Route(config.transports)
        self._requests = Requests(config.encoding, now.monotonic)
        self._stream = Stream(self._wishes, self._tape, self._requests)
        self._epoch: str | None = None
        self._limits = Limits()
        self._opened: Connected | None = None
        self._actions: deque[Action] = deque()
        self._events: list[Event] = []
        self._clock = Estimate()
        self._failures = 0
        self._asked_back_s: float | None = None
        self._heard_at = now.monotonic
        self._silence_max_s = SILENCE_MAX_S
        self._ping_due = now.monotonic
        self._again_due: float | None = None
        self._own_tickets = count(-1, -1)
        self._connect(now)

    # What the shell calls.

    def action(self, now: Now) -> Action | None:
        """What the shell is to do next."""
        if self._actions:
            return self._actions.popleft()
        if self._phase is not None and self._requests.urgent:
            return Send(self._requests.urgent.pop(0))
        if self.ready and self._again_due is None:
            command = self._requests.pace.pop(now.monotonic)
            if command is not None:
                return Send(command)
        return None

    def take_events(self) -> list[Event]:
        """What the program is to be told, in order."""
        events, self._events = self._events, []
        return events

    def due(self) -> float | None:
        """When `timeout` is to be called, if nothing comes before."""
        match self._phase:
            case _Pausing(until=until) | _Opening(until=until):
                return until
            case _Ready() if self.transport == "sse":
                silence = None if self._stream.request.query is None else self._heard_at + self._silence_max_s
                return min((time for time in (silence, self._stream.due) if time is not None), default=None)
            case _Ready():
                commands = self._again_due if self._again_due is not None else self._requests.pace.due()
                times = (self._heard_at + self._silence_max_s, self._ping_due, commands)
                return min(time for time in times if time is not None)
            case _:
                return None

    @property
    def pending(self) -> bool:
        """Whether `action` may have something to do."""
        return bool(self._actions or self._requests.urgent or not self._requests.pace.idle)

    @property
    def ended(self) -> bool:
        """Whether it is over for good."""
        return self._phase is None

    @property
    def ready(self) -> bool:
        """Whether commands can be sent."""
        return isinstance(self._phase, _Ready)

    @property
    def transport(self) -> Transport:
        """The way to the server that is in use, or is being tried."""
        return self._route.transport

    @property
    def clock(self) -> Clock | None:
        """The server's clock; none before the first answer to a ping."""
        return self._clock.best()

    def connected(self, now: Now) -> None:
        """The hand-shake is done."""
        if isinstance(self._phase, _Opening):
            self._phase.stage = "open the session"
            self._heard_at = now.monotonic
            if self.transport == "sse" and self._stream.request.query is None:
                # There is nothing to be told of: it is enough that the server is there.
                self._opened = None if self._stream.changing else Connected("", self._epoch or "", False, "sse")
                self._ready(now)
                self._events += self._stream.answered([])

    def lost(self, reason: Reason, now: Now) -> None:
        """The connection is gone, or was not made."""
        phase = self._phase
        if phase is None or isinstance(phase, _Pausing):
            return
        was_ready = isinstance(phase, _Ready)
        if not was_ready and not self._stream.changing:
            blocked = self._route.blocked
            authenticating = isinstance(phase, _Opening) and phase.stage == _AUTHENTICATE
            if not authenticating and self._route.failed(reason):
                self._connect(now)
                return
            if blocked is not None:
                # Neither way could be had; a stream that never will be says less than what refused the WebSocket.
                both = replace(reason, message=f"{blocked}; without it, {reason}")
                reason = both if reason.may_reconnect else blocked
        self._stream.changing = False
        backoff = self._config.reconnect
        renewed = self._config.renewable and was_ready and reason.code == UNAUTHENTICATED_CODE
        if backoff is None or not (reason.may_reconnect or renewed):
            self._end(reason)
            return
        if isinstance(phase, _Ready):
            # It was reached at least: worth asking again soon, however often it was lost.
            lasted = now.monotonic - phase.since
            forgiven = lasted >= backoff.forgiven_after_s
            self._failures = 0 if forgiven else min(self._failures, FAILURES_AFTER_SESSION_MAX)
        drawn = backoff.pause(self._failures, self._draw())
        if reason.retry_after_s is not None:
            retry_in_s = reason.retry_after_s + drawn
        elif self._asked_back_s is not None:
            # The server draws the pauses of those that it sends away.
            retry_in_s = self._asked_back_s
        else:
            retry_in_s = drawn
        self._asked_back_s = None
        self._failures += 1
        self._again_due = None
        self._events += [Unsubscribed(ticket) for ticket in self._requests.forget_session()]
        self._phase = _Pausing(now.monotonic + retry_in_s)
        self._events.append(Lost(reason, retry_in_s))

    def heard(self, now: Now) -> None:
        """Something else shows that the server lives, or that the silence was ours."""
        self._heard_at = now.monotonic

    def timeout(self, now: Now) -> None:
        """The time that `due` said has come."""
        match self._phase:
            case _Pausing(until=until) if now.monotonic >= until:
                self._connect(now)
            case _Opening(stage=stage, until=until) if now.monotonic >= until:
                limit = self._config.connect_timeout_s
                self._drop(Reason(f"the server did not {stage} within {limit:g} s", blocked="perhaps"), now)
            case _Ready() if self.transport == "sse":
                if self._stream.due is not None and now.monotonic >= self._stream.due:
                    self._stream.changing = True
                    self._connect(now)
                elif self._stream.request.query and now.monotonic >= self._heard_at + self._silence_max_s:
                    self._drop(Reason(f"nothing came from the server for {self._silence_max_s:g} s"), now)
            case _Ready():
                if now.monotonic >= self._heard_at + self._silence_max_s:
                    self._drop(Reason(f"nothing came from the server for {self._silence_max_s:g} s"), now)
                    return
                if self._again_due is not None and now.monotonic >= self._again_due:
                    self._again_due = None
                    self._requests.ask_again()
                if now.monotonic >= self._ping_due:
                    self._ping(now)
            case _:
                pass

    def message(self, payload: bytes | str, now: Now) -> None:
        """A message of the server came."""
        if not isinstance(self._phase, (_Opening, _Ready)):
            return
        self._heard_at = now.monotonic
        self.counters.messages += 1
        self.counters.bytes += len(payload)
        try:
            message = decode(payload, self._tape.directory)
        except ProtocolError as error:
            self._drop(Reason(f"the server sent what is not the protocol: {error}"), now)
            return
        if isinstance(message, Frame):
            if message.snapshot:
                self._events.append(SnapshotBegin(len(message.elements)))
            self._tape.take(message, self._wishes, self._events)
            if message.snapshot:
                self._events.append(SnapshotEnd())
        elif message is not None:
            self._control(message, now)

    def event(self, event: ServerEvent, now: Now) -> None:
        """An event of a stream came."""
        if event.retry_s is not None:
            self._asked_back_s = event.retry_s
        end = close_of(event.data)
        if end is not None:
            self._drop(closed(*end), now)
            return
        if event.data:
            asked_back_s = self._asked_back_s
            self.message(event.data, now)
            self._asked_back_s = self._asked_back_s or asked_back_s
        if event.id is not None:
            self._stream.passed(event.id)

    def stream_refused(self, body: str, reason: Reason, now: Now) -> None:
        """The answer to a request for a stream was an error; `reason` is what it is if it is none about the request."""
        try:
            error = decode(body, self._tape.directory)
        except ProtocolError:
            error = None
        wanted = self._stream.request.query
        if not isinstance(error, ErrorMessage) or self._phase is None:
            self.lost(reason, now)
            return
        self._events += self._stream.refused(error)
        if query_of(self._wishes) == wanted:
            self.lost(reason, now)
        else:
            # The rest of it is asked for at once.
            self._connect(now)

    def fetched(self, number: int, body: str) -> None:
        """The list of instruments."""
        self._events += self._stream.fetched(number, body)

    def not_fetched(self, number: int, why: str) -> None:
        """The list of instruments could not be had."""
        self._events += self._stream.not_fetched(number, why)

    def close(self) -> None:
        """The program wants no more."""
        self._end(Reason("closed by this program", may_reconnect=False))

    # What the program asks.

    def subscribe(self, ticket: Ticket, subscription: Subscription) -> None:
        """Wants something to be subscribed."""
        self._wishes.add(subscription)
        for command in self._commands(subscription):
            self._ask(Asked("subscribe", ticket, command))

    def update(self, ticket: Ticket, subscription: Subscription) -> None:
        """Changes the mode of what is subscribed."""
        self._wishes.update(subscription)
        for command in self._commands(subscription):
            self._ask(Asked("update", ticket, command))

    def unsubscribe(self, ticket: Ticket, channels: tuple[str, ...] | None, symbols: tuple[str, ...] | None) -> None:
        """Ends subscriptions; nothing named is everything."""
        self._wishes.remove(channels, symbols)
        fields: list[tuple[str, object]] = []
        if channels is not None:
            fields.append(("channels", channels))
        if symbols is not None:
            fields.append(("symbols", symbols))
        self._ask(Asked("unsubscribe", ticket, fields=tuple(fields)))

    def request_instruments(self, ticket: Ticket, prefix: str | None) -> None:
        """Asks for what there is."""
        fields = () if prefix is None else (("prefix", prefix),)
        self._ask(Asked("instruments", ticket, fields=fields))

    def repair(self, symbol: str, channel: str) -> None:
        """Asks for the state of a book that is wrong."""
        # A connection that is being made brings it anyway, or resumes: then it is asked for behind that.
        setting = self._wishes.setting(channel, symbol)
        if setting is not None:
            state = setting._replace(snapshot=True)
            self._ask(Asked("subscribe", Ticket(next(self._own_tickets)), Subscribe((channel,), (symbol,), state)))

    def authenticate(self, token: str) -> None:
        """Another token for this session, before the last one expires."""
        if self.ready:
            self._ask(Asked("auth", fields=(("token", token),)))

    # Phases.

    def _connect(self, now: Now) -> None:
        self._phase = _Opening(_ANSWER, now.monotonic + self._config.connect_timeout_s)
        if self.transport == "websocket":
            self._actions.append(Connect())
            return
        self._actions.append(Connect(self._stream.open(now.monotonic)))

    def _drop(self, reason: Reason, now: Now) -> None:
        self._actions.clear()
        self._actions.append(Close())
        self.lost(reason, now)

    def _end(self, reason: Reason) -> None:
        if self._phase is not None:
            self._phase = None
            self._actions.clear()
            self._actions.append(Close())
            self._events.append(Ended(reason))

    def _ready(self, now: Now) -> None:
        """The session is open: everything that is wanted is said."""
        self._phase = _Ready(now.monotonic)
        self._route.opened()
        if self._opened is not None:
            self._events.append(self._opened)
            self._opened = None
        if self.transport == "sse":
            self._stream.changing = False
            for number, asked in self._requests.waiting.items():
                self._ask_beside(number, asked)
            return
        unanswered = self._requests.take_unanswered()
        self._ping(now)
        resumable = Resumable(self._epoch, self._tape)
        for command in self._wishes.commands(self._command_bytes_max, resumable):
            for symbol, channel, _ in command.seqs:
                self._tape.resume(symbol, channel)
            self._ask(Asked("subscribe", None, command))
        self._requests.say_again(unanswered)

    # Requests.

    def _ask(self, asked: Asked) -> None:
        if self.ended:
            return
        if self.transport == "websocket":
            self._requests.ask(asked, self.ready)
            return
        number = self._requests.keep(asked)
        if self.ready:
            self._ask_beside(number, asked)

    def _ask_beside(self, number: int, asked: Asked) -> None:
        """A request of the program where no command can be sent."""
        if asked.op == "instruments":
            self._actions.append(FetchInstruments(number))
        elif number >= self._stream.covers:
            self._stream.changed()

    def _ping(self, now: Now) -> None:
        self._ping_due = now.monotonic + self._config.ping_interval_s
        # Commands that wait would make the way look long.
        if self._requests.pace.idle:
            self._ask(Asked("ping", sent=(now.monotonic, now.wall_ns)))

    @property
    def _command_bytes_max(self) -> int:
        return self._limits.message_bytes_max or COMMAND_BYTES_MAX

    def _commands(self, subscription: Subscription) -> Iterable[Subscribe]:
        channels, symbols, setting = subscription.channels, subscription.symbols, subscription.setting
        if subscription.all:
            return (Subscribe(channels, (ALL,), setting),)
        return parts(channels, symbols, setting, self._command_bytes_max, Anew())

    # What the server says.

    def _control(self, message: ControlMessage, now: Now) -> None:
        match message:
            case Welcome():
                self._welcome(message, now)
            case Authenticated():
                self._requests.authenticated()
                if isinstance(self._phase, _Opening) and self._phase.stage == _AUTHENTICATE:
                    self._ready(now)
            case SubscribedMessage():
                self._subscribed(message)
            case UnsubscribedMessage(id=number, channels=channels, symbols=symbols):
                self._tape.unsubscribed(channels, None if ALL in symbols else symbols)
                self._events.append(Unsubscribed(self._ticket_of_answer(number)))
            case InstrumentsMessage(id=number, instruments=instruments):
                if number is None:
                    channels = self._wishes.every_of_all()
                    for details in instruments:
                        self._tape.learn(details.terms)
                        self._tape.announced(details.terms, channels)
                self._events.append(Instruments(self._ticket_of_answer(number), instruments))
            case ErrorMessage():
                self._refused(message, now)
            case Pong(id=number, time=time):
                asked = self._requests.answered(number)
                if asked is not None and asked.op == "ping":
                    sent, sent_ns = asked.sent
                    self._clock.sample(sent_ns, now.wall_ns, now.monotonic - sent, time)
            case Heartbeat(delivered=delivered, dropped=dropped):
                self._tape.settle()
                if (delivered, dropped) != (self._tape.delivered, self._tape.dropped):
                    self.counters.heartbeats_wrong += 1
            case NoticeMessage(code=code, reconnect_after_ms=after_ms, message=words):
                if code == "draining" and after_ms is not None:
                    self._asked_back_s = after_ms / 1000
                self._events.append(Notice(code, words))
            case _:
                pass

    def _welcome(self, welcome: Welcome, now: Now) -> None:
        if not isinstance(self._phase, _Opening):
            return
        epoch_changed = self._epoch is not None and self._epoch != welcome.epoch
        if epoch_changed:
            self._tape.begin_epoch()
        self._tape.begin_session()
        self._epoch, self._limits = welcome.epoch, welcome.limits
        self._requests.begin_session(welcome.limits, now.monotonic)
        self._asked_back_s = None
        derived = welcome.heartbeat_ms / 1000 * SILENT_HEARTBEATS or SILENCE_MAX_S
        configured = self._config.silence_max_s
        self._silence_max_s = max(derived, SILENCE_MIN_S) if configured is None else configured
        self.counters.connections += 1
        if self.transport == "sse":
            if not self._stream.changing or epoch_changed:
                self._opened = Connected(welcome.session, welcome.epoch, epoch_changed, "sse")
            self._ready(now)
            return
        self._opened = Connected(welcome.session, welcome.epoch, epoch_changed, "websocket")
        if self._config.auth_command and self.token is not None:
            self._phase.stage = _AUTHENTICATE
            self._ask(Asked("auth", fields=(("token", self.token),)))
        else:
            self._ready(now)

    def _subscribed(self, message: SubscribedMessage) -> None:
        if self.transport == "sse":
            self._events += self._stream.began(message)
            return
        asked = self._requests.answered(message.id)
        every = message.interval_ms is None
        snapshot = (
            asked is not None
            and asked.op == "subscribe"
            and asked.subscribe is not None
            and asked.subscribe.setting.snapshot
        )
        known = []
        for terms in message.instruments:
            shared = self._tape.learn(terms)
            if shared is not None:
                wanted = [name for name in message.channels if self._wishes.setting(name, terms.symbol) is not None]
                self._tape.subscribed(shared, wanted, every, snapshot)
                known.append(shared)
        for symbol, channel, how in message.recovered:
            self._tape.recovered(symbol, channel, how)
        ticket = of_program(asked)
        self._events.append(Subscribed(ticket, known, message.channels, message.interval_ms, message.recovered))

    def _refused(self, message: ErrorMessage, now: Now) -> None:
        if message.code == "rate_limited":
            self._again_due = now.monotonic + RATE_LIMITED_PAUSE_S
            return
        if message.code in ("auth_failed", "auth_timeout"):
            if not self.ready:
                self._end(Reason(f"authentication failed: {message.message}", may_reconnect=False))
                return
            # The last token is still good; the next attempt may bring a better one.
            self._requests.authenticated()
        asked = self._requests.find(message.id)
        command = None if asked is None else asked.subscribe
        whole = True
        if asked is not None and asked.op == "subscribe" and command is not None:
            refused: tuple[str, ...] = command.symbols
            if message.code == "unknown_symbol" or (message.code == "not_entitled" and message.symbols):
                refused = tuple(message.symbols)
                whole = command.symbols != (ALL,) and set(command.symbols) <= set(refused)
            self._wishes.remove(command.channels, refused)
        if whole:
            self._requests.answered(message.id)
        self._events.append(Refused(of_program(asked), message.code, message.message, message.symbols))

    def _ticket_of_answer(self, number: int | str | None) -> Ticket | None:
        return of_program(self._requests.answered(number))
