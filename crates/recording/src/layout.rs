//! How the fields of an element lie in columns: one description, from which both writing and reading follow.
//!
//! **Invariant:** writing and reading run the same code ([`transfer`]) over a [`Columns`] that either takes numbers or gives
//! them, and change the same [`Context`]; so they cannot disagree about the layout.
//!
//! Values stand as differences to what is near them in the market: a price to the last price of its instrument, a quote's
//! side to the quote before, a bar to the bar before of its interval. Differences wrap around, so every value has one.

use std::sync::Arc;

use market::{
    Bar, BarInterval, BookDepth, BookUpdate, Channel, ChannelSet, Event, Level, Price, Quote, Side, Size, Status,
    StatusCode, Ticker, Timestamp, Trade,
};

use crate::bytes::{unzigzag, zigzag};
use crate::error::Broken;

/// The columns of a block, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Column {
    /// The streams in order of appearance: instrument, channel, first number
    Streams,
    /// Of each element the index of its stream
    Route,
    Time,
    BarTime,
    TradePrice,
    TradeSize,
    TradeSide,
    TradeId,
    QuoteFlags,
    QuotePrice,
    QuoteSize,
    TickerPrice,
    TickerAmount,
    Turnover,
    BarPrice,
    BarAmount,
    Status,
    BookHead,
    LevelPrice,
    LevelSize,
    Checksum,
}

pub(crate) const COLUMNS: usize = Column::Checksum as usize + 1;

/// Where numbers go to or come from.
pub(crate) trait Columns {
    /// Writes `value` and returns it, or reads one and returns that.
    fn unsigned(&mut self, column: Column, value: u64) -> Result<u64, Broken>;

    /// The same in eight bytes, for what does not get smaller by being a number of variable length.
    fn fixed(&mut self, column: Column, value: u64) -> Result<u64, Broken>;

    /// The same in four bytes.
    fn word(&mut self, column: Column, value: u32) -> Result<u32, Broken>;

    /// The same with a text.
    fn text(&mut self, column: Column, value: &str) -> Result<Arc<str>, Broken>;

    /// Checks a length that was read, before that many things are read which take at least a byte each.
    fn length(&mut self, column: Column, length: u64) -> Result<usize, Broken>;

    /// A signed difference to `base`.
    #[inline]
    fn delta(&mut self, column: Column, base: i64, value: i64) -> Result<i64, Broken> {
        let delta = self.unsigned(column, zigzag(value.wrapping_sub(base)))?;
        Ok(base.wrapping_add(unzigzag(delta)))
    }

    /// The same for unsigned values, around the whole range.
    #[inline]
    fn delta_unsigned(&mut self, column: Column, base: u64, value: u64) -> Result<u64, Broken> {
        self.delta(column, base as i64, value as i64).map(|value| value as u64)
    }
}

/// What is known of an instrument from the elements before in the same block.
#[derive(Debug, Default)]
pub(crate) struct Context {
    price: i64,
    trade_id: u64,
    quote: [Level2; 2],
    ticker: TickerBase,
    bars: Option<Box<[BarBase; BarInterval::ALL.len()]>>,
    level: [i64; 2],
}

#[derive(Debug, Clone, Copy, Default)]
struct Level2 {
    price: i64,
    size: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct TickerBase {
    prices: [i64; 4],
    volume: u64,
    turnover: u64,
    trade_count: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct BarBase {
    prices: [i64; 4],
    volume: u64,
    trade_count: u64,
}

/// What is known of the whole market from the elements before in the same block.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The time of the last element that is no bar
    time: u64,
    /// The last book update, whose levels the next depth often shares
    book: Option<BookUpdate>,
    bids: Vec<Level>,
    asks: Vec<Level>,
}

/// Writes or reads the time of an element and what happened. `event` is what is written; for reading, [`blank`].
pub(crate) fn transfer<C: Columns>(
    columns: &mut C,
    shared: &mut Shared,
    context: &mut Context,
    time: Timestamp,
    event: &Event,
) -> Result<(Timestamp, Event), Broken> {
    let time = if let Event::Bar(bar) = event {
        // A bar's time is when it opened: nearly always the begin of the interval in which the market is.
        let length = u64::from(bar.interval.seconds()) * 1_000_000_000;
        let opened = shared.time - shared.time % length;
        columns.delta_unsigned(Column::BarTime, opened, time.0)?
    } else {
        shared.time = columns.delta_unsigned(Column::Time, shared.time, time.0)?;
        shared.time
    };
    let event = match event {
        Event::Trade(it) => Event::Trade(trade(columns, context, it)?),
        Event::Quote(it) => Event::Quote(quote(columns, context, it)?),
        Event::Ticker(it) => Event::Ticker(ticker(columns, context, it)?),
        Event::Bar(it) => Event::Bar(bar(columns, context, it)?),
        Event::Status(it) => Event::Status(status(columns, it)?),
        Event::BookSnapshot(it) => book(columns, shared, context, BookEvent::Snapshot, it)?,
        Event::BookDelta(it) => book(columns, shared, context, BookEvent::Delta, it)?,
    };
    Ok((Timestamp(time), event))
}

fn trade<C: Columns>(c: &mut C, context: &mut Context, it: &Trade) -> Result<Trade, Broken> {
    context.price = c.delta(Column::TradePrice, context.price, it.price.0)?;
    let size = c.unsigned(Column::TradeSize, it.size.0)?;
    let side = match c.unsigned(Column::TradeSide, it.side as u64)? {
        0 => Side::Unknown,
        1 => Side::Buy,
        2 => Side::Sell,
        _ => return Err(Broken("a trade has an unknown side")),
    };
    context.trade_id = c.delta_unsigned(Column::TradeId, context.trade_id, it.trade_id)?;
    Ok(Trade { price: Price(context.price), size: Size(size), side, trade_id: context.trade_id })
}

/// What of a quote's side is there and what has changed, two sides of four bits.
mod quote_flags {
    pub(super) const THERE: u64 = 1;
    pub(super) const PRICE: u64 = 2;
    pub(super) const SIZE: u64 = 4;
    pub(super) const BITS: u32 = 4;
    pub(super) const ALL: u64 = 0x77;
}

fn quote<C: Columns>(c: &mut C, context: &mut Context, it: &Quote) -> Result<Quote, Broken> {
    use quote_flags::{ALL, BITS, PRICE, SIZE, THERE};
    let of = |level: Option<Level>, before: &Level2| {
        level.map_or(0, |level| {
            let price = if level.price.0 == before.price { 0 } else { PRICE };
            THERE | price | if level.size.0 == before.size { 0 } else { SIZE }
        })
    };
    let flags = of(it.bid, &context.quote[0]) | of(it.ask, &context.quote[1]) << BITS;
    let flags = c.unsigned(Column::QuoteFlags, flags)?;
    if flags & !ALL != 0 {
        return Err(Broken("a quote has unknown flags"));
    }
    let mut side = |index: usize, level: Option<Level>| -> Result<Option<Level>, Broken> {
        let flags = flags >> (BITS * index as u32);
        if flags & THERE == 0 {
            return Ok(None);
        }
        let level = level.unwrap_or(Level { price: Price(0), size: Size(0) });
        let kept = &mut context.quote[index];
        if flags & PRICE != 0 {
            kept.price = c.delta(Column::QuotePrice, kept.price, level.price.0)?;
        }
        if flags & SIZE != 0 {
            kept.size = c.unsigned(Column::QuoteSize, level.size.0)?;
        }
        Ok(Some(Level { price: Price(kept.price), size: Size(kept.size) }))
    };
    Ok(Quote { bid: side(0, it.bid)?, ask: side(1, it.ask)? })
}

fn ticker<C: Columns>(c: &mut C, context: &mut Context, it: &Ticker) -> Result<Ticker, Broken> {
    let price = context.price;
    let base = &mut context.ticker;
    // The last price is that of the trade before.
    base.prices[0] = price;
    for (base, value) in base.prices.iter_mut().zip([it.last, it.open, it.high, it.low]) {
        *base = c.delta(Column::TickerPrice, *base, value.0)?;
    }
    base.volume = c.delta_unsigned(Column::TickerAmount, base.volume, it.volume.0)?;
    base.trade_count = c.delta_unsigned(Column::TickerAmount, base.trade_count, it.trade_count)?;
    base.turnover = c.fixed(Column::Turnover, it.turnover.to_bits() ^ base.turnover)? ^ base.turnover;
    let [last, open, high, low] = base.prices.map(Price);
    let turnover = f64::from_bits(base.turnover);
    Ok(Ticker { last, open, high, low, volume: Size(base.volume), turnover, trade_count: base.trade_count })
}

fn bar<C: Columns>(c: &mut C, context: &mut Context, it: &Bar) -> Result<Bar, Broken> {
    let price = context.price;
    let base = &mut context.bars.get_or_insert_default()[it.interval as usize];
    // The close is the price of the trade before.
    base.prices[3] = price;
    for (base, value) in base.prices.iter_mut().zip([it.open, it.high, it.low, it.close]) {
        *base = c.delta(Column::BarPrice, *base, value.0)?;
    }
    base.volume = c.delta_unsigned(Column::BarAmount, base.volume, it.volume.0)?;
    base.trade_count = c.delta_unsigned(Column::BarAmount, base.trade_count, it.trade_count)?;
    let closed = match c.unsigned(Column::BarAmount, it.closed.into())? {
        0 => false,
        1 => true,
        _ => return Err(Broken("a bar is neither open nor closed")),
    };
    let [open, high, low, close] = base.prices.map(Price);
    let (volume, trade_count) = (Size(base.volume), base.trade_count);
    Ok(Bar { interval: it.interval, open, high, low, close, volume, trade_count, closed })
}

fn status<C: Columns>(c: &mut C, it: &Status) -> Result<Status, Broken> {
    const CODES: [StatusCode; 5] =
        [StatusCode::PreOpen, StatusCode::Trading, StatusCode::Halted, StatusCode::Auction, StatusCode::Closed];
    let code = c.unsigned(Column::Status, it.code as u64)?;
    let code = usize::try_from(code).ok().and_then(|code| CODES.get(code)).ok_or(Broken("a status is unknown"))?;
    Ok(Status { code: *code, reason: c.text(Column::Status, &it.reason)? })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BookEvent {
    Snapshot,
    Delta,
}

mod book_flags {
    pub(super) const SNAPSHOT: u64 = 1;
    /// Levels and checksum are those of the book element before
    pub(super) const SHARED: u64 = 2;
}

fn book<C: Columns>(
    c: &mut C,
    shared: &mut Shared,
    context: &mut Context,
    kind: BookEvent,
    it: &BookUpdate,
) -> Result<Event, Broken> {
    let same = |before: &BookUpdate| {
        before.checksum() == it.checksum() && before.bids() == it.bids() && before.asks() == it.asks()
    };
    let mut flags = if kind == BookEvent::Snapshot { book_flags::SNAPSHOT } else { 0 };
    if shared.book.as_ref().is_some_and(same) {
        flags |= book_flags::SHARED;
    }
    let flags = c.unsigned(Column::BookHead, flags)?;
    let update = if flags & book_flags::SHARED != 0 {
        let before = shared.book.as_ref().ok_or(Broken("a book refers to none before it"))?;
        before.at_depth(it.depth())
    } else {
        let counts = [it.bids().len() as u64, it.asks().len() as u64];
        let counts = [c.unsigned(Column::BookHead, counts[0])?, c.unsigned(Column::BookHead, counts[1])?];
        let sides = [(&mut shared.bids, it.bids()), (&mut shared.asks, it.asks())];
        for (side, (out, levels)) in sides.into_iter().enumerate() {
            let count = c.length(Column::LevelPrice, counts[side])?;
            out.clear();
            let mut price = context.level[side];
            for rank in 0..count {
                let level = levels.get(rank).copied().unwrap_or(Level { price: Price(0), size: Size(0) });
                price = c.delta(Column::LevelPrice, price, level.price.0)?;
                let size = c.unsigned(Column::LevelSize, level.size.0)?;
                out.push(Level { price: Price(price), size: Size(size) });
            }
            if let Some(best) = out.first() {
                context.level[side] = best.price.0;
            }
        }
        let checksum = c.word(Column::Checksum, it.checksum())?;
        BookUpdate::new(it.depth(), &shared.bids, &shared.asks, checksum)
    };
    shared.book = Some(update.clone());
    match flags & !book_flags::SHARED {
        book_flags::SNAPSHOT => Ok(Event::BookSnapshot(update)),
        0 => Ok(Event::BookDelta(update)),
        _ => Err(Broken("a book has unknown flags")),
    }
}

/// Something of `channel` to be overwritten by what is read.
pub(crate) fn blank(channel: Channel) -> Event {
    let (price, size) = (Price(0), Size(0));
    match channel {
        Channel::Trades => Event::Trade(Trade { price, size, side: Side::Unknown, trade_id: 0 }),
        Channel::Quotes => Event::Quote(Quote::default()),
        Channel::Ticker => Event::Ticker(Ticker {
            last: price,
            open: price,
            high: price,
            low: price,
            volume: size,
            turnover: 0.0,
            trade_count: 0,
        }),
        Channel::Status => Event::Status(Status { code: StatusCode::PreOpen, reason: Arc::from("") }),
        Channel::Bars(interval) => Event::Bar(Bar {
            interval,
            open: price,
            high: price,
            low: price,
            close: price,
            volume: size,
            trade_count: 0,
            closed: false,
        }),
        Channel::Book(depth) => Event::BookDelta(BookUpdate::new(depth, &[], &[], 0)),
    }
}

/// The number of a channel in the file. Unlike [`Channel::index`] it never changes.
pub(crate) const fn channel_code(channel: Channel) -> u8 {
    match channel {
        Channel::Trades => 0,
        Channel::Quotes => 1,
        Channel::Ticker => 2,
        Channel::Status => 3,
        Channel::Bars(interval) => {
            16 + match interval {
                BarInterval::S1 => 0,
                BarInterval::S5 => 1,
                BarInterval::S10 => 2,
                BarInterval::M1 => 3,
                BarInterval::M5 => 4,
                BarInterval::M15 => 5,
                BarInterval::H1 => 6,
                BarInterval::D1 => 7,
            }
        }
        Channel::Book(BookDepth::Top10) => 32,
        Channel::Book(BookDepth::Top50) => 33,
        Channel::Book(BookDepth::Full) => 34,
    }
}

pub(crate) fn channel(code: u64) -> Result<Channel, Broken> {
    let known = Channel::ALL.into_iter().find(|channel| u64::from(channel_code(*channel)) == code);
    known.ok_or(Broken("a channel is unknown"))
}

/// A set of channels, a bit for the code of each.
pub(crate) fn channel_bits(channels: ChannelSet) -> u64 {
    channels.iter().fold(0, |bits, channel| bits | 1 << channel_code(channel))
}

/// The channels of those bits; none when one is unknown.
pub(crate) fn channels(bits: u64) -> Option<ChannelSet> {
    let known: ChannelSet =
        Channel::ALL.into_iter().filter(|channel| bits & 1 << channel_code(*channel) != 0).collect();
    (channel_bits(known) == bits).then_some(known)
}
