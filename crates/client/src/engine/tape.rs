//! Instruments and the numbers of their streams: elements in, events in order out.
//!
//! **Invariant:** of a stream in mode `every` each number is handed on once, in order, or named by a gap; whatever the
//! server, the network or a resume repeats or leaves out.

use std::sync::Arc;

use market::{Channel, ChannelSet, Event as MarketEvent, InstrumentId, Timestamp};
use rustc_hash::FxHashMap;
use wire::decode::{Content, Element, InstrumentTerms};
use wire::{FrameKind, Mode, Recovered};

use super::{Counters, Wishes};
use crate::{Event, GapCause, GapEvent, Origin, Update};

/// The most instruments that are kept; a larger number is dropped and counted instead of allocating for it. 240 bytes each.
const INSTRUMENTS_MAX: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Tape {
    instruments: Vec<Option<Box<Instrument>>>,
    numbers: FxHashMap<Box<str>, InstrumentId>,
    /// Subscribed since the last live element: those of which no snapshot comes have had no value yet.
    fresh: Vec<(InstrumentId, ChannelSet)>,
    /// Elements of this session, as the server counts them
    pub(super) delivered: u64,
    pub(super) dropped: u64,
}

#[derive(Debug)]
struct Instrument {
    terms: Arc<InstrumentTerms>,
    streams: [Stream; Channel::COUNT],
}

#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    /// The next number; 0 when any will do
    next: u64,
    course: Course,
    /// It could not be listed when the connection was made again: what its snapshot skips is lost
    unlisted: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Course {
    #[default]
    Unasked,
    Every,
    Latest,
}

impl From<Mode> for Course {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Every => Self::Every,
            Mode::Latest { .. } => Self::Latest,
        }
    }
}

impl Tape {
    /// The numbers of another epoch begin.
    pub(super) fn begin_epoch(&mut self) {
        *self = Self::default();
    }

    /// Another session begins.
    pub(super) fn begin_session(&mut self) {
        self.fresh.clear();
        (self.delivered, self.dropped) = (0, 0);
        for stream in self.instruments.iter_mut().flatten().flat_map(|instrument| &mut instrument.streams) {
            stream.unlisted = stream.course == Course::Every && stream.next > 0;
        }
    }

    /// What an element of that symbol means.
    pub(super) fn terms(&self, symbol: &str) -> Option<&Arc<InstrumentTerms>> {
        let id = self.numbers.get(symbol)?;
        self.instruments[id.index()].as_ref().map(|instrument| &instrument.terms)
    }

    /// The last numbers of the streams of a channel in mode `every`, by symbol.
    pub(super) fn positions(&self, channel: Channel) -> impl Iterator<Item = (&str, u64)> {
        let all = self.instruments.iter().flatten();
        all.filter_map(move |instrument| {
            let stream = &instrument.streams[channel.index()];
            (stream.course == Course::Every && stream.next > 0)
                .then(|| (instrument.terms.symbol.as_str(), stream.next - 1))
        })
    }

    /// The last number of a stream in mode `every`.
    pub(super) fn position(&self, symbol: &str, channel: Channel) -> Option<u64> {
        let id = self.numbers.get(symbol)?;
        let stream = self.instruments[id.index()].as_ref()?.streams[channel.index()];
        (stream.course == Course::Every).then(|| stream.next.checked_sub(1)).flatten()
    }

    /// The stream is being resumed: the server says what is missing of it.
    pub(super) fn list(&mut self, symbol: &str, channel: Channel) {
        if let Some(id) = self.numbers.get(symbol)
            && let Some(instrument) = &mut self.instruments[id.index()]
        {
            instrument.streams[channel.index()].unlisted = false;
        }
    }

    /// Learns of an instrument.
    pub(super) fn learn(&mut self, terms: &InstrumentTerms) -> Option<Arc<InstrumentTerms>> {
        let index = terms.id.index();
        if index >= INSTRUMENTS_MAX {
            return None;
        }
        if index >= self.instruments.len() {
            self.instruments.resize_with(index + 1, || None);
        }
        let place = self.instruments[index].get_or_insert_with(|| {
            self.numbers.insert(terms.symbol.as_str().into(), terms.id);
            Box::new(Instrument { terms: Arc::new(terms.clone()), streams: Default::default() })
        });
        Some(Arc::clone(&place.terms))
    }

    /// Streams of an instrument are delivered in this way from now on.
    pub(super) fn subscribed(&mut self, id: InstrumentId, channels: ChannelSet, mode: Mode, snapshot: bool) {
        let Some(Some(instrument)) = self.instruments.get_mut(id.index()) else { return };
        let course = Course::from(mode);
        for channel in channels.iter() {
            let stream = &mut instrument.streams[channel.index()];
            if stream.course != course && course == Course::Every {
                // Nothing was expected yet, or numbers were skipped.
                stream.next = 0;
            }
            stream.course = course;
        }
        if snapshot && course == Course::Every {
            self.fresh.push((id, channels));
        }
    }

    /// An instrument is new: all streams of it that are wanted begin with 1.
    pub(super) fn announced(&mut self, id: InstrumentId, channels: ChannelSet) {
        if let Some(Some(instrument)) = self.instruments.get_mut(id.index()) {
            for channel in channels.iter() {
                let stream = &mut instrument.streams[channel.index()];
                if stream.course == Course::Unasked {
                    *stream = Stream { next: 1, course: Course::Every, unlisted: false };
                }
            }
        }
    }

    /// A stream is resumed with a snapshot because its number meant nothing to the server.
    pub(super) fn recovered(&mut self, symbol: &str, channel: Channel, how: Recovered) {
        if how == Recovered::Snapshot
            && let Some(id) = self.numbers.get(symbol)
            && let Some(instrument) = &mut self.instruments[id.index()]
        {
            instrument.streams[channel.index()].next = 0;
        }
    }

    /// Streams are not subscribed any more; no symbols are all.
    pub(super) fn unsubscribed(&mut self, channels: ChannelSet, symbols: Option<&[String]>) {
        let forget = |instrument: &mut Instrument| {
            channels.iter().for_each(|channel| instrument.streams[channel.index()] = Stream::default());
        };
        match symbols {
            None => {
                for instrument in self.instruments.iter_mut().flatten() {
                    forget(instrument);
                }
            }
            Some(symbols) => {
                for id in symbols.iter().filter_map(|symbol| self.numbers.get(symbol.as_str())) {
                    if let Some(instrument) = &mut self.instruments[id.index()] {
                        forget(instrument);
                    }
                }
            }
        }
    }

    /// What is subscribed and had no snapshot before the first live element has had no value: its numbers begin with 1.
    pub(super) fn settle(&mut self) {
        for (id, channels) in std::mem::take(&mut self.fresh) {
            let Some(Some(instrument)) = self.instruments.get_mut(id.index()) else { continue };
            for channel in channels.iter() {
                let stream = &mut instrument.streams[channel.index()];
                if stream.course == Course::Every && stream.next == 0 {
                    stream.next = 1;
                }
            }
        }
    }

    /// Takes in an element of a frame.
    pub(super) fn take(
        &mut self,
        element: Element,
        (kind, sent_at): (FrameKind, Timestamp),
        wishes: &Wishes,
        events: &mut Vec<Event>,
        counters: &mut Counters,
    ) {
        counters.elements += 1;
        let channel = match &element.content {
            Content::Event(event) => event.channel(),
            Content::Gap { channel, .. } | Content::Unknown(Some(channel)) => *channel,
            Content::Unknown(None) => {
                counters.unknown += 1;
                self.delivered += u64::from(kind == FrameKind::Live);
                return;
            }
        };
        match (&element.content, kind) {
            (Content::Gap { from_seq, to_seq, .. }, _) => {
                self.dropped += to_seq.saturating_sub(*from_seq).saturating_add(1);
            }
            (_, FrameKind::Live) => {
                self.delivered += 1;
                if !self.fresh.is_empty() {
                    self.settle();
                }
            }
            (_, FrameKind::Snapshot) => {}
        }
        let Some(Some(instrument)) = self.instruments.get_mut(element.instrument.index()) else {
            counters.unknown += 1;
            return;
        };
        let stream = &mut instrument.streams[channel.index()];
        if stream.course == Course::Unasked {
            let Some(mode) = wishes.mode(channel, instrument.terms.symbol.as_str()) else {
                counters.unknown += 1;
                return;
            };
            stream.course = mode.into();
        }
        let gap = |from_seq, to_seq, cause| {
            Event::Gap(GapEvent { instrument: Arc::clone(&instrument.terms), channel, from_seq, to_seq, cause })
        };
        let (event, origin) = match (element.content, kind) {
            (Content::Gap { from_seq, to_seq, reason, .. }, _) => {
                if to_seq < stream.next.max(from_seq) || stream.course == Course::Latest {
                    counters.duplicates += 1;
                } else {
                    let from_seq = if stream.next == 0 { from_seq } else { stream.next };
                    counters.gaps += 1;
                    counters.missing += to_seq - from_seq + 1;
                    events.push(gap(from_seq, to_seq, GapCause::Declared(reason)));
                    stream.next = to_seq.saturating_add(1);
                }
                return;
            }
            (content, FrameKind::Snapshot) => {
                if element.seq.saturating_add(1) < stream.next {
                    counters.duplicates += 1;
                    return;
                }
                let counted = stream.next > 1 || (stream.next == 1 && stream.unlisted);
                if stream.course == Course::Every && counted && element.seq >= stream.next {
                    counters.gaps += 1;
                    counters.missing += element.seq - stream.next + 1;
                    events.push(gap(stream.next, element.seq, GapCause::NotResumed));
                }
                (content, Origin::Snapshot)
            }
            (content, FrameKind::Live) => {
                if element.seq < stream.next {
                    counters.duplicates += 1;
                    return;
                }
                if stream.course == Course::Every && stream.next != 0 && element.seq > stream.next {
                    counters.gaps += 1;
                    counters.missing += element.seq - stream.next;
                    events.push(gap(stream.next, element.seq - 1, GapCause::Undeclared));
                }
                (content, Origin::Live)
            }
        };
        stream.next = element.seq.saturating_add(1);
        stream.unlisted = false;
        let Content::Event(event) = event else {
            counters.unknown += 1;
            return;
        };
        let (instrument, seq, time) = (Arc::clone(&instrument.terms), element.seq, element.time);
        events.push(match event {
            MarketEvent::Trade(value) => Event::Trade(Update { instrument, seq, time, sent_at, origin, value }),
            MarketEvent::Quote(value) => Event::Quote(Update { instrument, seq, time, sent_at, origin, value }),
            MarketEvent::Bar(value) => Event::Bar(Update { instrument, seq, time, sent_at, origin, value }),
            MarketEvent::Ticker(value) => Event::Ticker(Update { instrument, seq, time, sent_at, origin, value }),
            MarketEvent::Status(value) => Event::Status(Update { instrument, seq, time, sent_at, origin, value }),
            MarketEvent::BookSnapshot(value) => {
                Event::BookSnapshot(Update { instrument, seq, time, sent_at, origin, value })
            }
            MarketEvent::BookDelta(value) => Event::BookDelta(Update { instrument, seq, time, sent_at, origin, value }),
        });
    }
}
