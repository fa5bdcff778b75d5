//! The order book by price levels, and everything that is made of one.
//!
//! **Invariant:** a book holds no level of size zero and no price twice on a side; the best price of a side is the first.
//! Whether it may be crossed is the source's affair ([`Crossing`]): in an auction it is.
//!
//! | part | what it is |
//! | --- | --- |
//! | [`Book`] | the levels; what a client, a sequencer and a source each keep |
//! | [`BookUpdate`] | levels on their way: the payload of [`Event::BookSnapshot`] and [`Event::BookDelta`] |
//! | [`BookSource`] | turns changes of levels into one event per market event, with checksum and checks |
//! | [`OrderBook`] | the same from single orders (market by order, L3) |
//! | [`BookViews`] | the sequencer's side: cuts `book.10` and `book.50` out of `book.full`, and gives snapshots |
//! | [`BookConflation`] | merges the events of a book channel into one |
//!
//! What is *not* here: the queue of orders at a price. Levels are sums, which is all that the channels show.

mod checksum;
mod conflation;
mod ladder;
mod orders;
mod source;
mod update;
mod views;

pub use conflation::BookConflation;
pub use ladder::LevelChange;
pub use orders::OrderBook;
pub use source::{BookSource, Crossing};
pub use update::BookUpdate;
pub use views::BookViews;

use crate::{Event, Level, Price, Quote, Size};
use ladder::Ladder;

/// A side of the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BookSide {
    /// Who wants to buy; the highest price is the best
    Bid = 0,
    /// Who wants to sell; the lowest price is the best
    Ask = 1,
}

impl BookSide {
    /// Both sides.
    pub const ALL: [Self; 2] = [Self::Bid, Self::Ask];

    /// The other side.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Bid => Self::Ask,
            Self::Ask => Self::Bid,
        }
    }
}

/// Input that no book can have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// Somebody bids at least what somebody else asks, and the venue trades continuously.
    #[error("the book is crossed: the best bid {} is not below the best ask {}", bid.0, ask.0)]
    Crossed {
        /// The best bid
        bid: Price,
        /// The best ask
        ask: Price,
    },
    /// The sizes at a price add up to more than 64 bits hold.
    #[error("the sizes at price {} do not fit into 64 bits", price.0)]
    Overflow {
        /// Where
        price: Price,
    },
    /// More was taken from a level than is there.
    #[error("{} is taken from the level at price {}, which has {}", taken.0, price.0, size.0)]
    LevelTooSmall {
        /// Where
        price: Price,
        /// What is there
        size: Size,
        /// What was taken
        taken: Size,
    },
    /// A level of size zero, or a price twice, or levels out of order in a snapshot.
    #[error("a snapshot's levels are not in order, best first, each with a size: see price {}", price.0)]
    Disordered {
        /// Where
        price: Price,
    },
    /// An order is added a second time.
    #[error("order {0} is added while it is in the book")]
    DuplicateOrder(u64),
    /// An order is cancelled that is not there.
    #[error("order {0} is cancelled but not in the book")]
    UnknownOrder(u64),
    /// More is cancelled of an order than it has.
    #[error("{} of order {order} is cancelled, which has {}", cancelled.0, size.0)]
    OrderTooSmall {
        /// Which
        order: u64,
        /// What it has
        size: Size,
        /// What was cancelled
        cancelled: Size,
    },
    /// An order of size zero.
    #[error("order {0} has no size")]
    EmptyOrder(u64),
    /// An order changes sides.
    #[error("order {0} changes its side")]
    SideChanged(u64),
    /// The update is of another depth than the book's source has, which is [`crate::BookDepth::Full`].
    #[error("an update of depth {0} cannot be taken in, only of the full book")]
    Depth(u32),
}

/// An order book by price levels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    bids: Ladder,
    asks: Ladder,
}

impl Book {
    /// An empty book.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what is there at `price`; nothing when `size` is zero. Removing a level that is not there is no error: feeds
    /// that conflate or cut their depth do so.
    #[inline]
    pub fn set(&mut self, side: BookSide, price: Price, size: Size) -> LevelChange {
        match side {
            BookSide::Bid => self.bids.set(price.0, size),
            BookSide::Ask => self.asks.set(!price.0, size),
        }
    }

    /// What is there at `price`; zero when nothing is.
    pub fn size_at(&self, side: BookSide, price: Price) -> Size {
        match side {
            BookSide::Bid => self.bids.size_at(price.0),
            BookSide::Ask => self.asks.size_at(!price.0),
        }
    }

    /// The best level of a side.
    #[inline]
    pub fn best(&self, side: BookSide) -> Option<Level> {
        self.level(side, 0)
    }

    /// The level of that rank, 0 for the best.
    #[inline]
    pub fn level(&self, side: BookSide, rank: usize) -> Option<Level> {
        match side {
            BookSide::Bid => self.bids.at(rank).map(|(key, size)| Level { price: Price(key), size }),
            BookSide::Ask => self.asks.at(rank).map(|(key, size)| Level { price: Price(!key), size }),
        }
    }

    /// The levels of a side, best first.
    pub fn levels(&self, side: BookSide) -> impl ExactSizeIterator<Item = Level> + Clone + '_ {
        let (ladder, mask) = match side {
            BookSide::Bid => (&self.bids, 0),
            BookSide::Ask => (&self.asks, !0),
        };
        ladder.iter().map(move |(key, size)| Level { price: Price(key ^ mask), size })
    }

    /// How many levels a side has.
    pub fn len(&self, side: BookSide) -> usize {
        match side {
            BookSide::Bid => self.bids.len(),
            BookSide::Ask => self.asks.len(),
        }
    }

    /// Whether neither side has a level.
    pub fn is_empty(&self) -> bool {
        self.bids.len() == 0 && self.asks.len() == 0
    }

    /// Removes all levels; keeps the memory.
    pub fn clear(&mut self) {
        self.bids.clear();
        self.asks.clear();
    }

    /// The best of both sides.
    #[inline]
    pub fn quote(&self) -> Quote {
        Quote { bid: self.best(BookSide::Bid), ask: self.best(BookSide::Ask) }
    }

    /// Whether the best bid is not below the best ask, which continuous trading does not allow.
    ///
    /// # Errors
    /// [`BookError::Crossed`] when it is so.
    pub fn check_not_crossed(&self) -> Result<(), BookError> {
        match self.quote() {
            Quote { bid: Some(bid), ask: Some(ask) } if bid.price >= ask.price => {
                Err(BookError::Crossed { bid: bid.price, ask: ask.price })
            }
            _ => Ok(()),
        }
    }

    /// The protocol's checksum: CRC-32 (IEEE) over the ten best asks, lowest first, then the ten best bids, highest
    /// first; of each level the price's and then the size's integer in decimal digits.
    pub fn checksum(&self) -> u32 {
        checksum::of(self)
    }

    /// Takes in an element of a book channel, as a client does: a snapshot replaces all, a delta sets levels. Events of
    /// other kinds change nothing.
    pub fn apply(&mut self, event: &Event) {
        let update = match event {
            Event::BookSnapshot(update) => {
                self.clear();
                update
            }
            Event::BookDelta(update) => update,
            _ => return,
        };
        for (side, level) in update.iter() {
            self.set(side, level.price, level.size);
        }
    }
}
