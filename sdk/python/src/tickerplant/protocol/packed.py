"""Data frames in MessagePack.

Invariant: nothing is copied that need not be: a list of the message is the list of an element's fields.
"""

from __future__ import annotations

from typing import Any

import msgpack

from ..errors import ProtocolError
from .directory import Directory
from .elements import Element
from .frame import Frame, Unknown
from .shapes import element

_SNAPSHOT = 0


def unpack(payload: bytes) -> Any:
    """MessagePack to Python's values."""
    try:
        return msgpack.unpackb(payload, raw=False, strict_map_key=False, unicode_errors="replace")
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise ProtocolError(f"no MessagePack: {error}") from None


def is_packed_data(payload: bytes) -> bool:
    """Whether the message is a data frame; what is not is a control message."""
    first = payload[0] if payload else 0
    return 0x90 <= first <= 0x9F or first in (0xDC, 0xDD)


def decode_packed(payload: bytes, directory: Directory) -> Frame:
    """Reads a data frame."""
    message = unpack(payload)
    if not isinstance(message, list) or not message or type(message[0]) is not int:
        raise ProtocolError("a data frame does not begin with a time")
    sent_at = message[0]
    first = message[1] if len(message) > 1 else None
    snapshot = isinstance(first, list) and len(first) >= 2 and first[0] == _SNAPSHOT
    if isinstance(first, list) and snapshot and first[1] != len(message) - 2:
        raise ProtocolError("a snapshot frame has not as many elements as its marker says")
    by_id = directory.by_id
    elements: list[Element | Unknown] = []
    for fields in message[2 if snapshot else 1 :]:
        try:
            elements.append(element(fields, by_id, sent_at, snapshot))
        except (TypeError, ValueError, IndexError, KeyError) as error:
            if isinstance(error, ProtocolError):
                raise
            raise ProtocolError(f"an element is malformed: {error}") from None
    return Frame(sent_at, snapshot, elements)
