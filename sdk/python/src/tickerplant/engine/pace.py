"""Commands wait here until the server's limit lets them pass.

Invariant: no more commands go out than the welcome allows, so the server refuses none for its rate.

The queue has no bound of its own: it holds what the program asked for and has not unsubscribed, in parts.
"""

from __future__ import annotations

from collections import deque

from ..protocol.control import Limits

KEPT_BACK = 2
"""Of the server's allowance this much is left alone: its clock and ours do not run alike."""


class Pace:
    """A token bucket in front of a queue."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._waiting: deque[bytes | str] = deque()
        self._burst = max(1, limits.commands_burst - KEPT_BACK)
        self._tokens = self._burst
        # A tenth slower than allowed; 0 without a limit.
        self._refill_s = 1.1 / limits.commands_per_s if limits.commands_per_s else 0.0
        self._refilled_at = now

    def push(self, command: bytes | str) -> None:
        """Puts a command behind the others."""
        self._waiting.append(command)

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    def pop(self, now: float) -> bytes | str | None:
        """The next command that may go."""
        if not self._waiting:
            return None
        if self._refill_s:
            # The time that `due` names must be enough, in spite of rounding.
            earned = int((now - self._refilled_at) / self._refill_s + 1e-6)
            self._tokens = min(self._burst, self._tokens + earned)
            self._refilled_at = now if self._tokens == self._burst else self._refilled_at + self._refill_s * earned
            if self._tokens == 0:
                return None
            self._tokens -= 1
        return self._waiting.popleft()

    def due(self) -> float | None:
        """When the next one may go."""
        return self._refilled_at + self._refill_s if self._waiting else None
