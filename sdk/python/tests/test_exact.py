"""Exact numbers: text, integers and `Decimal` say the same."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tickerplant import ProtocolError
from tickerplant.protocol.exact import decimal, mantissa

INTEGERS = some.integers(-(2**63), 2**64 - 1)
EXPONENTS = some.integers(-128, 127)


@pytest.mark.parametrize(
    ("number", "exponent", "text"),
    [
        (968219, -2, "9682.19"),
        (-5, -2, "-0.05"),
        (0, -2, "0.00"),
        (5, 3, "5000"),
        (2**64 - 1, -3, "18446744073709551.615"),
    ],
)
def test_text_is_exact(number, exponent, text):
    assert format(decimal(number, exponent), "f") == text
    assert mantissa(text, exponent, "price") == number


@given(INTEGERS, EXPONENTS)
def test_there_and_back(number, exponent):
    with localcontext() as context:
        # What a program does to its own context changes nothing.
        context.prec = 3
        text = format(decimal(number, exponent), "f")
    assert mantissa(text, exponent, "price") == number


@given(INTEGERS, some.integers(-20, 6))
def test_a_decimal_is_the_integer_times_its_power(number, exponent):
    with localcontext() as context:
        context.prec = 60
        assert decimal(number, exponent) == Decimal(number) * Decimal(10) ** exponent


@pytest.mark.parametrize("text", ["", ".", "1.", ".5", "1e3", "+1", "1,5", "٣", "--1", " 1", "1.234", "9" * 151])
def test_what_is_no_number_of_the_instrument_is_an_error(text):
    with pytest.raises(ProtocolError, match="price is"):
        mantissa(text, -2, "price")
