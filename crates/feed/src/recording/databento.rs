//! Reads Databento's DBN, versions 1 to 3, schemas `trades`, `tbbo`, `mbp-1`, `mbp-10` and `mbo`.
//!
//! **Invariant:** a record reaches the decoder only after its length has been checked. The decoder takes a length as
//! given and relies on alignment, so a corrupt length byte must not get to it.
//!
//! What becomes of a record:
//!
//! - Action `T` is a trade; its `trade_id` is the record's `sequence`.
//! - In `mbp-1`, `mbp-10` and `tbbo` the top level is a quote when a price or size of it differs from the record before of the same
//!   instrument in the same file; the first one always is. Order counts are ignored. An undefined price means no level.
//! - When a record gives both, the quote comes first: on a trade record the book is the one the trade was made in, from
//!   before its effect.
//! - The levels of such a record are the whole book as far as it is known: what differs from the record before is a book
//!   event of its own, after the quote.
//! - Records of `mbo` are changes of orders; see [`orders`].

mod orders;
mod symbols;

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use dbn::decode::dbn::fsm::{DbnFsm, ProcessResult};
use dbn::{
    BidAskPair, HasRType, Metadata, RecordHeader, Schema, UNDEF_PRICE, UNDEF_TIMESTAMP, VersionUpgradePolicy, rtype,
};
use market::{BookSide, Side, Timestamp};

use super::decimal::Decimal;
use super::file::{Bytes, Filled, fill, unreadable, unsupported};
use super::groups::Groups;
use super::record::{
    BookKind, EventEnd, Extent, Name, Position, RawChange, RawEvent, RawLevel, RawTick, ReadRecords, RecordError, Step,
};
use crate::FeedError;
use orders::Orders;
use symbols::SymbolTable;

/// A day of all symbols of a large venue has about 20 MB of mappings; more than that is a corrupt length.
const METADATA_BYTES_MAX: usize = 64 * 1024 * 1024;

/// `DBN`, the version, and the length of the rest of the metadata.
const PRELUDE_BYTES: usize = 8;

/// The length of a record is one byte that counts words of four.
const RECORD_BYTES_MAX: usize = 255 * RecordHeader::LENGTH_MULTIPLIER;

pub(super) struct DatabentoReader {
    bytes: Bytes,
    decoder: DbnFsm,
    schema: SupportedSchema,
    symbols: SymbolTable,
    /// The last levels of each instrument, by index of its name
    views: Vec<Option<View>>,
    orders: Orders,
    groups: Groups,
    /// Records read so far, refused ones included
    record_count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SupportedSchema {
    Trades,
    /// `mbp-1` and `tbbo`, whose records are laid out alike
    TopOfBook,
    /// `mbp-10`
    TenLevels,
    /// `mbo`
    Orders,
}

const LEVELS_MAX: usize = 10;

/// The levels of a record, bids and asks, best first; undefined prices are `None`.
type View = [[Option<RawLevel>; LEVELS_MAX]; 2];

impl DatabentoReader {
    pub(super) fn open(path: &Path, mut bytes: Bytes) -> Result<Self, FeedError> {
        let mut decoder = DbnFsm::builder()
            // The records of these schemas have been laid out alike since version 1.
            .upgrade_policy(VersionUpgradePolicy::AsIs)
            .build()
            .map_err(|error| unsupported(path, error.to_string()))?;
        let metadata = read_metadata(path, &mut bytes, &mut decoder)?;
        let schema = match metadata.schema {
            Some(Schema::Trades) => SupportedSchema::Trades,
            Some(Schema::Mbp1 | Schema::Tbbo) => SupportedSchema::TopOfBook,
            Some(Schema::Mbp10) => SupportedSchema::TenLevels,
            Some(Schema::Mbo) => SupportedSchema::Orders,
            other => {
                let found = other.map_or("a mix of schemas", |schema| schema.as_str());
                let known = "known are trades, tbbo, mbp-1, mbp-10 and mbo";
                return Err(unsupported(path, format!("its schema is {found}; {known}")));
            }
        };
        Ok(Self {
            bytes,
            decoder,
            schema,
            symbols: SymbolTable::new(&metadata),
            views: Vec::new(),
            orders: Orders::default(),
            groups: Groups::default(),
            record_count: 0,
        })
    }

    fn position(&self) -> Position {
        Position::Record(self.record_count)
    }

    fn error(&self, extent: Extent, reason: impl Into<String>) -> RecordError {
        RecordError { position: self.position(), reason: reason.into(), extent }
    }

    /// The record's bytes, whatever they are; none at the end of the file.
    fn next_frame<'a>(&mut self, buffer: &'a mut [u8; RECORD_BYTES_MAX]) -> Result<Option<&'a [u8]>, RecordError> {
        self.record_count += 1;
        let failed = |this: &Self, error: io::Error| {
            this.error(Extent::RestOfFile, format!("the file cannot be read any further: {error}"))
        };
        let (first, rest) = buffer.split_at_mut(1);
        match fill(&mut self.bytes, first) {
            Ok(Filled::Whole) => {}
            Ok(Filled::Nothing | Filled::Part) => return Ok(None),
            Err(error) => return Err(failed(self, error)),
        }
        let length = usize::from(first[0]) * RecordHeader::LENGTH_MULTIPLIER;
        if length < size_of::<RecordHeader>() {
            return Err(self.error(Extent::RestOfFile, format!("a record cannot be {length} bytes long")));
        }
        match fill(&mut self.bytes, &mut rest[..length - 1]) {
            Ok(Filled::Whole) => Ok(Some(&buffer[..length])),
            Ok(Filled::Nothing | Filled::Part) => {
                Err(self.error(Extent::RestOfFile, "the file ends in the middle of the record"))
            }
            Err(error) => Err(failed(self, error)),
        }
    }

    /// Checks that the frame is a record of the schema, by its length first: where that is wrong, nobody knows where the
    /// next record begins.
    fn check_frame(&self, frame: &[u8]) -> Result<(), RecordError> {
        let kind = frame[1];
        let (expected_kind, expected_length) = match self.schema {
            SupportedSchema::Trades => (rtype::MBP_0, size_of::<dbn::TradeMsg>()),
            SupportedSchema::TopOfBook => (rtype::MBP_1, size_of::<dbn::Mbp1Msg>()),
            SupportedSchema::TenLevels => (rtype::MBP_10, size_of::<dbn::Mbp10Msg>()),
            SupportedSchema::Orders => (rtype::MBO, size_of::<dbn::MboMsg>()),
        };
        // Captures with send times have eight more bytes at the end.
        if frame.len() != expected_length && frame.len() != expected_length + size_of::<u64>() {
            let reason = format!("it is {} bytes long where {expected_length} are right", frame.len());
            return Err(self.error(Extent::RestOfFile, reason));
        }
        if kind != expected_kind {
            let reason = format!("its type is {kind:#04x} where {expected_kind:#04x} is right");
            return Err(self.error(Extent::ThisRecord, reason));
        }
        Ok(())
    }

    fn ticks(&mut self, record: &Fields, out: &mut VecDeque<RawTick>) -> Result<(), RecordError> {
        let refused = |reason: String| self.error(Extent::ThisRecord, reason);
        let trade = record.trade().map_err(refused)?;
        let name = self.resolve(&record.head)?;
        let tick = record.head.tick(name, self.position());
        if let Some(view) = record.view {
            if self.views.len() <= name {
                self.views.resize(name + 1, None);
            }
            let before = self.views[name].replace(view);
            let top = view.map(|levels| levels[0]);
            if before.map(|before| before.map(|levels| levels[0])) != Some(top) {
                out.push_back(tick(RawEvent::Quote { bid: top[0], ask: top[1] }));
            }
            changes(before.as_ref(), &view, |event| out.push_back(tick(event)));
        }
        if let Some(trade) = trade {
            out.push_back(tick(trade));
        }
        Ok(())
    }

    fn order_ticks(&mut self, record: &orders::OrderRecord, out: &mut VecDeque<RawTick>) -> Result<(), RecordError> {
        let name = self.resolve(&record.fields.head)?;
        let tick = record.fields.head.tick(name, self.position());
        self.orders
            .events(name, record, |event| out.push_back(tick(event)))
            .map_err(|reason| self.error(Extent::ThisRecord, reason))
    }

    /// The index of the record's instrument.
    fn resolve(&mut self, head: &Head) -> Result<usize, RecordError> {
        if head.time == UNDEF_TIMESTAMP || head.receive == UNDEF_TIMESTAMP {
            return Err(self.error(Extent::ThisRecord, "its time is undefined"));
        }
        let name = self.symbols.resolve(head.instrument, head.receive);
        name.map_err(|error| self.error(Extent::ThisRecord, error.to_string()))
    }

    /// Reads one record, whatever its schema.
    fn read_record(&mut self, out: &mut VecDeque<RawTick>) -> Result<Step, RecordError> {
        let mut buffer = [0; RECORD_BYTES_MAX];
        let Some(frame) = self.next_frame(&mut buffer)? else {
            return Ok(Step::End);
        };
        self.check_frame(frame)?;
        self.decoder.write_all(frame);
        let parsed = match self.decoder.process() {
            ProcessResult::Record(()) => match self.schema {
                SupportedSchema::Trades => decoded::<dbn::TradeMsg>(&self.decoder).map(Parsed::from),
                SupportedSchema::TopOfBook => decoded::<dbn::Mbp1Msg>(&self.decoder).map(Parsed::from),
                SupportedSchema::TenLevels => decoded::<dbn::Mbp10Msg>(&self.decoder).map(Parsed::from),
                SupportedSchema::Orders => decoded::<dbn::MboMsg>(&self.decoder).map(Parsed::from),
            },
            ProcessResult::Err(error) => Err(error.to_string()),
            ProcessResult::ReadMore(_) | ProcessResult::Metadata(_) => Err("it is not a whole record".into()),
        };
        match parsed.map_err(|reason| self.error(Extent::RestOfFile, reason))? {
            Parsed::Fields(fields) => self.ticks(&fields, out)?,
            Parsed::Order(order) => self.order_ticks(&order, out)?,
        }
        Ok(Step::Record)
    }
}

/// What makes one view of another, as one event of the book; the first view is a snapshot.
fn changes(before: Option<&View>, view: &View, mut emit: impl FnMut(RawEvent)) {
    let mut held: Option<RawChange> = before.is_none().then_some(RawChange::Clear);
    // One behind, because the last one ends the event.
    let mut push = |change| {
        if let Some(change) = held.replace(change) {
            emit(RawEvent::Book { change, end: EventEnd::Open });
        }
    };
    let nothing = [None; LEVELS_MAX];
    for (side, levels) in BookSide::ALL.into_iter().zip(view) {
        let before = before.map_or(&nothing, |before| &before[side as usize]);
        for gone in before.iter().flatten().filter(|old| !levels.iter().flatten().any(|new| new.price == old.price)) {
            push(RawChange::Level { side, price: gone.price, size: Decimal::from_integer(0) });
        }
        for new in levels.iter().flatten().filter(|new| !before.contains(&Some(**new))) {
            push(RawChange::Level { side, price: new.price, size: new.size });
        }
    }
    if let Some(change) = held {
        emit(RawEvent::Book { change, end: EventEnd::Last });
    }
}

impl ReadRecords for DatabentoReader {
    fn read(&mut self, out: &mut VecDeque<RawTick>) -> Result<Step, RecordError> {
        if self.schema != SupportedSchema::Orders {
            return self.read_record(out);
        }
        let mut groups = std::mem::take(&mut self.groups);
        let result = groups.read(out, |out| self.read_record(out));
        self.groups = groups;
        result
    }

    fn book_kind(&self) -> Option<BookKind> {
        match self.schema {
            SupportedSchema::Trades => None,
            SupportedSchema::TopOfBook => Some(BookKind::TopView),
            SupportedSchema::TenLevels => Some(BookKind::View),
            SupportedSchema::Orders => Some(BookKind::Orders),
        }
    }

    fn names(&self) -> &[Name] {
        &self.symbols.names
    }
}

fn decoded<T: HasRType<Header = RecordHeader>>(decoder: &DbnFsm) -> Result<&T, String> {
    let record = decoder.last_record().ok_or("it is not a whole record")?;
    record.try_get::<T>().map_err(|error| error.to_string())
}

fn read_metadata(path: &Path, bytes: &mut Bytes, decoder: &mut DbnFsm) -> Result<Metadata, FeedError> {
    let mut prelude = [0; PRELUDE_BYTES];
    fill_metadata(path, bytes, &mut prelude)?;
    let length = u32::from_le_bytes([prelude[4], prelude[5], prelude[6], prelude[7]]) as usize;
    if length > METADATA_BYTES_MAX {
        return Err(unreadable(path, format!("its metadata claims to be {length} bytes long")));
    }
    let mut rest = vec![0; length];
    fill_metadata(path, bytes, &mut rest)?;
    decoder.write_all(&prelude);
    decoder.write_all(&rest);
    match decoder.process() {
        ProcessResult::Metadata(metadata) => Ok(metadata),
        ProcessResult::Err(error) => Err(unreadable(path, format!("its metadata is wrong: {error}"))),
        ProcessResult::ReadMore(_) | ProcessResult::Record(()) => Err(unreadable(path, "its metadata is wrong")),
    }
}

fn fill_metadata(path: &Path, bytes: &mut Bytes, buffer: &mut [u8]) -> Result<(), FeedError> {
    match fill(bytes, buffer) {
        Ok(Filled::Whole) => Ok(()),
        Ok(Filled::Nothing) if buffer.is_empty() => Ok(()),
        Ok(Filled::Nothing | Filled::Part) => Err(unreadable(path, "it ends in the middle of its metadata")),
        Err(error) => Err(unreadable(path, error.to_string())),
    }
}

/// A record as far as it matters here.
enum Parsed {
    Fields(Fields),
    Order(orders::OrderRecord),
}

/// Whose record it is, and from when.
struct Head {
    instrument: u32,
    time: u64,
    receive: u64,
}

impl Head {
    /// Makes ticks of the record's events.
    fn tick(&self, name: usize, position: Position) -> impl Fn(RawEvent) -> RawTick + use<> {
        let (receive, time) = (Timestamp(self.receive), Timestamp(self.time));
        move |event| RawTick { receive, time, name, event, position }
    }
}

/// A record of trades or of levels.
struct Fields {
    head: Head,
    action: u8,
    side: u8,
    price: i64,
    size: u32,
    sequence: u32,
    view: Option<View>,
}

impl Fields {
    /// The trade that the record is, if it is one.
    fn trade(&self) -> Result<Option<RawEvent>, String> {
        let side = match self.side {
            b'A' => Side::Sell,
            b'B' => Side::Buy,
            b'N' => Side::Unknown,
            other => return Err(format!("its side is {:?}", char::from(other))),
        };
        match self.action {
            b'T' if self.price == UNDEF_PRICE => Err("it is a trade without a price".into()),
            b'T' => Ok(Some(RawEvent::Trade {
                price: Decimal::from_nanos(self.price),
                size: Decimal::from_integer(self.size),
                side,
                trade_id: u64::from(self.sequence),
            })),
            b'A' | b'C' | b'M' | b'R' | b'F' | b'N' => Ok(None),
            other => Err(format!("its action is {:?}", char::from(other))),
        }
    }
}

/// The fields that these records have in common.
macro_rules! fields {
    ($record:expr, $view:expr) => {
        Fields {
            head: Head { instrument: $record.hd.instrument_id, time: $record.hd.ts_event, receive: $record.ts_recv },
            action: $record.action as u8,
            side: $record.side as u8,
            price: $record.price,
            size: $record.size,
            sequence: $record.sequence,
            view: $view,
        }
    };
}

impl From<&dbn::TradeMsg> for Parsed {
    fn from(record: &dbn::TradeMsg) -> Self {
        Self::Fields(fields!(record, None))
    }
}

impl From<&dbn::Mbp1Msg> for Parsed {
    fn from(record: &dbn::Mbp1Msg) -> Self {
        Self::Fields(fields!(record, Some(view(&record.levels))))
    }
}

impl From<&dbn::Mbp10Msg> for Parsed {
    fn from(record: &dbn::Mbp10Msg) -> Self {
        Self::Fields(fields!(record, Some(view(&record.levels))))
    }
}

impl From<&dbn::MboMsg> for Parsed {
    fn from(record: &dbn::MboMsg) -> Self {
        Self::Order(orders::OrderRecord { fields: fields!(record, None), order: record.order_id, flags: record.flags })
    }
}

fn view(levels: &[BidAskPair]) -> View {
    let level = |price, size| {
        (price != UNDEF_PRICE)
            .then(|| RawLevel { price: Decimal::from_nanos(price), size: Decimal::from_integer(size) })
    };
    let mut view = [[None; LEVELS_MAX]; 2];
    for (rank, pair) in levels.iter().enumerate().take(LEVELS_MAX) {
        view[0][rank] = level(pair.bid_px, pair.bid_sz);
        view[1][rank] = level(pair.ask_px, pair.ask_sz);
    }
    view
}
