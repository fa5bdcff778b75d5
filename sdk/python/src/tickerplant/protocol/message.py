"""A message of the server, whatever it is and however it was written.

Invariant: the first byte, or the first key, tells data from control; nothing is read twice.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from .control import ControlMessage, decode_control
from .directory import Directory
from .fields import mapping
from .frame import Frame
from .packed import decode_packed, is_packed_data, unpack
from .plain import decode_plain, parse

Encoding: TypeAlias = Literal["msgpack", "json"]
SUBPROTOCOLS: dict[Encoding, str] = {"msgpack": "ticker.v1.msgpack", "json": "ticker.v1.json"}


def decode(payload: str | bytes, directory: Directory) -> Frame | ControlMessage | None:
    """Reads a message: bytes are MessagePack, text is JSON. None when its type is not known here.

    Raises `ProtocolError` when it is not what the protocol says.
    """
    if isinstance(payload, str):
        message = mapping(parse(payload), "a message")
        return decode_plain(message, directory) if "data" in message else decode_control(message)
    if is_packed_data(payload):
        return decode_packed(payload, directory)
    return decode_control(unpack(payload))
