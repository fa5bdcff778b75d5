//! The state of all streams: what somebody knows who has seen every element so far.
//!
//! **Invariant:** after the same elements it is what the sequencer answers to who asks for a snapshot: of each stream the
//! last value, of a book its levels, of a book that is not known an empty one.

use market::{Book, BookDepth, BookSide, BookUpdate, Channel, Event, InstrumentId, Level, Numbered, Tick, Timestamp};
use rustc_hash::FxHashMap;

/// See the module.
#[derive(Debug, Default)]
pub struct State {
    streams: FxHashMap<(InstrumentId, Channel), Kept>,
}

#[derive(Debug)]
struct Kept {
    seq: u64,
    time: Timestamp,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Last(Event),
    Book(Box<KeptBook>),
}

#[derive(Debug)]
struct KeptBook {
    book: Book,
    depth: BookDepth,
    checksum: u32,
}

impl State {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.streams.clear();
    }

    /// Takes in an element.
    pub fn apply(&mut self, element: &Numbered) {
        let Tick { instrument, time, ref event } = element.tick;
        let key = (instrument, event.channel());
        let kept = self.streams.entry(key).or_insert_with(|| Kept {
            seq: 0,
            time,
            value: match event {
                Event::BookSnapshot(update) | Event::BookDelta(update) => {
                    let (book, depth) = (Book::new(), update.depth());
                    Value::Book(Box::new(KeptBook { book, depth, checksum: 0 }))
                }
                other => Value::Last(other.clone()),
            },
        });
        (kept.seq, kept.time) = (element.seq, time);
        match &mut kept.value {
            Value::Last(last) => *last = event.clone(),
            Value::Book(book) => book.apply(event),
        }
    }

    /// The number of the last element of a stream; 0 before the first.
    pub fn seq(&self, instrument: InstrumentId, channel: Channel) -> u64 {
        self.streams.get(&(instrument, channel)).map_or(0, |kept| kept.seq)
    }

    /// How many streams have had an element.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// The state of each stream, by instrument and channel.
    pub fn elements(&self) -> Vec<Numbered> {
        let mut streams: Vec<_> = self.streams.iter().collect();
        streams.sort_unstable_by_key(|(key, _)| **key);
        let element = |(key, kept): (&(InstrumentId, Channel), &Kept)| {
            let event = match &kept.value {
                Value::Last(event) => event.clone(),
                Value::Book(book) => book.snapshot(),
            };
            Numbered { seq: kept.seq, tick: Tick { instrument: key.0, time: kept.time, event } }
        };
        streams.into_iter().map(element).collect()
    }
}

impl KeptBook {
    fn apply(&mut self, event: &Event) {
        if let Event::BookSnapshot(update) | Event::BookDelta(update) = event {
            self.checksum = update.checksum();
            self.book.apply(event);
        }
    }

    fn snapshot(&self) -> Event {
        let side = |side| -> Vec<Level> { self.book.levels(side).collect() };
        let (bids, asks) = (side(BookSide::Bid), side(BookSide::Ask));
        Event::BookSnapshot(BookUpdate::new(self.depth, &bids, &asks, self.checksum))
    }
}
