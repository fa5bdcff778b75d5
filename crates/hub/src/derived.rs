//! What the sequencer makes of a feed's ticks beside numbering them: books in all depths, bars, rolling statistics.
//!
//! **Invariant:** what a feed brings itself is not derived a second time; and nothing here is done for an instrument that
//! gives no cause for it.
//!
//! What is *not* here: the rules, which are `market`'s, and the numbers, which are given by the caller.

use market::{
    BarInterval, Bars, BookDepth, BookError, BookUpdate, BookViews, Channel, ChannelSet, Event, Instrument,
    InstrumentId, RollingWindow, Statistics, Tick, Timestamp, Trade,
};
use rustc_hash::FxHashMap;

/// See the module.
#[derive(Debug)]
pub(crate) struct Derived {
    /// By instrument; none for those that never had a book
    books: Vec<Option<Box<KeptBook>>>,
    books_stale: u64,
    bars: Bars,
    /// Bars kept of each instrument and interval; 0 keeps none and makes none
    bars_history_max: usize,
    statistics: Statistics,
    /// When the statistics change next because of the time alone
    statistics_due: Timestamp,
    /// Channels for which the feed brings its own
    given: FxHashMap<InstrumentId, ChannelSet>,
}

#[derive(Debug, Default)]
struct KeptBook {
    views: BookViews,
    /// The time of the last update
    time: Timestamp,
    /// Whether an update made no sense and no snapshot has come since
    is_lost: bool,
}

impl Derived {
    pub(crate) fn new(bars_history_max: usize) -> Self {
        let statistics = Statistics::new(RollingWindow::default());
        Self {
            books: Vec::new(),
            books_stale: 0,
            bars: Bars::new(bars_history_max),
            bars_history_max,
            statistics_due: statistics.deadline(),
            statistics,
            given: FxHashMap::default(),
        }
    }

    /// When [`Derived::advance`] has something to do, at the earliest.
    pub(crate) fn deadline(&self) -> Timestamp {
        self.bars.deadline().map_or(self.statistics_due, |due| due.min(self.statistics_due))
    }

    /// Moves the market's time: bars close and trades leave the statistics.
    pub(crate) fn advance(&mut self, now: Timestamp, mut emit: impl FnMut(Tick)) {
        if self.bars.deadline().is_some_and(|due| due <= now) {
            self.bars.advance(now);
            // At once, so that a closed bar stands before the one that opens after it, and so that a long stretch of
            // time within one batch does not push bars out of the history before they have been handed over.
            self.bars.changes(&mut emit);
        }
        if self.statistics_due <= now {
            let given = &self.given;
            self.statistics.advance(now, |tick| {
                if !is_given(given, tick.instrument, Channel::Ticker) {
                    emit(tick);
                }
            });
            self.statistics_due = self.statistics.deadline();
        }
    }

    /// Takes in a trade; the statistics afterwards.
    pub(crate) fn trade(&mut self, instrument: &Instrument, time: Timestamp, trade: &Trade) -> Option<Event> {
        if self.bars_history_max > 0 && !is_given(&self.given, instrument.id, Channel::Bars(BarInterval::M1)) {
            self.bars.trade(instrument.id, time, trade);
        }
        if is_given(&self.given, instrument.id, Channel::Ticker) {
            return None;
        }
        self.statistics.trade(instrument, time, trade).map(Event::Ticker)
    }

    /// Notes that the feed brings `channel` of that instrument itself. Who brings bars brings all of them.
    pub(crate) fn bring(&mut self, instrument: InstrumentId, channel: Channel) {
        let channel = if let Channel::Bars(_) = channel { Channel::Bars(BarInterval::M1) } else { channel };
        self.given.entry(instrument).or_default().insert(channel);
    }

    /// Takes in an event of a full book and hands over what is to be sequenced, itself included.
    pub(crate) fn book(&mut self, tick: &Tick, emit: impl FnMut(Event)) -> Result<(), BookError> {
        let index = tick.instrument.index();
        if self.books.len() <= index {
            self.books.resize_with(index + 1, || None);
        }
        let book = self.books[index].get_or_insert_default();
        book.time = tick.time;
        let result = book.views.apply(&tick.event, emit);
        let was_lost = book.is_lost;
        book.is_lost = result.is_err() || was_lost && book.views.is_stale();
        self.books_stale = self.books_stale + u64::from(book.is_lost) - u64::from(was_lost);
        result
    }

    /// How many books are unknown because they were contradicted.
    pub(crate) fn books_stale(&self) -> u64 {
        self.books_stale
    }

    /// Hands over the bars that have changed since the last call.
    pub(crate) fn bar_changes(&mut self, emit: impl FnMut(Tick)) {
        self.bars.changes(emit);
    }

    /// The state of a book or a bar, if anything is known of it.
    pub(crate) fn state(&self, instrument: InstrumentId, channel: Channel) -> Option<(Timestamp, Event)> {
        match channel {
            Channel::Book(depth) => {
                let book = self.books.get(instrument.index())?.as_deref()?;
                Some((book.time, book.views.snapshot(depth)?))
            }
            Channel::Bars(interval) => {
                self.bars.newest(instrument, interval).map(|(opens, bar)| (opens, Event::Bar(bar)))
            }
            _ => None,
        }
    }

    /// The newest `limit` bars, oldest first.
    pub(crate) fn history(
        &self,
        instrument: InstrumentId,
        interval: BarInterval,
        limit: usize,
    ) -> impl Iterator<Item = (Timestamp, Event)> + '_ {
        self.bars.history(instrument, interval, limit).map(|(opens, bar)| (opens, Event::Bar(bar)))
    }
}

/// The book of which nothing is known.
pub(crate) fn unknown_book(depth: BookDepth) -> Event {
    Event::BookSnapshot(BookUpdate::new(depth, &[], &[], 0))
}

fn is_given(given: &FxHashMap<InstrumentId, ChannelSet>, instrument: InstrumentId, channel: Channel) -> bool {
    !given.is_empty() && given.get(&instrument).is_some_and(|channels| channels.contains(channel))
}
