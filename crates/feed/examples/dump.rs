//! Prints the ticks of recordings as lines of JSON with exact decimal texts, to compare them with what other readers find.
//!
//! **Invariant:** the first line of an instrument is its description; every other line is one tick, in replay order.
//!
//! With `--derived` first, what is derived from the trades follows at the end: all bars and the statistics as they are then,
//! the market's time being that of the last tick.
//!
//! `cargo run -p feed --example dump -- [--derived] FILE...`

use std::error::Error;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use feed::{Feed, Progress, ReplayOptions, Speed, open_recordings};
use market::{
    Bar, BarInterval, Bars, BookUpdate, Event, Instrument, Level, Price, Side, Size, Statistics, Tick, Ticker,
    Timestamp, format_decimal,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let is_derived = paths.first().is_some_and(|first| first.as_os_str() == "--derived");
    let mut derived = is_derived.then(Derived::default);
    paths.drain(..usize::from(is_derived));
    let mut feed = open_recordings(&paths, ReplayOptions { speed: Speed::Max, ..ReplayOptions::default() })?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for instrument in feed.instruments() {
        write_instrument(instrument, &mut out)?;
    }
    feed.start(Timestamp(0));
    let mut ticks = Vec::new();
    loop {
        let progress = feed.poll(Timestamp(0), 1024, &mut ticks);
        for tick in ticks.drain(..) {
            let instrument = &feed.instruments()[tick.instrument.index()];
            write_tick(instrument, &tick, &mut out)?;
            if let Some(derived) = &mut derived {
                derived.take(instrument, &tick);
            }
        }
        if progress? == Progress::Ended {
            break;
        }
    }
    if let Some(derived) = derived {
        derived.write(feed.instruments(), &mut out)?;
    }
    Ok(out.flush()?)
}

/// What follows from the trades.
struct Derived {
    bars: Bars,
    statistics: Statistics,
}

impl Default for Derived {
    fn default() -> Self {
        Self { bars: Bars::new(usize::MAX), statistics: Statistics::default() }
    }
}

impl Derived {
    fn take(&mut self, instrument: &Instrument, tick: &Tick) {
        self.bars.advance(tick.time);
        self.statistics.advance(tick.time, |_| ());
        if let Event::Trade(trade) = &tick.event {
            self.bars.trade(instrument.id, tick.time, trade);
            self.statistics.trade(instrument, tick.time, trade);
        }
    }

    fn write(&self, instruments: &[Instrument], out: &mut impl Write) -> std::io::Result<()> {
        for instrument in instruments {
            for interval in BarInterval::ALL {
                for (opens, bar) in self.bars.history(instrument.id, interval, usize::MAX) {
                    write_bar(instrument, opens, &bar, out)?;
                }
            }
            let rolling = self.statistics.of(instrument.id);
            let ticker =
                rolling.and_then(|rolling| rolling.ticker(instrument.price_exponent, instrument.size_exponent));
            if let Some(Ticker { last, open, high, low, volume, turnover, trade_count }) = ticker {
                let [last, open, high, low] = [last, open, high, low].map(|value| price(instrument, value));
                let (symbol, volume) = (&instrument.symbol, size(instrument, volume));
                writeln!(
                    out,
                    r#"{{"type":"ticker","symbol":"{symbol}","last":"{last}","open":"{open}","high":"{high}","low":"{low}","volume":"{volume}","turnover":{turnover},"trade_count":{trade_count}}}"#
                )?;
            }
        }
        Ok(())
    }
}

fn write_bar(instrument: &Instrument, opens: Timestamp, bar: &Bar, out: &mut impl Write) -> std::io::Result<()> {
    let [open, high, low, close] = [bar.open, bar.high, bar.low, bar.close].map(|value| price(instrument, value));
    let (symbol, time, interval_s) = (&instrument.symbol, opens.nanos(), bar.interval.seconds());
    let (volume, count, closed) = (size(instrument, bar.volume), bar.trade_count, bar.closed);
    writeln!(
        out,
        r#"{{"type":"bar","symbol":"{symbol}","time":{time},"interval_s":{interval_s},"open":"{open}","high":"{high}","low":"{low}","close":"{close}","volume":"{volume}","trade_count":{count},"closed":{closed}}}"#
    )
}

fn write_instrument(instrument: &Instrument, out: &mut impl Write) -> std::io::Result<()> {
    let Instrument { symbol, price_exponent, size_exponent, currency, description, .. } = instrument;
    let (tick, lot) = (price(instrument, instrument.tick_size), size(instrument, instrument.lot_size));
    let class = instrument.class.name();
    writeln!(
        out,
        r#"{{"type":"instrument","symbol":"{symbol}","price_exponent":{price_exponent},"size_exponent":{size_exponent},"tick_size":"{tick}","lot_size":"{lot}","class":"{class}","currency":"{currency}","description":{description:?}}}"#
    )
}

fn write_tick(instrument: &Instrument, tick: &Tick, out: &mut impl Write) -> std::io::Result<()> {
    let (symbol, time) = (&instrument.symbol, tick.time.nanos());
    match &tick.event {
        Event::Trade(trade) => {
            let (price, size) = (price(instrument, trade.price), size(instrument, trade.size));
            let side = match trade.side {
                Side::Buy => "buy",
                Side::Sell => "sell",
                Side::Unknown => "unknown",
            };
            let id = trade.trade_id;
            writeln!(
                out,
                r#"{{"type":"trade","symbol":"{symbol}","time":{time},"price":"{price}","size":"{size}","side":"{side}","trade_id":{id}}}"#
            )
        }
        Event::Quote(quote) => {
            let [bid, ask] = [quote.bid, quote.ask].map(|level| levels(instrument, level));
            writeln!(
                out,
                r#"{{"type":"quote","symbol":"{symbol}","time":{time},"bid":{},"bid_size":{},"ask":{},"ask_size":{}}}"#,
                bid.0, bid.1, ask.0, ask.1
            )
        }
        Event::BookSnapshot(update) => write_book("book_snapshot", instrument, time, update, out),
        Event::BookDelta(update) => write_book("book_delta", instrument, time, update, out),
        Event::Bar(_) | Event::Ticker(_) | Event::Status(_) => Ok(()),
    }
}

fn write_book(
    kind: &str,
    instrument: &Instrument,
    time: u64,
    update: &BookUpdate,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let pairs = |levels: &[Level]| {
        let pair =
            |level: &Level| format!(r#"["{}","{}"]"#, price(instrument, level.price), size(instrument, level.size));
        levels.iter().map(pair).collect::<Vec<_>>().join(",")
    };
    let (symbol, checksum) = (&instrument.symbol, update.checksum());
    let [bids, asks] = [update.bids(), update.asks()].map(pairs);
    writeln!(
        out,
        r#"{{"type":"{kind}","symbol":"{symbol}","time":{time},"bids":[{bids}],"asks":[{asks}],"checksum":{checksum}}}"#
    )
}

/// Price and size as JSON, null when nobody is there.
fn levels(instrument: &Instrument, level: Option<Level>) -> (String, String) {
    let quoted = |text| format!("\"{text}\"");
    level.map_or(("null".into(), "null".into()), |level| {
        (quoted(price(instrument, level.price)), quoted(size(instrument, level.size)))
    })
}

fn price(instrument: &Instrument, price: Price) -> String {
    let mut text = String::new();
    format_decimal(price.0, instrument.price_exponent, &mut text);
    text
}

fn size(instrument: &Instrument, size: Size) -> String {
    let mut text = String::new();
    format_decimal(i64::try_from(size.0).unwrap_or(i64::MAX), instrument.size_exponent, &mut text);
    text
}
