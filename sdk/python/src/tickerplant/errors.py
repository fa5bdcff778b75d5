"""What can go wrong, by who is to act on it.

Invariant: a lost connection is not an error of the program: it is an event, and says whether it is made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FINAL_CLOSE_CODES = frozenset({1002, 1003, 1007, 1009, 4401, 4409})
"""Reconnecting would lead to the same end until the client is changed."""
UNAUTHENTICATED_CODE = 4401


class TickerplantError(Exception):
    """Every error of this library."""


class ProtocolError(TickerplantError, ValueError):
    """The server sent what the protocol does not allow."""


class ConnectError(TickerplantError, ConnectionError):
    """The address cannot be used, or the first attempt to connect failed."""


class RequestError(TickerplantError, ValueError):
    """A request is not sent, or was refused; `code` is the server's, if it was the server."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a connection ended or could not be made."""

    message: str
    may_reconnect: bool = True
    """Whether it makes sense to connect again without changing anything."""
    code: int | None = None
    """Of the close frame."""
    status: int | None = None
    """Of HTTP, when the upgrade was refused."""
    retry_after_s: float | None = None
    """When a server that refused the upgrade wants us back."""
    blocked: Literal["no", "perhaps", "yes"] = "no"
    """Whether something on the way refuses WebSockets, as far as this tells."""

    def __str__(self) -> str:
        return self.message


def closed(code: int | None, words: str) -> Reason:
    """The server closed."""
    with_code = "" if code is None else f" with {code}"
    with_words = f": {words}" if words else ""
    return Reason(f"the server closed the connection{with_code}{with_words}", code not in FINAL_CLOSE_CODES, code)


def refused(status: int, body: str, retry_after_s: float | None) -> Reason:
    """The server answered, but not with an upgrade."""
    # 429 is a rate, 408 a time; other 4xx say that this client will never do.
    may_reconnect = not 400 <= status < 500 or status in (408, 429)
    with_body = f": {body}" if body else ""
    message = f"the server refused the connection with {status}{with_body}"
    blocked: Literal["no", "perhaps", "yes"] = "yes"
    if status in (401, 408, 429, 503):
        # The server's own words.
        blocked = "no"
    elif status >= 500:
        # A proxy whose server is away says the same.
        blocked = "perhaps"
    return Reason(message, may_reconnect, status=status, retry_after_s=retry_after_s, blocked=blocked)
