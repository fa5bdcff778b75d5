//! Reads Databento's DBN, versions 1 to 3, schemas `trades`, `mbp-1` and `tbbo`.
//!
//! **Invariant:** a record reaches the decoder only after its length has been checked. The decoder takes a length as
//! given and relies on alignment, so a corrupt length byte must not get to it.
//!
//! What becomes of a record:
//!
//! - Action `T` is a trade; its `trade_id` is the record's `sequence`.
//! - In `mbp-1` and `tbbo` the top level is a quote when a price or size of it differs from the record before of the same
//!   instrument in the same file; the first one always is. Order counts are ignored. An undefined price means no level.
//! - When a record gives both, the quote comes first: on a trade record the book is the one the trade was made in, from
//!   before its effect.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;

use dbn::decode::dbn::fsm::{DbnFsm, ProcessResult};
use dbn::{HasRType, Metadata, RecordHeader, SType, Schema, UNDEF_PRICE, UNDEF_TIMESTAMP, VersionUpgradePolicy, rtype};
use market::{AssetClass, InvalidSymbol, Side, Symbol, Timestamp};

use super::decimal::Decimal;
use super::file::{Bytes, Filled, fill, unreadable, unsupported};
use super::record::{Extent, Name, Position, RawEvent, RawLevel, RawTick, ReadRecords, RecordError, Step};
use crate::FeedError;

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
    /// The last top level of each instrument, by index of its name
    tops: Vec<Option<Top>>,
    /// Records read so far, refused ones included
    record_count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SupportedSchema {
    Trades,
    /// `mbp-1` and `tbbo`, whose records are laid out alike
    TopOfBook,
}

/// The best bid and offer of a record; undefined prices are `None`.
type Top = (Option<RawLevel>, Option<RawLevel>);

impl DatabentoReader {
    pub(super) fn open(path: &Path, mut bytes: Bytes) -> Result<Self, FeedError> {
        let mut decoder = DbnFsm::builder()
            // Trades and mbp-1 records have been laid out alike since version 1.
            .upgrade_policy(VersionUpgradePolicy::AsIs)
            .build()
            .map_err(|error| unsupported(path, error.to_string()))?;
        let metadata = read_metadata(path, &mut bytes, &mut decoder)?;
        let schema = match metadata.schema {
            Some(Schema::Trades) => SupportedSchema::Trades,
            Some(Schema::Mbp1 | Schema::Tbbo) => SupportedSchema::TopOfBook,
            other => {
                let found = other.map_or("a mix of schemas", |schema| schema.as_str());
                return Err(unsupported(path, format!("its schema is {found}; known are trades, mbp-1 and tbbo")));
            }
        };
        Ok(Self { bytes, decoder, schema, symbols: SymbolTable::new(&metadata), tops: Vec::new(), record_count: 0 })
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
        if record.time == UNDEF_TIMESTAMP || record.receive == UNDEF_TIMESTAMP {
            return Err(refused("its time is undefined".into()));
        }
        let position = self.position();
        let name = self.symbols.resolve(record.instrument, record.receive);
        let name = name.map_err(|error| self.error(Extent::ThisRecord, error.to_string()))?;
        let mut emit = |event| {
            let (receive, time) = (Timestamp(record.receive), Timestamp(record.time));
            out.push_back(RawTick { receive, time, name, event, position });
        };
        if let Some(top) = record.top {
            if self.tops.len() <= name {
                self.tops.resize(name + 1, None);
            }
            if self.tops[name].replace(top) != Some(top) {
                emit(RawEvent::Quote { bid: top.0, ask: top.1 });
            }
        }
        if let Some(trade) = trade {
            emit(trade);
        }
        Ok(())
    }
}

impl ReadRecords for DatabentoReader {
    fn read(&mut self, out: &mut VecDeque<RawTick>) -> Result<Step, RecordError> {
        let mut buffer = [0; RECORD_BYTES_MAX];
        let Some(frame) = self.next_frame(&mut buffer)? else {
            return Ok(Step::End);
        };
        self.check_frame(frame)?;
        self.decoder.write_all(frame);
        let fields = match self.decoder.process() {
            ProcessResult::Record(()) => match self.schema {
                SupportedSchema::Trades => decoded::<dbn::TradeMsg>(&self.decoder).map(Fields::from),
                SupportedSchema::TopOfBook => decoded::<dbn::Mbp1Msg>(&self.decoder).map(Fields::from),
            },
            ProcessResult::Err(error) => Err(error.to_string()),
            ProcessResult::ReadMore(_) | ProcessResult::Metadata(_) => Err("it is not a whole record".into()),
        };
        let fields = fields.map_err(|reason| self.error(Extent::RestOfFile, reason))?;
        self.ticks(&fields, out)?;
        Ok(Step::Record)
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

/// What a record says, as far as it matters here.
struct Fields {
    instrument: u32,
    time: u64,
    receive: u64,
    action: u8,
    side: u8,
    price: i64,
    size: u32,
    sequence: u32,
    top: Option<Top>,
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

impl From<&dbn::TradeMsg> for Fields {
    fn from(record: &dbn::TradeMsg) -> Self {
        Self {
            instrument: record.hd.instrument_id,
            time: record.hd.ts_event,
            receive: record.ts_recv,
            action: record.action as u8,
            side: record.side as u8,
            price: record.price,
            size: record.size,
            sequence: record.sequence,
            top: None,
        }
    }
}

impl From<&dbn::Mbp1Msg> for Fields {
    fn from(record: &dbn::Mbp1Msg) -> Self {
        let level = |price, size| {
            (price != UNDEF_PRICE)
                .then(|| RawLevel { price: Decimal::from_nanos(price), size: Decimal::from_integer(size) })
        };
        let [top] = &record.levels;
        Self {
            instrument: record.hd.instrument_id,
            time: record.hd.ts_event,
            receive: record.ts_recv,
            action: record.action as u8,
            side: record.side as u8,
            price: record.price,
            size: record.size,
            sequence: record.sequence,
            top: Some((level(top.bid_px, top.bid_sz), level(top.ask_px, top.ask_sz))),
        }
    }
}

/// Which symbol an instrument id stands for, and when.
struct SymbolTable {
    mappings: HashMap<u32, Vec<Mapping>>,
    /// Names in use, and the index of each
    names: Vec<Name>,
    indices: HashMap<Symbol, usize>,
    /// The answer before, since most records are about the instrument of the one before
    last: Option<(u32, usize)>,
    dataset: String,
}

struct Mapping {
    /// The first and the first no longer covered instant, in nanoseconds
    from: u64,
    to: u64,
    symbol: Symbol,
}

impl SymbolTable {
    fn new(metadata: &Metadata) -> Self {
        let mut mappings: HashMap<u32, Vec<Mapping>> = HashMap::new();
        for mapping in &metadata.mappings {
            for interval in &mapping.intervals {
                // Either side may be the number, depending on what was asked of Databento.
                let (id, symbol) = match metadata.stype_in {
                    Some(SType::InstrumentId) => (&mapping.raw_symbol, &interval.symbol),
                    _ => (&interval.symbol, &mapping.raw_symbol),
                };
                let (Ok(id), Some(symbol)) = (id.parse(), spell(symbol)) else { continue };
                let [from, to] = [interval.start_date, interval.end_date]
                    .map(|date| u64::try_from(date.midnight().assume_utc().unix_timestamp_nanos()).unwrap_or(0));
                mappings.entry(id).or_default().push(Mapping { from, to, symbol });
            }
        }
        let dataset = metadata.dataset.clone();
        Self { mappings, names: Vec::new(), indices: HashMap::new(), last: None, dataset }
    }

    /// The index of the name of instrument `id` at `receive`. An instrument without a symbol goes by its number.
    fn resolve(&mut self, id: u32, receive: u64) -> Result<usize, InvalidSymbol> {
        if let Some((last, index)) = self.last
            && last == id
            && self.mappings.get(&id).is_none_or(|mappings| mappings.len() == 1)
        {
            return Ok(index);
        }
        let symbol = match self.mappings.get(&id).map(Vec::as_slice) {
            Some([only]) => Some(only.symbol.clone()),
            Some(several) => {
                several.iter().find(|m| (m.from..m.to).contains(&receive)).map(|mapping| mapping.symbol.clone())
            }
            None => None,
        };
        let symbol = symbol.map_or_else(|| Symbol::new(&id.to_string()), Ok)?;
        let index = *self.indices.entry(symbol).or_insert_with_key(|symbol| {
            self.names.push(name(symbol, &self.dataset));
            self.names.len() - 1
        });
        self.last = Some((id, index));
        Ok(index)
    }
}

/// The symbol as it is written here: characters that no symbol may have become `_` (CME's user-defined spreads contain
/// spaces). None when it is too long or empty, so that the instrument goes by its number.
fn spell(raw: &str) -> Option<Symbol> {
    let spelled: String =
        raw.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_/:=^".contains(c) { c } else { '_' }).collect();
    Symbol::new(&spelled).ok()
}

fn name(symbol: &Symbol, dataset: &str) -> Name {
    Name {
        symbol: symbol.clone(),
        class: class_of(symbol.as_str(), dataset),
        currency: currency_of(dataset),
        description: format!("{symbol} ({dataset})"),
    }
}

/// Datasets are named after their venue. The venue decides; where it is unknown, the form of the symbol does.
fn class_of(symbol: &str, dataset: &str) -> AssetClass {
    const FUTURES: [&str; 8] = ["GLBX", "IFEU", "IFLL", "IFUS", "NDEX", "XEUR", "XEEE", "XCBF"];
    const EQUITIES: [&str; 12] =
        ["XNAS", "XNYS", "XBOS", "XPSX", "XASE", "XCHI", "XCIS", "ARCX", "BATS", "EDGX", "DBEQ", "EQUS"];
    let venue = dataset.split('.').next().unwrap_or_default();
    if FUTURES.contains(&venue) || (!EQUITIES.contains(&venue) && looks_like_future(symbol)) {
        AssetClass::Future
    } else {
        AssetClass::Equity
    }
}

/// A root, a month code, and one or two digits of the year, such as `ESU4` or `CLZ24`.
fn looks_like_future(symbol: &str) -> bool {
    let root = symbol.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = symbol.len() - root.len();
    let month = root.chars().last().is_some_and(|c| "FGHJKMNQUVXZ".contains(c));
    (1..=2).contains(&digits) && (2..=5).contains(&root.len()) && month
}

/// DBN says nothing about currencies; the European venues quote in euro, the rest in dollars.
fn currency_of(dataset: &str) -> &'static str {
    if ["XEUR", "XEEE", "NDEX"].iter().any(|venue| dataset.starts_with(venue)) { "EUR" } else { "USD" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_the_dataset_then_the_symbol() {
        for (symbol, dataset, class) in [
            ("ESU4", "GLBX.MDP3", AssetClass::Future),
            ("ES.c.0", "GLBX.MDP3", AssetClass::Future),
            ("AAPL", "XNAS.ITCH", AssetClass::Equity),
            ("ABZ4", "XNAS.ITCH", AssetClass::Equity),
            ("CLZ24", "", AssetClass::Future),
            ("MSFT", "", AssetClass::Equity),
            ("Z4", "", AssetClass::Equity),
        ] {
            assert_eq!(class_of(symbol, dataset), class, "{symbol} {dataset}");
        }
    }

    #[test]
    fn symbols_with_blanks_are_spelled_without() {
        assert_eq!(spell("UD:1V: GN 2508955").unwrap().as_str(), "UD:1V:_GN_2508955");
        assert_eq!(spell(&"X".repeat(40)), None);
        assert_eq!(spell(""), None);
    }
}
