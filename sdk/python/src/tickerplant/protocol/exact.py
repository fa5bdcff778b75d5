"""Exact numbers: an integer and an exponent, as `Decimal` and as text.

Invariant: nothing here is a float, and no context of `decimal` can round it.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal

from ..errors import ProtocolError

# More digits than a 64-bit integer and an exponent of a signed byte can have together.
_EXACT = Context(prec=160)
_TEXT = re.compile(r"(-?)(\d{1,150})(?:\.(\d{1,150}))?", re.ASCII)


def decimal(mantissa: int, exponent: int) -> Decimal:
    """`mantissa x 10^exponent`, with as many places as the exponent says."""
    if exponent > 0:
        return Decimal(mantissa * 10**exponent)
    return Decimal(mantissa).scaleb(exponent, _EXACT)


def mantissa(text: str, exponent: int, name: str) -> int:
    """The integer of a decimal text, exactly or not at all."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ProtocolError(f"{name} is {text[:40]!r}, which is not a decimal")
    sign, whole, fraction = found[1], found[2], found[3] or ""
    places = max(0, -exponent)
    if fraction[places:].strip("0"):
        raise ProtocolError(f"{name} is {text[:40]!r}, with more than {places} digits after the point")
    value = int(whole + fraction[:places].ljust(places, "0"))
    if exponent > 0:
        value, rest = divmod(value, 10**exponent)
        if rest:
            raise ProtocolError(f"{name} is {text[:40]!r}, which is not a multiple of 10^{exponent}")
    return -value if sign else value
