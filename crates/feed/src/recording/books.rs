//! The books of a replay: raw changes go in, events of the book and quotes come out.
//!
//! **Invariant:** nobody sees a half-applied event; what an error makes doubtful is taken back at once, and nothing of
//! the instrument's book is said again before its next snapshot.

use market::{
    BookError, BookSource, Crossing, Event, Instrument, InstrumentId, OrderBook, Price, Quote, Tick, Timestamp,
};

use super::decimal::Decimal;
use super::record::{BookKind, EventEnd, RawChange};
use super::survey::{Quotes, Sources};

/// The books of one pass, by file and by index of the name in it.
#[derive(Default)]
pub(super) struct Books {
    kept: Vec<Vec<Option<Kept>>>,
    /// How many are lost
    stale: u64,
}

/// The book of one instrument as one file tells it.
struct Kept {
    book: Source,
    quote: Option<Quote>,
    /// The latest time of the event so far
    time: Timestamp,
    /// The time of the event before
    before: Timestamp,
    /// Whether it was known once and is not any more
    is_lost: bool,
    kind: BookKind,
    /// Whether the instrument's quotes are the best levels of it
    derives_quotes: bool,
}

enum Source {
    Orders(OrderBook),
    Levels(BookSource),
}

/// A part of a book event, with whose it is.
pub(super) struct Part<'a> {
    pub(super) file: usize,
    pub(super) name: usize,
    pub(super) instrument: &'a Instrument,
    pub(super) sources: Sources,
    pub(super) kind: BookKind,
    pub(super) change: RawChange,
    pub(super) end: EventEnd,
}

impl Books {
    /// Takes in a part of an event and appends what it comes to; `at` makes session times of the file's.
    ///
    /// # Errors
    /// Why it is a bad record. The book has been taken back then.
    pub(super) fn apply(
        &mut self,
        part: &Part<'_>,
        time: Timestamp,
        at: impl Fn(Timestamp) -> Timestamp,
        out: &mut Vec<Tick>,
    ) -> Result<(), String> {
        if part.sources.book != Some(part.kind) {
            return Ok(());
        }
        if self.kept.len() <= part.file {
            self.kept.resize_with(part.file + 1, Vec::new);
        }
        let of_file = &mut self.kept[part.file];
        if of_file.len() <= part.name {
            of_file.resize_with(part.name + 1, || None);
        }
        let kept = of_file[part.name].get_or_insert_with(|| Kept::new(part.kind));
        kept.time = kept.time.max(time);
        let (event, result) = match kept.apply(part) {
            Ok(event) => (event, Ok(())),
            Err(reason) => (kept.book.withdraw(), Err(reason)),
        };
        self.stale = self.stale.saturating_add_signed(kept.update_lost(event.is_some()));
        if part.end == EventEnd::Last || event.is_some() {
            kept.before = std::mem::take(&mut kept.time);
            let time = at(kept.before);
            let instrument = part.instrument.id;
            let changed = event.is_some();
            out.extend(event.map(|event| Tick { instrument, time, event }));
            // `mbp` records have their quotes in them.
            let derived = part.sources.quotes == Quotes::Derived && part.kind >= BookKind::Levels;
            let quote = kept.book.quote();
            kept.derives_quotes = derived;
            if derived && changed && kept.quote.replace(quote) != Some(quote) {
                out.push(Tick { instrument, time, event: Event::Quote(quote) });
            }
        }
        result
    }
}

impl Books {
    /// How many books were known once and are not any more.
    pub(super) fn stale(&self) -> u64 {
        self.stale
    }

    /// Takes back all books of a file of which a record is missing: nobody knows which of them it would have changed. Files of
    /// whole views are the exception, since every record has it all.
    pub(super) fn doubt(
        &mut self,
        file: usize,
        instrument: impl Fn(usize) -> Option<InstrumentId>,
        at: impl Fn(Timestamp) -> Timestamp,
        out: &mut Vec<Tick>,
    ) {
        let Some(of_file) = self.kept.get_mut(file) else { return };
        for (name, kept) in of_file.iter_mut().enumerate() {
            let Some(kept) = kept.as_mut().filter(|kept| kept.kind >= BookKind::Levels) else { continue };
            let Some(event) = kept.book.withdraw() else { continue };
            self.stale = self.stale.saturating_add_signed(kept.update_lost(true));
            kept.before = kept.before.max(std::mem::take(&mut kept.time));
            let time = at(kept.before);
            let Some(instrument) = instrument(name) else { continue };
            out.push(Tick { instrument, time, event });
            if kept.derives_quotes && kept.quote.replace(Quote::default()) != Some(Quote::default()) {
                out.push(Tick { instrument, time, event: Event::Quote(Quote::default()) });
            }
        }
    }
}

impl Kept {
    /// Notes whether the book is lost, which shows only when there is an event; by how much that changes the number of
    /// lost ones.
    fn update_lost(&mut self, has_event: bool) -> i64 {
        let was_lost = self.is_lost;
        if has_event {
            self.is_lost = self.book.is_stale();
        }
        i64::from(self.is_lost) - i64::from(was_lost)
    }

    fn new(kind: BookKind) -> Self {
        let book = match kind {
            BookKind::Orders => Source::Orders(OrderBook::new(Crossing::Allowed)),
            BookKind::Levels => Source::Levels(BookSource::new(Crossing::Refused)),
            BookKind::View | BookKind::TopView => Source::Levels(BookSource::new(Crossing::Allowed)),
        };
        let (time, before) = (Timestamp(0), Timestamp(0));
        Self { book, quote: None, time, before, is_lost: false, kind, derives_quotes: false }
    }

    /// The event that is over with this part, if one is.
    fn apply(&mut self, part: &Part<'_>) -> Result<Option<Event>, String> {
        let price = |value: Decimal| super::scaled("price", value, part.instrument.price_exponent).map(Price);
        let size = |value: Decimal| super::scaled_size(value, part.instrument.size_exponent);
        let book = &mut self.book;
        let wrong = |error: BookError| error.to_string();
        match part.change {
            RawChange::Nothing => {}
            RawChange::Clear => book.begin_snapshot(),
            RawChange::Unreliable => return Ok(book.withdraw()),
            RawChange::Add { order, side, price: at, size: amount } => {
                let (at, amount) = (price(at)?, size(amount)?);
                book.orders(|orders| orders.add(order, side, at, amount)).map_err(wrong)?;
            }
            RawChange::Cancel { order, size: amount } => {
                let amount = size(amount)?;
                book.orders(|orders| orders.cancel(order, amount)).map_err(wrong)?;
            }
            RawChange::Modify { order, side, price: at, size: amount } => {
                let (at, amount) = (price(at)?, size(amount)?);
                book.orders(|orders| orders.modify(order, side, at, amount)).map_err(wrong)?;
            }
            RawChange::Level { side, price: at, size: amount } => {
                let (at, amount) = (price(at)?, size(amount)?);
                if let Source::Levels(levels) = book {
                    levels.set(side, at, amount);
                }
            }
        }
        if part.end == EventEnd::Last { book.commit().map_err(wrong) } else { Ok(None) }
    }
}

impl Source {
    fn orders(&mut self, change: impl FnOnce(&mut OrderBook) -> Result<(), BookError>) -> Result<(), BookError> {
        match self {
            Self::Orders(orders) => change(orders),
            Self::Levels(_) => Ok(()),
        }
    }

    fn begin_snapshot(&mut self) {
        match self {
            Self::Orders(orders) => orders.begin_snapshot(),
            Self::Levels(levels) => levels.begin_snapshot(),
        }
    }

    fn commit(&mut self) -> Result<Option<Event>, BookError> {
        match self {
            Self::Orders(orders) => orders.commit(),
            Self::Levels(levels) => levels.commit(),
        }
    }

    fn withdraw(&mut self) -> Option<Event> {
        match self {
            Self::Orders(orders) => orders.withdraw(),
            Self::Levels(levels) => levels.withdraw(),
        }
    }

    fn is_stale(&self) -> bool {
        match self {
            Self::Orders(orders) => orders.is_stale(),
            Self::Levels(levels) => levels.is_stale(),
        }
    }

    fn quote(&self) -> Quote {
        match self {
            Self::Orders(orders) => orders.quote(),
            Self::Levels(levels) => levels.quote(),
        }
    }
}
