//! What records of `mbo` (market by order) say.
//!
//! **Invariant:** the records of one market event become one event of the book: it ends with the record that carries
//! `F_LAST`, and nothing of it is seen before.
//!
//! - `A`, `C`, `M` change orders, `R` clears the book. `T` is a trade; its `trade_id` is the record's `sequence`. `F` (the
//!   resting side of a trade) changes nothing: a cancel or a modification follows.
//! - The opening snapshot of real files has neither a leading `R` nor `F_LAST`: it begins with the first record that is
//!   flagged as one, and ends before the first of the same instrument that is not, or before a record of another one.
//! - A record with `F_MAYBE_BAD_BOOK` says that the venue's packets were lost: the book is worth nothing until the next
//!   snapshot.

use dbn::{FlagSet, UNDEF_PRICE};
use market::BookSide;

use super::Fields;
use crate::recording::decimal::Decimal;
use crate::recording::record::{EventEnd, RawChange, RawEvent};

/// All snapshots are one group: what matters is that the records follow each other.
const SNAPSHOT_GROUP: u64 = 0;

pub(super) struct OrderRecord {
    pub(super) fields: Fields,
    pub(super) order: u64,
    pub(super) flags: FlagSet,
}

/// Which instruments are in their snapshots, by index of their names.
#[derive(Default)]
pub(super) struct Orders {
    in_snapshot: Vec<bool>,
}

impl Orders {
    /// Hands over the events of a record.
    ///
    /// # Errors
    /// What is wrong with it; nothing has been handed over then.
    pub(super) fn events(
        &mut self,
        name: usize,
        record: &OrderRecord,
        mut emit: impl FnMut(RawEvent),
    ) -> Result<(), String> {
        if record.flags.is_mbp() || record.flags.is_tob() {
            return Err("it is about a level, not about an order".into());
        }
        let trade = record.fields.trade()?;
        let change = record.change()?;
        let last = record.flags.is_last();
        if self.in_snapshot.len() <= name {
            self.in_snapshot.resize(name + 1, false);
        }
        let was_in_snapshot = std::mem::replace(&mut self.in_snapshot[name], record.flags.is_snapshot());
        if let Some(trade) = trade {
            emit(trade);
        }
        if record.flags.is_snapshot() && !was_in_snapshot && change != RawChange::Clear {
            emit(RawEvent::Book { change: RawChange::Clear, end: EventEnd::Open });
        }
        let end = match (last, record.flags.is_snapshot()) {
            (true, _) => EventEnd::Last,
            (false, true) => EventEnd::Within(SNAPSHOT_GROUP),
            (false, false) => EventEnd::Open,
        };
        let change = if record.flags.is_maybe_bad_book() && !record.flags.is_snapshot() {
            RawChange::Unreliable
        } else {
            change
        };
        if change != RawChange::Nothing || end != EventEnd::Open {
            emit(RawEvent::Book { change, end });
        }
        Ok(())
    }
}

impl OrderRecord {
    fn change(&self) -> Result<RawChange, String> {
        let order = self.order;
        let size = Decimal::from_integer(self.fields.size);
        let priced = || {
            let side = match self.fields.side {
                b'A' => BookSide::Ask,
                b'B' => BookSide::Bid,
                _ => return Err("it is an order without a side".to_owned()),
            };
            if self.fields.price == UNDEF_PRICE {
                return Err("it is an order without a price".to_owned());
            }
            Ok((side, Decimal::from_nanos(self.fields.price)))
        };
        Ok(match self.fields.action {
            b'A' => {
                let (side, price) = priced()?;
                RawChange::Add { order, side, price, size }
            }
            b'M' => {
                let (side, price) = priced()?;
                RawChange::Modify { order, side, price, size }
            }
            b'C' => RawChange::Cancel { order, size },
            b'R' => RawChange::Clear,
            _ => RawChange::Nothing,
        })
    }
}
