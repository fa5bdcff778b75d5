"""What a program wants to be sent.

Invariant: what was accepted names at least one channel and one symbol, and each name can be one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from .errors import RequestError
from .protocol.channels import CHANNELS

ALL = "*"
SlowPolicy: TypeAlias = Literal["conflate", "disconnect"]
INTERVAL_MS_MAX = 0xFFFF_FFFF
_SYMBOL = re.compile(r"[A-Za-z0-9.\-_/:=^]{1,32}", re.ASCII)


class Setting(NamedTuple):
    """How a stream is delivered."""

    interval_ms: int | None = None
    """None: every element; otherwise the newest one per interval"""
    snapshot: bool = True
    slow: SlowPolicy = "conflate"


@dataclass(frozen=True, slots=True)
class Subscription:
    """Channels of symbols, and how they are delivered."""

    channels: tuple[str, ...]
    symbols: tuple[str, ...]
    """`("*",)` is all there are, also those that appear later"""
    setting: Setting

    @property
    def all(self) -> bool:
        """Whether it is of all symbols."""
        return self.symbols == (ALL,)


def subscription(
    channels: str | Iterable[str],
    symbols: str | Iterable[str],
    latest_ms: int | None = None,
    snapshot: bool = True,
    slow: SlowPolicy = "conflate",
) -> Subscription:
    """A checked subscription; raises `RequestError`."""
    if latest_ms is not None and (type(latest_ms) is not int or not 0 <= latest_ms <= INTERVAL_MS_MAX):
        raise RequestError(f"latest_ms is {latest_ms!r}; it should be an integer from 0 to {INTERVAL_MS_MAX}")
    if slow not in ("conflate", "disconnect"):
        raise RequestError(f"slow is {slow!r}; it should be 'conflate' or 'disconnect'")
    return Subscription(checked_channels(channels), checked_symbols(symbols), Setting(latest_ms, snapshot, slow))


def checked_channels(channels: str | Iterable[str]) -> tuple[str, ...]:
    """Names of channels, each once."""
    names = _names(channels)
    if not names:
        raise RequestError("no channel is named; name at least one, such as trades")
    for name in names:
        if name not in CHANNELS:
            raise RequestError(f"{name!r} is no channel; there are {', '.join(sorted(CHANNELS))}")
    return names


def checked_symbols(symbols: str | Iterable[str]) -> tuple[str, ...]:
    """Names of instruments, each once; with a star among them it alone."""
    names = _names(symbols)
    if not names:
        raise RequestError("no symbol is named; name at least one, or '*' for all")
    if ALL in names:
        return (ALL,)
    for name in names:
        if not _SYMBOL.fullmatch(name):
            raise RequestError(f"{name!r} is no symbol; it should be 1 to 32 of A-Z a-z 0-9 . - _ / : = ^")
    return names


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    listed = (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))
    for name in listed:
        if not isinstance(name, str):
            raise RequestError(f"{name!r} is not a text")
    return listed
