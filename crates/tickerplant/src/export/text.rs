//! Comma-separated values: one channel, a line for each element, a level of a book a line of its own.
//!
//! **Invariant:** prices and sizes are exact decimals with the instrument's places; times are nanoseconds since 1970, which no
//! reader rounds.

use std::io::Write;

use market::{Channel, Event, Instrument, Numbered, Price, Size, format_decimal};

use super::Sink;
use crate::exit::Failure;

/// See the module.
pub(super) struct Table {
    out: csv::Writer<Box<dyn Write>>,
    channel: Channel,
}

impl Table {
    pub(super) fn new(out: Box<dyn Write>, schema: &str) -> Result<Self, Failure> {
        let channel: Channel = schema.parse().map_err(|error| Failure::Setting(format!("schema: {error}")))?;
        let mut out = csv::Writer::from_writer(out);
        let own: &[&str] = match channel {
            Channel::Trades => &["price", "size", "side", "trade_id"],
            Channel::Quotes => &["bid", "bid_size", "ask", "ask_size"],
            Channel::Ticker => &["last", "open", "high", "low", "volume", "turnover", "trade_count"],
            Channel::Status => &["code", "reason"],
            Channel::Bars(_) => &["open", "high", "low", "close", "volume", "trade_count", "closed"],
            Channel::Book(_) => &["kind", "checksum", "side", "price", "size"],
        };
        let header = ["symbol", "seq", "time_ns"].iter().chain(own);
        out.write_record(header).map_err(|error| Failure::Other(error.into()))?;
        Ok(Self { out, channel })
    }
}

impl Sink for Table {
    fn element(&mut self, instrument: &Instrument, element: &Numbered) -> anyhow::Result<()> {
        if element.tick.channel() != self.channel {
            return Ok(());
        }
        let price = |price: Price| decimal(price.0, instrument.price_exponent);
        let size = |size: Size| unsigned(size.0, instrument.size_exponent);
        let head = [instrument.symbol.to_string(), element.seq.to_string(), element.tick.time.0.to_string()];
        let own: Vec<String> = match &element.tick.event {
            Event::Trade(trade) => {
                let side = ["unknown", "buy", "sell"][trade.side as usize].to_owned();
                vec![price(trade.price), size(trade.size), side, trade.trade_id.to_string()]
            }
            Event::Quote(quote) => [quote.bid, quote.ask]
                .into_iter()
                .flat_map(|level| level.map_or([String::new(), String::new()], |it| [price(it.price), size(it.size)]))
                .collect(),
            Event::Ticker(it) => vec![
                price(it.last),
                price(it.open),
                price(it.high),
                price(it.low),
                size(it.volume),
                it.turnover.to_string(),
                it.trade_count.to_string(),
            ],
            Event::Status(status) => vec![status.code.name().to_owned(), status.reason.to_string()],
            Event::Bar(it) => vec![
                price(it.open),
                price(it.high),
                price(it.low),
                price(it.close),
                size(it.volume),
                it.trade_count.to_string(),
                it.closed.to_string(),
            ],
            Event::BookSnapshot(update) | Event::BookDelta(update) => {
                let whole = matches!(element.tick.event, Event::BookSnapshot(_));
                let kind = if whole { "snapshot" } else { "delta" };
                let checksum = update.checksum().to_string();
                // A snapshot of an empty book has a line too: it says that there is nothing.
                if update.is_empty() {
                    self.out.write_record(head.iter().map(String::as_str).chain([kind, &checksum, "", "", ""]))?;
                }
                for (side, level) in update.iter() {
                    let side = ["bid", "ask"][side as usize];
                    let (at, amount) = (price(level.price), size(level.size));
                    self.out
                        .write_record(head.iter().map(String::as_str).chain([kind, &checksum, side, &at, &amount]))?;
                }
                return Ok(());
            }
        };
        self.out.write_record(head.iter().chain(&own))?;
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        Ok(self.out.flush()?)
    }
}

fn decimal(value: i64, exponent: i8) -> String {
    let mut text = String::new();
    format_decimal(value, exponent, &mut text);
    text
}

/// A size may be larger than a price can be.
fn unsigned(value: u64, exponent: i8) -> String {
    if let Ok(value) = i64::try_from(value) {
        return decimal(value, exponent);
    }
    let digits = value.to_string();
    match usize::from(exponent.unsigned_abs()) {
        0 => digits,
        zeros if exponent > 0 => digits + &"0".repeat(zeros),
        places if places < digits.len() => {
            format!("{}.{}", &digits[..digits.len() - places], &digits[digits.len() - places..])
        }
        places => format!("0.{digits:0>places$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_sizes_are_exact() {
        assert_eq!(unsigned(u64::MAX, 0), "18446744073709551615");
        assert_eq!(unsigned(u64::MAX, -2), "184467440737095516.15");
        assert_eq!(unsigned(u64::MAX, 1), "184467440737095516150");
        assert_eq!(unsigned(5, -3), "0.005");
    }
}
