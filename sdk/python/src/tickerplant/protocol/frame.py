"""A data frame, as both encodings give it.

Invariant: elements of kinds, channels or instruments that are not known here are `Unknown`, never taken for something else.
"""

from __future__ import annotations

from dataclasses import dataclass

from .elements import Element


@dataclass(slots=True)
class Unknown:
    """An element that means nothing here, of a stream that may be known."""

    instrument_id: int | None
    channel: str | None
    seq: int


@dataclass(slots=True)
class Frame:
    """What one message brought."""

    sent_at: int
    """The server's clock in nanoseconds when it built the frame"""
    snapshot: bool
    elements: list[Element | Unknown]
