//! Ticks and instruments as lines of text, CSV or JSON.
//!
//! **Invariant:** decimals are exact and have as many places as the instrument's exponent says; the same tick gives the
//! same line, so a digest of the lines is a digest of the market.

use std::fmt::Write as _;

use market::{BookUpdate, Event, Instrument, Level, Price, Side, Size, Tick, Trade, format_decimal};

/// The header over [`tick_csv`]'s lines; books follow it loosely, see there.
pub const TICK_CSV_HEADER: &str = "time,symbol,type,price,size,side,trade_id,bid,bid_size,ask,ask_size\n";
/// The header over [`instrument_csv`]'s lines.
pub const INSTRUMENT_CSV_HEADER: &str =
    "instrument_id,symbol,class,currency,price_exponent,size_exponent,tick_size,lot_size,description\n";

/// Appends a line of CSV under [`TICK_CSV_HEADER`]. A status has its code as the price and its reason, commas
/// replaced, as the size; a
/// change of the book has the checksum as the price, and then all bids and all asks, each as `price:size` between spaces,
/// as the bid and the ask. Other kinds, which no simulator makes, have empty fields.
pub fn tick_csv(instrument: &Instrument, tick: &Tick, out: &mut String) {
    let _ = write!(out, "{},{},", tick.time.nanos(), instrument.symbol);
    match &tick.event {
        Event::Trade(trade) => {
            out.push_str("trade,");
            level(instrument, trade_level(*trade), ",", out);
            let _ = writeln!(out, ",{},{},,,,", side_name(trade.side), trade.trade_id);
        }
        Event::Quote(quote) => {
            out.push_str("quote,,,,,");
            for (side, separator) in [(quote.bid, ","), (quote.ask, "\n")] {
                match side {
                    Some(best) => level(instrument, best, ",", out),
                    None => out.push(','),
                }
                out.push_str(separator);
            }
        }
        Event::Status(status) => {
            let reason = status.reason.replace(',', ";");
            let _ = writeln!(out, "status,{},{reason},,,,,,", status.code.name());
        }
        Event::BookSnapshot(update) => book_csv("book_snapshot", instrument, update, out),
        Event::BookDelta(update) => book_csv("book_delta", instrument, update, out),
        other => {
            let _ = writeln!(out, "{},,,,,,,,", other.channel());
        }
    }
}

fn book_csv(kind: &str, instrument: &Instrument, update: &BookUpdate, out: &mut String) {
    let _ = write!(out, "{kind},{:08x},,,", update.checksum());
    for side in [update.bids(), update.asks()] {
        out.push(',');
        for (index, each) in side.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { " " });
            level(instrument, *each, ":", out);
        }
        out.push(',');
    }
    out.push('\n');
}

/// Appends a line of JSON with the names and decimals of the native protocol; the time is in nanoseconds. Kinds that
/// no simulator makes have no fields of their own.
pub fn tick_json(instrument: &Instrument, tick: &Tick, out: &mut String) {
    let head = |kind: &str, out: &mut String| {
        let (symbol, time) = (&instrument.symbol, tick.time.nanos());
        let _ = write!(out, "{{\"type\":\"{kind}\",\"symbol\":\"{symbol}\",\"time\":{time}");
    };
    match &tick.event {
        Event::Trade(trade) => {
            head("trade", out);
            out.push_str(",\"price\":\"");
            level(instrument, trade_level(*trade), "\",\"size\":\"", out);
            let _ = write!(out, "\",\"side\":\"{}\",\"trade_id\":{}", side_name(trade.side), trade.trade_id);
        }
        Event::Quote(quote) => {
            head("quote", out);
            for (name, side) in [("bid", quote.bid), ("ask", quote.ask)] {
                if let Some(best) = side {
                    let _ = write!(out, ",\"{name}\":\"");
                    level(instrument, best, &format!("\",\"{name}_size\":\""), out);
                    out.push('"');
                } else {
                    let _ = write!(out, ",\"{name}\":null,\"{name}_size\":null");
                }
            }
        }
        Event::Status(status) => {
            head("status", out);
            // Reasons come from scripts, which have no control characters.
            let reason = status.reason.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = write!(out, ",\"code\":\"{}\",\"reason\":\"{reason}\"", status.code.name());
        }
        Event::BookSnapshot(update) => {
            head("book_snapshot", out);
            book_json(instrument, update, out);
        }
        Event::BookDelta(update) => {
            head("book_delta", out);
            book_json(instrument, update, out);
        }
        other => head(other.channel().name(), out),
    }
    out.push_str("}\n");
}

fn book_json(instrument: &Instrument, update: &BookUpdate, out: &mut String) {
    for (name, side) in [("bids", update.bids()), ("asks", update.asks())] {
        let _ = write!(out, ",\"{name}\":[");
        for (index, each) in side.iter().enumerate() {
            out.push_str(if index == 0 { "[\"" } else { ",[\"" });
            level(instrument, *each, "\",\"", out);
            out.push_str("\"]");
        }
        out.push(']');
    }
    let _ = write!(out, ",\"checksum\":{}", update.checksum());
}

/// Appends a line of CSV under [`INSTRUMENT_CSV_HEADER`].
pub fn instrument_csv(instrument: &Instrument, out: &mut String) {
    let Instrument { id, symbol, price_exponent, size_exponent, class, currency, description, .. } = instrument;
    let _ = write!(out, "{},{symbol},{},{currency},{price_exponent},{size_exponent},", id.0, class.name());
    level(instrument, smallest(instrument), ",", out);
    let _ = writeln!(out, ",{description}");
}

/// Appends a line of JSON. Descriptions must be free of quotation marks and backslashes, as the catalogue's are.
pub fn instrument_json(instrument: &Instrument, out: &mut String) {
    let Instrument { id, symbol, price_exponent, size_exponent, class, currency, description, .. } = instrument;
    let _ = write!(
        out,
        "{{\"instrument_id\":{},\"symbol\":\"{symbol}\",\"class\":\"{}\",\"currency\":\"{currency}\",\
         \"price_exponent\":{price_exponent},\"size_exponent\":{size_exponent},\"tick_size\":\"",
        id.0,
        class.name(),
    );
    level(instrument, smallest(instrument), "\",\"lot_size\":\"", out);
    let _ = writeln!(out, "\",\"description\":\"{description}\"}}");
}

/// A price and a size as decimals.
fn level(
    instrument: &Instrument,
    Level { price: Price(price), size: Size(size) }: Level,
    between: &str,
    out: &mut String,
) {
    format_decimal(price, instrument.price_exponent, out);
    out.push_str(between);
    format_decimal(i64::try_from(size).unwrap_or(i64::MAX), instrument.size_exponent, out);
}

fn trade_level(trade: Trade) -> Level {
    Level { price: trade.price, size: trade.size }
}

fn smallest(instrument: &Instrument) -> Level {
    Level { price: instrument.tick_size, size: instrument.lot_size }
}

fn side_name(side: Side) -> &'static str {
    match side {
        Side::Unknown => "unknown",
        Side::Buy => "buy",
        Side::Sell => "sell",
    }
}
