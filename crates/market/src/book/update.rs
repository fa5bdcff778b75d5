//! Levels on their way from a source to whoever keeps a book.
//!
//! **Invariant:** it is shared, never changed: one allocation holds the levels of both sides, whoever holds the update.

use std::sync::Arc;

use super::BookSide;
use crate::{BookDepth, Level};

/// Levels of a book: all of them in a snapshot; in a delta those that changed, with size 0 for those that are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookUpdate {
    /// Bids, then asks, each best first
    levels: Arc<[Level]>,
    bid_count: u32,
    checksum: u32,
    depth: BookDepth,
}

impl BookUpdate {
    /// An update of a book that has `checksum` afterwards; both sides best first.
    pub fn new(depth: BookDepth, bids: &[Level], asks: &[Level], checksum: u32) -> Self {
        // A chain of two slices is of known length, so this allocates once.
        let levels = bids.iter().chain(asks).copied().collect();
        Self { levels, bid_count: bids.len() as u32, checksum, depth }
    }

    /// The same levels for another depth.
    #[must_use]
    pub fn at_depth(&self, depth: BookDepth) -> Self {
        Self { depth, ..self.clone() }
    }

    /// Of which depth the book is.
    pub fn depth(&self) -> BookDepth {
        self.depth
    }

    /// The bids, best first.
    pub fn bids(&self) -> &[Level] {
        &self.levels[..self.bid_count as usize]
    }

    /// The asks, best first.
    pub fn asks(&self) -> &[Level] {
        &self.levels[self.bid_count as usize..]
    }

    /// The levels of a side, best first.
    pub fn side(&self, side: BookSide) -> &[Level] {
        match side {
            BookSide::Bid => self.bids(),
            BookSide::Ask => self.asks(),
        }
    }

    /// All levels.
    pub fn iter(&self) -> impl Iterator<Item = (BookSide, Level)> + '_ {
        let bids = self.bids().iter().map(|level| (BookSide::Bid, *level));
        bids.chain(self.asks().iter().map(|level| (BookSide::Ask, *level)))
    }

    /// How many levels it has, both sides together.
    pub fn len(&self) -> usize {
        self.levels.len()
    }

    /// Whether it has no level.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// The checksum of the book after the update; see [`super::Book::checksum`].
    pub fn checksum(&self) -> u32 {
        self.checksum
    }
}
