//! Bars from trades, for one instrument and for a market.
//!
//! **Invariant:** a bar is what its trades make of it in the order of their times (of equal times in the order of
//! arrival), however late they come; and it closes when the market's time, which the caller tells, has reached its end,
//! never because the next trade has come.
//!
//! Intervals are aligned to the Unix epoch, so days are UTC days. An interval without trades has no bar. A trade that
//! comes after its bar has closed amends that bar, or makes one, as long as the history reaches back so far.
//!
//! The cost of a trade is eight updates in place. What changed is gathered and handed over by [`Bars::changes`] once,
//! so the caller decides whether a burst of trades makes one element of a bar or many.

use std::collections::VecDeque;

use crate::{Bar, BarInterval, Event, InstrumentId, Size, Tick, Timestamp, Trade};

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const INTERVALS: usize = BarInterval::ALL.len();

/// The bars of one instrument, of one interval.
#[derive(Debug, Clone, Default)]
struct Series {
    /// Oldest first, by their opening times
    bars: VecDeque<Kept>,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    opens: Timestamp,
    /// The times of the first and the last trade, which decide about opening and closing price
    first: Timestamp,
    last: Timestamp,
    bar: Bar,
    /// Whether it stands in the list of what has changed
    listed: bool,
}

/// What became of a trade in a series.
enum Placed {
    /// The bar that opens then was changed
    In(Timestamp, Listing),
    /// It is older than the history
    TooOld,
}

#[derive(PartialEq, Eq)]
enum Listing {
    ToDo,
    Done,
}

impl Kept {
    fn new(interval: BarInterval, opens: Timestamp, time: Timestamp, trade: &Trade) -> Self {
        let (price, volume) = (trade.price, Size(0));
        let bar =
            Bar { interval, open: price, high: price, low: price, close: price, volume, trade_count: 0, closed: false };
        Self { opens, first: time, last: time, bar, listed: false }
    }

    fn add(&mut self, time: Timestamp, trade: &Trade) {
        if time < self.first {
            self.first = time;
            self.bar.open = trade.price;
        }
        if time >= self.last {
            self.last = time;
            self.bar.close = trade.price;
        }
        self.bar.high = self.bar.high.max(trade.price);
        self.bar.low = self.bar.low.min(trade.price);
        // More than 64 bits of volume no venue has; a broken feed must not stop the others.
        self.bar.volume.0 = self.bar.volume.0.saturating_add(trade.size.0);
        self.bar.trade_count += 1;
    }

    fn list(&mut self) -> Listing {
        if std::mem::replace(&mut self.listed, true) { Listing::Done } else { Listing::ToDo }
    }
}

/// When the interval that contains `time` begins, and when it ends.
fn bounds(interval: BarInterval, time: Timestamp) -> (Timestamp, Timestamp) {
    let length = length(interval);
    let begin = time.0 - time.0 % length;
    (Timestamp(begin), Timestamp(begin.saturating_add(length)))
}

const fn length(interval: BarInterval) -> u64 {
    interval.seconds() as u64 * NANOS_PER_SECOND
}

impl Series {
    fn trade(
        &mut self,
        interval: BarInterval,
        now: Timestamp,
        time: Timestamp,
        trade: &Trade,
        history_max: usize,
    ) -> Placed {
        // Nearly every trade belongs to the newest bar.
        if let Some(newest) = self.bars.back_mut()
            && newest.opens <= time
            && time.0 - newest.opens.0 < length(interval)
        {
            newest.add(time, trade);
            return Placed::In(newest.opens, newest.list());
        }
        let (opens, ends) = bounds(interval, time);
        let place = self.bars.partition_point(|kept| kept.opens < opens);
        if self.bars.get(place).is_none_or(|kept| kept.opens != opens) {
            if place == 0 && self.bars.len() >= history_max {
                return Placed::TooOld;
            }
            let mut kept = Kept::new(interval, opens, time, trade);
            kept.bar.closed = ends <= now;
            self.bars.insert(place, kept);
        }
        let Some(kept) = self.bars.get_mut(place) else { return Placed::TooOld };
        kept.add(time, trade);
        let placed = Placed::In(opens, kept.list());
        if self.bars.len() > history_max {
            self.bars.pop_front();
        }
        placed
    }

    /// Closes what ends by `now`, newest first; calls `close` with the opening time of each that is not listed.
    fn close(&mut self, now: Timestamp, mut close: impl FnMut(Timestamp)) {
        for kept in self.bars.iter_mut().rev() {
            if bounds(kept.bar.interval, kept.opens).1 > now {
                continue;
            }
            if std::mem::replace(&mut kept.bar.closed, true) {
                return;
            }
            if kept.list() == Listing::ToDo {
                close(kept.opens);
            }
        }
    }

    fn has_open_bars(&self) -> bool {
        self.bars.back().is_some_and(|kept| !kept.bar.closed)
    }

    fn find(&mut self, opens: Timestamp) -> Option<&mut Kept> {
        let place = self.bars.partition_point(|kept| kept.opens < opens);
        self.bars.get_mut(place).filter(|kept| kept.opens == opens)
    }
}

/// A bar that has changed and has not been handed over yet.
#[derive(Debug, Clone, Copy)]
struct Changed {
    instrument: InstrumentId,
    interval: BarInterval,
    opens: Timestamp,
}

/// The bars of all instruments, in all intervals.
#[derive(Debug, Clone)]
pub struct Bars {
    series: Vec<[Series; INTERVALS]>,
    changed: Vec<Changed>,
    /// Instruments with bars that have yet to close, by interval
    open: [Vec<InstrumentId>; INTERVALS],
    /// Whether an instrument is in that list, bit by interval
    is_open: Vec<u8>,
    history_max: usize,
    /// The market's time
    now: Timestamp,
    /// When the next of the open bars closes, at the earliest
    next_close: Option<Timestamp>,
    too_old: u64,
}

impl Bars {
    /// No bars yet; of each instrument and interval the newest `history_max` are kept, at least one. A bar takes 96
    /// bytes, so 500 of each of eight intervals are 384 kB for an instrument that trades in every second.
    pub fn new(history_max: usize) -> Self {
        Self {
            series: Vec::new(),
            changed: Vec::new(),
            open: Default::default(),
            is_open: Vec::new(),
            history_max: history_max.max(1),
            now: Timestamp(0),
            next_close: None,
            too_old: 0,
        }
    }

    /// Takes in a trade. Its time does not move the market's.
    pub fn trade(&mut self, instrument: InstrumentId, time: Timestamp, trade: &Trade) {
        let index = instrument.index();
        if self.series.len() <= index {
            self.series.resize_with(index + 1, Default::default);
            self.is_open.resize(index + 1, 0);
        }
        for (interval, series) in BarInterval::ALL.into_iter().zip(&mut self.series[index]) {
            let Placed::In(opens, listing) = series.trade(interval, self.now, time, trade, self.history_max) else {
                self.too_old += 1;
                continue;
            };
            if listing == Listing::ToDo {
                self.changed.push(Changed { instrument, interval, opens });
            }
            let ends = Timestamp(opens.0.saturating_add(length(interval)));
            if ends > self.now {
                self.next_close = Some(self.next_close.map_or(ends, |next| next.min(ends)));
                let bit = 1 << interval as u8;
                if self.is_open[index] & bit == 0 {
                    self.is_open[index] |= bit;
                    self.open[interval as usize].push(instrument);
                }
            }
        }
    }

    /// Moves the market's time and closes the bars that end by then; it never goes back.
    pub fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        if self.next_close.is_none_or(|next| self.now < next) {
            return;
        }
        let now = self.now;
        let mut next_close: Option<Timestamp> = None;
        for (interval, open) in BarInterval::ALL.into_iter().zip(&mut self.open) {
            let bit = 1 << interval as u8;
            open.retain(|instrument| {
                let series = &mut self.series[instrument.index()][interval as usize];
                series.close(now, |opens| {
                    self.changed.push(Changed { instrument: *instrument, interval, opens });
                });
                let stays = series.has_open_bars();
                if !stays {
                    self.is_open[instrument.index()] &= !bit;
                }
                stays
            });
            if !open.is_empty() {
                let ends = bounds(interval, now).1;
                next_close = Some(next_close.map_or(ends, |next| next.min(ends)));
            }
        }
        self.next_close = next_close;
    }

    /// When [`Bars::advance`] has something to close, at the earliest.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.next_close
    }

    /// Hands over each bar that has changed since the last call, once, as it is now; the ticks' times are the opening
    /// times. Bars that have left the history since are left out.
    pub fn changes(&mut self, mut emit: impl FnMut(Tick)) {
        for Changed { instrument, interval, opens } in self.changed.drain(..) {
            if let Some(kept) = self.series[instrument.index()][interval as usize].find(opens) {
                kept.listed = false;
                emit(Tick { instrument, time: opens, event: Event::Bar(kept.bar) });
            }
        }
    }

    /// The newest `limit` bars with their opening times, oldest first; the last ones may be open.
    pub fn history(
        &self,
        instrument: InstrumentId,
        interval: BarInterval,
        limit: usize,
    ) -> impl ExactSizeIterator<Item = (Timestamp, Bar)> + '_ {
        static NONE: VecDeque<Kept> = VecDeque::new();
        let bars = self.series.get(instrument.index()).map_or(&NONE, |series| &series[interval as usize].bars);
        bars.iter().skip(bars.len().saturating_sub(limit)).map(|kept| (kept.opens, kept.bar))
    }

    /// The newest bar of that interval, open or closed; the state that a snapshot shows.
    pub fn newest(&self, instrument: InstrumentId, interval: BarInterval) -> Option<(Timestamp, Bar)> {
        self.history(instrument, interval, 1).next()
    }

    /// How often a trade was too late for a bar of an interval.
    pub fn too_old(&self) -> u64 {
        self.too_old
    }
}
