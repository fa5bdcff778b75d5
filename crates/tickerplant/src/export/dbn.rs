//! Databento Binary Encoding: `trades`, `mbp-1` and `tbbo`.
//!
//! **Invariant:** a price is exact in billionths, and a size is the recording's integer; what does not fit is an error.
//!
//! DBN's sizes are whole numbers of 32 bits without an exponent. Sizes are written as the recording has them, in units of
//! 10^`size_exponent` of the instrument, which is 0 for futures and shares. `instrument_id` is the recording's id plus 1,
//! `sequence` the trade's id, `ts_recv` and `ts_event` the exchange's time. In `mbp-1` a trade has action `T` and the levels
//! from before it, a quote action `M`; `tbbo` has the trades of these alone.

use std::io::Write;

use anyhow::Context as _;
use dbn::encode::{
    EncodeRecord,
    dbn::{MetadataEncoder, RecordEncoder},
};
use dbn::{
    BidAskPair, MappingInterval, Mbp1Msg, Metadata, RecordHeader, SType, Schema, SymbolMapping, TradeMsg, UNDEF_PRICE,
    rtype,
};
use market::{Event, Instrument, Level, Numbered, Price, Quote, Side, Size, Timestamp, Trade};
use time::OffsetDateTime;

use super::Sink;
use crate::exit::Failure;
use crate::inspect::FileReader;

/// See the module.
pub(super) struct Records {
    out: Box<dyn Write>,
    schema: Schema,
    /// The last quote of each instrument, by id
    quotes: Vec<Quote>,
}

impl Records {
    pub(super) fn new(mut out: Box<dyn Write>, schema: &str, reader: &FileReader) -> Result<Self, Failure> {
        let schema = match schema {
            "trades" => Schema::Trades,
            "mbp-1" => Schema::Mbp1,
            "tbbo" => Schema::Tbbo,
            other => {
                return Err(Failure::Setting(format!(
                    "schema: {other:?} cannot be written; trades, mbp-1 or tbbo can"
                )));
            }
        };
        let metadata = metadata(schema, reader)?;
        MetadataEncoder::new(&mut out).encode(&metadata).context("the header")?;
        Ok(Self { out, schema, quotes: vec![Quote::default(); reader.instruments().len()] })
    }

    fn write(&mut self, instrument: &Instrument, element: &Numbered, trade: Option<&Trade>) -> anyhow::Result<()> {
        let (id, time) = (instrument.id.0 + 1, element.tick.time.0);
        let price_of = |price: Price| price_of(price, instrument.price_exponent);
        let (price, size, side, sequence) = match trade {
            Some(trade) => (price_of(trade.price)?, size_of(trade.size)?, side(trade.side), trade.trade_id as u32),
            None => (UNDEF_PRICE, 0, b'N', 0),
        };
        let mut out = RecordEncoder::new(&mut self.out);
        if self.schema == Schema::Trades {
            let hd = RecordHeader::new::<TradeMsg>(rtype::MBP_0, 0, id, time);
            let (action, side) = (b'T' as _, side as _);
            out.encode_record(&TradeMsg {
                hd,
                price,
                size,
                action,
                side,
                ts_recv: time,
                sequence,
                ..TradeMsg::default()
            })?;
            return Ok(());
        }
        let quote = self.quotes[instrument.id.index()];
        let level = |level: Option<Level>| -> anyhow::Result<(i64, u32, u32)> {
            level.map_or(Ok((UNDEF_PRICE, 0, 0)), |level| Ok((price_of(level.price)?, size_of(level.size)?, 1)))
        };
        let ((bid_px, bid_sz, bid_ct), (ask_px, ask_sz, ask_ct)) = (level(quote.bid)?, level(quote.ask)?);
        let record = Mbp1Msg {
            hd: RecordHeader::new::<Mbp1Msg>(rtype::MBP_1, 0, id, time),
            price,
            size,
            action: if trade.is_some() { b'T' } else { b'M' } as _,
            side: side as _,
            ts_recv: time,
            sequence,
            levels: [BidAskPair { bid_px, ask_px, bid_sz, ask_sz, bid_ct, ask_ct }],
            ..Mbp1Msg::default()
        };
        out.encode_record(&record)?;
        Ok(())
    }
}

impl Sink for Records {
    fn element(&mut self, instrument: &Instrument, element: &Numbered) -> anyhow::Result<()> {
        let named = || format!("{} {} number {}", instrument.symbol, element.tick.channel(), element.seq);
        match &element.tick.event {
            Event::Trade(trade) => self.write(instrument, element, Some(trade)).with_context(named),
            Event::Quote(quote) => {
                self.quotes[instrument.id.index()] = *quote;
                if self.schema == Schema::Mbp1 {
                    self.write(instrument, element, None).with_context(named)
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        Ok(self.out.flush()?)
    }
}

fn metadata(schema: Schema, reader: &FileReader) -> anyhow::Result<Metadata> {
    let (first, last) = reader.time_range().unwrap_or((Timestamp(0), Timestamp(0)));
    let day = |time: Timestamp| {
        OffsetDateTime::from_unix_timestamp((time.0 / 1_000_000_000) as i64).map(OffsetDateTime::date)
    };
    let (start_date, last_date) = (day(first)?, day(last)?);
    let end_date = last_date.next_day().context("the last day has no next")?;
    let mapping = |instrument: &Instrument| {
        let symbol = (instrument.id.0 + 1).to_string();
        let intervals = vec![MappingInterval { start_date, end_date, symbol }];
        SymbolMapping { raw_symbol: instrument.symbol.to_string(), intervals }
    };
    Ok(Metadata::builder()
        .dataset("TICKERPLANT")
        .schema(Some(schema))
        .start(first.0)
        .end(std::num::NonZeroU64::new(last.0.saturating_add(1)))
        .stype_in(Some(SType::RawSymbol))
        .stype_out(SType::InstrumentId)
        .symbols(reader.instruments().iter().map(|instrument| instrument.symbol.to_string()).collect())
        .mappings(reader.instruments().iter().map(mapping).collect())
        .build())
}

/// The price in billionths.
fn price_of(price: Price, exponent: i8) -> anyhow::Result<i64> {
    let power = i32::from(exponent) + 9;
    let scaled = if power >= 0 {
        10i64.checked_pow(power as u32).and_then(|factor| price.0.checked_mul(factor))
    } else {
        let divisor = 10i64.checked_pow(power.unsigned_abs()).filter(|divisor| price.0 % divisor == 0);
        divisor.map(|divisor| price.0 / divisor)
    };
    scaled.context("its price cannot be written in billionths with 64 bits")
}

fn size_of(size: Size) -> anyhow::Result<u32> {
    u32::try_from(size.0).context("its size does not fit into the 32 bits that DBN has for it")
}

fn side(side: Side) -> u8 {
    match side {
        Side::Buy => b'B',
        Side::Sell => b'A',
        Side::Unknown => b'N',
    }
}
