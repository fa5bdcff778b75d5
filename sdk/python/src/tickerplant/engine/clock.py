"""How far the server's clock is from ours.

Invariant: the estimate is off by at most half of the round trip of the sample that it is from.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

SAMPLES = 8
"""The best of so many samples counts; older ones say less, as clocks drift."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The server's clock, seen from here."""

    offset_ns: int
    """What is to be added to our clock to get the server's"""
    round_trip_s: float
    """How long the ping took there and back that says so"""

    def to_local(self, server_ns: int) -> int:
        """A time of the server's clock by ours."""
        return server_ns - self.offset_ns


class Estimate:
    """The samples."""

    def __init__(self) -> None:
        self._samples: deque[Clock] = deque(maxlen=SAMPLES)

    def sample(self, sent_ns: int, answered_ns: int, round_trip_s: float, server_ns: int) -> None:
        """Takes in a ping, sent and answered at these times of our clock, and the server's clock in between."""
        self._samples.append(Clock(server_ns - (sent_ns + answered_ns) // 2, round_trip_s))

    def best(self) -> Clock | None:
        """The sample with the shortest way."""
        return min(self._samples, key=lambda clock: clock.round_trip_s, default=None)
