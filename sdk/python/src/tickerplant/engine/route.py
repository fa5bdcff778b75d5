"""Which way to the server is taken: a WebSocket, and where something on the way refuses those, server-sent events.

Invariant: a way that worked is tried first when its connection is lost; each failure of a stream of events leads back to the
WebSocket.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from ..errors import Reason

Transport: TypeAlias = Literal["websocket", "sse"]

SUSPICIONS_MAX = 2
"""So many hand-shakes in a row that came to nothing are taken for blocked, where WebSockets have worked before."""


class Route:
    """The way in use, or being tried."""

    def __init__(self, transports: tuple[Transport, ...]) -> None:
        self.transport = transports[0]
        self.blocked: Reason | None = None
        """Why the WebSocket before this stream of events was not opened"""
        self._both = len(transports) > 1
        self._suspicions = 0
        self._worked = False

    def opened(self) -> None:
        """The session is open."""
        self.blocked = None
        self._suspicions = 0
        self._worked |= self.transport == "websocket"

    def failed(self, reason: Reason) -> bool:
        """An attempt came to nothing; whether the other way is to be tried at once."""
        if not self._both:
            return False
        if self.transport == "sse":
            self.transport = "websocket"
            # What will never be a stream may be a WebSocket again.
            return self.blocked is None and not reason.may_reconnect
        self._suspicions += reason.blocked != "no"
        enough = SUSPICIONS_MAX if self._worked else 1
        if reason.blocked == "yes" or (reason.blocked == "perhaps" and self._suspicions >= enough):
            self.transport, self.blocked = "sse", reason
            return True
        return False
