//! The sequencer's side of a book: full updates in, elements of every depth out, and snapshots at any moment.
//!
//! **Invariant:** whoever takes [`BookViews::snapshot`] and the elements that come after it has, at every element, the
//! `n` best levels of the full book, no more and no fewer: a level that leaves the depth is deleted explicitly, one that
//! enters it is set.

use super::{Book, BookError, BookSide, BookUpdate, LevelChange};
use crate::{BookDepth, Event, Level, Price, Size};

/// The depths that are cut out of the full book, and how many levels they have.
const CUTS: [(BookDepth, usize); 2] = [(BookDepth::Top10, 10), (BookDepth::Top50, 50)];
const CUT_MAX: usize = 50;

/// The book of one instrument in all depths; it begins stale.
#[derive(Debug, Clone, Default)]
pub struct BookViews {
    book: Book,
    checksum: u32,
    live: bool,
    /// The best levels before an update of several levels, and what differs after it; kept for their memory
    before: [Vec<Level>; 2],
    after: [Vec<Level>; 2],
}

impl BookViews {
    /// A book of which nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The levels.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Whether nothing is known until the next snapshot.
    pub fn is_stale(&self) -> bool {
        !self.live
    }

    /// Takes in an event of the full book, and hands `emit` the elements to be sequenced: those of the cut depths that
    /// it changes, then itself. Deltas are dropped while the book is stale. Events of other kinds change nothing.
    ///
    /// # Errors
    /// [`BookError`] when the event is no update of a full book. The book is stale then until the next snapshot; that is
    /// what `emit` gets instead: an empty snapshot for every depth.
    pub fn apply(&mut self, event: &Event, mut emit: impl FnMut(Event)) -> Result<(), BookError> {
        let result = match event {
            Event::BookSnapshot(update) => self.replace(update, &mut emit),
            Event::BookDelta(update) if self.live => self.change(update, &mut emit),
            _ => return Ok(()),
        };
        if result.is_ok() {
            emit(event.clone());
        } else {
            self.withdraw(emit);
        }
        result
    }

    /// Gives the book up: an empty snapshot for every depth, unless it is stale already.
    pub fn withdraw(&mut self, mut emit: impl FnMut(Event)) {
        if std::mem::take(&mut self.live) {
            for depth in [BookDepth::Top10, BookDepth::Top50, BookDepth::Full] {
                emit(Event::BookSnapshot(BookUpdate::new(depth, &[], &[], 0)));
            }
        }
        self.book.clear();
        self.checksum = 0;
    }

    /// The state of a depth, for who joins now; none before the first snapshot.
    pub fn snapshot(&self, depth: BookDepth) -> Option<Event> {
        self.live.then(|| {
            let count = CUTS.iter().find(|cut| cut.0 == depth).map_or(usize::MAX, |cut| cut.1);
            let [bids, asks] = BookSide::ALL.map(|side| self.book.levels(side).take(count).collect::<Vec<_>>());
            Event::BookSnapshot(BookUpdate::new(depth, &bids, &asks, self.checksum))
        })
    }

    fn replace(&mut self, update: &BookUpdate, emit: &mut impl FnMut(Event)) -> Result<(), BookError> {
        check_depth(update)?;
        let ordered = |levels: &[Level], better: fn(&Price, &Price) -> bool| {
            let next = levels.iter().skip(1).map(Some).chain([None]);
            let wrong = |(level, next): &(&Level, Option<&Level>)| {
                level.size == Size(0) || next.is_some_and(|next| !better(&level.price, &next.price))
            };
            levels.iter().zip(next).find(wrong).map_or(Ok(()), |(level, _)| {
                let price = level.price;
                Err(BookError::Disordered { price })
            })
        };
        ordered(update.bids(), Price::gt)?;
        ordered(update.asks(), Price::lt)?;
        self.book.clear();
        // Worst first, so that each is put at the end.
        for side in BookSide::ALL {
            for level in update.side(side).iter().rev() {
                self.book.set(side, level.price, level.size);
            }
        }
        self.checksum = update.checksum();
        self.live = true;
        for (depth, count) in CUTS {
            let [bids, asks] = [update.bids(), update.asks()].map(|levels| &levels[..count.min(levels.len())]);
            let cut = if bids.len() + asks.len() == update.len() {
                update.at_depth(depth)
            } else {
                BookUpdate::new(depth, bids, asks, self.checksum)
            };
            emit(Event::BookSnapshot(cut));
        }
        Ok(())
    }

    fn change(&mut self, update: &BookUpdate, emit: &mut impl FnMut(Event)) -> Result<(), BookError> {
        check_depth(update)?;
        self.checksum = update.checksum();
        match (update.bids(), update.asks()) {
            ([level], []) => self.change_one(update, BookSide::Bid, *level, emit),
            ([], [level]) => self.change_one(update, BookSide::Ask, *level, emit),
            _ => self.change_several(update, emit),
        }
        Ok(())
    }

    /// Nearly all updates are of one level; which other one leaves or enters a depth follows from its rank.
    fn change_one(&mut self, update: &BookUpdate, side: BookSide, level: Level, emit: &mut impl FnMut(Event)) {
        let change = self.book.set(side, level.price, level.size);
        let checksum = self.checksum;
        for (depth, count) in CUTS {
            let other = match change {
                LevelChange::Removed { rank, .. } if rank < count => self.book.level(side, count - 1),
                LevelChange::Inserted { rank } if rank < count => {
                    self.book.level(side, count).map(|left| Level { size: Size(0), ..left })
                }
                LevelChange::Resized { rank, .. } if rank < count => None,
                _ => continue,
            };
            emit(Event::BookDelta(match (side, other) {
                (_, None) => update.at_depth(depth),
                (BookSide::Bid, Some(other)) => BookUpdate::new(depth, &[level, other], &[], checksum),
                (BookSide::Ask, Some(other)) => BookUpdate::new(depth, &[], &[level, other], checksum),
            }));
        }
    }

    fn change_several(&mut self, update: &BookUpdate, emit: &mut impl FnMut(Event)) {
        for side in BookSide::ALL {
            let before = &mut self.before[side as usize];
            before.clear();
            if !update.side(side).is_empty() {
                before.extend(self.book.levels(side).take(CUT_MAX));
            }
        }
        for (side, level) in update.iter() {
            self.book.set(side, level.price, level.size);
        }
        for (depth, count) in CUTS {
            for side in BookSide::ALL {
                let after = &mut self.after[side as usize];
                after.clear();
                if !update.side(side).is_empty() {
                    let before = &self.before[side as usize];
                    let before = &before[..count.min(before.len())];
                    differences(side, before, self.book.levels(side).take(count), after);
                }
            }
            let [bids, asks] = &self.after;
            if bids == update.bids() && asks == update.asks() {
                emit(Event::BookDelta(update.at_depth(depth)));
            } else if !bids.is_empty() || !asks.is_empty() {
                emit(Event::BookDelta(BookUpdate::new(depth, bids, asks, self.checksum)));
            }
        }
    }
}

fn check_depth(update: &BookUpdate) -> Result<(), BookError> {
    let depth = update.depth();
    if depth == BookDepth::Full { Ok(()) } else { Err(BookError::Depth(depth.wire_depth())) }
}

/// What makes `after` of `before`, both best first.
fn differences(side: BookSide, before: &[Level], after: impl Iterator<Item = Level>, out: &mut Vec<Level>) {
    let better = |a: Price, b: Price| if side == BookSide::Bid { a > b } else { a < b };
    let mut gone = before.iter().peekable();
    for level in after {
        while let Some(old) = gone.next_if(|old| better(old.price, level.price)) {
            out.push(Level { price: old.price, size: Size(0) });
        }
        if gone.next_if(|old| old.price == level.price).is_none_or(|old| old.size != level.size) {
            out.push(level);
        }
    }
    out.extend(gone.map(|old| Level { price: old.price, size: Size(0) }));
}
