"""What the program wants to be subscribed, and the commands that say so.

Invariant: the wishes are what the server's session has once all commands are answered; so they can be said again, from
nothing, on another connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from ..subscription import ALL, Setting, Subscription

# What a command, a position and a symbol cost beside their names, generously: JSON writes the most.
_COMMAND_BYTES = 512
_POSITION_BYTES = 48
_SYMBOL_BYTES = 4
# Symbols of a request that take more are asked for as all: a server takes 16 KiB of a request's head.
_QUERY_BYTES_MAX = 8 << 10


class Positions(Protocol):
    """Where streams left off."""

    @property
    def epoch(self) -> str | None:
        """None when nothing can be resumed."""

    def of(self, symbol: str, channel: str) -> int | None:
        """The last number of a stream that can be resumed."""

    def of_channel(self, channel: str) -> list[tuple[str, int]]:
        """All that can be resumed of a channel, those with a number above 0 first."""


class Anew:
    """Nothing is resumed: a new wish begins with the state."""

    epoch: str | None = None

    def of(self, symbol: str, channel: str) -> int | None:
        """No position."""
        del symbol, channel
        return None

    def of_channel(self, channel: str) -> list[tuple[str, int]]:
        """No positions."""
        del channel
        return []


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The command `subscribe`, or `update`."""

    channels: tuple[str, ...]
    symbols: tuple[str, ...]
    setting: Setting
    epoch: str | None = None
    seqs: tuple[tuple[str, str, int], ...] = ()

    def fields(self) -> dict[str, object]:
        """Its keys, as they are sent."""
        interval_ms, snapshot, slow = self.setting
        found: dict[str, object] = {"channels": list(self.channels), "symbols": list(self.symbols)}
        found |= {"mode": "every"} if interval_ms is None else {"mode": "latest", "interval_ms": interval_ms}
        found |= {"snapshot": snapshot, "slow": slow}
        if self.epoch is not None and self.seqs:
            seqs: dict[str, dict[str, int]] = {}
            for symbol, channel, seq in self.seqs:
                seqs.setdefault(symbol, {})[channel] = seq
            found["since"] = {"epoch": self.epoch, "seqs": seqs}
        return found


@dataclass
class _Wish:
    all: Setting | None = None
    named: dict[str, Setting] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    """Set apart from all and then unsubscribed"""

    def __bool__(self) -> bool:
        return self.all is not None or bool(self.named) or bool(self.left_out)


class Wishes:
    """By channel."""

    def __init__(self) -> None:
        self._channels: dict[str, _Wish] = {}

    def add(self, subscription: Subscription) -> None:
        """Wants more."""
        for channel in subscription.channels:
            if subscription.all:
                self._channels[channel] = _Wish(subscription.setting)
                continue
            wish = self._channels.setdefault(channel, _Wish())
            for name in subscription.symbols:
                wish.left_out.discard(name)
                wish.named[name] = subscription.setting

    def update(self, subscription: Subscription) -> None:
        """Changes the mode of what is wanted already."""
        interval_ms = subscription.setting.interval_ms
        for channel in subscription.channels:
            wish = self._channels.get(channel)
            if wish is None:
                continue
            if subscription.all:
                if wish.all is not None:
                    wish.all = wish.all._replace(interval_ms=interval_ms)
                    # The star joins all of the channel again.
                    wish.left_out.clear()
                names: Iterable[str] = list(wish.named)
            else:
                names = subscription.symbols
            for name in names:
                setting = wish.named.get(name, wish.all)
                if setting is not None:
                    wish.named[name] = setting._replace(interval_ms=interval_ms)

    def remove(self, channels: Iterable[str] | None, symbols: tuple[str, ...] | None) -> None:
        """Takes away; no channels or symbols are all."""
        for channel in list(self._channels) if channels is None else channels:
            wish = self._channels.get(channel)
            if wish is None:
                continue
            if symbols is None or symbols == (ALL,):
                del self._channels[channel]
                continue
            for name in symbols:
                setting = wish.named.pop(name, None)
                if setting is not None and wish.all is not None and wish.all.interval_ms != setting.interval_ms:
                    wish.left_out.add(name)
            if not wish:
                del self._channels[channel]

    def setting(self, channel: str, symbol: str) -> Setting | None:
        """How a stream is wanted; none when it is not."""
        wish = self._channels.get(channel)
        if wish is None or symbol in wish.left_out:
            return None
        return wish.named.get(symbol, wish.all)

    def every_of_all(self) -> list[str]:
        """The channels of which every element of all instruments is wanted."""
        wanted = ((channel, wish.all) for channel, wish in self._channels.items())
        return [channel for channel, setting in wanted if setting is not None and setting.interval_ms is None]

    def joined(self) -> tuple[list[str], list[str], int | None] | None:
        """Channels, symbols and interval of one request that brings all that is wanted; none when nothing is."""
        settings = [wish.all for wish in self._channels.values() if wish.all is not None]
        symbols = {ALL} if settings else {name for wish in self._channels.values() for name in wish.named}
        settings += [setting for wish in self._channels.values() for setting in wish.named.values()]
        if not settings:
            return None
        intervals = [setting.interval_ms for setting in settings]
        fastest = None if None in intervals else min(interval for interval in intervals if interval is not None)
        if sum(map(len, symbols)) + len(symbols) > _QUERY_BYTES_MAX:
            symbols = {ALL}
        return sorted(self._channels), sorted(symbols), fastest

    def commands(self, bytes_max: int, positions: Positions) -> Iterator[Subscribe]:
        """The commands that subscribe all of it anew, resuming where that is possible."""
        # One command for each channel of all instruments: its positions need the room.
        for channel, wish in self._channels.items():
            if wish.all is not None:
                yield _all_of(channel, wish.all, bytes_max, positions)
        # Names that are wanted alike go together.
        alike: dict[tuple[Setting, str], list[str]] = {}
        for channel, wish in self._channels.items():
            for name, setting in wish.named.items():
                # What `*` covers in the same way is subscribed by it.
                if wish.all is None or wish.all.interval_ms != setting.interval_ms:
                    alike.setdefault((setting, name), []).append(channel)
        groups: dict[tuple[Setting, tuple[str, ...]], list[str]] = {}
        for (setting, name), channels in alike.items():
            groups.setdefault((setting, tuple(channels)), []).append(name)
        for (setting, together), names in groups.items():
            yield from parts(together, names, setting, bytes_max, positions)


def _all_of(channel: str, setting: Setting, bytes_max: int, positions: Positions) -> Subscribe:
    room = bytes_max - _COMMAND_BYTES
    seqs = []
    if setting.interval_ms is None and positions.epoch is not None:
        for symbol, seq in positions.of_channel(channel):
            room -= len(symbol) + _POSITION_BYTES
            if room < 0:
                break
            seqs.append((symbol, channel, seq))
    return Subscribe((channel,), (ALL,), setting, positions.epoch, tuple(seqs))


def parts(
    channels: tuple[str, ...], names: Iterable[str], setting: Setting, bytes_max: int, positions: Positions
) -> Iterator[Subscribe]:
    """The commands that subscribe channels of names, each of at most so many bytes."""
    symbols: list[str] = []
    seqs: list[tuple[str, str, int]] = []
    size = _COMMAND_BYTES
    for name in names:
        mine: list[tuple[str, str, int]] = []
        if setting.interval_ms is None and positions.epoch is not None:
            for channel in channels:
                seq = positions.of(name, channel)
                if seq is not None:
                    mine.append((name, channel, seq))
        cost = (2 if mine else 1) * (len(name) + _SYMBOL_BYTES) + len(mine) * _POSITION_BYTES
        if symbols and size + cost > bytes_max:
            yield Subscribe(channels, tuple(symbols), setting, positions.epoch, tuple(seqs))
            symbols, seqs, size = [], [], _COMMAND_BYTES
        size += cost
        symbols.append(name)
        seqs += mine
    if symbols:
        yield Subscribe(channels, tuple(symbols), setting, positions.epoch, tuple(seqs))
