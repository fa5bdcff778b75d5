//! What a source of books keeps for each instrument: changes of levels go in, one event per market event comes out.
//!
//! **Invariant:** nobody sees a half-applied event. Whatever was changed becomes visible by [`BookSource::commit`], as
//! one delta of net changes or one snapshot, and never while the book is stale.

use super::{Book, BookError, BookSide, BookUpdate, checksum};
use crate::{BookDepth, Event, Level, Price, Quote, Size};

/// Whether a bid at or above an ask is a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Crossing {
    /// It is: the venue trades continuously
    #[default]
    Refused,
    /// It is not: the source covers auctions, before which orders cross
    Allowed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is known until the next snapshot begins
    Stale,
    /// A snapshot is being built
    Snapshot,
    /// What is committed is true
    Live,
}

/// What was there before the first change of an event.
#[derive(Debug, Clone, Copy)]
struct Touched {
    side: BookSide,
    price: Price,
    old: Size,
    /// Whether it can matter for the checksum
    rank: usize,
}

/// A book in the making; it begins stale.
#[derive(Debug, Clone)]
pub struct BookSource {
    book: Book,
    touched: Vec<Touched>,
    state: State,
    crossing: Crossing,
    /// Of the book as committed last
    checksum: u32,
    /// Kept for its memory
    levels: [Vec<Level>; 2],
}

impl BookSource {
    /// A book of which nothing is known yet.
    pub fn new(crossing: Crossing) -> Self {
        Self {
            book: Book::new(),
            touched: Vec::new(),
            state: State::Stale,
            crossing,
            checksum: 0,
            levels: [Vec::new(), Vec::new()],
        }
    }

    /// The levels, those of an uncommitted event included.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Whether nothing is known until the next snapshot.
    pub fn is_stale(&self) -> bool {
        self.state == State::Stale
    }

    /// Forgets all: what is set from here on, up to the commit, is the whole book. Also for a venue's "clear".
    pub fn begin_snapshot(&mut self) {
        self.book.clear();
        self.touched.clear();
        self.state = State::Snapshot;
    }

    /// Sets a level; size zero removes it. Changes while stale are ignored.
    #[inline]
    pub fn set(&mut self, side: BookSide, price: Price, size: Size) {
        if self.state == State::Stale {
            return;
        }
        let change = self.book.set(side, price, size);
        let rank = match change {
            super::LevelChange::Unchanged => return,
            super::LevelChange::Inserted { rank }
            | super::LevelChange::Removed { rank, .. }
            | super::LevelChange::Resized { rank, .. } => rank,
        };
        if self.state == State::Live {
            self.touched.push(Touched { side, price, old: change.old(size), rank });
        }
    }

    /// Adds to a level.
    ///
    /// # Errors
    /// [`BookError::Overflow`]; the level is as it was.
    pub fn add(&mut self, side: BookSide, price: Price, size: Size) -> Result<(), BookError> {
        let held = self.book.size_at(side, price);
        let sum = held.0.checked_add(size.0).ok_or(BookError::Overflow { price })?;
        self.set(side, price, Size(sum));
        Ok(())
    }

    /// Takes from a level.
    ///
    /// # Errors
    /// [`BookError::LevelTooSmall`] when there is not so much; the level is as it was.
    pub fn take(&mut self, side: BookSide, price: Price, taken: Size) -> Result<(), BookError> {
        let size = self.book.size_at(side, price);
        let left = size.0.checked_sub(taken.0).ok_or(BookError::LevelTooSmall { price, size, taken })?;
        self.set(side, price, Size(left));
        Ok(())
    }

    /// Ends an event. None when it changed nothing, or while the book is stale.
    ///
    /// # Errors
    /// [`BookError::Crossed`] where that is refused. The book is to be withdrawn then, see [`BookSource::withdraw`].
    pub fn commit(&mut self) -> Result<Option<Event>, BookError> {
        if self.state == State::Stale {
            return Ok(None);
        }
        if self.crossing == Crossing::Refused {
            self.book.check_not_crossed()?;
        }
        if self.state == State::Snapshot {
            self.state = State::Live;
            self.touched.clear();
            self.checksum = self.book.checksum();
            return Ok(self.snapshot());
        }
        if self.touched.is_empty() {
            return Ok(None);
        }
        // A level that leaves or enters the ten best is beyond a change of rank below ten.
        let near = self.touched.iter().any(|touched| touched.rank < checksum::LEVELS);
        self.net_changes();
        let [bids, asks] = &self.levels;
        if bids.is_empty() && asks.is_empty() {
            return Ok(None);
        }
        if near {
            self.checksum = self.book.checksum();
        }
        Ok(Some(Event::BookDelta(BookUpdate::new(BookDepth::Full, bids, asks, self.checksum))))
    }

    /// The whole book as committed last; none while it is stale or being built. Between [`BookSource::set`] and
    /// [`BookSource::commit`] it would show half an event, so call it after a commit.
    pub fn snapshot(&mut self) -> Option<Event> {
        if self.state != State::Live {
            return None;
        }
        for (side, levels) in BookSide::ALL.into_iter().zip(&mut self.levels) {
            levels.clear();
            levels.extend(self.book.levels(side));
        }
        let [bids, asks] = &self.levels;
        Some(Event::BookSnapshot(BookUpdate::new(BookDepth::Full, bids, asks, self.checksum)))
    }

    /// The best bid and offer, those of an uncommitted event included; both none while the book is stale.
    pub fn quote(&self) -> Quote {
        if self.state == State::Live { self.book.quote() } else { Quote::default() }
    }

    /// Gives the book up after an error: it is stale until the next snapshot. The event that says so to everybody, an
    /// empty snapshot, comes out, unless nothing was known before.
    pub fn withdraw(&mut self) -> Option<Event> {
        let known = self.state != State::Stale;
        self.book.clear();
        self.touched.clear();
        self.checksum = 0;
        self.state = State::Stale;
        known.then(|| Event::BookSnapshot(BookUpdate::new(BookDepth::Full, &[], &[], 0)))
    }

    /// Fills `levels` with what differs from before the event, best first.
    fn net_changes(&mut self) {
        for levels in &mut self.levels {
            levels.clear();
        }
        if self.touched.len() > 1 {
            // Best first on each side; stable, so that of several changes of a level the first has the old size.
            self.touched.sort_by_key(|touched| match touched.side {
                BookSide::Bid => (touched.side, !touched.price.0),
                BookSide::Ask => (touched.side, touched.price.0),
            });
            self.touched.dedup_by_key(|touched| (touched.side, touched.price));
        }
        for Touched { side, price, old, .. } in self.touched.drain(..) {
            let size = self.book.size_at(side, price);
            if size != old {
                self.levels[side as usize].push(Level { price, size });
            }
        }
    }
}

impl Default for BookSource {
    fn default() -> Self {
        Self::new(Crossing::default())
    }
}
