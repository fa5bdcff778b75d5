//! Bars from trades, for one instrument and for a market.
//!
//! **Invariant:** a bar is what its trades make of it in the order of their times (of equal times in the order of
//! arrival), however late they come; and it closes when the market's time, which the caller tells, has reached its end,
//! never because the next trade has come.
//!
//! Intervals are aligned to the Unix epoch, so days are UTC days. An interval without trades has no bar. A trade that
//! comes after its bar has closed amends that bar, or makes one, as long as the history reaches back so far.
//!
//! Each interval is made of whole ones of the next shorter. So a trade changes the newest bar of a second and nothing
//! else; of the longer intervals there is kept what their newest bars have from *before* the newest bar of the next shorter
//! one, and the bars themselves are put together when they are asked for. Everything is an integer, so that is exact. What
//! changed is handed over by [`Bars::changes`] once, so the caller decides whether a burst of trades makes one element of
//! a bar or many.

use std::collections::VecDeque;

use crate::{Bar, BarInterval, Event, InstrumentId, Price, Tick, Timestamp, Trade};

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const INTERVALS: usize = BarInterval::ALL.len();

/// Each interval holds a whole number of the one before it, and the first is the shortest.
const _: () = {
    let mut at = 1;
    while at < INTERVALS {
        assert!(length(BarInterval::ALL[at]).is_multiple_of(length(BarInterval::ALL[at - 1])));
        at += 1;
    }
};

/// Changed bars of the past are not looked through for repeats below this number.
const COMPACT_MIN: usize = 1024;

/// What some trades make of an interval; nothing when there are none. One cache line.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    /// The times of the first and the last trade, which decide about opening and closing price
    first: Timestamp,
    last: Timestamp,
    open: Price,
    high: Price,
    low: Price,
    close: Price,
    volume: u64,
    trade_count: u64,
}

impl Shape {
    fn add(&mut self, time: Timestamp, trade: &Trade) {
        let Trade { price, size, .. } = *trade;
        if self.trade_count == 0 {
            *self = Self { first: time, last: time, open: price, high: price, low: price, close: price, ..*self };
        }
        if time < self.first {
            self.first = time;
            self.open = price;
        }
        if time >= self.last {
            self.last = time;
            self.close = price;
        }
        self.high = self.high.max(price);
        self.low = self.low.min(price);
        // More than 64 bits of volume no venue has; a broken feed must not stop the others.
        self.volume = self.volume.saturating_add(size.0);
        self.trade_count += 1;
    }

    /// Together with trades that all come after these.
    fn then(&self, later: &Self) -> Self {
        if self.trade_count == 0 {
            return *later;
        }
        Self {
            first: self.first,
            last: later.last,
            open: self.open,
            high: self.high.max(later.high),
            low: self.low.min(later.low),
            close: later.close,
            volume: self.volume.saturating_add(later.volume),
            trade_count: self.trade_count + later.trade_count,
        }
    }

    fn opens(&self, interval: BarInterval) -> Timestamp {
        opening(interval, self.first)
    }

    /// When the bar opens, and itself at the market's time `now`.
    fn bar(&self, interval: BarInterval, now: Timestamp) -> (Timestamp, Bar) {
        let Self { open, high, low, close, volume, trade_count, .. } = *self;
        let opens = self.opens(interval);
        let closed = end(interval, opens) <= now;
        (opens, Bar { interval, open, high, low, close, volume: crate::Size(volume), trade_count, closed })
    }
}

const fn length(interval: BarInterval) -> u64 {
    interval.seconds() as u64 * NANOS_PER_SECOND
}

/// When the interval that contains `time` begins.
fn opening(interval: BarInterval, time: Timestamp) -> Timestamp {
    // By cases, because a division by a constant is a multiplication.
    let after = match interval {
        BarInterval::S1 => time.0 % const { length(BarInterval::S1) },
        BarInterval::S5 => time.0 % const { length(BarInterval::S5) },
        BarInterval::S10 => time.0 % const { length(BarInterval::S10) },
        BarInterval::M1 => time.0 % const { length(BarInterval::M1) },
        BarInterval::M5 => time.0 % const { length(BarInterval::M5) },
        BarInterval::M15 => time.0 % const { length(BarInterval::M15) },
        BarInterval::H1 => time.0 % const { length(BarInterval::H1) },
        BarInterval::D1 => time.0 % const { length(BarInterval::D1) },
    };
    Timestamp(time.0 - after)
}

/// When a bar that opens then is over.
fn end(interval: BarInterval, opens: Timestamp) -> Timestamp {
    Timestamp(opens.0.saturating_add(length(interval)))
}

/// The bars of one instrument that has traded.
#[derive(Debug, Clone, Default)]
struct Series {
    /// When the newest bar of the shortest interval opens; its trades are `newest[0]`
    second: u64,
    /// Of each interval what its newest bar has from before the newest bar of the next shorter one
    newest: [Shape; INTERVALS],
    /// Which of the newest bars have changed since they were handed over, bit by interval
    changed: u8,
    /// Which intervals are in the list of those with bars that have yet to close, bit by interval
    open: u8,
    /// The bars before the newest ones, oldest first; they take no memory before there are any
    past: [VecDeque<Shape>; INTERVALS],
}

const ALL_CHANGED: u8 = u8::MAX;
const _: () = assert!(INTERVALS == u8::BITS as usize);

#[derive(PartialEq, Eq)]
enum Marked {
    /// Nothing had changed before
    First,
    Again,
}

impl Series {
    /// Notes that newest bars have changed.
    fn mark(&mut self, changed: u8) -> Marked {
        let marked = if self.changed == 0 { Marked::First } else { Marked::Again };
        self.changed |= changed;
        marked
    }

    /// A trade that belongs to the newest bar of every interval, as nearly all do.
    #[inline]
    fn takes(&mut self, time: Timestamp, trade: &Trade) -> bool {
        let newest = &mut self.newest[0];
        let is_newest = newest.trade_count > 0
            && time.0.checked_sub(self.second).is_some_and(|after| after < length(BarInterval::ALL[0]));
        if is_newest {
            newest.add(time, trade);
        }
        is_newest
    }

    /// The newest bars, the shortest first.
    fn newest(&self) -> [Shape; INTERVALS] {
        let mut shapes = self.newest;
        for at in 1..INTERVALS {
            shapes[at] = shapes[at].then(&shapes[at - 1]);
        }
        shapes
    }

    fn newest_of(&self, interval: BarInterval) -> Shape {
        let (first, longer) = (self.newest[0], &self.newest[1..=interval as usize]);
        longer.iter().fold(first, |shape, before| before.then(&shape))
    }

    /// The shortest interval whose newest bar that time belongs to, by index; past the end if none is.
    fn shared(&self, time: Timestamp) -> usize {
        let second = Timestamp(self.second);
        let differs = |interval: &BarInterval| opening(*interval, second) != opening(*interval, time);
        BarInterval::ALL.iter().take_while(|interval| differs(interval)).count()
    }

    /// How many bars there are; of an instrument that has traded.
    fn len(&self, interval: BarInterval) -> usize {
        self.past[interval as usize].len() + 1
    }

    fn at(&self, interval: BarInterval, place: usize) -> Shape {
        self.past[interval as usize].get(place).copied().unwrap_or_else(|| self.newest_of(interval))
    }

    fn find(&self, interval: BarInterval, opens: Timestamp) -> Result<usize, usize> {
        self.past[interval as usize].binary_search_by_key(&opens, |shape| shape.opens(interval))
    }
}

/// A bar of the past that has changed and has not been handed over yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Changed {
    instrument: InstrumentId,
    interval: BarInterval,
    opens: Timestamp,
}

/// The bars of all instruments, in all intervals.
#[derive(Debug, Clone)]
pub struct Bars {
    /// None for those that have not traded
    series: Vec<Option<Box<Series>>>,
    /// Instruments whose newest bars have changed
    changed: Vec<InstrumentId>,
    changed_past: Vec<Changed>,
    /// How many there were of them when they were last looked through for repeats
    compacted: usize,
    /// Instruments with bars that have yet to close, by interval
    open: [Vec<InstrumentId>; INTERVALS],
    /// When the next of those closes, at the earliest
    next_close: [Timestamp; INTERVALS],
    history_max: usize,
    /// The market's time
    now: Timestamp,
    too_old: u64,
}

const NEVER: Timestamp = Timestamp(u64::MAX);

impl Bars {
    /// The memory that an instrument takes once it has traded, its past aside.
    pub const INSTRUMENT_BYTES: usize = size_of::<Series>();
    /// The memory of each bar of the past.
    pub const BAR_BYTES: usize = size_of::<Shape>();

    /// No bars yet; of each instrument and interval the newest `history_max` are kept, at least one.
    pub fn new(history_max: usize) -> Self {
        Self {
            series: Vec::new(),
            changed: Vec::new(),
            changed_past: Vec::new(),
            compacted: 0,
            open: Default::default(),
            next_close: [NEVER; INTERVALS],
            history_max: history_max.max(1),
            now: Timestamp(0),
            too_old: 0,
        }
    }

    /// Takes in a trade. Its time does not move the market's.
    pub fn trade(&mut self, instrument: InstrumentId, time: Timestamp, trade: &Trade) {
        let index = instrument.index();
        if self.series.len() <= index {
            self.series.resize_with(index + 1, || None);
        }
        let series = self.series[index].get_or_insert_default();
        if series.takes(time, trade) {
            if series.mark(ALL_CHANGED) == Marked::First {
                self.changed.push(instrument);
            }
        } else if series.newest[0].trade_count == 0 || time.0 >= series.second {
            self.begin_bars(instrument, time, trade);
        } else {
            self.amend(instrument, time, trade);
        }
    }

    /// A trade that is the first of its second: the newest bars that it does not belong to are past now.
    fn begin_bars(&mut self, instrument: InstrumentId, time: Timestamp, trade: &Trade) {
        let Some(series) = self.series[instrument.index()].as_deref_mut() else { return };
        if series.newest[0].trade_count > 0 {
            let before = series.newest();
            let shared = series.shared(time);
            for (interval, shape) in BarInterval::ALL.into_iter().zip(before).take(shared) {
                let at = interval as usize;
                if series.changed & 1 << at != 0 {
                    self.changed_past.push(Changed { instrument, interval, opens: shape.opens(interval) });
                }
                series.newest[at] = Shape::default();
                if self.history_max == 1 {
                    continue;
                }
                if series.past[at].len() + 1 >= self.history_max {
                    series.past[at].pop_front();
                }
                series.past[at].push_back(shape);
            }
            if let (Some(longer), Some(shorter)) = (series.newest.get_mut(shared), before.get(shared.wrapping_sub(1))) {
                *longer = longer.then(shorter);
            }
        }
        series.second = opening(BarInterval::ALL[0], time).0;
        series.newest[0].add(time, trade);
        if series.mark(ALL_CHANGED) == Marked::First {
            self.changed.push(instrument);
        }
        for interval in BarInterval::ALL {
            self.will_close(instrument, interval, opening(interval, time));
        }
        self.compact();
    }

    /// A trade from before the newest second.
    fn amend(&mut self, instrument: InstrumentId, time: Timestamp, trade: &Trade) {
        let Some(series) = self.series[instrument.index()].as_deref_mut() else { return };
        let shared = series.shared(time);
        if let Some(newest) = series.newest.get_mut(shared) {
            newest.add(time, trade);
            // This one and all that are made of it.
            if series.mark(ALL_CHANGED << shared) == Marked::First {
                self.changed.push(instrument);
            }
        }
        for interval in BarInterval::ALL.into_iter().take(shared) {
            let Some(series) = self.series[instrument.index()].as_deref_mut() else { return };
            let opens = opening(interval, time);
            let found = series.find(interval, opens);
            let is_full = series.len(interval) >= self.history_max;
            let past = &mut series.past[interval as usize];
            match found {
                Ok(place) => past[place].add(time, trade),
                Err(0) if is_full => {
                    self.too_old += 1;
                    continue;
                }
                Err(place) => {
                    let mut shape = Shape::default();
                    shape.add(time, trade);
                    past.insert(place, shape);
                    if is_full {
                        past.pop_front();
                    }
                }
            }
            self.changed_past.push(Changed { instrument, interval, opens });
            self.will_close(instrument, interval, opens);
        }
        self.compact();
    }

    /// Notes when a bar closes, unless it has.
    fn will_close(&mut self, instrument: InstrumentId, interval: BarInterval, opens: Timestamp) {
        let ends = end(interval, opens);
        if ends <= self.now {
            return;
        }
        let at = interval as usize;
        self.next_close[at] = self.next_close[at].min(ends);
        if let Some(series) = self.series[instrument.index()].as_deref_mut()
            && series.open & 1 << at == 0
        {
            series.open |= 1 << at;
            self.open[at].push(instrument);
        }
    }

    /// Moves the market's time and closes the bars that end by then; it never goes back.
    pub fn advance(&mut self, now: Timestamp) {
        let before = self.now;
        self.now = before.max(now);
        for interval in BarInterval::ALL {
            if self.next_close[interval as usize] <= self.now {
                self.close(interval, before);
            }
        }
    }

    /// Closes the bars of that interval that end after `before` and by now.
    fn close(&mut self, interval: BarInterval, before: Timestamp) {
        let (at, now) = (interval as usize, self.now);
        let bit = 1 << at;
        let mut next_close = NEVER;
        let Self { series, open, changed, changed_past, .. } = self;
        open[at].retain(|&instrument| {
            let Some(series) = series[instrument.index()].as_deref_mut() else { return false };
            for shape in series.past[at].iter().rev() {
                let opens = shape.opens(interval);
                let ends = end(interval, opens);
                if ends > now {
                    next_close = next_close.min(ends);
                } else if ends > before {
                    changed_past.push(Changed { instrument, interval, opens });
                } else {
                    break;
                }
            }
            let ends = end(interval, opening(interval, Timestamp(series.second)));
            if ends > now {
                next_close = next_close.min(ends);
                return true;
            }
            if ends > before && series.mark(bit) == Marked::First {
                changed.push(instrument);
            }
            // The bars before the newest one have ended before it.
            series.open &= !bit;
            false
        });
        self.next_close[at] = next_close;
        self.compact();
    }

    /// When [`Bars::advance`] has something to close, at the earliest.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.next_close.into_iter().min().filter(|next| *next != NEVER)
    }

    /// Hands over each bar that has changed since the last call, once, as it is now; the ticks' times are the opening
    /// times. Bars that have left the history since are left out.
    pub fn changes(&mut self, mut emit: impl FnMut(Tick)) {
        let now = self.now;
        self.changed_past.sort_unstable();
        self.changed_past.dedup();
        for Changed { instrument, interval, opens } in self.changed_past.drain(..) {
            let Some(series) = self.series[instrument.index()].as_deref() else { continue };
            if let Ok(place) = series.find(interval, opens) {
                let (time, bar) = series.past[interval as usize][place].bar(interval, now);
                emit(Tick { instrument, time, event: Event::Bar(bar) });
            }
        }
        self.compacted = 0;
        for instrument in self.changed.drain(..) {
            let Some(series) = self.series[instrument.index()].as_deref_mut() else { continue };
            let changed = std::mem::take(&mut series.changed);
            for (interval, shape) in BarInterval::ALL.into_iter().zip(series.newest()) {
                if changed & 1 << interval as usize != 0 {
                    let (time, bar) = shape.bar(interval, now);
                    emit(Tick { instrument, time, event: Event::Bar(bar) });
                }
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
        let series = self.series.get(instrument.index()).and_then(Option::as_deref);
        let count = series.map_or(0, |series| series.len(interval));
        let places = count.saturating_sub(limit)..count;
        places.map(move |place| {
            let shape = series.map_or_else(Shape::default, |series| series.at(interval, place));
            shape.bar(interval, self.now)
        })
    }

    /// The newest bar of that interval, open or closed; the state that a snapshot shows.
    pub fn newest(&self, instrument: InstrumentId, interval: BarInterval) -> Option<(Timestamp, Bar)> {
        self.history(instrument, interval, 1).next()
    }

    /// How often a trade was too late for a bar of an interval.
    pub fn too_old(&self) -> u64 {
        self.too_old
    }

    /// The memory that the bars take now, in bytes.
    pub fn bytes(&self) -> usize {
        let past = |series: &Series| series.past.iter().map(VecDeque::capacity).sum::<usize>() * Self::BAR_BYTES;
        let traded = self.series.iter().flatten();
        traded.map(|series| Self::INSTRUMENT_BYTES + past(series)).sum::<usize>()
            + self.series.len() * size_of::<usize>()
    }

    /// Bounds the list of changed bars of the past by twice their number, for callers that seldom ask for changes.
    fn compact(&mut self) {
        if self.changed_past.len() > 2 * self.compacted.max(COMPACT_MIN) {
            self.changed_past.sort_unstable();
            self.changed_past.dedup();
            self.compacted = self.changed_past.len();
        }
    }
}
