//! Orders of one instrument, matched by price and then by time.
//!
//! **Invariant:** the lots of a level are the sum of its orders' lots; no order has none, and no level has no order.
//! Whether bids may stand above asks is the caller's: only [`Orders::execute`] and [`Orders::uncross`] match.

use std::collections::VecDeque;

use market::BookSide;

/// Names an order while it rests; numbers are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OrderId(u32);

/// Whose order it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// That place of the list of orders of the public
    Public(u32),
    /// That maker, and which of its quotes on the side
    Maker(u8, u8),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) side: BookSide,
    pub(super) ticks: i64,
    pub(super) lots: u64,
    pub(super) owner: Owner,
}

/// What an order got.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fill {
    pub(super) id: OrderId,
    /// The resting order as it was before
    pub(super) order: Order,
    pub(super) lots: u64,
}

#[derive(Clone, Debug, Default)]
struct Level {
    ticks: i64,
    lots: u64,
    /// First come, first served
    queue: VecDeque<OrderId>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    slots: Vec<Order>,
    free: Vec<OrderId>,
    /// Best last, so that most changes move few
    sides: [Vec<Level>; 2],
    /// Empty queues, for their memory
    spare: Vec<VecDeque<OrderId>>,
    /// Levels that changed since the caller looked
    touched: Vec<(BookSide, i64)>,
}

fn is_better(side: BookSide, a: i64, b: i64) -> bool {
    match side {
        BookSide::Bid => a > b,
        BookSide::Ask => a < b,
    }
}

impl Orders {
    pub(super) fn order(&self, id: OrderId) -> Order {
        self.slots[id.0 as usize]
    }

    pub(super) fn set_owner(&mut self, id: OrderId, owner: Owner) {
        self.slots[id.0 as usize].owner = owner;
    }

    /// The best price of a side, in ticks.
    pub(super) fn best(&self, side: BookSide) -> Option<i64> {
        self.sides[side as usize].last().map(|level| level.ticks)
    }

    /// What is at the best price of a side, in lots.
    pub(super) fn best_lots(&self, side: BookSide) -> u64 {
        self.sides[side as usize].last().map_or(0, |level| level.lots)
    }

    /// What is at a price, in lots.
    pub(super) fn lots_at(&self, side: BookSide, ticks: i64) -> u64 {
        let levels = &self.sides[side as usize];
        levels.get(self.place(side, ticks)).filter(|level| level.ticks == ticks).map_or(0, |level| level.lots)
    }

    /// Makes `into` the levels that changed since the last call; some may be as they were.
    pub(super) fn take_touched(&mut self, into: &mut Vec<(BookSide, i64)>) {
        into.clear();
        std::mem::swap(&mut self.touched, into);
    }

    pub(super) fn add(&mut self, order: Order) -> OrderId {
        debug_assert!(order.lots > 0 && order.ticks > 0, "an order is for something: {order:?}");
        let id = if let Some(id) = self.free.pop() {
            self.slots[id.0 as usize] = order;
            id
        } else {
            self.slots.push(order);
            OrderId(self.slots.len() as u32 - 1)
        };
        let place = self.place(order.side, order.ticks);
        let levels = &mut self.sides[order.side as usize];
        if levels.get(place).is_none_or(|level| level.ticks != order.ticks) {
            let queue = self.spare.pop().unwrap_or_default();
            levels.insert(place, Level { ticks: order.ticks, lots: 0, queue });
        }
        levels[place].lots += order.lots;
        levels[place].queue.push_back(id);
        self.touched.push((order.side, order.ticks));
        id
    }

    /// Takes an order out.
    pub(super) fn cancel(&mut self, id: OrderId) -> Order {
        let order = self.order(id);
        let place = self.place(order.side, order.ticks);
        if let Some(level) = self.sides[order.side as usize].get_mut(place) {
            level.lots -= order.lots;
            if let Some(position) = level.queue.iter().position(|other| *other == id) {
                level.queue.remove(position);
            }
            self.free.push(id);
        }
        self.touched.push((order.side, order.ticks));
        self.drop_if_empty(order.side, place);
        order
    }

    /// Lets an aggressor on `side` take up to `lots`, at `limit` or better; hands over each fill, best price first.
    pub(super) fn execute(&mut self, side: BookSide, limit: i64, lots: u64, mut on: impl FnMut(Fill)) -> u64 {
        let passive = side.opposite();
        let mut left = lots;
        while left > 0
            && let Some(ticks) = self.best(passive)
            && !is_better(side, ticks, limit)
        {
            left -= self.fill_best(passive, left, &mut on);
        }
        lots - left
    }

    /// Matches all that crosses, as at the end of an auction: the price, and how much.
    pub(super) fn uncross(&mut self, mut on: impl FnMut(Fill)) -> Option<(i64, u64)> {
        let mut matched = None;
        while let (Some(bid), Some(ask)) = (self.best(BookSide::Bid), self.best(BookSide::Ask))
            && bid >= ask
        {
            let lots = self.best_lots(BookSide::Bid).min(self.best_lots(BookSide::Ask));
            for side in BookSide::ALL {
                let mut left = lots;
                while left > 0 {
                    left -= self.fill_best(side, left, &mut on);
                }
            }
            // Any price between the last two that match clears the most.
            let (_, volume) = matched.unwrap_or((0, 0));
            matched = Some((i64::midpoint(bid, ask), volume + lots));
        }
        matched
    }

    /// Fills the first order of the best level of a side with up to `lots`; how many it took.
    fn fill_best(&mut self, side: BookSide, lots: u64, on: &mut impl FnMut(Fill)) -> u64 {
        let place = self.sides[side as usize].len().wrapping_sub(1);
        let Some(level) = self.sides[side as usize].get_mut(place) else { return lots };
        let Some(&id) = level.queue.front() else { return lots };
        let order = self.slots[id.0 as usize];
        let taken = order.lots.min(lots);
        level.lots -= taken;
        self.slots[id.0 as usize].lots -= taken;
        if taken == order.lots {
            level.queue.pop_front();
            self.free.push(id);
        }
        self.touched.push((side, order.ticks));
        self.drop_if_empty(side, place);
        on(Fill { id, order, lots: taken });
        taken
    }

    fn drop_if_empty(&mut self, side: BookSide, place: usize) {
        let levels = &mut self.sides[side as usize];
        if levels.get(place).is_some_and(|level| level.queue.is_empty()) {
            self.spare.push(levels.remove(place).queue);
        }
    }

    /// Where a level at `ticks` is or would be.
    fn place(&self, side: BookSide, ticks: i64) -> usize {
        let levels = &self.sides[side as usize];
        levels.partition_point(|level| is_better(side, ticks, level.ticks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(side: BookSide, ticks: i64, lots: u64) -> Order {
        Order { side, ticks, lots, owner: Owner::Public(0) }
    }

    #[test]
    fn price_comes_before_time_and_time_before_size() {
        let mut orders = Orders::default();
        let first = orders.add(order(BookSide::Ask, 101, 5));
        orders.add(order(BookSide::Ask, 100, 3));
        orders.add(order(BookSide::Ask, 100, 9));
        orders.cancel(first);
        orders.add(order(BookSide::Ask, 101, 1));
        let mut fills = Vec::new();
        let got = orders.execute(BookSide::Bid, 101, 20, |fill| fills.push((fill.order.ticks, fill.lots)));
        assert_eq!((got, fills), (13, vec![(100, 3), (100, 9), (101, 1)]));
        assert_eq!(orders.best(BookSide::Ask), None);
        let mut touched = vec![(BookSide::Bid, 1)];
        orders.take_touched(&mut touched);
        assert_eq!(touched.len(), 8);
    }

    #[test]
    fn a_limit_is_kept() {
        let mut orders = Orders::default();
        orders.add(order(BookSide::Bid, 100, 5));
        assert_eq!(orders.execute(BookSide::Ask, 101, 5, |_| ()), 0);
        assert_eq!(orders.execute(BookSide::Ask, 100, 2, |_| ()), 2);
        assert_eq!(orders.lots_at(BookSide::Bid, 100), 3);
    }

    #[test]
    fn an_auction_clears_all_that_crosses_at_one_price() {
        let mut orders = Orders::default();
        for (side, ticks, lots) in [
            (BookSide::Bid, 105, 4),
            (BookSide::Bid, 102, 4),
            (BookSide::Bid, 99, 4),
            (BookSide::Ask, 98, 3),
            (BookSide::Ask, 101, 3),
            (BookSide::Ask, 104, 3),
        ] {
            orders.add(order(side, ticks, lots));
        }
        let mut sold = 0;
        let (price, volume) =
            orders.uncross(|fill| sold += if fill.order.side == BookSide::Ask { fill.lots } else { 0 }).unwrap();
        assert_eq!((price, volume, sold), (101, 6, 6));
        assert_eq!((orders.best(BookSide::Bid), orders.best(BookSide::Ask)), (Some(102), Some(104)));
        assert_eq!(orders.lots_at(BookSide::Bid, 102), 2);
        assert!(orders.uncross(|_| ()).is_none());
    }
}
