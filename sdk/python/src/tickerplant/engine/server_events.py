"""The line format of server-sent events.

Invariant: what comes in is bounded; lines of fields that are not known here are passed over.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ..errors import ProtocolError

RETRY_S_MAX = 60.0
"""As long as any server of ours asks for."""
EVENT_BYTES_MAX = 64 << 20
"""The same bound as for messages of a WebSocket."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a stream."""

    data: str
    id: str | None
    """Whoever goes on from it has seen everything up to here"""
    retry_s: float | None
    """How long to wait before connecting again"""


class EventParser:
    """The line format of server-sent events."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._size = 0
        self._id: str | None = None
        self._retry_s: float | None = None

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that end within this chunk. Raises `ProtocolError` when one is too long."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events = []
        for line in lines:
            event = self._line(line.removesuffix(b"\r"))
            if event is not None:
                events.append(event)
        if self._size + len(self._rest) > EVENT_BYTES_MAX:
            raise ProtocolError(f"an event of more than {EVENT_BYTES_MAX} bytes")
        return events

    def _line(self, line: bytes) -> ServerEvent | None:
        if not line:
            event = ServerEvent("\n".join(self._data), self._id, self._retry_s)
            found = bool(self._data or event.retry_s is not None)
            self._data, self._size, self._id, self._retry_s = [], 0, None, None
            return event if found else None
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value.decode(errors="replace"))
            self._size += len(value) + 1
        elif name == b"id":
            self._id = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit():
            self._retry_s = min(int(value) / 1000, RETRY_S_MAX)
        return None


def close_of(data: str) -> tuple[int, str] | None:
    """Code and words of the message that stands for a close frame."""
    if not data.startswith('{"type":"closed"'):
        return None
    try:
        message = json.loads(data)
    except ValueError:
        return None
    code = message.get("code")
    return code if isinstance(code, int) else 1006, str(message.get("message", ""))
