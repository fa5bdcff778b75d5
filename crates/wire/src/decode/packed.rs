//! MessagePack elements in full, in one pass.
//!
//! **Invariant:** an element with more fields than are known is read, the rest skipped; one of an unknown kind is skipped
//! whole. A claimed length is never believed: memory follows the bytes that are there.
//!
//! Not here: JSON (`text`).

use market::{
    Bar, BarInterval, BookDepth, BookUpdate, Channel, Event, InstrumentId, Level, Price, Quote, Side, Size, Status,
    StatusCode, Ticker, Timestamp, Trade,
};

use super::cursor::{Cursor, DataError};
use super::{Content, Element};
use crate::GapReason;

/// Whether the message is a data message; what is not is a control message.
pub fn is_packed_data(message: &[u8]) -> bool {
    matches!(message.first(), Some(0x90..=0x9F | 0xDC | 0xDD))
}

/// Calls `on` for each of `count` elements, and makes sure that nothing follows them; `cursor` and `count` come from
/// [`super::begin`].
///
/// # Errors
/// An element is malformed; those before it have been handed out.
pub fn decode_elements(mut cursor: Cursor<'_>, count: u32, mut on: impl FnMut(Element)) -> Result<(), DataError> {
    for _ in 0..count {
        on(element(&mut cursor)?);
    }
    if cursor.is_empty() { Ok(()) } else { Err(DataError::Surplus) }
}

fn element(cursor: &mut Cursor<'_>) -> Result<Element, DataError> {
    let length = cursor.array()?;
    let fields = length.checked_sub(4).ok_or(DataError::Short)?;
    let kind = cursor.unsigned()?;
    let instrument = InstrumentId(u32::try_from(cursor.unsigned()?).unwrap_or(u32::MAX));
    let seq = cursor.unsigned()?;
    let time = Timestamp(cursor.unsigned()?);
    let known = match kind {
        1 | 2 | 4 | 5 | 8 => 4,
        3 => 8,
        6 => 7,
        7 => 2,
        _ => {
            cursor.skip(fields.into())?;
            return Ok(Element { instrument, seq, time, content: Content::Unknown(None) });
        }
    };
    let more = fields.checked_sub(known).ok_or(DataError::Short)?;
    let content = match kind {
        1 => trade(cursor)?,
        2 => quote(cursor)?,
        3 => bar(cursor)?,
        4 | 5 => book(kind == 4, cursor)?,
        6 => ticker(cursor)?,
        7 => status(cursor)?,
        _ => gap(cursor)?,
    };
    if more > 0 {
        cursor.skip(more.into())?;
    }
    Ok(Element { instrument, seq, time, content })
}

fn trade(cursor: &mut Cursor<'_>) -> Result<Content, DataError> {
    Ok(Content::Event(Event::Trade(Trade {
        price: Price(cursor.integer()?),
        size: Size(cursor.unsigned()?),
        side: match cursor.unsigned()? {
            1 => Side::Buy,
            2 => Side::Sell,
            _ => Side::Unknown,
        },
        trade_id: cursor.unsigned()?,
    })))
}

fn quote(cursor: &mut Cursor<'_>) -> Result<Content, DataError> {
    let [bid, ask] = [half(cursor)?, half(cursor)?];
    Ok(Content::Event(Event::Quote(Quote { bid, ask })))
}

/// One side of a quote; nil twice when it is empty.
fn half(cursor: &mut Cursor<'_>) -> Result<Option<Level>, DataError> {
    if cursor.nil() {
        return cursor.skip(1).map(|()| None);
    }
    let price = Price(cursor.integer()?);
    Ok(cursor.unsigned_or_nil()?.map(|size| Level { price, size: Size(size) }))
}

fn bar(cursor: &mut Cursor<'_>) -> Result<Content, DataError> {
    let seconds = cursor.unsigned()?;
    let [open, high, low, close] = prices(cursor)?;
    let volume = Size(cursor.unsigned()?);
    let trade_count = cursor.unsigned()?;
    let closed = cursor.boolean()?;
    let interval = BarInterval::ALL.into_iter().find(|interval| u64::from(interval.seconds()) == seconds);
    Ok(interval.map_or(Content::Unknown(None), |interval| {
        Content::Event(Event::Bar(Bar { interval, open, high, low, close, volume, trade_count, closed }))
    }))
}

fn ticker(cursor: &mut Cursor<'_>) -> Result<Content, DataError> {
    let [last, open, high, low] = prices(cursor)?;
    let volume = Size(cursor.unsigned()?);
    let turnover = cursor.float()?;
    let trade_count = cursor.unsigned()?;
    Ok(Content::Event(Event::Ticker(Ticker { last, open, high, low, volume, turnover, trade_count })))
}

fn prices(cursor: &mut Cursor<'_>) -> Result<[Price; 4], DataError> {
    Ok([Price(cursor.integer()?), Price(cursor.integer()?), Price(cursor.integer()?), Price(cursor.integer()?)])
}

fn status(cursor: &mut Cursor<'_>) -> Result<Content, DataError> {
    let code = match cursor.unsigned()? {
        0 => Some(StatusCode::PreOpen),
        1 => Some(StatusCode::Trading),
        2 => Some(StatusCode::Halted),
        3 => Some(StatusCode::Auction),
        4 => Some(StatusCode::Closed),
        _ => None,
    };
    let reason = String::from_utf8_lossy(cursor.text()?).into();
    Ok(code
        .map_or(Content::Unknown(Some(Channel::Status)), |code| Content::Event(Event::Status(Status { code, reason }))))
}

fn book(whole: bool, cursor: &mut Cursor<'_>) -> Result<Content, DataError> {
    let depth = depth_of(cursor.unsigned()?);
    // One allocation for both sides, sized by what can be there: a level is at least three bytes.
    let mut levels = Vec::new();
    let bid_count = side(cursor, &mut levels)?;
    side(cursor, &mut levels)?;
    let checksum = cursor.unsigned()? as u32;
    let Some(depth) = depth else { return Ok(Content::Unknown(None)) };
    let (bids, asks) = levels.split_at(bid_count);
    let update = BookUpdate::new(depth, bids, asks, checksum);
    Ok(Content::Event(if whole { Event::BookSnapshot(update) } else { Event::BookDelta(update) }))
}

fn side(cursor: &mut Cursor<'_>, levels: &mut Vec<Level>) -> Result<usize, DataError> {
    let count = cursor.array()? as usize;
    levels.reserve(count.min(cursor.len() / 3));
    for _ in 0..count {
        let fields = cursor.array()?;
        let more = fields.checked_sub(2).ok_or(DataError::Short)?;
        levels.push(Level { price: Price(cursor.integer()?), size: Size(cursor.unsigned()?) });
        if more > 0 {
            cursor.skip(more.into())?;
        }
    }
    Ok(count)
}

/// The depth that the number on the wire stands for.
pub(super) fn depth_of(number: u64) -> Option<BookDepth> {
    match number {
        0 => Some(BookDepth::Full),
        10 => Some(BookDepth::Top10),
        50 => Some(BookDepth::Top50),
        _ => None,
    }
}

fn gap(cursor: &mut Cursor<'_>) -> Result<Content, DataError> {
    let channel = std::str::from_utf8(cursor.text()?).ok().and_then(|name| name.parse().ok());
    let (from_seq, to_seq) = (cursor.unsigned()?, cursor.unsigned()?);
    let reason = std::str::from_utf8(cursor.text()?).ok().and_then(GapReason::from_name);
    Ok(channel.map_or(Content::Unknown(None), |channel| Content::Gap { channel, from_seq, to_seq, reason }))
}
