//! The books of a replay: raw changes go in, events of the book and quotes come out.
//!
//! **Invariant:** nobody sees a half-applied event; what an error makes doubtful is taken back at once, and nothing of
//! the instrument's book is said again before its next snapshot.

use market::{BookError, BookSource, Crossing, Event, Instrument, OrderBook, Price, Quote, Tick, Timestamp};

use super::decimal::Decimal;
use super::record::{BookKind, EventEnd, RawChange};
use super::survey::{Quotes, Sources};

/// The books of one pass, by file and by index of the name in it.
#[derive(Default)]
pub(super) struct Books {
    kept: Vec<Vec<Option<Kept>>>,
}

/// The book of one instrument as one file tells it.
struct Kept {
    book: Source,
    quote: Option<Quote>,
    /// The latest time of the event so far
    time: Timestamp,
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
        if part.end == EventEnd::Last || event.is_some() {
            let time = at(std::mem::take(&mut kept.time));
            let instrument = part.instrument.id;
            let changed = event.is_some();
            out.extend(event.map(|event| Tick { instrument, time, event }));
            // `mbp` records have their quotes in them.
            let derived = part.sources.quotes == Quotes::Derived && part.kind >= BookKind::Levels;
            let quote = kept.book.quote();
            if derived && changed && kept.quote.replace(quote) != Some(quote) {
                out.push(Tick { instrument, time, event: Event::Quote(quote) });
            }
        }
        result
    }
}

impl Kept {
    fn new(kind: BookKind) -> Self {
        let book = match kind {
            BookKind::Orders => Source::Orders(OrderBook::new(Crossing::Allowed)),
            BookKind::Levels => Source::Levels(BookSource::new(Crossing::Refused)),
            BookKind::View | BookKind::TopView => Source::Levels(BookSource::new(Crossing::Allowed)),
        };
        Self { book, quote: None, time: Timestamp(0) }
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

    fn quote(&self) -> Quote {
        match self {
            Self::Orders(orders) => orders.quote(),
            Self::Levels(levels) => levels.quote(),
        }
    }
}
