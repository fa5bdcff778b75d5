"""How long to wait before a connection is made again.

Invariant: a server that asks for a pause gets at least that pause, and clients that lost their connections together do not
come back together.
"""

from __future__ import annotations

from dataclasses import dataclass

FAILURES_AFTER_SESSION_MAX = 3
"""The most failures in a row that count when the connection that was lost had been ready: with the default that is 2 s."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: a pause is drawn evenly from nothing to `first x 2^failures`, at most `longest`. Spreading the whole range
    empties a crowd of returning clients faster than a jitter around the middle does."""

    first_s: float = 0.25
    """The bound of the first pause"""
    longest_s: float = 30.0
    """The bound of every pause"""
    forgiven_after_s: float = 5.0
    """A connection that has lasted as long as this makes the next pause a first one again"""

    def pause(self, failures: int, draw: float) -> float:
        """The pause after so many failures in a row (0 for the first), with `draw` from 0 up to 1."""
        bound = min(self.longest_s, self.first_s * 2.0 ** min(failures, 32))
        return bound * draw
