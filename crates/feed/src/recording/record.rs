//! What the readers of the file formats hand over.
//!
//! **Invariant:** a record is either handed over whole or refused whole; no tick of a refused record comes out.

use std::collections::VecDeque;

use market::{AssetClass, BookSide, Side, Symbol, Timestamp};

use super::decimal::Decimal;

/// A reader of one file.
pub(super) trait ReadRecords: Send {
    /// Reads one record and appends its ticks to `out`: usually none, one or two.
    ///
    /// # Errors
    /// [`RecordError`], with nothing appended. Whether reading may go on stands in it.
    fn read(&mut self, out: &mut VecDeque<RawTick>) -> Result<Step, RecordError>;

    /// The instruments met so far, in order of appearance; a [`RawTick::name`] is an index into it.
    fn names(&self) -> &[Name];

    /// What the file tells about books.
    fn book_kind(&self) -> Option<BookKind> {
        None
    }
}

/// Where a book comes from; the later ones tell more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BookKind {
    /// The best level of each side
    TopView,
    /// The best levels of each side
    View,
    /// Changes of levels
    Levels,
    /// Changes of orders
    Orders,
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A record was read
    Record,
    /// There is none any more
    End,
}

/// A tick whose values are still as the file writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawTick {
    /// When it was received; what pace and merging go by
    pub(super) receive: Timestamp,
    /// The exchange's time
    pub(super) time: Timestamp,
    /// Index of the instrument in [`ReadRecords::names`]
    pub(super) name: usize,
    pub(super) event: RawEvent,
    /// Where it comes from, should it turn out not to be representable
    pub(super) position: Position,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RawEvent {
    Trade {
        price: Decimal,
        size: Decimal,
        side: Side,
        trade_id: u64,
    },
    Quote {
        bid: Option<RawLevel>,
        ask: Option<RawLevel>,
    },
    /// A part of an event of the book
    Book {
        change: RawChange,
        end: EventEnd,
    },
}

/// A change of a book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RawChange {
    /// The book is empty; what follows until the end of the event is all of it
    Clear,
    /// What is known of the book is not true any more
    Unreliable,
    /// None; an event may end with a record that changes nothing
    Nothing,
    Add {
        order: u64,
        side: BookSide,
        price: Decimal,
        size: Decimal,
    },
    Cancel {
        order: u64,
        size: Decimal,
    },
    Modify {
        order: u64,
        side: BookSide,
        price: Decimal,
        size: Decimal,
    },
    /// All that is at a price now
    Level {
        side: BookSide,
        price: Decimal,
        size: Decimal,
    },
}

/// Whether an event of the book is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventEnd {
    /// More of it follows
    Open,
    /// It is over
    Last,
    /// It is over unless the next tick is of the same instrument and group; only inside of a reader
    Within(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawLevel {
    pub(super) price: Decimal,
    pub(super) size: Decimal,
}

/// An instrument as a file tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) symbol: Symbol,
    pub(super) class: AssetClass,
    pub(super) currency: &'static str,
    pub(super) description: String,
}

/// A place in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    Line(u64),
    Record(u64),
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Record(number) => write!(f, "record {number}"),
        }
    }
}

/// A record that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordError {
    pub(super) position: Position,
    pub(super) reason: String,
    pub(super) extent: Extent,
}

/// How much is lost with a refused record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// This record only; the next one can be read
    ThisRecord,
    /// Everything from here on
    RestOfFile,
}
