//! Merges the events of a book channel into one, for who wants them less often or cannot keep up.
//!
//! **Invariant:** the merged event does to a book what the events did one after the other. Of each level the newest size
//! counts; a level that came and went is a deletion of a level that the receiver may not have, which it ignores.

use super::{BookSide, BookUpdate};
use crate::{BookDepth, Event, Level, Price};

/// Below this, levels are not worth compacting.
const COMPACT_MIN: usize = 256;

/// Events of one book channel, merged.
#[derive(Debug, Clone, Default)]
pub struct BookConflation {
    /// In order of arrival since the last compaction
    levels: Vec<(BookSide, Level)>,
    /// How many there were after the last compaction
    compacted: usize,
    kind: Kind,
    depth: Option<BookDepth>,
    checksum: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Empty,
    Delta,
    Snapshot,
}

impl BookConflation {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing has been pushed since the last [`BookConflation::take`].
    pub fn is_empty(&self) -> bool {
        self.kind == Kind::Empty
    }

    /// Adds an event of the channel; the events of others are ignored. Memory is bounded by the number of different
    /// prices, twice.
    pub fn push(&mut self, event: &Event) {
        let update = match event {
            Event::BookSnapshot(update) => {
                self.levels.clear();
                self.compacted = 0;
                self.kind = Kind::Snapshot;
                update
            }
            Event::BookDelta(update) => {
                if self.kind == Kind::Empty {
                    self.kind = Kind::Delta;
                }
                update
            }
            _ => return,
        };
        self.levels.extend(update.iter());
        self.depth = Some(update.depth());
        self.checksum = update.checksum();
        if self.levels.len() > 2 * self.compacted.max(COMPACT_MIN) {
            self.compact();
        }
    }

    /// The merged event; a snapshot when one was among the events, or else a delta. None when there was no event.
    pub fn take(&mut self) -> Option<Event> {
        let depth = self.depth.filter(|_| self.kind != Kind::Empty)?;
        self.compact();
        let asks_from = self.levels.partition_point(|(side, _)| *side == BookSide::Bid);
        let level = |(_, level): &(BookSide, Level)| *level;
        let bids: Vec<Level> = self.levels[..asks_from].iter().map(level).collect();
        let asks: Vec<Level> = self.levels[asks_from..].iter().map(level).collect();
        let update = BookUpdate::new(depth, &bids, &asks, self.checksum);
        self.levels.clear();
        self.compacted = 0;
        Some(match std::mem::take(&mut self.kind) {
            Kind::Snapshot => Event::BookSnapshot(update),
            Kind::Empty | Kind::Delta => Event::BookDelta(update),
        })
    }

    /// Keeps the newest of each price, bids first, best first; a snapshot has no deletions.
    fn compact(&mut self) {
        let key = |(side, level): &(BookSide, Level)| match side {
            BookSide::Bid => (*side, Price(!level.price.0)),
            BookSide::Ask => (*side, level.price),
        };
        // Newest first, then stable: of equal prices the newest is kept.
        self.levels.reverse();
        self.levels.sort_by_key(key);
        self.levels.dedup_by_key(|entry| key(entry));
        if self.kind == Kind::Snapshot {
            self.levels.retain(|(_, level)| level.size.0 > 0);
        }
        self.compacted = self.levels.len();
    }
}
