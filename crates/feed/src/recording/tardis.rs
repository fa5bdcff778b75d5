//! Reads Tardis.dev's CSV files of trades, quotes and book updates (`incremental_book_L2`).
//!
//! **Invariant:** a line is held in memory once and is bounded, whatever the file contains.
//!
//! Columns are found by their names in the header, in any order; columns that are not needed may be absent or more. Times
//! are microseconds since the Unix epoch. Every line of a quotes file is a quote, also one that repeats the line before.
//! An empty price means no level. A line of book updates is what is at one price from then on, 0 for nothing; lines of a
//! symbol that follow each other with the same time of arrival were one message, so they become one event of the book. A
//! snapshot begins where `is_snapshot` becomes true. A trade's `id` that is no unsigned integer (some venues use UUIDs) becomes 0, unknown.
//!
//! The format has no quoted fields, so a line is split at its commas and the crate `csv` is not needed: with its rules one
//! stray quotation mark would swallow the lines after it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, Read};
use std::path::Path;

use market::{AssetClass, BookSide, Side, Symbol, Timestamp};

use super::decimal::Decimal;
use super::file::{Bytes, unreadable, unsupported};
use super::groups::Groups;
use super::record::{
    BookKind, EventEnd, Extent, Name, Position, RawChange, RawEvent, RawLevel, RawTick, ReadRecords, RecordError, Step,
};
use crate::FeedError;

/// A line has some hundred bytes; this many without a line end are not a CSV file.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Four times what the format has; a header with more is refused.
const COLUMNS_MAX: usize = 32;

const NANOS_PER_MICRO: u64 = 1000;

pub(super) struct TardisReader {
    lines: Lines,
    columns: Columns,
    names: Names,
    messages: Messages,
    groups: Groups,
}

/// Tells the messages of book updates apart.
#[derive(Default)]
struct Messages {
    /// Counts messages
    group: u64,
    receive: Timestamp,
    /// Whether the last line of each instrument was of a snapshot
    in_snapshot: Vec<bool>,
}

/// The lines of a file.
struct Lines {
    bytes: Bytes,
    /// The line read last, without its end
    line: Vec<u8>,
    /// Its number, counted from 1
    number: u64,
}

impl Lines {
    fn position(&self) -> Position {
        Position::Line(self.number)
    }

    fn error(&self, extent: Extent, reason: impl Into<String>) -> RecordError {
        RecordError { position: self.position(), reason: reason.into(), extent }
    }

    /// Reads the next line that is not empty into `self.line`, without its end.
    fn next(&mut self) -> Result<Step, RecordError> {
        loop {
            self.line.clear();
            self.number += 1;
            let mut bounded = (&mut self.bytes).take(LINE_BYTES_MAX as u64);
            let read = bounded.read_until(b'\n', &mut self.line);
            match read {
                Ok(0) => return Ok(Step::End),
                Ok(LINE_BYTES_MAX) if self.line.last() != Some(&b'\n') => {
                    let reason = format!("the line is longer than {LINE_BYTES_MAX} bytes");
                    return Err(self.error(Extent::RestOfFile, reason));
                }
                Ok(_) => {}
                Err(error) => return Err(self.broken(&error)),
            }
            while self.line.last().is_some_and(|byte| b"\r\n".contains(byte)) {
                self.line.pop();
            }
            if !self.line.is_empty() {
                return Ok(Step::Record);
            }
        }
    }

    fn broken(&self, error: &io::Error) -> RecordError {
        self.error(Extent::RestOfFile, format!("the file cannot be read any further: {error}"))
    }
}

/// Where in a line the fields are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Columns {
    count: usize,
    exchange: Option<usize>,
    symbol: usize,
    time: usize,
    receive: usize,
    values: Values,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Values {
    Trade { id: usize, side: usize, price: usize, amount: usize },
    Quote { bid_price: usize, bid_amount: usize, ask_price: usize, ask_amount: usize },
    Level { is_snapshot: usize, side: usize, price: usize, amount: usize },
}

impl Columns {
    /// Finds the columns, or says what is wrong with the header.
    fn find(header: &str) -> Result<Self, String> {
        let header = header.trim_start_matches('\u{feff}');
        let names: Vec<&str> = header.split(',').collect();
        if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            return Err(format!("its header has the column {:?} twice", shortened(twice.1)));
        }
        if names.len() > COLUMNS_MAX {
            return Err(format!("its header has more than {COLUMNS_MAX} columns"));
        }
        let position = |name: &str| names.iter().position(|other| *other == name);
        let needed = |name: &str| position(name).ok_or_else(|| format!("its header has no column {name:?}"));
        // Files of book updates have most columns of trades, and one that tells them apart.
        let values = if position("is_snapshot").is_some() {
            Values::Level {
                is_snapshot: needed("is_snapshot")?,
                side: needed("side")?,
                price: needed("price")?,
                amount: needed("amount")?,
            }
        } else if position("bid_price").is_some() || position("ask_price").is_some() {
            Values::Quote {
                bid_price: needed("bid_price")?,
                bid_amount: needed("bid_amount")?,
                ask_price: needed("ask_price")?,
                ask_amount: needed("ask_amount")?,
            }
        } else if position("price").is_some() || position("amount").is_some() {
            Values::Trade {
                id: needed("id")?,
                side: needed("side")?,
                price: needed("price")?,
                amount: needed("amount")?,
            }
        } else {
            let found = shortened(header);
            return Err(format!(
                "its first line is not the header of Tardis trades, quotes or book updates: {found:?}"
            ));
        };
        Ok(Self {
            count: names.len(),
            exchange: position("exchange"),
            symbol: needed("symbol")?,
            time: needed("timestamp")?,
            receive: needed("local_timestamp")?,
            values,
        })
    }
}

impl TardisReader {
    pub(super) fn open(path: &Path, bytes: Bytes) -> Result<Self, FeedError> {
        let mut lines = Lines { bytes, line: Vec::new(), number: 0 };
        match lines.next() {
            Ok(Step::Record) => {}
            Ok(Step::End) => return Err(unsupported(path, "it is empty")),
            Err(error) => return Err(unreadable(path, error.reason)),
        }
        let header = std::str::from_utf8(&lines.line).map_err(|_| unsupported(path, "it is neither DBN nor text"))?;
        let columns = Columns::find(header).map_err(|reason| unsupported(path, reason))?;
        let (names, messages, groups) = (Names::default(), Messages::default(), Groups::default());
        Ok(Self { lines, columns, names, messages, groups })
    }

    fn parse(&mut self, out: &mut VecDeque<RawTick>) -> Result<(), String> {
        let line = std::str::from_utf8(&self.lines.line).map_err(|_| "it is not UTF-8 text")?;
        let columns = &self.columns;
        let fields = Fields::split(line, columns.count)?;
        let mut snapshot = None;
        let event = match columns.values {
            Values::Trade { id, side, price, amount } => RawEvent::Trade {
                price: decimal("price", fields.at(price))?,
                size: size("amount", fields.at(amount))?,
                side: parse_side(fields.at(side))?,
                trade_id: fields.at(id).parse().unwrap_or(0),
            },
            Values::Quote { bid_price, bid_amount, ask_price, ask_amount } => RawEvent::Quote {
                bid: level(["bid_price", "bid_amount"], fields.at(bid_price), fields.at(bid_amount))?,
                ask: level(["ask_price", "ask_amount"], fields.at(ask_price), fields.at(ask_amount))?,
            },
            Values::Level { is_snapshot, side, price, amount } => {
                snapshot = Some(parse_flag("is_snapshot", fields.at(is_snapshot))?);
                let side = parse_book_side(fields.at(side))?;
                let (price, size) = (decimal("price", fields.at(price))?, size("amount", fields.at(amount))?);
                RawEvent::Book { change: RawChange::Level { side, price, size }, end: EventEnd::Open }
            }
        };
        let time = micros("timestamp", fields.at(columns.time))?;
        let receive = micros("local_timestamp", fields.at(columns.receive))?;
        let (symbol, exchange) = (fields.at(columns.symbol), columns.exchange.map(|column| fields.at(column)));
        let name = self.names.resolve(symbol, exchange)?;
        let mut tick = RawTick { receive, time, name, event, position: self.lines.position() };
        if let (RawEvent::Book { change, .. }, Some(snapshot)) = (event, snapshot) {
            let (part, group) = self.messages.part(name, receive, snapshot);
            if part == Part::BeginOfSnapshot {
                let event = RawEvent::Book { change: RawChange::Clear, end: EventEnd::Open };
                out.push_back(RawTick { event, ..tick });
            }
            tick.event = RawEvent::Book { change, end: EventEnd::Within(group) };
        }
        out.push_back(tick);
        Ok(())
    }

    fn read_line(&mut self, out: &mut VecDeque<RawTick>) -> Result<Step, RecordError> {
        if self.lines.next()? == Step::End {
            return Ok(Step::End);
        }
        self.parse(out).map_err(|reason| self.lines.error(Extent::ThisRecord, reason))?;
        Ok(Step::Record)
    }
}

/// What a line of book updates belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flag {
    Set,
    Unset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    BeginOfSnapshot,
    Other,
}

impl Messages {
    /// What the line is a part of, and the number of its message.
    fn part(&mut self, name: usize, receive: Timestamp, snapshot: Flag) -> (Part, u64) {
        if self.in_snapshot.len() <= name {
            self.in_snapshot.resize(name + 1, false);
        }
        let is_snapshot = snapshot == Flag::Set;
        let was_snapshot = std::mem::replace(&mut self.in_snapshot[name], is_snapshot);
        // Groups end where the instrument changes, too; that is seen by its name.
        if receive != self.receive || is_snapshot != was_snapshot {
            self.group += 1;
            self.receive = receive;
        }
        let part = if is_snapshot && !was_snapshot { Part::BeginOfSnapshot } else { Part::Other };
        (part, self.group)
    }
}

impl ReadRecords for TardisReader {
    fn read(&mut self, out: &mut VecDeque<RawTick>) -> Result<Step, RecordError> {
        if self.book_kind().is_none() {
            return self.read_line(out);
        }
        let mut groups = std::mem::take(&mut self.groups);
        let result = groups.read(out, |out| self.read_line(out));
        self.groups = groups;
        result
    }

    fn book_kind(&self) -> Option<BookKind> {
        matches!(self.columns.values, Values::Level { .. }).then_some(BookKind::Levels)
    }

    fn names(&self) -> &[Name] {
        &self.names.known
    }
}

/// The instruments met so far.
#[derive(Default)]
struct Names {
    known: Vec<Name>,
    indices: HashMap<Symbol, usize>,
    /// The answer before, since most lines are about the instrument of the one before
    last: Option<usize>,
}

impl Names {
    fn resolve(&mut self, symbol: &str, exchange: Option<&str>) -> Result<usize, String> {
        if let Some(last) = self.last
            && self.known[last].symbol.as_str() == symbol
        {
            return Ok(last);
        }
        let index = if let Some(index) = self.indices.get(symbol) {
            *index
        } else {
            let symbol = Symbol::new(symbol).map_err(|error| error.to_string())?;
            let exchange = shortened(exchange.unwrap_or_default());
            self.known.push(Name {
                class: AssetClass::Crypto,
                currency: currency_of(symbol.as_str()),
                description: if exchange.is_empty() { symbol.to_string() } else { format!("{symbol} ({exchange})") },
                symbol: symbol.clone(),
            });
            self.indices.insert(symbol, self.known.len() - 1);
            self.known.len() - 1
        };
        self.last = Some(index);
        Ok(index)
    }
}

/// The fields of a line, as many as the header has.
struct Fields<'a> {
    fields: [&'a str; COLUMNS_MAX],
}

impl<'a> Fields<'a> {
    fn split(line: &'a str, count: usize) -> Result<Self, String> {
        let mut fields = [""; COLUMNS_MAX];
        let mut found = 0;
        for field in line.split(',') {
            if let Some(place) = fields.get_mut(found) {
                *place = field;
            }
            found += 1;
        }
        if found == count { Ok(Self { fields }) } else { Err(format!("it has {found} fields, the header has {count}")) }
    }

    fn at(&self, column: usize) -> &'a str {
        self.fields.get(column).copied().unwrap_or_default()
    }
}

fn decimal(column: &str, text: &str) -> Result<Decimal, String> {
    Decimal::from_text(text).map_err(|error| format!("{column} {:?}: {error}", shortened(text)))
}

fn size(column: &str, text: &str) -> Result<Decimal, String> {
    let size = decimal(column, text)?;
    if size.is_negative() { Err(format!("{column} {text:?} is negative")) } else { Ok(size) }
}

fn level(columns: [&str; 2], price: &str, amount: &str) -> Result<Option<RawLevel>, String> {
    if price.is_empty() {
        return Ok(None);
    }
    Ok(Some(RawLevel { price: decimal(columns[0], price)?, size: size(columns[1], amount)? }))
}

fn parse_side(text: &str) -> Result<Side, String> {
    match text {
        "buy" => Ok(Side::Buy),
        "sell" => Ok(Side::Sell),
        "unknown" => Ok(Side::Unknown),
        _ => Err(format!("side {:?} is not buy, sell or unknown", shortened(text))),
    }
}

fn parse_book_side(text: &str) -> Result<BookSide, String> {
    match text {
        "bid" => Ok(BookSide::Bid),
        "ask" => Ok(BookSide::Ask),
        _ => Err(format!("side {:?} is not bid or ask", shortened(text))),
    }
}

fn parse_flag(column: &str, text: &str) -> Result<Flag, String> {
    match text {
        "true" => Ok(Flag::Set),
        "false" => Ok(Flag::Unset),
        _ => Err(format!("{column} {:?} is not true or false", shortened(text))),
    }
}

fn micros(column: &str, text: &str) -> Result<Timestamp, String> {
    let micros = text.parse::<u64>().ok().filter(|_| !text.starts_with('+'));
    let nanos = micros.and_then(|micros| micros.checked_mul(NANOS_PER_MICRO));
    nanos.map(Timestamp).ok_or_else(|| format!("{column} {:?} is not a time in microseconds", shortened(text)))
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The currency of the price, guessed from the symbol, because the file does not tell it: the last part between
/// separators that is a currency and not the first (`BTC-USD`, `ETH_BTC`), else the ending of a part (`BTCUSDT`,
/// `BTCUSDT_210625`, `PI_XBTUSD`), else USD (`BTC-PERPETUAL`).
fn currency_of(symbol: &str) -> &'static str {
    // A longer one comes before those it ends with.
    const CURRENCIES: [&str; 20] = [
        "FDUSD", "BUSD", "TUSD", "USDT", "USDC", "USDP", "USD", "DAI", "EUR", "GBP", "JPY", "KRW", "AUD", "BRL", "TRY",
        "CHF", "CAD", "BTC", "ETH", "BNB",
    ];
    let symbol = symbol.to_ascii_uppercase();
    let parts: Vec<&str> = symbol.split(['-', '_', '/', ':']).collect();
    let whole = parts.iter().skip(1).rev().find_map(|part| CURRENCIES.iter().find(|currency| *currency == part));
    let ending = || {
        parts.iter().rev().find_map(|part| {
            CURRENCIES.iter().find(|currency| {
                // What is before it is the base: `BNBUSD` is BNB in USD, not BN in BUSD.
                let base_length_min = if matches!(**currency, "BUSD" | "TUSD") { 3 } else { 1 };
                part.strip_suffix(**currency).is_some_and(|base| base.len() >= base_length_min)
            })
        })
    };
    whole.or_else(ending).copied().unwrap_or("USD")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currencies_are_guessed_from_the_symbol() {
        for (symbol, currency) in [
            ("BTCUSDT", "USDT"),
            ("btcusdt", "USDT"),
            ("BTC-USD", "USD"),
            ("ETH_BTC", "BTC"),
            ("ETHBTC", "BTC"),
            ("BTCUSDT_210625", "USDT"),
            ("PI_XBTUSD", "USD"),
            ("BTCFDUSD", "FDUSD"),
            ("BTCBUSD", "BUSD"),
            ("BNBUSD", "USD"),
            ("OPUSDT", "USDT"),
            ("BTC-PERPETUAL", "USD"),
            ("XBTM20", "USD"),
            ("BTC", "USD"),
        ] {
            assert_eq!(currency_of(symbol), currency, "{symbol}");
        }
    }

    #[test]
    fn headers_say_what_is_wrong_with_them() {
        let good = "local_timestamp,symbol,amount,price,side,id,timestamp,extra";
        let columns = Columns::find(good).unwrap();
        assert_eq!((columns.count, columns.symbol, columns.exchange), (8, 1, None));
        for (header, reason) in [
            ("symbol,timestamp,local_timestamp,side,price,amount", "its header has no column \"id\""),
            ("symbol,timestamp,id,side,price,amount", "its header has no column \"local_timestamp\""),
            ("symbol,symbol", "its header has the column \"symbol\" twice"),
            ("a,b", "its first line is not the header of Tardis trades, quotes or book updates: \"a,b\""),
            ("ask_price,bid_price,bid_amount", "its header has no column \"ask_amount\""),
            ("is_snapshot,side,price", "its header has no column \"amount\""),
        ] {
            assert_eq!(Columns::find(header), Err(reason.to_owned()));
        }
    }
}
