//! What has changed for a lane of mode `latest` since its last flush.
//!
//! **Invariant:** each stream stands in it once, in the order of the first change.
//!
//! What is *not* here: the newest elements themselves, which all lanes share; see [`super::Newest`].

use market::{BookConflation, Event, Timestamp};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{Item, StreamKey};

/// What has changed since the last flush: a set of streams that remembers the order, and the changes of books, merged.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    order: Vec<StreamKey>,
    set: FxHashSet<StreamKey>,
    books: FxHashMap<StreamKey, MergedBook>,
}

/// The changes of a book stream. The newest element alone would not do: it says what changed last, not what there is.
///
/// Whoever has some of these changes already may take them all: a level is set to what it is at the end, and one that is
/// deleted twice is ignored the second time.
#[derive(Debug, Clone)]
pub(crate) struct MergedBook {
    pub(crate) seq: u64,
    pub(crate) position: u64,
    pub(crate) time: Timestamp,
    pub(crate) events: BookConflation,
}

impl Changed {
    pub(crate) fn insert(&mut self, key: StreamKey) {
        if self.set.insert(key) {
            self.order.push(key);
        }
    }

    /// Adds an event of a book, which came at that position of the shard.
    pub(crate) fn merge(&mut self, Item { key, seq }: Item, time: Timestamp, event: &Event, position: u64) {
        self.insert(key);
        let merged = || MergedBook { seq, position, time, events: BookConflation::new() };
        let book = self.books.entry(key).or_insert_with(merged);
        (book.seq, book.position, book.time) = (seq, position, time);
        book.events.push(event);
    }

    pub(crate) fn book(&self, key: StreamKey) -> Option<&MergedBook> {
        self.books.get(&key)
    }

    /// Forgets everything but the memory for it.
    pub(crate) fn clear(&mut self) {
        self.order.clear();
        self.set.clear();
        self.books.clear();
    }

    pub(crate) fn capacity(&self) -> usize {
        self.set.capacity().max(self.books.capacity())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(crate) fn order(&self) -> &[StreamKey] {
        &self.order
    }
}
