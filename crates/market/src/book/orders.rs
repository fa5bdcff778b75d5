//! The order book by single orders (market by order, L3).
//!
//! **Invariant:** the size of a level is the sum of the sizes of its orders. An error leaves both as they were.

use rustc_hash::FxHashMap;

use super::{Book, BookError, BookSide, BookSource, Crossing};
use crate::{Event, Price, Quote, Size};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    price: Price,
    size: Size,
    side: BookSide,
}

/// Orders by their ids, and the levels they add up to. It begins stale: without the orders that were there before, the
/// ones that come say little.
#[derive(Debug, Clone)]
pub struct OrderBook {
    orders: FxHashMap<u64, Order>,
    levels: BookSource,
}

impl OrderBook {
    /// A book of which nothing is known yet.
    pub fn new(crossing: Crossing) -> Self {
        Self { orders: FxHashMap::default(), levels: BookSource::new(crossing) }
    }

    /// The levels, those of an uncommitted event included.
    pub fn book(&self) -> &Book {
        self.levels.book()
    }

    /// How many orders there are.
    pub fn order_count(&self) -> usize {
        self.orders.len()
    }

    /// What is left of an order.
    pub fn order_size(&self, order: u64) -> Option<Size> {
        self.orders.get(&order).map(|order| order.size)
    }

    /// Whether nothing is known until the next snapshot.
    pub fn is_stale(&self) -> bool {
        self.levels.is_stale()
    }

    /// Forgets all: what is added from here on, up to the commit, is the whole book. Also for a venue's "clear".
    pub fn begin_snapshot(&mut self) {
        self.orders.clear();
        self.levels.begin_snapshot();
    }

    /// An order comes. Ignored while stale, as all changes are.
    ///
    /// # Errors
    /// [`BookError`] when it is there already, has no size, or too much for its level.
    pub fn add(&mut self, order: u64, side: BookSide, price: Price, size: Size) -> Result<(), BookError> {
        if self.is_stale() {
            return Ok(());
        }
        if size.0 == 0 {
            return Err(BookError::EmptyOrder(order));
        }
        if self.orders.contains_key(&order) {
            return Err(BookError::DuplicateOrder(order));
        }
        self.levels.add(side, price, size)?;
        self.orders.insert(order, Order { price, size, side });
        Ok(())
    }

    /// An order goes, or a part of it.
    ///
    /// # Errors
    /// [`BookError`] when there is no such order or it has not so much.
    pub fn cancel(&mut self, order: u64, cancelled: Size) -> Result<(), BookError> {
        if self.is_stale() {
            return Ok(());
        }
        let held = self.orders.get_mut(&order).ok_or(BookError::UnknownOrder(order))?;
        let Order { price, size, side } = *held;
        let left = size.0.checked_sub(cancelled.0).ok_or(BookError::OrderTooSmall { order, size, cancelled })?;
        self.levels.take(side, price, cancelled)?;
        if left == 0 {
            self.orders.remove(&order);
        } else {
            held.size = Size(left);
        }
        Ok(())
    }

    /// An order has another price or size. One that is not there is added, as Databento's own examples do: a venue may
    /// tell of a modification only.
    ///
    /// # Errors
    /// [`BookError`] when it changes its side, has no size, or too much for its level.
    pub fn modify(&mut self, order: u64, side: BookSide, price: Price, size: Size) -> Result<(), BookError> {
        if self.is_stale() {
            return Ok(());
        }
        let Some(held) = self.orders.get_mut(&order) else {
            return self.add(order, side, price, size);
        };
        if size.0 == 0 {
            return Err(BookError::EmptyOrder(order));
        }
        if held.side != side {
            return Err(BookError::SideChanged(order));
        }
        let before = std::mem::replace(held, Order { price, size, side });
        self.levels.take(side, before.price, before.size)?;
        if let Err(error) = self.levels.add(side, price, size) {
            self.levels.add(side, before.price, before.size)?;
            self.orders.insert(order, before);
            return Err(error);
        }
        Ok(())
    }

    /// Ends an event; see [`BookSource::commit`].
    ///
    /// # Errors
    /// [`BookError::Crossed`] where that is refused.
    pub fn commit(&mut self) -> Result<Option<Event>, BookError> {
        self.levels.commit()
    }

    /// Gives the book up after an error; see [`BookSource::withdraw`].
    pub fn withdraw(&mut self) -> Option<Event> {
        self.orders.clear();
        self.levels.withdraw()
    }

    /// The best bid and offer; see [`BookSource::quote`].
    pub fn quote(&self) -> Quote {
        self.levels.quote()
    }

    /// The whole book; see [`BookSource::snapshot`].
    pub fn snapshot(&mut self) -> Option<Event> {
        self.levels.snapshot()
    }
}
