//! Books of recordings through the public interface: whole events only, withdrawn where the input is impossible, and
//! back with the next snapshot.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dbn::encode::dbn::Encoder;
use dbn::encode::{DbnEncodable, EncodeRecord};
use dbn::{
    BidAskPair, FlagSet, MappingInterval, MboMsg, Mbp10Msg, Metadata, RecordHeader, SType, Schema, SymbolMapping,
    UNDEF_PRICE, flags, rtype,
};
use feed::{
    BookTroubles, Feed, FeedError, OnBadRecord, Progress, RecordingFeed, ReplayOptions, Speed, open_recordings,
};
use market::{Book, BookSide, Event, Level, Price, Tick, Timestamp};
use proptest::prelude::*;

const NANO: i64 = 1_000_000_000;
const LAST: u8 = flags::LAST;
const SNAPSHOT: u8 = flags::SNAPSHOT;
const LEVELS: &str = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n";

fn replay(paths: &[PathBuf], on_bad_record: OnBadRecord) -> (RecordingFeed, Vec<Tick>, Option<FeedError>) {
    let options = ReplayOptions { speed: Speed::Max, on_bad_record, ..ReplayOptions::default() };
    let mut feed = open_recordings(paths, options).unwrap();
    feed.start(Timestamp(0));
    let mut out = Vec::new();
    loop {
        match feed.poll(Timestamp(0), 3, &mut out) {
            Ok(Progress::Ready) => {}
            Ok(Progress::Held) => panic!("held though nobody has said so"),
            Ok(Progress::Ended) => return (feed, out, None),
            Ok(Progress::Idle { until }) => panic!("idle until {until} at full speed"),
            Err(error) => return (feed, out, Some(error)),
        }
    }
}

fn databento<R: DbnEncodable>(schema: Schema, records: &[R]) -> Vec<u8> {
    let day = |day| time::Date::from_calendar_date(2024, time::Month::July, day).unwrap();
    let mapping = |id: u32| SymbolMapping {
        raw_symbol: format!("S{id}"),
        intervals: vec![MappingInterval { start_date: day(1), end_date: day(3), symbol: id.to_string() }],
    };
    let metadata = Metadata::builder()
        .dataset("GLBX.MDP3")
        .schema(Some(schema))
        .start(0)
        .stype_in(Some(SType::RawSymbol))
        .stype_out(SType::InstrumentId)
        .mappings(vec![mapping(1), mapping(2)])
        .build();
    let mut content = Vec::new();
    let mut encoder = Encoder::new(&mut content, &metadata).unwrap();
    for record in records {
        encoder.encode_record(record).unwrap();
    }
    content
}

/// An order record of instrument 1: what happens, on which side, to which order, at which price, how much.
fn order(action: u8, side: u8, id: u64, price: i64, size: u32, flags: u8) -> MboMsg {
    MboMsg {
        hd: RecordHeader::new::<MboMsg>(rtype::MBO, 1, 1, 1000 + id),
        order_id: id,
        price: price * NANO,
        size,
        flags: FlagSet::new(flags),
        action: action as _,
        side: side as _,
        ts_recv: 5000,
        sequence: id as u32,
        ..MboMsg::default()
    }
}

fn of_instrument(id: u32, mut record: MboMsg) -> MboMsg {
    record.hd.instrument_id = id;
    record
}

fn replay_orders(records: &[MboMsg], on_bad_record: OnBadRecord) -> (RecordingFeed, Vec<Tick>, Option<FeedError>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.dbn");
    fs::write(&path, databento(Schema::Mbo, records)).unwrap();
    replay(&[path], on_bad_record)
}

/// The events in few words: `snapshot 99x1 | 100x2`, `delta 99x0 |`, `quote 99 100`, `trade 100x1`.
fn words(ticks: &[Tick]) -> Vec<String> {
    let level = |level: &Level| format!("{}x{}", level.price.0, level.size.0);
    let levels = |levels: &[Level]| levels.iter().map(level).collect::<Vec<_>>().join(" ");
    let best = |level: Option<Level>| level.map_or("-".to_owned(), |level| level.price.0.to_string());
    let words = ticks.iter().map(|tick| match &tick.event {
        Event::BookSnapshot(book) => format!("snapshot {} | {}", levels(book.bids()), levels(book.asks())),
        Event::BookDelta(book) => format!("delta {} | {}", levels(book.bids()), levels(book.asks())),
        Event::Quote(quote) => format!("quote {} {}", best(quote.bid), best(quote.ask)),
        Event::Trade(trade) => format!("trade {}x{}", trade.price.0, trade.size.0),
        other => format!("{other:?}"),
    });
    words.collect()
}

#[test]
fn an_event_is_seen_when_it_is_whole() {
    let (_, ticks, error) = replay_orders(
        &[
            // Neither a leading clear nor a last flag, as in real files.
            order(b'A', b'B', 1, 99, 3, SNAPSHOT),
            order(b'A', b'A', 2, 101, 4, SNAPSHOT),
            // A buyer takes all of order 2 and a part of the next: four records, one event.
            order(b'A', b'A', 3, 102, 5, LAST),
            order(b'T', b'B', 9, 101, 4, 0),
            order(b'F', b'A', 2, 101, 4, 0),
            order(b'C', b'A', 2, 101, 4, 0),
            order(b'M', b'A', 3, 102, 2, LAST),
            // Nothing changes in all.
            order(b'A', b'B', 4, 98, 1, 0),
            order(b'C', b'B', 4, 98, 1, LAST),
            // The venue clears the book.
            order(b'R', b'N', 0, 0, 0, LAST),
            order(b'A', b'B', 5, 90, 1, LAST),
            // The file ends within an event.
            order(b'A', b'B', 6, 91, 1, 0),
        ],
        OnBadRecord::Stop,
    );
    assert!(error.is_none(), "{error:?}");
    assert_eq!(
        words(&ticks),
        [
            "snapshot 99x3 | 101x4",
            "quote 99 101",
            "delta  | 102x5",
            "trade 101x4",
            "delta  | 101x0 102x2",
            "quote 99 102",
            "snapshot  | ",
            "quote - -",
            "delta 90x1 | ",
            "quote 90 -",
        ]
    );
    assert_eq!(ticks[0].time, Timestamp(1002), "an event has the latest of its times");
}

#[test]
fn impossible_orders_take_the_book_back_until_the_next_snapshot() {
    let snapshot = |price| order(b'A', b'B', 1, price, 1, SNAPSHOT | LAST);
    for (bad, reason) in [
        (order(b'C', b'B', 7, 98, 1, LAST), "order 7 is cancelled but not in the book"),
        (order(b'C', b'B', 1, 99, 2, LAST), "2 of order 1 is cancelled, which has 1"),
        (order(b'A', b'B', 1, 98, 1, LAST), "order 1 is added while it is in the book"),
        (order(b'A', b'B', 7, 98, 0, LAST), "order 7 has no size"),
        (order(b'M', b'A', 1, 99, 1, LAST), "order 1 changes its side"),
    ] {
        let records = [
            snapshot(99),
            bad,
            order(b'A', b'B', 8, 97, 1, LAST),
            order(b'T', b'N', 9, 97, 1, LAST),
            order(b'C', b'B', 55, 97, 1, LAST),
            snapshot(95),
            order(b'A', b'B', 8, 97, 1, LAST),
        ];
        // It is the book that cannot be, not the record: whatever is asked for bad records, the replay goes on.
        for on_bad_record in [OnBadRecord::Stop, OnBadRecord::Skip] {
            let (mut feed, ticks, error) = replay_orders(&records, on_bad_record);
            assert!(error.is_none() && feed.bad_records() == 0, "{reason}: {error:?}");
            assert_eq!(feed.book_troubles(), BookTroubles { refused: 1, stale: 0 }, "{reason}");
            let report = feed.take_report().unwrap();
            assert!(report.contains("record 2: ") && report.contains(reason) && report.contains("S1"), "{report}");
            assert_eq!(feed.take_report(), None);
            let before = ["snapshot 99x1 | ", "quote 99 -", "snapshot  | ", "quote - -"];
            let after = ["trade 97x1", "snapshot 95x1 | ", "quote 95 -", "delta 97x1 | ", "quote 97 -"];
            assert_eq!(words(&ticks), [&before[..], &after].concat(), "{reason}");

            let (feed, ..) = replay_orders(&records[..4], on_bad_record);
            assert_eq!(feed.book_troubles(), BookTroubles { refused: 1, stale: 1 }, "{reason}");
        }
    }
    // These are no orders at all: the record is refused, and the book has not seen it.
    for (bad, reason) in [
        (order(b'A', b'N', 7, 98, 1, LAST), "it is an order without a side"),
        (MboMsg { price: UNDEF_PRICE, ..order(b'A', b'B', 7, 98, 1, LAST) }, "it is an order without a price"),
        (order(b'A', b'B', 7, 98, 1, LAST | flags::MBP), "it is about a level, not about an order"),
        (order(b'?', b'B', 7, 98, 1, LAST), "its action is '?'"),
    ] {
        let (_, ticks, error) = replay_orders(&[snapshot(99), bad.clone()], OnBadRecord::Stop);
        assert!(error.unwrap().to_string().ends_with(reason), "{reason}");
        assert_eq!(words(&ticks), ["snapshot 99x1 | ", "quote 99 -"]);
        // Left out, it may have been what the next ones build on: the books of the file are unknown.
        let other = of_instrument(2, order(b'A', b'A', 3, 7, 1, SNAPSHOT | LAST));
        let records = [snapshot(99), other, bad, order(b'A', b'B', 8, 97, 1, LAST), snapshot(95)];
        let (mut feed, ticks, error) = replay_orders(&records[..4], OnBadRecord::Skip);
        assert!(error.is_none(), "{error:?}");
        assert_eq!((feed.bad_records(), feed.book_troubles()), (1, BookTroubles { refused: 0, stale: 2 }));
        let report = feed.take_report().unwrap();
        assert!(report.contains("record 3: ") && report.contains(reason), "{report}");
        let known = ["snapshot 99x1 | ", "quote 99 -", "snapshot  | 7x1", "quote - 7"];
        let lost = ["snapshot  | ", "quote - -", "snapshot  | ", "quote - -"];
        assert_eq!(words(&ticks), [known, lost].concat(), "{reason}");
        assert_eq!(ticks[4].time, ticks[0].time, "the time of what was known last");
        let (feed, ticks, _) = replay_orders(&records, OnBadRecord::Skip);
        assert_eq!(words(&ticks)[8..], ["snapshot 95x1 | ", "quote 95 -"], "{reason}");
        assert_eq!(feed.book_troubles().stale, 1);
    }
}

#[test]
fn lost_packets_take_the_book_back_too() {
    let records = [
        order(b'A', b'B', 1, 99, 1, SNAPSHOT | LAST),
        order(b'A', b'B', 2, 98, 1, LAST | flags::MAYBE_BAD_BOOK),
        order(b'A', b'B', 3, 98, 1, LAST),
    ];
    let (feed, ticks, error) = replay_orders(&records, OnBadRecord::Stop);
    assert!(error.is_none() && feed.bad_records() == 0);
    assert_eq!(words(&ticks), ["snapshot 99x1 | ", "quote 99 -", "snapshot  | ", "quote - -"]);
}

#[test]
fn without_a_snapshot_nothing_is_known() {
    let records =
        [order(b'A', b'B', 1, 99, 1, LAST), order(b'C', b'B', 7, 99, 1, LAST), order(b'T', b'B', 8, 99, 1, 0)];
    let (_, ticks, error) = replay_orders(&records, OnBadRecord::Stop);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(words(&ticks), ["trade 99x1"]);
}

#[test]
fn snapshots_of_several_instruments_follow_each_other() {
    let records = [
        order(b'A', b'B', 1, 99, 1, SNAPSHOT),
        order(b'A', b'B', 2, 98, 1, SNAPSHOT),
        of_instrument(2, order(b'A', b'A', 3, 7, 1, SNAPSHOT)),
        of_instrument(2, order(b'A', b'A', 4, 8, 1, SNAPSHOT)),
    ];
    let (_, ticks, error) = replay_orders(&records, OnBadRecord::Stop);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(words(&ticks), ["snapshot 99x1 98x1 | ", "quote 99 -", "snapshot  | 7x1 8x1", "quote - 7"]);
    assert_eq!(ticks[2].instrument.0, 1);
}

#[test]
fn records_of_ten_levels_become_deltas() {
    let record = |number: u64, bids: &[(i64, u32)], asks: &[(i64, u32)], action: u8| {
        let mut levels: [BidAskPair; 10] = std::array::from_fn(|_| BidAskPair::default());
        for (rank, level) in levels.iter_mut().enumerate() {
            (level.bid_px, level.bid_sz) = bids.get(rank).map_or((UNDEF_PRICE, 0), |(p, s)| (p * NANO, *s));
            (level.ask_px, level.ask_sz) = asks.get(rank).map_or((UNDEF_PRICE, 0), |(p, s)| (p * NANO, *s));
        }
        Mbp10Msg {
            hd: RecordHeader::new::<Mbp10Msg>(rtype::MBP_10, 1, 1, number),
            price: 100 * NANO,
            size: 1,
            action: action as _,
            side: b'A' as _,
            ts_recv: number,
            levels,
            ..Mbp10Msg::default()
        }
    };
    let records = [
        record(1, &[(99, 1), (98, 2)], &[(100, 1)], b'A'),
        record(2, &[(99, 1), (98, 2)], &[(100, 1)], b'T'),
        record(3, &[(98, 2), (97, 4)], &[(100, 3)], b'C'),
        record(4, &[(98, 2), (97, 5)], &[(100, 3)], b'M'),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.dbn");
    fs::write(&path, databento(Schema::Mbp10, &records)).unwrap();
    let (_, ticks, error) = replay(&[path], OnBadRecord::Stop);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(
        words(&ticks),
        [
            "quote 99 100",
            "snapshot 99x1 98x2 | 100x1",
            "trade 100x1",
            "quote 98 100",
            "delta 99x0 97x4 | 100x3",
            "delta 97x5 | ",
        ]
    );
}

fn replay_levels(lines: &str, on_bad_record: OnBadRecord) -> (RecordingFeed, Vec<Tick>, Option<FeedError>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("levels.csv");
    fs::write(&path, format!("{LEVELS}{lines}")).unwrap();
    replay(&[path], on_bad_record)
}

#[test]
fn lines_of_one_message_are_one_event() {
    let (feed, ticks, error) = replay_levels(
        "x,B,1,1,false,bid,5,1\n\
         x,B,10,11,true,bid,99,1\nx,B,10,11,true,ask,100.5,0.25\nx,B,10,11,true,bid,98,2\n\
         x,B,12,13,false,bid,99,0\nx,B,12,13,false,ask,100,1\n\
         x,C,12,13,true,ask,7,1\n\
         x,B,12,13,false,bid,98,2\n\
         x,B,14,15,false,bid,50,0\n\
         x,B,16,17,true,bid,90,1\n",
        OnBadRecord::Stop,
    );
    assert!(error.is_none(), "{error:?}");
    assert_eq!((feed.instruments()[0].price_exponent, feed.instruments()[0].size_exponent), (-1, -2));
    assert_eq!(
        words(&ticks),
        [
            "snapshot 990x100 980x200 | 1005x25",
            "quote 990 1005",
            "delta 990x0 | 1000x100",
            "quote 980 1000",
            "snapshot  | 7x1",
            "quote - 7",
            "snapshot 900x100 | ",
            "quote 900 -",
        ]
    );
}

#[test]
fn a_crossed_book_of_levels_is_taken_back() {
    let lines = "x,B,1,1,true,bid,99,1\nx,B,1,1,true,ask,100,1\n\
                 x,B,2,2,false,bid,100,1\n\
                 x,B,3,3,false,bid,98,1\n\
                 x,B,4,4,true,bid,97,1\n";
    let (mut feed, ticks, error) = replay_levels(lines, OnBadRecord::Stop);
    assert!(error.is_none(), "{error:?}");
    let report = feed.take_report().unwrap();
    let crossed = "line 4: the book is crossed: the best bid 100 is not below the best ask 100; nothing is known of";
    assert!(report.contains(crossed), "{report}");
    assert_eq!(feed.book_troubles(), BookTroubles { refused: 1, stale: 0 });
    let taken_back = ["snapshot 99x1 | 100x1", "quote 99 100", "snapshot  | ", "quote - -"];
    assert_eq!(words(&ticks), [&taken_back[..], &["snapshot 97x1 | ", "quote 97 -"]].concat());
}

#[test]
fn bad_lines_of_book_updates_are_reported() {
    for (bad, reason) in [
        ("x,B,1,2,maybe,bid,1,1", "is_snapshot \"maybe\" is not true or false"),
        ("x,B,1,2,true,buy,1,1", "side \"buy\" is not bid or ask"),
        ("x,B,1,2,true,bid,,1", "price \"\": not a decimal number"),
        ("x,B,1,2,true,bid,1,-1", "amount \"-1\" is negative"),
    ] {
        let lines = format!("x,B,1,1,true,bid,9,1\n{bad}\nx,B,3,3,false,bid,8,1\n");
        let (_, ticks, error) = replay_levels(&lines, OnBadRecord::Stop);
        let error = error.unwrap().to_string();
        assert!(error.ends_with(&format!("line 3: {reason}")), "{error}");
        assert!(ticks.is_empty(), "whether the snapshot was whole, nobody knows");
        let (feed, ticks, error) = replay_levels(&lines, OnBadRecord::Skip);
        assert_eq!((feed.bad_records(), error.is_none()), (1, true), "{bad}");
        assert_eq!(words(&ticks), ["snapshot  | "], "nor what it would be with the next changes");
        let (feed, ticks, _) = replay_levels(&format!("{lines}x,B,4,4,true,bid,7,1\n"), OnBadRecord::Skip);
        assert_eq!(words(&ticks), ["snapshot  | ", "snapshot 7x1 | ", "quote 7 -"], "{bad}");
        assert_eq!(feed.book_troubles().stale, 0);
    }
}

#[test]
fn given_quotes_and_deeper_books_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let levels = folder.path().join("levels.csv");
    fs::write(&levels, format!("{LEVELS}x,B,1,1,true,bid,99,1\nx,B,2,2,false,bid,98,1\n")).unwrap();
    let quotes = folder.path().join("quotes.csv");
    let header = "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n";
    fs::write(&quotes, format!("{header}x,B,1,1,,,99,1\n")).unwrap();
    let (_, ticks, error) = replay(&[levels, quotes], OnBadRecord::Stop);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(words(&ticks), ["snapshot 99x1 | ", "quote 99 -", "delta 98x1 | "], "one quote, the given one");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_orders_are_a_book_or_an_error(
        records in prop::collection::vec(
            (prop::sample::select(b"AAACMMTFR".to_vec()), prop::sample::select(b"ABN".to_vec()), 0u64..6, 95i64..105, 0u32..4,
                prop::sample::select(vec![0, LAST, LAST, SNAPSHOT, SNAPSHOT | LAST])),
            0..60,
        ),
    ) {
        let records: Vec<_> = records.into_iter().map(|(a, s, id, p, size, f)| order(a, s, id, p, size, f)).collect();
        let (_, ticks, error) = replay_orders(&records, OnBadRecord::Skip);
        prop_assert!(error.is_none());
        let mut book = Book::new();
        for tick in &ticks {
            book.apply(&tick.event);
            match &tick.event {
                Event::BookSnapshot(update) | Event::BookDelta(update) => {
                    prop_assert_eq!(update.checksum(), book.checksum());
                }
                Event::Quote(quote) => prop_assert_eq!(*quote, book.quote()),
                _ => {}
            }
        }
    }
}

/// Orders and levels in the plainest way, straight from the decoder.
#[derive(Default)]
struct Naive {
    orders: BTreeMap<u64, (u8, i64, u64)>,
}

impl Naive {
    fn levels(&self, side: u8) -> BTreeMap<i64, u64> {
        let mut levels = BTreeMap::new();
        for (_, price, size) in self.orders.values().filter(|order| order.0 == side) {
            *levels.entry(*price).or_default() += size;
        }
        levels
    }

    fn take(&mut self, record: &MboMsg) {
        let order = (record.side as u8, record.price / (NANO / 100), u64::from(record.size));
        match record.action as u8 {
            b'A' | b'M' => {
                self.orders.insert(record.order_id, order);
            }
            b'C' => {
                let held = self.orders.get_mut(&record.order_id).unwrap();
                held.2 -= order.2;
                if held.2 == 0 {
                    self.orders.remove(&record.order_id);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn a_real_session_builds_the_book_that_a_plain_reader_builds() {
    use dbn::decode::{DbnMetadata as _, DecodeRecord as _};
    let Some(folder) = std::env::var_os("TICKER_RECORDINGS").map(PathBuf::from) else {
        println!("not run: TICKER_RECORDINGS is not set");
        return;
    };
    // Relative to the workspace, whatever folder the test runs in.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder).join("esh4_mbo_2023-12-25.dbn.zst");
    let (feed, ticks, error) = replay(std::slice::from_ref(&path), OnBadRecord::Stop);
    assert!(error.is_none() && feed.bad_records() == 0, "{error:?}");

    let content = zstd::decode_all(fs::File::open(&path).unwrap()).unwrap();
    let mut decoder = dbn::decode::dbn::Decoder::new(content.as_slice()).unwrap();
    assert_eq!(decoder.metadata().schema, Some(Schema::Mbo));
    let mut records = Vec::new();
    while let Some(record) = decoder.decode_record::<MboMsg>().unwrap() {
        records.push(record.clone());
    }
    assert_eq!(records.len(), 68_792);
    // The whole file, and cuts at the ends of some events: the naive levels are dear.
    let mut naive = Naive::default();
    let (mut book, mut events) = (Book::new(), ticks.iter());
    for (number, record) in records.iter().enumerate() {
        naive.take(record);
        let is_end = record.flags.is_last() && (number * 2_654_435_761) % 1000 < 5;
        if !is_end && number + 1 != records.len() {
            continue;
        }
        let want = [b'B', b'A'].map(|side| naive.levels(side));
        // The replay has come so far when it shows this book; every event of it must be shown once.
        let mut found = false;
        for tick in events.by_ref() {
            book.apply(&tick.event);
            let is_book = matches!(tick.event, Event::BookSnapshot(_) | Event::BookDelta(_));
            if is_book && tick.time.nanos() >= record.hd.ts_event && shows(&book, &want) {
                found = true;
                break;
            }
        }
        assert!(found || shows(&book, &want), "the book after record {}", number + 1);
    }
    assert_eq!([BookSide::Bid, BookSide::Ask].map(|side| book.len(side)), [b'B', b'A'].map(|s| naive.levels(s).len()));
    let best = BookSide::ALL.map(|side| book.best(side).map(|level| level.price));
    assert_eq!(best, [Some(Price(481_000)), Some(Price(481_025))]);
}

fn shows(book: &Book, want: &[BTreeMap<i64, u64>; 2]) -> bool {
    BookSide::ALL.into_iter().zip(want).all(|(side, levels)| {
        book.len(side) == levels.len()
            && book.levels(side).all(|level| levels.get(&level.price.0) == Some(&level.size.0))
    })
}
