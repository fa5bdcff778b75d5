//! Bytes and nanoseconds per element, recorded here and as DBN: `cargo bench -p recording`.
//!
//! The elements are an hour of the simulator's trades and quotes, numbered as the sequencer does. DBN has a trade as a `trades`
//! record and a quote as an `mbp-1` record in two files, each compressed as a whole at level 3, which is the best that DBN
//! can do; here blocks are closed as if each second were flushed.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::{Cursor, Write as _};
use std::time::{Duration, Instant};

use dbn::encode::{DbnEncodable, EncodeRecord, dbn::Encoder as DbnEncoder};
use dbn::{BidAskPair, Mbp1Msg, Metadata, RecordHeader, SType, Schema, TradeMsg, UNDEF_PRICE, rtype};
use market::{Event, Level, Numbered, Tick, Timestamp};
use recording::{Encoder, EncoderOptions, Item, Reader, Session, State};
use simulator::{Config, Next, Simulator};

const START: Timestamp = Timestamp(1_700_000_000_000_000_000);
const ROUNDS: u32 = 5;

fn main() {
    for (symbols, rate, seconds) in [(1, 200.0, 1800), (100, 2_000.0, 300), (1_000, 10_000.0, 60)] {
        let mut simulator =
            Simulator::new(Config { seed: 1, symbols, rate, ..Config::default() }).expect("it is valid");
        let elements = numbered(&mut simulator, Duration::from_secs(seconds));
        println!("{symbols} instruments, {rate} ticks/s, {} elements", elements.len());
        let (mut best, mut file) = (Duration::MAX, Vec::new());
        for _ in 0..ROUNDS {
            file.clear();
            let begun = Instant::now();
            write(&simulator, &elements, &mut file);
            best = best.min(begun.elapsed());
        }
        row("recording: write", best, file.len(), elements.len());
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let mut reader = Reader::open(Cursor::new(&file)).expect("it is whole");
            while let Some(Item::Element(element)) = reader.read().expect("it is whole") {
                black_box(&element);
            }
            best = best.min(begun.elapsed());
        }
        row("recording: read", best, file.len(), elements.len());
        let (mut best, mut bytes) = (Duration::MAX, 0);
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            bytes = as_dbn(&elements);
            best = best.min(begun.elapsed());
        }
        row("dbn.zst: write", best, bytes, elements.len());
    }
}

fn row(what: &str, time: Duration, bytes: usize, count: usize) {
    let (ns, per) = (time.as_nanos() as f64 / count as f64, bytes as f64 / count as f64);
    println!("  {what:<18} {ns:>7.1} ns/element {per:>7.2} bytes/element");
}

fn numbered(simulator: &mut Simulator, length: Duration) -> Vec<Numbered> {
    let mut ticks = Vec::new();
    simulator.begin_at(START);
    while simulator.advance(length, 4096, &mut ticks) == Next::Ready {}
    let mut seqs = HashMap::new();
    let number = |tick: Tick| {
        let seq = seqs.entry((tick.instrument, tick.channel())).or_insert(0);
        *seq += 1;
        Numbered { seq: *seq, tick }
    };
    ticks.into_iter().map(number).collect()
}

/// As the recorder does it: a block a second, and the state kept for what is written now and then.
fn write(simulator: &Simulator, elements: &[Numbered], file: &mut Vec<u8>) {
    let session = Session { epoch: "e".into(), part: 1, begun_at: START, writer: "bench".into() };
    let mut encoder = Encoder::new(EncoderOptions::default());
    encoder.begin(&session, simulator.instruments(), file);
    let mut state = State::default();
    let mut flushed = START;
    for element in elements {
        encoder.push(element, START, file);
        state.apply(element);
        if element.tick.time.since(flushed) >= Duration::from_secs(1) {
            encoder.flush(START, file);
            flushed = element.tick.time;
        }
    }
    encoder.finish(START, file);
    black_box(state);
}

fn as_dbn(elements: &[Numbered]) -> usize {
    let side = |level: Option<Level>| {
        level.map_or((UNDEF_PRICE, 0), |level| (level.price.0 * 10_000_000, level.size.0 as u32))
    };
    let trades = elements.iter().filter_map(|element| match &element.tick.event {
        Event::Trade(trade) => Some(TradeMsg {
            hd: RecordHeader::new::<TradeMsg>(rtype::MBP_0, 1, element.tick.instrument.0 + 1, element.tick.time.0),
            price: trade.price.0 * 10_000_000,
            size: trade.size.0 as u32,
            action: b'T' as _,
            side: b'B' as _,
            ts_recv: element.tick.time.0,
            sequence: trade.trade_id as u32,
            ..TradeMsg::default()
        }),
        _ => None,
    });
    let quotes = elements.iter().filter_map(|element| match &element.tick.event {
        Event::Quote(quote) => {
            let ((bid_px, bid_sz), (ask_px, ask_sz)) = (side(quote.bid), side(quote.ask));
            Some(Mbp1Msg {
                hd: RecordHeader::new::<Mbp1Msg>(rtype::MBP_1, 1, element.tick.instrument.0 + 1, element.tick.time.0),
                action: b'M' as _,
                side: b'N' as _,
                ts_recv: element.tick.time.0,
                levels: [BidAskPair { bid_px, ask_px, bid_sz, ask_sz, bid_ct: 1, ask_ct: 1 }],
                ..Mbp1Msg::default()
            })
        }
        _ => None,
    });
    compressed(Schema::Trades, trades) + compressed(Schema::Mbp1, quotes)
}

fn compressed<R: DbnEncodable>(schema: Schema, records: impl Iterator<Item = R>) -> usize {
    let metadata = Metadata::builder()
        .dataset("X.X")
        .schema(Some(schema))
        .start(0)
        .stype_in(Some(SType::RawSymbol))
        .stype_out(SType::InstrumentId)
        .build();
    let mut zst = zstd::Encoder::new(Vec::new(), 3).expect("memory does not fail");
    let mut encoder = DbnEncoder::new(&mut zst, &metadata).expect("memory does not fail");
    for record in records {
        encoder.encode_record(&record).expect("memory does not fail");
    }
    zst.flush().expect("memory does not fail");
    zst.finish().expect("memory does not fail").len()
}
