"""What goes into the machine beside messages, and what it wants of the shell.

Invariant: values alone; what they lead to is decided in `machine`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from ..protocol.message import Encoding
from .backoff import Backoff
from .route import Transport
from .stream import StreamRequest


@dataclass(frozen=True, slots=True)
class Config:
    """How an `Engine` behaves."""

    encoding: Encoding = "msgpack"
    auth_command: bool = False
    """Whether the token goes as the command `auth`, before anything else"""
    renewable: bool = False
    """Whether another token can be had, so that an expired one is no end"""
    reconnect: Backoff | None = field(default_factory=Backoff)
    """Whether and how a lost connection is made again"""
    connect_timeout_s: float = 10.0
    """How long a connection may take until it can be used"""
    ping_interval_s: float = 10.0
    """How often the clocks are compared"""
    silence_max_s: float | None = None
    """How long nothing may come; none takes two and a half heartbeats"""
    transports: tuple[Transport, ...] = ("websocket", "sse")
    """The ways to the server, in the order in which to try them"""


class Now(NamedTuple):
    """The time, as the shell reads it."""

    monotonic: float
    wall_ns: int


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect, and tell `Engine.connected` or `Engine.lost`; an earlier connection is let go of."""

    request: StreamRequest | None = None
    """Of a stream of events; none is a WebSocket"""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message: text in a text frame, bytes in a binary one."""

    payload: bytes | str


@dataclass(frozen=True, slots=True)
class Close:
    """Let go of the connection; nothing is to be told."""


@dataclass(frozen=True, slots=True)
class FetchInstruments:
    """Ask for the list of instruments over plain HTTP, and tell `Engine.fetched` or `Engine.not_fetched`."""

    number: int
    """Of the request"""


Action: TypeAlias = Connect | Send | Close | FetchInstruments
