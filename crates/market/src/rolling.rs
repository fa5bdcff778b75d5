//! Statistics over the last 24 hours, for one instrument and for a market.
//!
//! **Invariant:** the statistics are those of all trades since the window's begin, exactly, in the order of their times;
//! the begin is the market's time rounded down to a whole slot, less the window. So a trade counts for at least 24 hours
//! and leaves at the end of its slot, a minute at most later, whatever the rate of trades.
//!
//! Exact to the single trade would need every trade of a day in memory; slots bound that to 1,441 of 96 bytes for an
//! instrument. Of each slot there are the sums, in integers that cannot lose anything (128 bits, wrapping, so that what
//! is added is taken off again whatever happens in between), and of highs and lows there are monotonic queues: a slot is
//! in the queue of highs while no later slot is as high. Both cost O(1) per trade, amortised. A late trade of an older
//! slot rebuilds the queues, O(slots); those are rare.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{Event, InstrumentId, Price, Size, Tick, Ticker, Timestamp, Trade};

/// How a window is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollingWindow {
    length_ns: u64,
    slot_ns: u64,
}

impl RollingWindow {
    /// A window of `length`, which begins at whole `slot`s. A slot is at least a nanosecond, and no longer than the window.
    pub fn new(length: Duration, slot: Duration) -> Self {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1);
        Self { length_ns: nanos(length), slot_ns: nanos(slot).min(nanos(length)) }
    }

    fn slot(self, time: Timestamp) -> u64 {
        time.0 - time.0 % self.slot_ns
    }

    /// The first instant that counts.
    pub fn begin(self, now: Timestamp) -> Timestamp {
        Timestamp(self.slot(Timestamp(self.slot(now).saturating_sub(self.length_ns))))
    }
}

impl Default for RollingWindow {
    /// 24 hours in slots of a minute.
    fn default() -> Self {
        Self::new(Duration::from_hours(24), Duration::from_mins(1))
    }
}

/// The trades of one slot.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// When it begins
    at: u64,
    /// The time of the first trade, which decides about the opening price
    first: Timestamp,
    open: Price,
    high: Price,
    low: Price,
    sums: Sums,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    /// Of price x size
    notional: i128,
    volume: u128,
    trade_count: u64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.notional = self.notional.wrapping_add(other.notional);
        self.volume = self.volume.wrapping_add(other.volume);
        self.trade_count = self.trade_count.wrapping_add(other.trade_count);
    }

    fn subtract(&mut self, other: &Self) {
        self.notional = self.notional.wrapping_sub(other.notional);
        self.volume = self.volume.wrapping_sub(other.volume);
        self.trade_count = self.trade_count.wrapping_sub(other.trade_count);
    }
}

/// Running statistics of one instrument.
#[derive(Debug, Clone, Default)]
pub struct RollingTicker {
    slots: VecDeque<Slot>,
    sums: Sums,
    /// (slot, its high), highs strictly falling
    highs: VecDeque<(u64, Price)>,
    /// (slot, its low), lows strictly rising
    lows: VecDeque<(u64, Price)>,
    /// The newest trade ever
    last: Option<(Timestamp, Price)>,
}

impl RollingTicker {
    /// No trades yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a trade; `now` is the market's time. False when it is too old to count.
    pub fn trade(&mut self, window: RollingWindow, now: Timestamp, time: Timestamp, trade: &Trade) -> bool {
        if time < window.begin(now) {
            return false;
        }
        if self.last.is_none_or(|(last, _)| time >= last) {
            self.last = Some((time, trade.price));
        }
        let at = window.slot(time);
        let newest = self.slots.back().map(|slot| slot.at);
        let place = if newest.is_none_or(|newest| newest < at) {
            self.slots.push_back(Slot::new(at, time, trade.price));
            self.slots.len() - 1
        } else if newest == Some(at) {
            self.slots.len() - 1
        } else {
            let place = self.slots.partition_point(|slot| slot.at < at);
            if self.slots[place].at != at {
                self.slots.insert(place, Slot::new(at, time, trade.price));
            }
            place
        };
        let sums = Sums {
            // Of 64-bit factors, so it fits.
            notional: i128::from(trade.price.0) * i128::from(trade.size.0),
            volume: u128::from(trade.size.0),
            trade_count: 1,
        };
        self.sums.add(&sums);
        let slot = &mut self.slots[place];
        slot.add(time, trade.price, &sums);
        if place + 1 == self.slots.len() {
            self.queue(at, trade.price);
        } else {
            self.rebuild_queues();
        }
        true
    }

    /// Lets trades expire that are older than the window at the market's time `now`; true if there were any.
    pub fn advance(&mut self, window: RollingWindow, now: Timestamp) -> bool {
        let begin = window.begin(now).0;
        let mut expired = false;
        while let Some(slot) = self.slots.front().filter(|slot| slot.at < begin) {
            self.sums.subtract(&slot.sums);
            self.slots.pop_front();
            expired = true;
        }
        for queue in [&mut self.highs, &mut self.lows] {
            while queue.front().is_some_and(|(at, _)| *at < begin) {
                queue.pop_front();
            }
        }
        expired
    }

    /// The statistics; none before the first trade. When all trades have expired, the prices are the last one.
    pub fn ticker(&self, price_exponent: i8, size_exponent: i8) -> Option<Ticker> {
        let (_, last) = self.last?;
        let open = self.slots.front().map_or(last, |slot| slot.open);
        Some(Ticker {
            last,
            open,
            high: self.highs.front().map_or(last, |high| high.1),
            low: self.lows.front().map_or(last, |low| low.1),
            volume: Size(u64::try_from(self.sums.volume).unwrap_or(u64::MAX)),
            turnover: scale(self.sums.notional, i32::from(price_exponent) + i32::from(size_exponent)),
            trade_count: self.sums.trade_count,
        })
    }

    /// The volume-weighted average price, rounded to the nearest integer of the price's exponent; none without volume.
    pub fn vwap(&self) -> Option<Price> {
        let volume = i128::try_from(self.sums.volume).ok().filter(|volume| *volume > 0)?;
        let doubled = self.sums.notional.checked_mul(2)?.checked_add(volume)?;
        i64::try_from(doubled.div_euclid(volume.checked_mul(2)?)).ok().map(Price)
    }

    /// The last price less the window's first.
    pub fn change(&self) -> Option<Price> {
        let (_, last) = self.last?;
        last.0.checked_sub(self.slots.front()?.open.0).map(Price)
    }

    fn queue(&mut self, at: u64, price: Price) {
        queue(&mut self.highs, at, price, |kept, new| kept > new);
        queue(&mut self.lows, at, price, |kept, new| kept < new);
    }

    fn rebuild_queues(&mut self) {
        self.highs.clear();
        self.lows.clear();
        for slot in &self.slots {
            queue(&mut self.highs, slot.at, slot.high, |kept, new| kept > new);
            queue(&mut self.lows, slot.at, slot.low, |kept, new| kept < new);
        }
    }
}

/// Puts a price at the end of a queue and drops those before it that it outdoes.
fn queue(queue: &mut VecDeque<(u64, Price)>, at: u64, price: Price, outdoes: impl Fn(Price, Price) -> bool) {
    // A slot that outdoes the price stays; if it is the price's own, there is nothing to add.
    while queue.back().is_some_and(|(_, kept)| !outdoes(*kept, price)) {
        queue.pop_back();
    }
    if queue.back().is_none_or(|(slot, _)| *slot != at) {
        queue.push_back((at, price));
    }
}

/// `notional x 10^exponent`, rounded once where the power is exact, which it is up to 10^22.
fn scale(notional: i128, exponent: i32) -> f64 {
    let power = 10f64.powi(exponent.abs());
    if exponent < 0 { notional as f64 / power } else { notional as f64 * power }
}

impl Slot {
    fn new(at: u64, time: Timestamp, price: Price) -> Self {
        Self { at, first: time, open: price, high: price, low: price, sums: Sums::default() }
    }

    fn add(&mut self, time: Timestamp, price: Price, sums: &Sums) {
        if time < self.first {
            self.first = time;
            self.open = price;
        }
        self.high = self.high.max(price);
        self.low = self.low.min(price);
        self.sums.add(sums);
    }
}

/// The statistics of all instruments.
#[derive(Debug, Clone, Default)]
pub struct Statistics {
    window: RollingWindow,
    instruments: Vec<Entry>,
    now: Timestamp,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    ticker: RollingTicker,
    price_exponent: i8,
    size_exponent: i8,
}

impl Statistics {
    /// No trades yet.
    pub fn new(window: RollingWindow) -> Self {
        Self { window, ..Self::default() }
    }

    /// Takes in a trade of an instrument with those exponents; its statistics afterwards, or none when the trade is too
    /// old to count. The trade's time does not move the market's.
    pub fn trade(&mut self, instrument: &crate::Instrument, time: Timestamp, trade: &Trade) -> Option<Ticker> {
        let index = instrument.id.index();
        if self.instruments.len() <= index {
            self.instruments.resize_with(index + 1, Entry::default);
        }
        let entry = &mut self.instruments[index];
        entry.price_exponent = instrument.price_exponent;
        entry.size_exponent = instrument.size_exponent;
        let counts = entry.ticker.trade(self.window, self.now, time, trade);
        if counts { entry.ticker.ticker(entry.price_exponent, entry.size_exponent) } else { None }
    }

    /// Moves the market's time, which never goes back, and hands over the statistics that change because trades expire,
    /// with the window's new begin plus its length as their time. Costs nothing within a slot.
    pub fn advance(&mut self, now: Timestamp, mut emit: impl FnMut(Tick)) {
        let (before, window) = (self.now, self.window);
        self.now = self.now.max(now);
        if window.slot(before) == window.slot(self.now) {
            return;
        }
        let time = Timestamp(window.slot(self.now));
        for (entry, index) in self.instruments.iter_mut().zip(0..) {
            if entry.ticker.advance(window, self.now)
                && let Some(ticker) = entry.ticker.ticker(entry.price_exponent, entry.size_exponent)
            {
                emit(Tick { instrument: InstrumentId(index), time, event: Event::Ticker(ticker) });
            }
        }
    }

    /// When [`Statistics::advance`] has something to do, at the earliest.
    pub fn deadline(&self) -> Timestamp {
        Timestamp(self.window.slot(self.now).saturating_add(self.window.slot_ns))
    }

    /// The statistics of one instrument.
    pub fn of(&self, instrument: InstrumentId) -> Option<&RollingTicker> {
        self.instruments.get(instrument.index()).map(|entry| &entry.ticker)
    }
}
