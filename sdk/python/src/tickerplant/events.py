"""What a client hands to its program.

Invariant: events of a stream come in the order of their numbers; what is missing between two of them stands as a `Gap`
before the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NewType, TypeAlias

from .errors import Reason
from .protocol.elements import Element, InstrumentDetails, InstrumentTerms

Ticket = NewType("Ticket", int)
"""Marks a request and its answers."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection is there, and what was subscribed is being subscribed again."""

    session: str
    epoch: str
    """The run of sequence numbers"""
    epoch_changed: bool
    """Whether it is another run than before: numbers begin anew, and what was in between is unknown"""
    transport: Literal["websocket", "sse"] = "websocket"
    """`sse`: over server-sent events, since something on the way refuses WebSockets"""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection was lost, or could not be made; it is tried again."""

    reason: Reason
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The connection was lost and is given up; no event follows."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class SnapshotBegin:
    """A frame of state follows, with so many elements, those left out as known aside."""

    elements: int


@dataclass(frozen=True, slots=True)
class SnapshotEnd:
    """The frame of state is over."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription, or a part of a large one, is in effect; also said of each part when it is made again."""

    ticket: Ticket | None
    """The request; none when it was made again"""
    instruments: list[InstrumentTerms]
    channels: list[str]
    interval_ms: int | None
    """None: every element"""
    recovered: list[tuple[str, str, str]]
    """How each resumed stream goes on: symbol, channel, and `recovered`, `gap` or `snapshot`"""


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """A subscription ended as asked."""

    ticket: Ticket | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A request, or a part of it, was refused; for unknown symbols the rest of it is in effect."""

    ticket: Ticket | None
    code: str
    message: str
    symbols: list[str]


@dataclass(frozen=True, slots=True)
class Instruments:
    """The answer to `request_instruments`, or without a ticket the announcement of new instruments."""

    ticket: Ticket | None
    instruments: list[InstrumentDetails]


@dataclass(frozen=True, slots=True)
class Notice:
    """The server has something to say."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class BookProblem:
    """A book was wrong and has been asked for anew; until its snapshot comes there is none."""

    instrument: InstrumentTerms
    depth: int
    seq: int
    """The number of the element after which it was wrong"""
    said: int
    """The checksum that the element has"""
    found: int
    """The checksum that the book had"""


Event: TypeAlias = (
    Element
    | Connected
    | Lost
    | Ended
    | SnapshotBegin
    | SnapshotEnd
    | Subscribed
    | Unsubscribed
    | Refused
    | Instruments
    | Notice
    | BookProblem
)
