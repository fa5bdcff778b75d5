"""Control messages of a server, in either encoding.

Invariant: unknown keys, types, codes and channels are passed over; what is known has the type that the protocol says, or
the message is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .elements import InstrumentDetails, InstrumentTerms
from .exact import decimal, mantissa
from .fields import Fields, exponent, mapping, sequence, text, timestamp, unsigned

CommandId: TypeAlias = int | str | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server allows; 0 is no limit."""

    message_bytes_max: int = 65536
    commands_per_s: int = 10
    commands_burst: int = 50


@dataclass(frozen=True, slots=True)
class Welcome:
    """A session begins."""

    version: str
    session: str
    epoch: str
    time: int
    heartbeat_ms: int
    limits: Limits


@dataclass(frozen=True, slots=True)
class SubscribedMessage:
    """The answer to `subscribe` and `update`."""

    id: CommandId
    instruments: list[InstrumentTerms]
    channels: list[str]
    interval_ms: int | None
    """None in mode `every`"""
    recovered: list[tuple[str, str, str]]
    """Symbol, channel and how it goes on"""


@dataclass(frozen=True, slots=True)
class UnsubscribedMessage:
    """The answer to `unsubscribe`."""

    id: CommandId
    channels: list[str]
    symbols: list[str]


@dataclass(frozen=True, slots=True)
class InstrumentsMessage:
    """The answer to `instruments`, or an announcement."""

    id: CommandId
    instruments: list[InstrumentDetails]


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """A mistake."""

    id: CommandId
    code: str
    message: str
    symbols: list[str]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The server lives, and counts."""

    time: int
    delivered: int
    dropped: int


@dataclass(frozen=True, slots=True)
class NoticeMessage:
    """The server has something to say."""

    code: str
    reconnect_after_ms: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to `ping`."""

    id: CommandId
    time: int
    sent_bytes: int | None
    """What the frames of this session came to on the wire; None from a server that does not count"""


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The token is good."""

    expires: int | None


@dataclass(frozen=True, slots=True)
class SubscriptionInfo:
    """One row of `subscriptions`."""

    channel: str
    symbols: list[str]
    interval_ms: int | None


@dataclass(frozen=True, slots=True)
class SubscriptionsMessage:
    """The answer to `subscriptions`."""

    id: CommandId
    subscriptions: list[SubscriptionInfo]


ControlMessage: TypeAlias = (
    Welcome
    | SubscribedMessage
    | UnsubscribedMessage
    | InstrumentsMessage
    | ErrorMessage
    | Heartbeat
    | NoticeMessage
    | Pong
    | Authenticated
    | SubscriptionsMessage
)


def decode_control(message: object) -> ControlMessage | None:
    """Reads a control message; none when its type is not known here."""
    fields = mapping(message, "a message")
    match text(fields.get("type"), "type"):
        case "welcome":
            return Welcome(
                text(fields.get("version"), "version"),
                text(fields.get("session"), "session"),
                text(fields.get("epoch"), "epoch"),
                timestamp(fields.get("time"), "time"),
                unsigned(fields.get("heartbeat_ms"), "heartbeat_ms"),
                _limits(mapping(fields.get("limits", {}), "limits")),
            )
        case "subscribed":
            instruments = [
                _terms(sequence(row, "instruments")) for row in sequence(fields.get("instruments"), "instruments")
            ]
            return SubscribedMessage(
                _id(fields), instruments, _texts(fields, "channels"), _interval_ms(fields), _recovered(fields)
            )
        case "unsubscribed":
            return UnsubscribedMessage(_id(fields), _texts(fields, "channels"), _texts(fields, "symbols"))
        case "instruments":
            rows = sequence(fields.get("instruments"), "instruments")
            return InstrumentsMessage(_id(fields), [_details(mapping(row, "an instrument")) for row in rows])
        case "error":
            words = text(fields.get("message", ""), "message")
            return ErrorMessage(_id(fields), text(fields.get("code"), "code"), words, _texts(fields, "symbols"))
        case "heartbeat":
            return Heartbeat(
                timestamp(fields.get("time"), "time"),
                unsigned(fields.get("delivered"), "delivered"),
                unsigned(fields.get("dropped"), "dropped"),
            )
        case "notice":
            after = fields.get("reconnect_after_ms")
            after_ms = None if after is None else unsigned(after, "reconnect_after_ms")
            return NoticeMessage(text(fields.get("code"), "code"), after_ms, text(fields.get("message", ""), "message"))
        case "pong":
            sent = fields.get("sent_bytes")
            sent_bytes = None if sent is None else unsigned(sent, "sent_bytes")
            return Pong(_id(fields), timestamp(fields.get("time"), "time"), sent_bytes)
        case "authenticated":
            expires = fields.get("expires")
            return Authenticated(None if expires is None else timestamp(expires, "expires"))
        case "subscriptions":
            rows = sequence(fields.get("subscriptions"), "subscriptions")
            return SubscriptionsMessage(_id(fields), [_row(mapping(row, "a subscription")) for row in rows])
        case _:
            return None


def _id(fields: Fields) -> CommandId:
    value = fields.get("id")
    return value if isinstance(value, (int, str)) else None


def _texts(fields: Fields, name: str) -> list[str]:
    value = fields.get(name)
    return [] if value is None else [text(one, name) for one in sequence(value, name)]


def _limits(fields: Fields) -> Limits:
    known = Limits()

    def limit(name: str, default: int) -> int:
        value = fields.get(name)
        return default if value is None else unsigned(value, name)

    return Limits(
        limit("message_bytes_max", known.message_bytes_max),
        limit("commands_per_s", known.commands_per_s),
        limit("commands_burst", known.commands_burst),
    )


def _interval_ms(fields: Fields) -> int | None:
    if fields.get("mode") != "latest":
        return None
    return unsigned(fields.get("interval_ms", 0), "interval_ms")


def _terms(row: list[object]) -> InstrumentTerms:
    symbol, number, price, size = (*row, None, None, None, None)[:4]
    return InstrumentTerms(
        unsigned(number, "instrument_id"),
        text(symbol, "symbol"),
        exponent(price, "price_exponent"),
        exponent(size, "size_exponent"),
    )


def _recovered(fields: Fields) -> list[tuple[str, str, str]]:
    symbols = mapping(fields.get("recovered") or {}, "recovered")
    return [
        (text(symbol, "symbol"), text(channel, "channel"), text(how, "recovered"))
        for symbol, channels in symbols.items()
        for channel, how in mapping(channels, "recovered").items()
    ]


def _details(fields: Fields) -> InstrumentDetails:
    row = [fields.get(name) for name in ("symbol", "instrument_id", "price_exponent", "size_exponent")]
    terms = _terms(row)

    def step(name: str, places: int) -> int:
        value = fields.get(name)
        return unsigned(value, name) if isinstance(value, int) else mantissa(text(value, name), places, name)

    def words(name: str) -> str:
        return text(fields.get(name) or "", name)

    return InstrumentDetails(
        terms,
        decimal(step("tick_size", terms.price_exponent), terms.price_exponent),
        decimal(step("lot_size", terms.size_exponent), terms.size_exponent),
        words("class"),
        words("currency"),
        words("description"),
    )


def _row(fields: Fields) -> SubscriptionInfo:
    return SubscriptionInfo(text(fields.get("channel"), "channel"), _texts(fields, "symbols"), _interval_ms(fields))
