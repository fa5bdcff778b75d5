//! Order books as a client keeps them, and their checksums.
//!
//! **Invariant:** [`Books::get`] gives a book only while it is whole: from a snapshot on, until elements are missing or a
//! checksum differs.
//!
//! What is *not* here: asking for a book anew, which is the client's doing.

use std::sync::Arc;

use market::{Book, BookDepth, BookUpdate, Channel, InstrumentId, Timestamp};
use rustc_hash::FxHashMap;
use wire::decode::InstrumentTerms;

use crate::{Connection, Event, Update};

/// The books of all instruments and depths that are subscribed.
#[derive(Debug, Default)]
pub struct Books {
    books: FxHashMap<(InstrumentId, BookDepth), BookState>,
    numbers: FxHashMap<Box<str>, InstrumentId>,
}

/// A book.
#[derive(Debug)]
pub struct BookState {
    /// Whose
    pub instrument: Arc<InstrumentTerms>,
    /// The levels
    pub book: Book,
    /// The number of the last element in it
    pub seq: u64,
    /// The exchange's time of it
    pub time: Timestamp,
    whole: bool,
}

/// A book that turned out to be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookProblem {
    /// Whose
    pub instrument: Arc<InstrumentTerms>,
    /// Of which depth
    pub depth: BookDepth,
    /// The number of the element after which it was wrong
    pub seq: u64,
    /// The checksum that the element has
    pub said: u32,
    /// The checksum that the book had
    pub found: u32,
}

impl Books {
    /// Takes in an event. Gives the problem when a checksum differs; the book is then not whole until its next snapshot.
    pub fn apply(&mut self, event: &Event) -> Option<BookProblem> {
        match event {
            Event::BookSnapshot(update) => self.update(update, true),
            Event::BookDelta(update) => self.update(update, false),
            Event::Gap(gap) => {
                if let Channel::Book(depth) = gap.channel
                    && let Some(state) = self.books.get_mut(&(gap.instrument.id, depth))
                {
                    state.whole = false;
                }
                None
            }
            // Numbers of instruments hold for the epoch.
            Event::Connection(Connection::Connected { epoch_changed: true, .. }) => {
                self.books.clear();
                self.numbers.clear();
                None
            }
            _ => None,
        }
    }

    /// The book, while it is whole.
    pub fn get(&self, instrument: InstrumentId, depth: BookDepth) -> Option<&BookState> {
        self.books.get(&(instrument, depth)).filter(|state| state.whole)
    }

    /// The book of that name, while it is whole.
    pub fn by_symbol(&self, symbol: &str, depth: BookDepth) -> Option<&BookState> {
        self.get(*self.numbers.get(symbol)?, depth)
    }

    fn update(&mut self, update: &Update<BookUpdate>, snapshot: bool) -> Option<BookProblem> {
        let depth = update.value.depth();
        let state = self.books.entry((update.instrument.id, depth)).or_insert_with(|| {
            self.numbers.insert(update.symbol().into(), update.instrument.id);
            BookState {
                instrument: Arc::clone(&update.instrument),
                book: Book::new(),
                seq: 0,
                time: Timestamp(0),
                whole: false,
            }
        });
        if snapshot {
            state.book.clear();
            // An empty one says that nothing is known of the book; it is whole all the same.
            state.whole = true;
        } else if !state.whole {
            return None;
        }
        for (side, level) in update.value.iter() {
            state.book.set(side, level.price, level.size);
        }
        (state.seq, state.time) = (update.seq, update.time);
        let (said, found) = (update.value.checksum(), state.book.checksum());
        if said == found {
            return None;
        }
        state.whole = false;
        Some(BookProblem { instrument: Arc::clone(&update.instrument), depth, seq: update.seq, said, found })
    }
}
