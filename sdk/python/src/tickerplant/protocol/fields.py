"""Checked reading of single values.

Invariant: what comes out has the type that it says, or a `ProtocolError` names the key.
"""

from __future__ import annotations

import calendar
import re
import time as clocks
from typing import Any, TypeAlias

from ..errors import ProtocolError

Fields: TypeAlias = dict[Any, Any]
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
_SECONDS: dict[str, int] = {}
# Times of one batch are mostly of the same second; beyond this the table begins anew.
_SECONDS_MAX = 1024


def mapping(value: object, name: str) -> Fields:
    """A map."""
    if not isinstance(value, dict):
        raise ProtocolError(f"{name} is not a map")
    return value


def sequence(value: object, name: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise ProtocolError(f"{name} is not a list")
    return value


def text(value: object, name: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ProtocolError(f"{name} is not a text")
    return value


def integer(value: object, name: str) -> int:
    """An integer; `True` is none."""
    if type(value) is not int:
        raise ProtocolError(f"{name} is not an integer")
    return value


def unsigned(value: object, name: str) -> int:
    """An integer from 0."""
    if type(value) is not int or value < 0:
        raise ProtocolError(f"{name} is not an integer from 0")
    return value


def exponent(value: object, name: str) -> int:
    """Exponents fit a signed byte; a larger one would ask for megabytes of zeros."""
    if type(value) is not int or not -128 <= value <= 127:
        raise ProtocolError(f"{name} is not an exponent")
    return value


def timestamp(value: object, name: str) -> int:
    """Nanoseconds since the Unix epoch, from an integer or from text of RFC 3339."""
    if type(value) is int and value >= 0:
        return value
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ProtocolError(f"{name} is not a time")
    return _seconds(found[1], name) * 1_000_000_000 + int((found[2] or "").ljust(9, "0"))


def _seconds(value: str, name: str) -> int:
    known = _SECONDS.get(value)
    if known is None:
        try:
            known = calendar.timegm(clocks.strptime(value, "%Y-%m-%dT%H:%M:%S"))
        except ValueError:
            raise ProtocolError(f"{name} is not a time") from None
        if len(_SECONDS) >= _SECONDS_MAX:
            _SECONDS.clear()
        _SECONDS[value] = known
    return known
