//! Elements of data frames and the frames' begin and end: the hot path.
//!
//! **Invariant:** elements are written one after the other and any run of them, between [`begin_data`] and [`end_data`],
//! is a data message; so an element is encoded once per dialect and copied from there on. No allocation but the growth
//! of `out`.
//!
//! What is *not* here: control messages (`message`), which are rare and may take their time.

use market::{
    Bar, BookUpdate, Channel, Event, Instrument, Level, Price, Quote, Side, Size, Status, Ticker, Timestamp, Trade,
};

use crate::{Dialect, decimal, json, pack};

/// Why elements are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The session was slow and took the newest values instead
    Conflated,
    /// The session was slow
    Slow,
    /// The replay ring no longer has them
    Evicted,
    /// The source did not deliver them
    Source,
}

impl GapReason {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conflated => "conflated",
            Self::Slow => "slow",
            Self::Evicted => "evicted",
            Self::Source => "source",
        }
    }

    /// The reason of a name on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Conflated, Self::Slow, Self::Evicted, Self::Source].into_iter().find(|reason| reason.name() == name)
    }
}

/// A declared loss: the elements `from_seq` to `to_seq`, both included, of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gap {
    /// Of which channel
    pub channel: Channel,
    /// The first one missing
    pub from_seq: u64,
    /// The last one missing
    pub to_seq: u64,
    /// Why
    pub reason: GapReason,
}

/// What the elements of a frame are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// Events
    Live,
    /// The current state
    Snapshot,
}

/// The first field of an element in MessagePack.
mod kind {
    pub(super) const SNAPSHOT: u64 = 0;
    pub(super) const TRADE: u64 = 1;
    pub(super) const QUOTE: u64 = 2;
    pub(super) const BAR: u64 = 3;
    pub(super) const BOOK_SNAPSHOT: u64 = 4;
    pub(super) const BOOK_DELTA: u64 = 5;
    pub(super) const TICKER: u64 = 6;
    pub(super) const STATUS: u64 = 7;
    pub(super) const GAP: u64 = 8;
}

/// Appends one element. A JSON element is followed by a comma, so that slices of them concatenate.
pub fn encode_element(
    dialect: Dialect,
    instrument: &Instrument,
    seq: u64,
    time: Timestamp,
    event: &Event,
    out: &mut Vec<u8>,
) {
    match dialect {
        Dialect::NativeMessagePack => {
            let head = PackedHead { instrument, seq, time };
            match event {
                Event::Trade(trade) => pack_trade(&head, trade, out),
                Event::Quote(quote) => pack_quote(&head, quote, out),
                Event::Bar(bar) => pack_bar(&head, bar, out),
                Event::Ticker(ticker) => pack_ticker(&head, ticker, out),
                Event::Status(status) => pack_status(&head, status, out),
                Event::BookSnapshot(update) => pack_book(&head, kind::BOOK_SNAPSHOT, update, out),
                Event::BookDelta(update) => pack_book(&head, kind::BOOK_DELTA, update, out),
            }
        }
        Dialect::NativeJson => {
            let mut object = Object { instrument, out };
            match event {
                Event::Trade(trade) => object.trade(seq, time, trade),
                Event::Quote(quote) => object.quote(seq, time, quote),
                Event::Bar(bar) => object.bar(seq, time, bar),
                Event::Ticker(ticker) => object.ticker(seq, time, ticker),
                Event::Status(status) => object.status(seq, time, status),
                Event::BookSnapshot(update) => object.book(br#"{"type":"book_snapshot","symbol":""#, seq, time, update),
                Event::BookDelta(update) => object.book(br#"{"type":"book_delta","symbol":""#, seq, time, update),
            }
        }
    }
}

/// Appends a gap element, whose `seq` is the gap's last; as [`encode_element`] does it.
pub fn encode_gap(dialect: Dialect, instrument: &Instrument, time: Timestamp, gap: Gap, out: &mut Vec<u8>) {
    match dialect {
        Dialect::NativeMessagePack => {
            PackedHead { instrument, seq: gap.to_seq, time }.write(4, kind::GAP, out);
            pack::text(gap.channel.name(), out);
            pack::unsigned(gap.from_seq, out);
            pack::unsigned(gap.to_seq, out);
            pack::text(gap.reason.name(), out);
        }
        Dialect::NativeJson => Object { instrument, out }.gap(time, gap),
    }
}

/// Appends the begin of a data message with `element_count` elements.
pub fn begin_data(dialect: Dialect, kind: FrameKind, sent_at: Timestamp, element_count: usize, out: &mut Vec<u8>) {
    match (dialect, kind) {
        (Dialect::NativeMessagePack, FrameKind::Live) => {
            pack::array(1 + element_count, out);
            pack::unsigned(sent_at.0, out);
        }
        (Dialect::NativeMessagePack, FrameKind::Snapshot) => {
            pack::array(2 + element_count, out);
            pack::unsigned(sent_at.0, out);
            pack::array(2, out);
            pack::unsigned(kind::SNAPSHOT, out);
            pack::unsigned(element_count as u64, out);
        }
        (Dialect::NativeJson, kind) => {
            out.extend_from_slice(br#"{"sent_at":""#);
            decimal::time(sent_at, out);
            out.extend_from_slice(match kind {
                FrameKind::Live => br#"","data":["#,
                FrameKind::Snapshot => br#"","snapshot":true,"data":["#.as_slice(),
            });
        }
    }
}

/// Appends the end of a data message: nothing in MessagePack; in JSON the last element's comma gives way to the end.
pub fn end_data(dialect: Dialect, out: &mut Vec<u8>) {
    match dialect {
        Dialect::NativeMessagePack => {}
        Dialect::NativeJson => {
            out.pop_if(|last| *last == b',');
            out.extend_from_slice(b"]}");
        }
    }
}

/// What every element in MessagePack begins with.
struct PackedHead<'a> {
    instrument: &'a Instrument,
    seq: u64,
    time: Timestamp,
}

impl PackedHead<'_> {
    /// Appends `[kind, instrument_id, seq, time` of an array that has `fields` more.
    #[inline]
    fn write(&self, fields: usize, kind: u64, out: &mut Vec<u8>) {
        // Of elements without text none is longer: 10 fields of at most 9 bytes. One look at the capacity for all.
        out.reserve(112);
        pack::array(4 + fields, out);
        pack::unsigned(kind, out);
        pack::unsigned(self.instrument.id.0.into(), out);
        pack::unsigned(self.seq, out);
        pack::unsigned(self.time.0, out);
    }
}

fn pack_trade(head: &PackedHead<'_>, trade: &Trade, out: &mut Vec<u8>) {
    head.write(4, kind::TRADE, out);
    pack::signed(trade.price.0, out);
    pack::unsigned(trade.size.0, out);
    pack::unsigned(trade.side as u64, out);
    pack::unsigned(trade.trade_id, out);
}

fn pack_quote(head: &PackedHead<'_>, quote: &Quote, out: &mut Vec<u8>) {
    head.write(4, kind::QUOTE, out);
    for level in [quote.bid, quote.ask] {
        if let Some(level) = level {
            pack::signed(level.price.0, out);
            pack::unsigned(level.size.0, out);
        } else {
            pack::nil(out);
            pack::nil(out);
        }
    }
}

fn pack_bar(head: &PackedHead<'_>, bar: &Bar, out: &mut Vec<u8>) {
    head.write(8, kind::BAR, out);
    pack::unsigned(bar.interval.seconds().into(), out);
    for price in [bar.open, bar.high, bar.low, bar.close] {
        pack::signed(price.0, out);
    }
    pack::unsigned(bar.volume.0, out);
    pack::unsigned(bar.trade_count, out);
    pack::boolean(bar.closed, out);
}

fn pack_ticker(head: &PackedHead<'_>, ticker: &Ticker, out: &mut Vec<u8>) {
    head.write(7, kind::TICKER, out);
    for price in [ticker.last, ticker.open, ticker.high, ticker.low] {
        pack::signed(price.0, out);
    }
    pack::unsigned(ticker.volume.0, out);
    pack::float(ticker.turnover, out);
    pack::unsigned(ticker.trade_count, out);
}

fn pack_status(head: &PackedHead<'_>, status: &Status, out: &mut Vec<u8>) {
    head.write(2, kind::STATUS, out);
    pack::unsigned(status.code as u64, out);
    pack::text(&status.reason, out);
}

fn pack_book(head: &PackedHead<'_>, kind: u64, update: &BookUpdate, out: &mut Vec<u8>) {
    head.write(4, kind, out);
    pack::unsigned(update.depth().wire_depth().into(), out);
    for levels in [update.bids(), update.asks()] {
        // A level is a header and two numbers.
        out.reserve(5 + levels.len() * 19);
        pack::array(levels.len(), out);
        for level in levels {
            pack::array(2, out);
            pack::signed(level.price.0, out);
            pack::unsigned(level.size.0, out);
        }
    }
    pack::unsigned(update.checksum().into(), out);
}

/// A JSON element being written. Keys come with the comma before and the colon after them; symbols, channels and names
/// have no character that JSON would escape.
struct Object<'a> {
    instrument: &'a Instrument,
    out: &'a mut Vec<u8>,
}

impl Object<'_> {
    fn trade(&mut self, seq: u64, time: Timestamp, trade: &Trade) {
        self.head(br#"{"type":"trade","symbol":""#, seq, time);
        self.price(br#","price":"#, trade.price);
        self.size(br#","size":"#, trade.size);
        self.raw(match trade.side {
            Side::Buy => br#","side":"buy""#,
            Side::Sell => br#","side":"sell""#,
            Side::Unknown => br#","side":"unknown""#,
        });
        self.number(br#","trade_id":"#, trade.trade_id);
        self.end();
    }

    fn quote(&mut self, seq: u64, time: Timestamp, quote: &Quote) {
        self.head(br#"{"type":"quote","symbol":""#, seq, time);
        self.level(br#","bid":"#, br#","bid_size":"#, quote.bid);
        self.level(br#","ask":"#, br#","ask_size":"#, quote.ask);
        self.end();
    }

    fn bar(&mut self, seq: u64, time: Timestamp, bar: &Bar) {
        self.head(br#"{"type":"bar","symbol":""#, seq, time);
        self.number(br#","interval_s":"#, bar.interval.seconds().into());
        self.price(br#","open":"#, bar.open);
        self.price(br#","high":"#, bar.high);
        self.price(br#","low":"#, bar.low);
        self.price(br#","close":"#, bar.close);
        self.size(br#","volume":"#, bar.volume);
        self.number(br#","trade_count":"#, bar.trade_count);
        self.raw(if bar.closed { br#","closed":true"# } else { br#","closed":false"# });
        self.end();
    }

    fn ticker(&mut self, seq: u64, time: Timestamp, ticker: &Ticker) {
        self.head(br#"{"type":"ticker","symbol":""#, seq, time);
        self.price(br#","last":"#, ticker.last);
        self.price(br#","open":"#, ticker.open);
        self.price(br#","high":"#, ticker.high);
        self.price(br#","low":"#, ticker.low);
        self.size(br#","volume":"#, ticker.volume);
        self.raw(br#","turnover":"#);
        json::float(ticker.turnover, self.out);
        self.number(br#","trade_count":"#, ticker.trade_count);
        self.end();
    }

    fn status(&mut self, seq: u64, time: Timestamp, status: &Status) {
        self.head(br#"{"type":"status","symbol":""#, seq, time);
        self.name(br#","code":"#, status.code.name());
        self.raw(br#","reason":"#);
        json::text(&status.reason, self.out);
        self.end();
    }

    fn book(&mut self, begin: &[u8], seq: u64, time: Timestamp, update: &BookUpdate) {
        self.head(begin, seq, time);
        self.number(br#","depth":"#, update.depth().wire_depth().into());
        self.levels(br#","bids":["#, update.bids());
        self.levels(br#","asks":["#, update.asks());
        self.number(br#","checksum":"#, update.checksum().into());
        self.end();
    }

    /// Levels as pairs of decimals; `key` opens the array.
    fn levels(&mut self, key: &[u8], levels: &[Level]) {
        self.raw(key);
        for (index, level) in levels.iter().enumerate() {
            self.price(if index == 0 { b"[" } else { b",[" }, level.price);
            self.size(b",", level.size);
            self.out.push(b']');
        }
        self.out.push(b']');
    }

    fn gap(&mut self, time: Timestamp, gap: Gap) {
        self.head(br#"{"type":"gap","symbol":""#, gap.to_seq, time);
        self.name(br#","channel":"#, gap.channel.name());
        self.number(br#","from_seq":"#, gap.from_seq);
        self.number(br#","to_seq":"#, gap.to_seq);
        self.name(br#","reason":"#, gap.reason.name());
        self.end();
    }

    fn head(&mut self, begin: &[u8], seq: u64, time: Timestamp) {
        // Most elements are shorter; the others grow the buffer once more.
        self.out.reserve(256);
        self.raw(begin);
        self.raw(self.instrument.symbol.as_str().as_bytes());
        self.raw(br#"","seq":"#);
        decimal::unsigned(seq, self.out);
        self.raw(br#","time":""#);
        decimal::time(time, self.out);
        self.out.push(b'"');
    }

    fn end(&mut self) {
        self.raw(b"},");
    }

    fn level(&mut self, price_key: &[u8], size_key: &[u8], level: Option<Level>) {
        if let Some(level) = level {
            self.price(price_key, level.price);
            self.size(size_key, level.size);
        } else {
            self.raw(price_key);
            self.raw(b"null");
            self.raw(size_key);
            self.raw(b"null");
        }
    }

    fn price(&mut self, key: &[u8], value: Price) {
        self.raw(key);
        self.out.push(b'"');
        decimal::price(value, self.instrument.price_exponent, self.out);
        self.out.push(b'"');
    }

    fn size(&mut self, key: &[u8], value: Size) {
        self.raw(key);
        self.out.push(b'"');
        decimal::size(value, self.instrument.size_exponent, self.out);
        self.out.push(b'"');
    }

    fn number(&mut self, key: &[u8], value: u64) {
        self.raw(key);
        decimal::unsigned(value, self.out);
    }

    fn name(&mut self, key: &[u8], value: &str) {
        self.raw(key);
        self.out.push(b'"');
        self.raw(value.as_bytes());
        self.out.push(b'"');
    }

    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}
