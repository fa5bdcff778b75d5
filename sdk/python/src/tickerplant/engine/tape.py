"""Instruments and the numbers of their streams: elements in, events in order out.

Invariant: of a stream in mode `every` each number is handed on once, in order, or named by a gap; whatever the server, the
network or a resume repeats or leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..events import Event
from ..protocol.directory import Directory
from ..protocol.elements import Element, Gap, InstrumentTerms
from ..protocol.frame import Frame, Unknown
from .wishes import Wishes


@dataclass(slots=True)
class Counters:
    """What has been counted since the client began."""

    messages: int = 0
    bytes: int = 0
    elements: int = 0
    duplicates: int = 0
    """Elements that were known already, and dropped"""
    gaps: int = 0
    """Declared or found"""
    missing: int = 0
    """Elements that gaps name"""
    unknown: int = 0
    """Elements that meant nothing here"""
    connections: int = 0
    heartbeats_wrong: int = 0
    """Heartbeats whose counts were not ours"""


class _Stream:
    __slots__ = ("course", "next", "unlisted")

    def __init__(self) -> None:
        self.next = 0
        """The next number; 0 when any will do"""
        self.course: str | None = None
        """How it is delivered, `every` or `latest`; none when nobody has asked"""
        self.unlisted = False
        """It could not be listed when the connection was made again: what its snapshot skips is lost"""


class Tape:
    """The streams, by the number of their instrument and their channel."""

    def __init__(self, counters: Counters) -> None:
        self.directory = Directory()
        self.delivered = 0
        """Elements of this session, as the server counts them"""
        self.dropped = 0
        self._counters = counters
        self._streams: dict[tuple[int, str], _Stream] = {}
        self._fresh: list[tuple[int, list[str]]] = []
        """Subscribed since the last live element: those of which no snapshot comes have had no value yet"""

    def begin_epoch(self) -> None:
        """The numbers of another epoch begin."""
        self.directory.clear()
        self._streams.clear()
        self._fresh.clear()

    def begin_session(self) -> None:
        """Another session begins."""
        self._fresh.clear()
        self.delivered = self.dropped = 0
        for stream in self._streams.values():
            stream.unlisted = stream.course == "every" and stream.next > 0

    # What is subscribed.

    def learn(self, terms: InstrumentTerms) -> InstrumentTerms | None:
        """Learns of an instrument."""
        return self.directory.learn(terms)

    def subscribed(self, terms: InstrumentTerms, channels: list[str], every: bool, snapshot: bool) -> None:
        """Streams of an instrument are delivered in this way from now on."""
        course = "every" if every else "latest"
        for channel in channels:
            stream = self._stream(terms.id, channel)
            if every and stream.course != course:
                # Nothing was expected yet, or numbers were skipped.
                stream.next = 0
            stream.course = course
        if snapshot and every:
            self._fresh.append((terms.id, channels))

    def announced(self, terms: InstrumentTerms, channels: list[str]) -> None:
        """An instrument is new: all streams of it that are wanted begin with 1."""
        for channel in channels:
            stream = self._stream(terms.id, channel)
            if stream.course is None:
                stream.next, stream.course, stream.unlisted = 1, "every", False

    def recovered(self, symbol: str, channel: str, how: str) -> None:
        """A stream is resumed with a snapshot because its number meant nothing to the server."""
        stream = self._of_symbol(symbol, channel)
        if how == "snapshot" and stream is not None:
            stream.next = 0

    def unsubscribed(self, channels: list[str], symbols: list[str] | None) -> None:
        """Streams are not subscribed any more; no symbols are all."""
        if symbols is None:
            ended = set(channels)
            self._streams = {key: stream for key, stream in self._streams.items() if key[1] not in ended}
            return
        for symbol in symbols:
            terms = self.directory.by_symbol.get(symbol)
            if terms is not None:
                for channel in channels:
                    self._streams.pop((terms.id, channel), None)

    def resume(self, symbol: str, channel: str) -> None:
        """The stream is being resumed: the server says what is missing of it."""
        stream = self._of_symbol(symbol, channel)
        if stream is not None:
            stream.unlisted = False

    def settle(self) -> None:
        """What is subscribed and had no snapshot before the first live element has had no value: it begins with 1."""
        fresh, self._fresh = self._fresh, []
        for instrument_id, channels in fresh:
            for channel in channels:
                stream = self._streams.get((instrument_id, channel))
                if stream is not None and stream.course == "every" and stream.next == 0:
                    stream.next = 1

    # Where streams left off.

    def position(self, symbol: str, channel: str) -> int | None:
        """The last number of a stream in mode `every`."""
        stream = self._of_symbol(symbol, channel)
        return stream.next - 1 if stream is not None and stream.course == "every" and stream.next > 0 else None

    def positions(self, channel: str) -> list[tuple[str, int]]:
        """The last numbers of the streams of a channel in mode `every`, by symbol."""
        by_id = self.directory.by_id
        return [
            (by_id[instrument_id].symbol, stream.next - 1)
            for (instrument_id, name), stream in self._streams.items()
            if name == channel and stream.course == "every" and stream.next > 0
        ]

    # Elements.

    def take(self, frame: Frame, wishes: Wishes, events: list[Event]) -> None:
        """Takes in a frame."""
        counters = self._counters
        counters.elements += len(frame.elements)
        live = not frame.snapshot
        streams = self._streams
        for element in frame.elements:
            if isinstance(element, Gap):
                self.dropped += max(0, element.to_seq - element.from_seq + 1)
            elif live:
                self.delivered += 1
                if self._fresh:
                    self.settle()
            if isinstance(element, Unknown):
                self._skip(element, live)
                continue
            stream = streams.get((element.instrument.id, element.channel))
            if stream is None or stream.course is None:
                stream = self._unasked(element, wishes)
                if stream is None:
                    counters.unknown += 1
                    continue
            expected = stream.next
            if isinstance(element, Gap):
                self._gap(element, stream, events)
                continue
            if live:
                if element.seq < expected:
                    counters.duplicates += 1
                    continue
                if element.seq > expected and expected and stream.course == "every":
                    events.append(self._hole(element, expected, element.seq - 1, "undeclared"))
            else:
                if element.seq + 1 < expected:
                    counters.duplicates += 1
                    continue
                counted = expected > 1 or (expected == 1 and stream.unlisted)
                if counted and element.seq >= expected and stream.course == "every":
                    events.append(self._hole(element, expected, element.seq, "not_resumed"))
            stream.next = element.seq + 1
            stream.unlisted = False
            events.append(element)

    def _gap(self, gap: Gap, stream: _Stream, events: list[Event]) -> None:
        if gap.to_seq < max(stream.next, gap.from_seq) or stream.course == "latest":
            self._counters.duplicates += 1
            return
        if stream.next:
            gap.from_seq = stream.next
        self._counters.gaps += 1
        self._counters.missing += gap.count
        stream.next = gap.to_seq + 1
        events.append(gap)

    def _hole(self, element: Element, from_seq: int, to_seq: int, reason: str) -> Gap:
        self._counters.gaps += 1
        self._counters.missing += to_seq - from_seq + 1
        terms, time, sent_at = element.instrument, element.time, element.sent_at
        return Gap(terms, to_seq, time, sent_at, False, element.channel, from_seq, to_seq, reason)

    def _skip(self, element: Unknown, live: bool) -> None:
        """What cannot be read counts all the same: its number was not lost."""
        self._counters.unknown += 1
        if element.instrument_id is None or element.channel is None:
            return
        stream = self._streams.get((element.instrument_id, element.channel))
        if stream is not None and live and element.seq == stream.next:
            stream.next += 1

    def _unasked(self, element: Element, wishes: Wishes) -> _Stream | None:
        """A stream of which elements come before its answer, as of instruments that are new under a star."""
        setting = wishes.setting(element.channel, element.instrument.symbol)
        if setting is None:
            return None
        stream = self._stream(element.instrument.id, element.channel)
        stream.course = "every" if setting.interval_ms is None else "latest"
        return stream

    def _stream(self, instrument_id: int, channel: str) -> _Stream:
        key = (instrument_id, channel)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = _Stream()
        return stream

    def _of_symbol(self, symbol: str, channel: str) -> _Stream | None:
        terms = self.directory.by_symbol.get(symbol)
        return None if terms is None else self._streams.get((terms.id, channel))


class Resumable:
    """What the tape has, of the epoch that it is of."""

    def __init__(self, epoch: str | None, tape: Tape) -> None:
        self._epoch = epoch
        self._tape = tape

    @property
    def epoch(self) -> str | None:
        """The epoch."""
        return self._epoch

    def of(self, symbol: str, channel: str) -> int | None:
        """The last number of a stream."""
        return self._tape.position(symbol, channel)

    def of_channel(self, channel: str) -> list[tuple[str, int]]:
        """Those with a number above 0 first: the others lose nothing by beginning anew."""
        return sorted(self._tape.positions(channel), key=lambda position: position[1] == 0)
