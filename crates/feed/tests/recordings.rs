//! Recordings through the public interface: written to files, opened and replayed on a simulated clock.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::time::Duration;

use dbn::encode::dbn::Encoder;
use dbn::encode::{DbnEncodable, EncodeRecord};
use dbn::{
    BidAskPair, MappingInterval, Mbp1Msg, Metadata, RecordHeader, SType, Schema, SymbolMapping, TradeMsg, rtype,
};
use feed::{
    Feed, FeedError, OnBadRecord, Progress, Rebase, RecordingFeed, Repeat, ReplayOptions, Speed, open_recordings,
};
use market::{AssetClass, Channel, Event, Level, Price, Quote, Side, Size, Tick, Timestamp, Trade};
use proptest::prelude::*;
use tempfile::TempDir;

const TRADES: &str = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n";
const QUOTES: &str = "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n";
const MAX: ReplayOptions = ReplayOptions {
    speed: Speed::Max,
    repeat: Repeat::Once,
    rebase: Rebase::Keep,
    on_bad_record: OnBadRecord::Stop,
    from: None,
    to: None,
};
const SKIPPING: ReplayOptions = ReplayOptions { on_bad_record: OnBadRecord::Skip, ..MAX };

/// Recordings that vanish with the test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn add(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// Replays to the end, or to the first error, with all that came before it.
fn replay(paths: &[PathBuf], options: ReplayOptions) -> (RecordingFeed, Vec<Tick>, Option<FeedError>) {
    let mut feed = open_recordings(paths, options).unwrap();
    feed.start(Timestamp(0));
    let mut out = Vec::new();
    loop {
        match feed.poll(Timestamp(0), 7, &mut out) {
            Ok(Progress::Ready) => {}
            Ok(Progress::Held) => panic!("held though nobody has said so"),
            Ok(Progress::Ended) => return (feed, out, None),
            Ok(Progress::Idle { until }) => panic!("idle until {until} at full speed"),
            Err(error) => return (feed, out, Some(error)),
        }
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).unwrap()
}

const SYMBOL_ID: u32 = 118;
const NANO: i64 = 1_000_000_000;

fn metadata(schema: Schema) -> Metadata {
    let day = |day| time::Date::from_calendar_date(2024, time::Month::July, day).unwrap();
    let interval = MappingInterval { start_date: day(1), end_date: day(3), symbol: SYMBOL_ID.to_string() };
    Metadata::builder()
        .dataset("GLBX.MDP3")
        .schema(Some(schema))
        .start(0)
        .stype_in(Some(SType::RawSymbol))
        .stype_out(SType::InstrumentId)
        .mappings(vec![SymbolMapping { raw_symbol: "ESU4".into(), intervals: vec![interval] }])
        .build()
}

fn databento<R: DbnEncodable>(schema: Schema, records: &[R]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut encoder = Encoder::new(&mut content, &metadata(schema)).unwrap();
    for record in records {
        encoder.encode_record(record).unwrap();
    }
    content
}

fn trade(number: u32) -> TradeMsg {
    let time = u64::from(number) * 1000;
    TradeMsg {
        hd: RecordHeader::new::<TradeMsg>(rtype::MBP_0, 1, SYMBOL_ID, time),
        price: 5_512_250_000_000 + i64::from(number) * 250_000_000,
        size: number,
        action: b'T' as _,
        side: b'B' as _,
        ts_recv: time + 5,
        sequence: number,
        ..TradeMsg::default()
    }
}

fn top(number: u32, action: u8, level: BidAskPair) -> Mbp1Msg {
    let time = u64::from(number) * 1000;
    Mbp1Msg {
        hd: RecordHeader::new::<Mbp1Msg>(rtype::MBP_1, 1, SYMBOL_ID, time),
        price: 5512 * NANO,
        size: 1,
        action: action as _,
        side: b'A' as _,
        ts_recv: time + 5,
        sequence: number,
        levels: [level],
        ..Mbp1Msg::default()
    }
}

fn bid_ask(bid: (i64, u32), ask: (i64, u32)) -> BidAskPair {
    BidAskPair { bid_px: bid.0, bid_sz: bid.1, ask_px: ask.0, ask_sz: ask.1, bid_ct: 1, ask_ct: 1 }
}

#[test]
fn top_of_book_records_become_quotes_and_trades() {
    let files = Files::new();
    let first = bid_ask((5511 * NANO, 3), (5512 * NANO, 4));
    let mut recounted = first.clone();
    recounted.bid_ct = 9;
    let smaller = bid_ask((5511 * NANO, 3), (5512 * NANO, 3));
    let no_ask = bid_ask((5511 * NANO, 3), (dbn::UNDEF_PRICE, 0));
    let records = [
        top(1, b'T', first.clone()),
        top(2, b'A', first),
        top(3, b'C', recounted.clone()),
        top(4, b'T', recounted),
        top(5, b'M', smaller),
        top(6, b'C', no_ask),
    ];
    let quote = |bid: (i64, u64), ask: Option<(i64, u64)>| {
        let level = |(price, size)| Level { price: Price(price), size: Size(size) };
        Event::Quote(Quote { bid: Some(level(bid)), ask: ask.map(level) })
    };
    let bought = |trade_id| Event::Trade(Trade { price: Price(5512), size: Size(1), side: Side::Sell, trade_id });
    let want = [
        (1000, quote((5511, 3), Some((5512, 4)))),
        (1000, bought(1)),
        (4000, bought(4)),
        (5000, quote((5511, 3), Some((5512, 3)))),
        (6000, quote((5511, 3), None)),
    ];
    for (schema, name) in [(Schema::Mbp1, "a.dbn"), (Schema::Tbbo, "b.dbn")] {
        let path = files.add(name, databento(schema, &records));
        let (feed, ticks, error) = replay(&[path], MAX);
        assert!(error.is_none(), "{error:?}");
        let [instrument] = feed.instruments() else { panic!("one instrument") };
        assert_eq!((instrument.symbol.as_str(), instrument.class), ("ESU4", AssetClass::Future));
        assert_eq!((instrument.price_exponent, instrument.size_exponent), (0, 0));
        // What they say of the book is checked in `books.rs`.
        let without_book = ticks.into_iter().filter(|tick| !matches!(tick.channel(), Channel::Book(_)));
        let got: Vec<_> = without_book.map(|tick| (tick.time.nanos(), tick.event)).collect();
        assert_eq!(got, want);
    }
}

#[test]
fn columns_may_come_in_any_order_and_sides_may_be_empty() {
    let files = Files::new();
    let quotes = "bid_price,symbol,x,bid_amount,ask_price,ask_amount,local_timestamp,timestamp\r\n\
                  1.25,A-EUR,?,1e-05,,,7,5\r\n,A-EUR,?,,1.5,2,8,6\r\n";
    let path = files.add("quotes.csv.gz", gzip(quotes.as_bytes()));
    let (feed, ticks, error) = replay(&[path], MAX);
    assert!(error.is_none(), "{error:?}");
    let [instrument] = feed.instruments() else { panic!("one instrument") };
    assert_eq!((instrument.price_exponent, instrument.size_exponent), (-2, -5));
    assert_eq!((instrument.currency.as_str(), instrument.class), ("EUR", AssetClass::Crypto));
    assert_eq!(instrument.tick_size, Price(25));
    let bid = Some(Level { price: Price(125), size: Size(1) });
    let ask = Some(Level { price: Price(150), size: Size(200_000) });
    assert_eq!(ticks[0].time, Timestamp(5000));
    assert_eq!(ticks[0].event, Event::Quote(Quote { bid, ask: None }));
    assert_eq!(ticks[1].event, Event::Quote(Quote { bid: None, ask }));
}

#[test]
fn files_of_the_same_symbol_share_the_finer_exponents() {
    let files = Files::new();
    let trades = files.add("t.csv", format!("{TRADES}x,B,1,1,77,buy,10,0.5\nx,B,2,5,not-a-number,sell,11,1\n"));
    let quotes = files.add("q.csv", format!("{QUOTES}x,B,1,1,1,10.25,10.2,3\nx,C,1,4,1,2,1,3\n"));
    let (feed, ticks, error) = replay(&[trades, quotes], MAX);
    assert!(error.is_none(), "{error:?}");
    let [b, c] = feed.instruments() else { panic!("two instruments") };
    assert_eq!((b.price_exponent, b.size_exponent, c.price_exponent), (-2, -1, 0));
    let order: Vec<_> = ticks.iter().map(|tick| (tick.instrument.index(), tick.channel().name())).collect();
    assert_eq!(order, [(0, "trades"), (0, "quotes"), (1, "quotes"), (0, "trades")]);
    let Event::Trade(first) = ticks[0].event else { panic!("a trade") };
    assert_eq!((first.price, first.size, first.trade_id), (Price(1000), Size(5), 77));
    let Event::Trade(last) = ticks[3].event else { panic!("a trade") };
    assert_eq!((last.price, last.trade_id, last.side), (Price(1100), 0, Side::Sell));
}

#[test]
fn bad_lines_are_reported_with_their_place_or_skipped_and_counted() {
    let good = |number: u64| format!("x,B,{number},{number},1,buy,10,1");
    for (bad, reason) in [
        ("x,B,2,2,1,buy,10", "it has 7 fields, the header has 8"),
        ("x,B,2,2,1,buy,ten,1", "price \"ten\": not a decimal number"),
        ("x,B,2,2,1,buy,,1", "price \"\": not a decimal number"),
        ("x,B,2,2,1,buy,10,-1", "amount \"-1\" is negative"),
        ("x,B,2,2,1,hold,10,1", "side \"hold\" is not buy, sell or unknown"),
        ("x,B,-2,2,1,buy,10,1", "timestamp \"-2\" is not a time in microseconds"),
        ("x,B,2,,1,buy,10,1", "local_timestamp \"\" is not a time in microseconds"),
        ("x,a b,2,2,1,buy,10,1", "\"a b\" is not a symbol: 1 to 32 of A-Z a-z 0-9 . - _ / : = ^"),
        ("x,B,2,2,1,buy,0.0000000000000000001,1", "price \"0.0000000000000000001\": has more decimal places"),
    ] {
        let files = Files::new();
        let path = files.add("t.csv", format!("{TRADES}{}\n\n{bad}\n{}\n{}", good(1), good(3), good(4)));
        let (feed, ticks, error) = replay(from_ref(&path), MAX);
        let Some(FeedError::BadRecord { position, reason: got, path: of }) = error else { panic!("{bad}: {error:?}") };
        assert_eq!((position.as_str(), of), ("line 4", path.display().to_string()), "{bad}");
        assert!(got.starts_with(reason), "{got}");
        assert_eq!((ticks.len(), feed.bad_records()), (1, 0));

        let (feed, ticks, error) = replay(&[path], SKIPPING);
        assert_eq!((ticks.len(), feed.bad_records(), error.is_none()), (3, 1, true), "{bad}");
    }
}

#[test]
fn bad_databento_records_are_reported_with_their_number_or_skipped_and_counted() {
    type Mutation = (&'static str, fn(&mut TradeMsg));
    let files = Files::new();
    let mutations: [Mutation; 5] = [
        ("it is a trade without a price", |record| record.price = dbn::UNDEF_PRICE),
        ("its action is '?'", |record| record.action = b'?' as _),
        ("its side is 'X'", |record| record.side = b'X' as _),
        ("its time is undefined", |record| record.ts_recv = dbn::UNDEF_TIMESTAMP),
        ("its type is 0xa0 where 0x00 is right", |record| record.hd.rtype = rtype::MBO),
    ];
    for (reason, mutate) in mutations {
        let mut records = [trade(1), trade(2), trade(3)];
        mutate(&mut records[1]);
        let path = files.add("t.dbn.zst", zstandard(&databento(Schema::Trades, &records)));
        let (_, ticks, error) = replay(from_ref(&path), MAX);
        let Some(FeedError::BadRecord { position, reason: got, .. }) = error else { panic!("{reason}: {error:?}") };
        assert_eq!((position.as_str(), got.as_str(), ticks.len()), ("record 2", reason, 1));

        let (feed, ticks, error) = replay(&[path], SKIPPING);
        assert_eq!((ticks.len(), feed.bad_records(), error.is_none()), (2, 1, true), "{reason}");
    }
}

#[test]
fn what_cannot_be_replayed_is_refused_at_once() {
    let files = Files::new();
    let trades = databento(Schema::Trades, &[trade(1)]);
    let mut newer = trades.clone();
    newer[3] = 200;
    let mut endless = trades.clone();
    endless[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    for (name, content, reason) in [
        (
            "a.dbn",
            databento(Schema::Ohlcv1S, &[trade(1)]),
            "its schema is ohlcv-1s; known are trades, tbbo, mbp-1, mbp-10 and mbo",
        ),
        ("b.dbn", b"hello".to_vec(), "it does not begin as DBN does"),
        ("c.dbn.zst", trades.clone(), "it is not Zstandard data, as its name says"),
        ("d.dbn.zst", zstandard(&trades)[..40].to_vec(), "cannot read"),
        ("e.dbn", trades[..50].to_vec(), "it ends in the middle of its metadata"),
        ("f.dbn", newer, "newer version of DBN"),
        ("g.dbn", endless, "its metadata claims to be 4294967295 bytes long"),
        ("h.csv", b"".to_vec(), "it is empty"),
        ("i.csv", b"time,price\n".to_vec(), "its header has no column \"id\""),
        (
            "j.csv",
            b"a;b;c\n1;2;3\n".to_vec(),
            "its first line is not the header of Tardis trades, quotes or book updates: \"a;b;c\"",
        ),
        ("k.csv.gz", TRADES.into(), "it is not gzip data, as its name says"),
        ("l.csv.gz", gzip(TRADES.as_bytes())[..15].to_vec(), "cannot read"),
        ("m.csv", vec![b'x'; 100_000], "the line is longer than 16384 bytes"),
        ("n.csv", vec![0xff; 100], "it is neither DBN nor text"),
    ] {
        let path = files.add(name, content);
        let error = open_recordings(&[path], MAX).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains(name), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let missing = open_recordings(&[files.0.path().join("none.csv")], MAX).unwrap_err().to_string();
    assert!(missing.contains("none.csv") && missing.contains("No such file"), "{missing}");
    assert!(open_recordings(&[files.0.path().to_owned()], MAX).is_err(), "a folder");
    assert!(open_recordings(&[], MAX).is_err());
    let backwards = ReplayOptions { speed: Speed::Times(-1.0), ..MAX };
    assert!(open_recordings(&[files.add("good.dbn", trades)], backwards).is_err());
}

#[test]
fn a_file_cut_short_is_replayed_up_to_there() {
    let files = Files::new();
    let records: Vec<_> = (1..=100).map(trade).collect();
    let whole = databento(Schema::Trades, &records);
    let record_bytes = size_of::<TradeMsg>();
    let path = files.add("cut.dbn", &whole[..whole.len() - 3 * record_bytes - 1]);
    for options in [MAX, SKIPPING] {
        let (_, ticks, error) = replay(from_ref(&path), options);
        assert_eq!(ticks.len(), 96);
        let error = error.unwrap().to_string();
        assert!(error.ends_with("cut.dbn, record 97: the file ends in the middle of the record"), "{error}");
    }
}

#[test]
fn an_empty_recording_ends_even_when_looped() {
    let files = Files::new();
    let csv = files.add("t.csv", TRADES);
    let databento = files.add("t.dbn", databento::<TradeMsg>(Schema::Trades, &[]));
    let all_bad = files.add("bad.csv", format!("{TRADES}x\ny\n"));
    let options = ReplayOptions { repeat: Repeat::Loop, ..SKIPPING };
    let (feed, ticks, error) = replay(&[csv, databento, all_bad], options);
    assert_eq!((ticks.len(), feed.instruments().len(), feed.bad_records(), error.is_none()), (0, 0, 2, true));
}

#[test]
fn rebasing_shifts_all_times_by_one_constant() {
    let files = Files::new();
    // The exchange's times are 40 and 10 microseconds before their receipt.
    let path = files.add("t.csv", format!("{TRADES}x,B,60,100,1,buy,10,1\nx,B,190,200,2,buy,10,1\n"));
    let mut feed = open_recordings(&[path], ReplayOptions { rebase: Rebase::ToStart, ..MAX }).unwrap();
    let start = Timestamp(5_000_000);
    feed.start(start);
    let mut out = Vec::new();
    while feed.poll(start, 10, &mut out).unwrap() == Progress::Ready {}
    let times: Vec<_> = out.iter().map(|tick| tick.time).collect();
    assert_eq!(times, [start - Duration::from_micros(40), start + Duration::from_micros(90)]);
}

/// Trades of one symbol with those (exchange, receive) times in microseconds, numbered from 1.
fn csv_of(times: &[(u64, u64)]) -> String {
    let mut csv = TRADES.to_owned();
    for ((time, receive), number) in times.iter().zip(1..) {
        writeln!(csv, "x,B,{time},{receive},{number},buy,{number}.5,1").unwrap();
    }
    csv
}

fn number(tick: &Tick) -> u64 {
    let Event::Trade(trade) = &tick.event else { panic!("a trade") };
    trade.trade_id
}

fn opened(path: &Path, options: ReplayOptions, start: Timestamp) -> RecordingFeed {
    let mut feed = open_recordings(&[path.to_owned()], options).unwrap();
    feed.start(start);
    feed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_paced_replay_is_never_early_and_loses_nothing(
        gaps in prop::collection::vec(0u64..5000, 1..30),
        times in prop_oneof![Just(1.0), 0.01f64..100.0],
        strides in prop::collection::vec(1u64..3_000_000, 1..8),
        ticks_max in 1usize..5,
    ) {
        let mut receive = 1_000_000;
        let receipts: Vec<_> = gaps.iter().map(|gap| { receive += gap; (receive, receive) }).collect();
        let files = Files::new();
        let path = files.add("t.csv", csv_of(&receipts));
        let start = Timestamp(1_700_000_000_000_000_000);
        let mut feed = opened(&path, ReplayOptions { speed: Speed::Times(times), ..ReplayOptions::default() }, start);
        let due = |number: u64| {
            let elapsed = (receipts[number as usize - 1].0 - receipts[0].0) * 1000;
            start.nanos() as f64 + elapsed as f64 / times
        };
        let (mut now, mut out, mut strides) = (start, Vec::new(), strides.iter().cycle());
        loop {
            let progress = feed.poll(now, ticks_max, &mut out).unwrap();
            // Floating point has 256 ns of room at these magnitudes.
            prop_assert!(out.iter().all(|tick| due(number(tick)) <= now.nanos() as f64 + 512.0));
            match progress {
                Progress::Ready => {}
                Progress::Held => panic!("held though nobody has said so"),
                Progress::Ended => break,
                Progress::Idle { until } => {
                    prop_assert!(until > now);
                    let next = out.len() as u64 + 1;
                    prop_assert!((due(next) - until.nanos() as f64).abs() <= 512.0);
                    // Sometimes too early, sometimes late.
                    now = now + Duration::from_nanos(*strides.next().unwrap());
                    if until.since(now) > Duration::from_secs(1) {
                        now = until;
                    }
                }
            }
        }
        let numbers: Vec<_> = out.iter().map(number).collect();
        prop_assert_eq!(numbers, (1..=receipts.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn a_loop_repeats_every_tick_and_never_goes_back(
        times in prop::collection::vec((1000u64..9000, 1000u64..9000), 1..15), passes in 1u64..5, paced in any::<bool>(),
    ) {
        let files = Files::new();
        let path = files.add("t.csv", csv_of(&times));
        let speed = if paced { Speed::Times(1.0) } else { Speed::Max };
        let options = ReplayOptions { speed, repeat: Repeat::Loop, ..ReplayOptions::default() };
        let mut now = Timestamp(1_700_000_000_000_000_000);
        let mut feed = opened(&path, options, now);
        let mut out = Vec::new();
        while (out.len() as u64) < passes * times.len() as u64 {
            match feed.poll(now, 1, &mut out).unwrap() {
                Progress::Ready => {}
                Progress::Idle { until } => now = until,
                Progress::Held | Progress::Ended => prop_assert!(false, "a loop does not end"),
            }
        }
        for (tick, index) in out.iter().zip(0..) {
            prop_assert_eq!(number(tick), index % times.len() as u64 + 1);
        }
        let mut latest_of_pass_before = Timestamp(0);
        for pass in out.chunks(times.len()) {
            prop_assert!(pass.iter().all(|tick| tick.time >= latest_of_pass_before));
            latest_of_pass_before = pass.iter().map(|tick| tick.time).max().unwrap();
        }
    }

    #[test]
    fn damaged_databento_files_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..6),
        keep in any::<prop::sample::Index>(), compressed in any::<bool>(), tops in any::<bool>(),
    ) {
        let level = |number: u32| bid_ask((5511 * NANO, number), (5512 * NANO, 1));
        let mut content = if tops {
            databento(Schema::Mbp1, &(1..20).map(|n| top(n, b'T', level(n))).collect::<Vec<_>>())
        } else {
            databento(Schema::Trades, &(1..20).map(trade).collect::<Vec<_>>())
        };
        if compressed {
            content = zstandard(&content);
        }
        damage(&mut content, &flips, keep);
        survives(if compressed { "t.dbn.zst" } else { "t.dbn" }, &content);
    }

    #[test]
    fn damaged_csv_files_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..6),
        keep in any::<prop::sample::Index>(), compressed in any::<bool>(),
    ) {
        let mut content = csv_of(&[(1, 2), (3, 4), (5, 6), (7, 8)]).into_bytes();
        if compressed {
            content = gzip(&content);
        }
        damage(&mut content, &flips, keep);
        survives("t", &content);
    }
}

fn damage(content: &mut Vec<u8>, flips: &[(prop::sample::Index, u8)], keep: prop::sample::Index) {
    for (at, bit) in flips {
        let at = at.index(content.len());
        content[at] ^= 1 << bit;
    }
    // Half of the files stay whole.
    let keep = keep.index(content.len() * 2);
    content.truncate(keep);
}

/// The file is refused, or replayed up to an error or its end; skipping never loses more ticks than stopping.
fn survives(name: &str, content: &[u8]) {
    let files = Files::new();
    let path = files.add(name, content);
    match open_recordings(from_ref(&path), MAX) {
        Ok(_) => {
            let (_, stopped, _) = replay(from_ref(&path), MAX);
            let (_, skipped, _) = replay(&[path], SKIPPING);
            assert_eq!(skipped[..stopped.len()], stopped);
        }
        Err(error) => assert!(matches!(error, FeedError::Unreadable { .. } | FeedError::Unsupported { .. }), "{error}"),
    }
}

/// The public sample recordings, if they are here.
fn recordings(names: &[&str]) -> Option<Vec<PathBuf>> {
    let Some(folder) = std::env::var_os("TICKER_RECORDINGS").map(PathBuf::from) else {
        println!("not run: TICKER_RECORDINGS is not set");
        return None;
    };
    // Relative to the workspace, whatever folder the test runs in.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    Some(names.iter().map(|name| folder.join(name)).collect())
}

#[test]
fn real_recordings_come_out_whole() {
    const ES: &str = "es_mbp-1_2024-07-01.dbn.zst";
    const ES_TRADES: &str = "es_trades_2024-07-01.dbn.zst";
    const BTC_TRADES: &str = "binance-futures_trades_2020-02-22_BTCUSDT.csv";
    const BTC_QUOTES: &str = "binance-futures_quotes_2020-02-22_BTCUSDT.csv";
    for (names, trades, quotes, exponents) in [
        (&[ES][..], 120, 2168, (-2, 0)),
        (&[ES_TRADES], 120, 0, (-2, 0)),
        (&[BTC_TRADES], 9999, 0, (-2, -3)),
        (&[BTC_QUOTES], 0, 9999, (-2, -3)),
        (&[BTC_TRADES, BTC_QUOTES], 9999, 9999, (-2, -3)),
    ] {
        let Some(paths) = recordings(names) else { return };
        let (feed, ticks, error) = replay(&paths, MAX);
        assert!(error.is_none(), "{error:?}");
        let count = |channel| ticks.iter().filter(|tick| tick.channel().name() == channel).count();
        assert_eq!((count("trades"), count("quotes")), (trades, quotes), "{names:?}");
        let [instrument] = feed.instruments() else { panic!("one instrument") };
        assert_eq!((instrument.price_exponent, instrument.size_exponent), exponents, "{names:?}");
    }
    let Some(paths) = recordings(&[ES, ES_TRADES]) else { return };
    let trades_of = |path: &PathBuf| -> Vec<Tick> {
        let (_, ticks, _) = replay(from_ref(path), MAX);
        ticks.into_iter().filter(|tick| tick.channel().name() == "trades").collect()
    };
    assert_eq!(trades_of(&paths[0]), trades_of(&paths[1]));
}
