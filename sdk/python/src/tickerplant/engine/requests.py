"""What the program asks of the server: each request a command, kept until it is answered.

Invariant: a request with a ticket is answered or refused once, on whatever connection, or the connection ends for good
before.

Not here: what is subscribed again without being asked (`wishes`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import msgpack

from ..events import Ticket
from ..protocol.control import CommandId, Limits
from ..protocol.message import Encoding
from .pace import Pace
from .wishes import Subscribe


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command without an answer yet is about."""

    op: Literal["subscribe", "update", "unsubscribe", "instruments", "ping", "auth"]
    ticket: Ticket | None = None
    subscribe: Subscribe | None = None
    fields: tuple[tuple[str, object], ...] = ()
    """Of a command that is none of the first two"""
    sent: tuple[float, int] = (0.0, 0)
    """Of a ping: when, by both of our clocks"""


def encode(encoding: Encoding, command: dict[str, object]) -> bytes | str:
    """A command as it is sent."""
    if encoding == "json":
        return json.dumps(command, separators=(",", ":"))
    packed: bytes = msgpack.packb(command)
    return packed


class Requests:
    """By the number of their command."""

    def __init__(self, encoding: Encoding, now: float) -> None:
        self.pace = Pace(Limits(), now)
        self.urgent: list[bytes | str] = []
        """What does not wait for the pace"""
        self._encoding = encoding
        self._asked: dict[int, Asked] = {}
        self._next_id = 1
        self._last_subscribed: tuple[int, Asked] | None = None

    def begin_session(self, limits: Limits, now: float) -> None:
        """Another session begins, with limits of its own."""
        self.pace = Pace(limits, now)

    def ask(self, asked: Asked, ready: bool) -> None:
        """A request of the program; one that is not said now is said when the session is ready."""
        number = self.keep(asked)
        if ready or asked.op == "auth":
            self._say(number, asked)

    def keep(self, asked: Asked) -> int:
        """A request that no command says, and its number."""
        number = self._next_id
        self._next_id += 1
        self._asked[number] = asked
        return number

    @property
    def waiting(self) -> dict[int, Asked]:
        """What has no answer yet."""
        return self._asked

    @property
    def next_number(self) -> int:
        """Of the next request."""
        return self._next_id

    def take_unanswered(self) -> dict[int, Asked]:
        """What has not been answered, to be said again behind what the wishes say."""
        asked, self._asked = self._asked, {}
        return asked

    def say_again(self, unanswered: dict[int, Asked]) -> None:
        """Each gets an answer; of what the wishes have brought already, that repeats the state and nothing else."""
        for number, asked in unanswered.items():
            self._asked[number] = asked
            self._say(number, asked)

    def ask_again(self) -> None:
        """The server refused commands without looking at them: everything without an answer is said once more."""
        self.say_again({number: asked for number, asked in self.take_unanswered().items() if asked.op != "ping"})

    def find(self, number: CommandId) -> Asked | None:
        """The command of that number, also one whose `subscribed` has come: its unknown symbols are told behind that."""
        if not isinstance(number, int):
            return None
        if self._last_subscribed is not None and self._last_subscribed[0] == number:
            return self._last_subscribed[1]
        return self._asked.get(number)

    def answered(self, number: CommandId) -> Asked | None:
        """The command that was answered."""
        asked = self._asked.pop(number, None) if isinstance(number, int) else None
        if asked is not None and isinstance(number, int) and asked.op == "subscribe":
            self._last_subscribed = (number, asked)
        return asked

    def authenticated(self) -> None:
        """`authenticated` echoes no number."""
        self._asked = {number: asked for number, asked in self._asked.items() if asked.op != "auth"}

    def forget_session(self) -> list[Ticket]:
        """What was asked is said again on the next connection, or has come true by the end of this one: those tickets."""
        self.urgent.clear()
        true_now = [asked.ticket for asked in self._asked.values() if asked.op == "unsubscribe" and asked.ticket]
        self._asked = {
            number: asked
            for number, asked in self._asked.items()
            if asked.op == "instruments" or (asked.op == "subscribe" and asked.ticket is not None)
        }
        return true_now

    def _say(self, number: int, asked: Asked) -> None:
        command: dict[str, object] = {"op": asked.op, "id": number}
        command |= dict(asked.fields) if asked.subscribe is None else asked.subscribe.fields()
        if asked.op == "update":
            del command["snapshot"]
        encoded = encode(self._encoding, command)
        if asked.op == "auth":
            # Before anything else, and before the limit is of interest.
            self.urgent.append(encoded)
        else:
            self.pace.push(encoded)


def of_program(asked: Asked | None) -> Ticket | None:
    """The ticket that the program has; those of the engine itself mean nothing to it."""
    return asked.ticket if asked is not None and asked.ticket is not None and asked.ticket > 0 else None
