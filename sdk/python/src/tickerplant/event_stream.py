"""Server-sent events over HTTP, with the library `httpx`.

Invariant: whatever goes wrong is a `Reason`; nothing is read while the program has no room for more.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit, urlunsplit

import httpx

from .engine.server_events import EventParser, ServerEvent
from .engine.stream import StreamRequest
from .errors import Reason, refused

# The server comes back to a client that says nothing; what it says itself is watched by the engine.
_TIMEOUTS = httpx.Timeout(None)
_BODY_BYTES_MAX = 64 << 10
_BODY_CHARS_MAX = 200


class RefusedStream(Exception):
    """The answer is no stream: its body, and what it means if that is no message of the server."""

    def __init__(self, body: str, reason: Reason) -> None:
        super().__init__(reason.message)
        self.body = body
        self.reason = reason


def base(websocket_url: str) -> str:
    """The address of the server's HTTP, from that of its WebSocket."""
    parts = urlsplit(websocket_url)
    scheme = "https" if parts.scheme == "wss" else "http"
    return urlunsplit((scheme, parts.netloc, parts.path.removesuffix("/ws"), "", ""))


def client(websocket_url: str, context: ssl.SSLContext | None) -> httpx.AsyncClient:
    """What requests are made with; a proxy that the environment names is used."""
    return httpx.AsyncClient(timeout=_TIMEOUTS, verify=context or websocket_url.startswith("wss:"))


async def read(
    http: httpx.AsyncClient,
    url: str,
    request: StreamRequest,
    token: str | None,
    opened: Callable[[], None],
    arrived: Callable[[list[ServerEvent]], Awaitable[None]],
) -> None:
    """Reads a stream until it ends. Raises `RefusedStream`, `ProtocolError` or what the library raises."""
    headers = _authorization(token) | {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if request.last_event_id is not None:
        headers["Last-Event-ID"] = request.last_event_id
    path = "/readyz" if request.query is None else f"/api/v1/stream?{request.query}"
    async with http.stream("GET", url + path, headers=headers) as answer:
        if answer.status_code != httpx.codes.OK:
            raise await _refusal(answer)
        opened()
        if request.query is None:
            return
        parser = EventParser()
        async for chunk in answer.aiter_bytes():
            await arrived(parser.feed(chunk))


async def instruments(http: httpx.AsyncClient, url: str, token: str | None) -> str:
    """The list of instruments, or the error that stands in its place."""
    answer = await http.get(f"{url}/api/v1/instruments", headers=_authorization(token))
    return answer.text


def why(error: Exception) -> Reason:
    """What an error of the library means."""
    match error:
        case httpx.ConnectError():
            return Reason(f"no event stream: {error or 'nobody listens there'}")
        case httpx.HTTPError():
            return Reason(f"the event stream broke off: {error or type(error).__name__}")
        case _:
            return Reason(f"no event stream: {error or type(error).__name__}")


def _authorization(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


async def _refusal(answer: httpx.Response) -> RefusedStream:
    body = b""
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > _BODY_BYTES_MAX:
            break
    text = body.decode(errors="replace")
    line = next(iter(text.splitlines()), "")[:_BODY_CHARS_MAX]
    after = answer.headers.get("Retry-After", "").strip()
    reason = refused(answer.status_code, line, float(after) if after.isdecimal() else None)
    # Only what will never be served as it is, and is not about who asks.
    return RefusedStream(text if answer.status_code in (400, 403, 404) else "", reason)
