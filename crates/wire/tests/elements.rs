//! The bytes of every element and of the frames around them, in both dialects, and what independent readers make of them.
//!
//! **Invariant:** a change of these bytes is a change of the protocol.

use std::fmt::Write as _;

use market::{
    AssetClass, Bar, BarInterval, BookDepth, BookUpdate, Channel, Event, Instrument, InstrumentId, Level, Price, Quote,
    Side, Size, Status, StatusCode, Symbol, Ticker, Timestamp, Trade,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use wire::{Dialect, FrameKind, Gap, GapReason, begin_data, encode_element, encode_gap, end_data};

/// 2024-07-01T13:30:00.000000001Z, 0x17de_19e9_e14b_7001.
const TIME: Timestamp = Timestamp(1_719_840_600_000_000_001);

fn instrument() -> Instrument {
    Instrument {
        id: InstrumentId(7),
        symbol: Symbol::new("BTC-USD").unwrap(),
        price_exponent: -2,
        size_exponent: -4,
        tick_size: Price(1),
        lot_size: Size(1),
        class: AssetClass::Crypto,
        currency: "USD".into(),
        description: "Bitcoin in US dollars".into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn decode(dialect: Dialect, bytes: &[u8]) -> Value {
    match dialect {
        Dialect::NativeMessagePack => rmp_serde::from_slice(bytes).unwrap(),
        Dialect::NativeJson => serde_json::from_slice(bytes).unwrap(),
    }
}

/// Encodes in both dialects and compares: `packed` is hex, spaces aside; `array` is what a reader makes of it.
fn check(encode: impl Fn(Dialect, &mut Vec<u8>), packed: &str, array: &Value, object: &str) {
    let mut out = Vec::new();
    encode(Dialect::NativeMessagePack, &mut out);
    assert_eq!(hex(&out), packed.replace(' ', ""));
    assert_eq!(&decode(Dialect::NativeMessagePack, &out), array);

    out.clear();
    encode(Dialect::NativeJson, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), format!("{object},"));
}

fn check_event(seq: u64, event: &Event, packed: &str, array: &Value, object: &str) {
    check(|dialect, out| encode_element(dialect, &instrument(), seq, TIME, event, out), packed, array, object);
}

#[test]
fn trade() {
    let trade = Trade { price: Price(968_219), size: Size(12_345), side: Side::Buy, trade_id: 300 };
    check_event(
        1,
        &Event::Trade(trade),
        "98 01 07 01 cf17de19e9e14b7001 ce000ec61b cd3039 01 cd012c",
        &json!([1, 7, 1, TIME.0, 968_219, 12_345, 1, 300]),
        r#"{"type":"trade","symbol":"BTC-USD","seq":1,"time":"2024-07-01T13:30:00.000000001Z","price":"9682.19","size":"1.2345","side":"buy","trade_id":300}"#,
    );
}

#[test]
fn trade_at_a_negative_price_by_nobody_known() {
    let trade = Trade { price: Price(-3763), size: Size(0), side: Side::Unknown, trade_id: 0 };
    check_event(
        u64::MAX,
        &Event::Trade(trade),
        "98 01 07 cfffffffffffffffff cf17de19e9e14b7001 d1f14d 00 00 00",
        &json!([1, 7, u64::MAX, TIME.0, -3763, 0, 0, 0]),
        r#"{"type":"trade","symbol":"BTC-USD","seq":18446744073709551615,"time":"2024-07-01T13:30:00.000000001Z","price":"-37.63","size":"0.0000","side":"unknown","trade_id":0}"#,
    );
}

#[test]
fn quote() {
    let quote = Quote {
        bid: Some(Level { price: Price(968_218), size: Size(10_000) }),
        ask: Some(Level { price: Price(968_220), size: Size(5) }),
    };
    check_event(
        128,
        &Event::Quote(quote),
        "98 02 07 cc80 cf17de19e9e14b7001 ce000ec61a cd2710 ce000ec61c 05",
        &json!([2, 7, 128, TIME.0, 968_218, 10_000, 968_220, 5]),
        r#"{"type":"quote","symbol":"BTC-USD","seq":128,"time":"2024-07-01T13:30:00.000000001Z","bid":"9682.18","bid_size":"1.0000","ask":"9682.20","ask_size":"0.0005"}"#,
    );
}

#[test]
fn quote_with_an_empty_side() {
    let quote = Quote { bid: None, ask: Some(Level { price: Price(1), size: Size(1) }) };
    check_event(
        2,
        &Event::Quote(quote),
        "98 02 07 02 cf17de19e9e14b7001 c0 c0 01 01",
        &json!([2, 7, 2, TIME.0, null, null, 1, 1]),
        r#"{"type":"quote","symbol":"BTC-USD","seq":2,"time":"2024-07-01T13:30:00.000000001Z","bid":null,"bid_size":null,"ask":"0.01","ask_size":"0.0001"}"#,
    );
}

#[test]
fn bar() {
    let bar = Bar {
        interval: BarInterval::M1,
        open: Price(100),
        high: Price(200),
        low: Price(50),
        close: Price(150),
        volume: Size(70_000),
        trade_count: 12,
        closed: true,
    };
    check_event(
        3,
        &Event::Bar(bar),
        "9c 03 07 03 cf17de19e9e14b7001 3c 64 ccc8 32 cc96 ce00011170 0c c3",
        &json!([3, 7, 3, TIME.0, 60, 100, 200, 50, 150, 70_000, 12, true]),
        r#"{"type":"bar","symbol":"BTC-USD","seq":3,"time":"2024-07-01T13:30:00.000000001Z","interval_s":60,"open":"1.00","high":"2.00","low":"0.50","close":"1.50","volume":"7.0000","trade_count":12,"closed":true}"#,
    );
}

#[test]
fn ticker() {
    let ticker = Ticker {
        last: Price(150),
        open: Price(100),
        high: Price(200),
        low: Price(50),
        volume: Size(70_000),
        turnover: 1234.5,
        trade_count: 12,
    };
    check_event(
        4,
        &Event::Ticker(ticker),
        "9b 06 07 04 cf17de19e9e14b7001 cc96 64 ccc8 32 ce00011170 cb40934a0000000000 0c",
        &json!([6, 7, 4, TIME.0, 150, 100, 200, 50, 70_000, 1234.5, 12]),
        r#"{"type":"ticker","symbol":"BTC-USD","seq":4,"time":"2024-07-01T13:30:00.000000001Z","last":"1.50","open":"1.00","high":"2.00","low":"0.50","volume":"7.0000","turnover":1234.5,"trade_count":12}"#,
    );
}

#[test]
fn status() {
    let status = Status { code: StatusCode::Halted, reason: "say \"LULD\"\n".into() };
    check_event(
        5,
        &Event::Status(status),
        "96 07 07 05 cf17de19e9e14b7001 02 ab 73617920224c554c44220a",
        &json!([7, 7, 5, TIME.0, 2, "say \"LULD\"\n"]),
        r#"{"type":"status","symbol":"BTC-USD","seq":5,"time":"2024-07-01T13:30:00.000000001Z","code":"halted","reason":"say \"LULD\"\n"}"#,
    );
}

#[test]
fn books_have_their_levels_best_first() {
    let level = |price, size| Level { price: Price(price), size: Size(size) };
    let snapshot =
        BookUpdate::new(BookDepth::Top10, &[level(968_218, 12_000), level(-1, 1)], &[level(968_219, 5)], 0xcbf4_3926);
    check_event(
        1,
        &Event::BookSnapshot(snapshot),
        "98 04 07 01 cf17de19e9e14b7001 0a 92 92ce000ec61acd2ee0 92ff01 91 92ce000ec61b05 cecbf43926",
        &json!([4, 7, 1, TIME.0, 10, [[968_218, 12_000], [-1, 1]], [[968_219, 5]], 0xcbf4_3926u32]),
        r#"{"type":"book_snapshot","symbol":"BTC-USD","seq":1,"time":"2024-07-01T13:30:00.000000001Z","depth":10,"bids":[["9682.18","1.2000"],["-0.01","0.0001"]],"asks":[["9682.19","0.0005"]],"checksum":3421780262}"#,
    );
    let delta = BookUpdate::new(BookDepth::Full, &[], &[level(968_219, 0)], 0);
    check_event(
        2,
        &Event::BookDelta(delta),
        "98 05 07 02 cf17de19e9e14b7001 00 90 91 92ce000ec61b00 00",
        &json!([5, 7, 2, TIME.0, 0, [], [[968_219, 0]], 0]),
        r#"{"type":"book_delta","symbol":"BTC-USD","seq":2,"time":"2024-07-01T13:30:00.000000001Z","depth":0,"bids":[],"asks":[["9682.19","0.0000"]],"checksum":0}"#,
    );
}

#[test]
fn gap() {
    let gap = Gap { channel: Channel::Quotes, from_seq: 4, to_seq: 1000, reason: GapReason::Conflated };
    check(
        |dialect, out| encode_gap(dialect, &instrument(), TIME, gap, out),
        "98 08 07 cd03e8 cf17de19e9e14b7001 a6 71756f746573 04 cd03e8 a9 636f6e666c61746564",
        &json!([8, 7, 1000, TIME.0, "quotes", 4, 1000, "conflated"]),
        r#"{"type":"gap","symbol":"BTC-USD","seq":1000,"time":"2024-07-01T13:30:00.000000001Z","channel":"quotes","from_seq":4,"to_seq":1000,"reason":"conflated"}"#,
    );
}

#[test]
fn every_reason_of_a_gap_and_every_code_of_a_status_has_its_name() {
    let names = [GapReason::Conflated, GapReason::Slow, GapReason::Evicted, GapReason::Source].map(GapReason::name);
    assert_eq!(names, ["conflated", "slow", "evicted", "source"]);
    let codes = [StatusCode::PreOpen, StatusCode::Trading, StatusCode::Halted, StatusCode::Auction, StatusCode::Closed];
    for (number, code) in codes.into_iter().enumerate() {
        let event = Event::Status(Status { code, reason: "".into() });
        let array = message(Dialect::NativeMessagePack, FrameKind::Live, std::slice::from_ref(&event));
        assert_eq!(array[1][4], json!(number));
        assert_eq!(array[1][5], json!(""));
        let object = message(Dialect::NativeJson, FrameKind::Live, &[event]);
        assert_eq!(object["data"][0]["code"], json!(code.name()));
    }
}

#[test]
fn frames_begin_and_end() {
    use Dialect::{NativeJson, NativeMessagePack};
    use FrameKind::{Live, Snapshot};
    let framed = |dialect, kind, count| {
        let mut out = Vec::new();
        begin_data(dialect, kind, TIME, count, &mut out);
        end_data(dialect, &mut out);
        out
    };
    assert_eq!(hex(&framed(NativeMessagePack, Live, 0)), "91cf17de19e9e14b7001");
    assert_eq!(hex(&framed(NativeMessagePack, Live, 15)), "dc0010cf17de19e9e14b7001");
    assert_eq!(hex(&framed(NativeMessagePack, Live, 70_000)), "dd00011171cf17de19e9e14b7001");
    assert_eq!(hex(&framed(NativeMessagePack, Snapshot, 0)), "92cf17de19e9e14b7001920000");
    assert_eq!(hex(&framed(NativeMessagePack, Snapshot, 200)), "dc00cacf17de19e9e14b70019200ccc8");
    assert_eq!(framed(NativeJson, Live, 0), br#"{"sent_at":"2024-07-01T13:30:00.000000001Z","data":[]}"#);
    assert_eq!(
        framed(NativeJson, Snapshot, 0),
        br#"{"sent_at":"2024-07-01T13:30:00.000000001Z","snapshot":true,"data":[]}"#
    );
}

/// A data message of `events` with sequence numbers from 1, read back.
fn message(dialect: Dialect, kind: FrameKind, events: &[Event]) -> Value {
    let mut out = Vec::new();
    begin_data(dialect, kind, TIME, events.len(), &mut out);
    for (seq, event) in (1..).zip(events) {
        encode_element(dialect, &instrument(), seq, TIME, event, &mut out);
    }
    end_data(dialect, &mut out);
    decode(dialect, &out)
}

fn level() -> impl Strategy<Value = Option<Level>> {
    prop::option::of((any::<i64>(), any::<u64>()).prop_map(|(p, s)| Level { price: Price(p), size: Size(s) }))
}

fn event() -> impl Strategy<Value = Event> {
    let prices = || any::<[i64; 4]>().prop_map(|prices| prices.map(Price));
    let side = prop::sample::select(vec![Side::Unknown, Side::Buy, Side::Sell]);
    let trade = (any::<i64>(), any::<u64>(), side, any::<u64>()).prop_map(|(price, size, side, trade_id)| {
        Event::Trade(Trade { price: Price(price), size: Size(size), side, trade_id })
    });
    let quote = (level(), level()).prop_map(|(bid, ask)| Event::Quote(Quote { bid, ask }));
    let interval = prop::sample::select(BarInterval::ALL.to_vec());
    let bar = (interval, prices(), any::<(u64, u64, bool)>()).prop_map(
        |(interval, [open, high, low, close], (volume, trade_count, closed))| {
            Event::Bar(Bar { interval, open, high, low, close, volume: Size(volume), trade_count, closed })
        },
    );
    let ticker = (prices(), any::<(u64, u64)>(), prop::num::f64::NORMAL).prop_map(
        |([last, open, high, low], (volume, trade_count), turnover)| {
            Event::Ticker(Ticker { last, open, high, low, volume: Size(volume), turnover, trade_count })
        },
    );
    let status =
        ".{0,40}".prop_map(|reason| Event::Status(Status { code: StatusCode::Auction, reason: reason.into() }));
    prop_oneof![trade, quote, bar, ticker, status, book()]
}

fn book() -> impl Strategy<Value = Event> {
    let side = || {
        let level = any::<(i64, u64)>().prop_map(|(price, size)| Level { price: Price(price), size: Size(size) });
        prop::collection::vec(level, 0..40)
    };
    let depth = prop::sample::select(vec![BookDepth::Top10, BookDepth::Top50, BookDepth::Full]);
    (any::<bool>(), depth, side(), side(), any::<u32>()).prop_map(|(snapshot, depth, bids, asks, checksum)| {
        let update = BookUpdate::new(depth, &bids, &asks, checksum);
        if snapshot { Event::BookSnapshot(update) } else { Event::BookDelta(update) }
    })
}

fn pairs(levels: &[Level]) -> Value {
    levels.iter().map(|level| json!([level.price.0, level.size.0])).collect()
}

fn levels(quote: &Quote) -> [Value; 4] {
    let pair = |level: Option<Level>| level.map_or([Value::Null, Value::Null], |l| [json!(l.price.0), json!(l.size.0)]);
    let ([a, b], [c, d]) = (pair(quote.bid), pair(quote.ask));
    [a, b, c, d]
}

/// What an element must read as, written down a second time in the plainest way.
fn array(seq: u64, event: &Event) -> Value {
    match event {
        Event::Trade(t) => json!([1, 7, seq, TIME.0, t.price.0, t.size.0, t.side as u8, t.trade_id]),
        Event::Quote(q) => {
            let [bid, bid_size, ask, ask_size] = levels(q);
            json!([2, 7, seq, TIME.0, bid, bid_size, ask, ask_size])
        }
        Event::Bar(b) => json!([
            3,
            7,
            seq,
            TIME.0,
            b.interval.seconds(),
            b.open.0,
            b.high.0,
            b.low.0,
            b.close.0,
            b.volume.0,
            b.trade_count,
            b.closed
        ]),
        Event::Ticker(t) => {
            json!([6, 7, seq, TIME.0, t.last.0, t.open.0, t.high.0, t.low.0, t.volume.0, t.turnover, t.trade_count])
        }
        Event::Status(s) => json!([7, 7, seq, TIME.0, s.code as u8, &*s.reason]),
        Event::BookSnapshot(book) | Event::BookDelta(book) => {
            let kind = if matches!(event, Event::BookSnapshot(_)) { 4 } else { 5 };
            let depth = [10, 50, 0][book.depth() as usize];
            json!([kind, 7, seq, TIME.0, depth, pairs(book.bids()), pairs(book.asks()), book.checksum()])
        }
    }
}

proptest! {
    #[test]
    fn any_run_of_elements_is_a_message(events in prop::collection::vec(event(), 0..40), snapshot in any::<bool>()) {
        let (kind, marker) = if snapshot {
            (FrameKind::Snapshot, Some(json!([0, events.len()])))
        } else {
            (FrameKind::Live, None)
        };
        let want: Vec<Value> = [json!(TIME.0)]
            .into_iter()
            .chain(marker)
            .chain((1..).zip(&events).map(|(seq, event)| array(seq, event)))
            .collect();
        prop_assert_eq!(message(Dialect::NativeMessagePack, kind, &events), Value::Array(want));

        let object = message(Dialect::NativeJson, kind, &events);
        prop_assert_eq!(&object["sent_at"], &json!(TIME.to_string()));
        prop_assert_eq!(object.get("snapshot"), snapshot.then_some(&json!(true)));
        let data = object["data"].as_array().unwrap();
        prop_assert_eq!(data.len(), events.len());
        for ((seq, event), element) in (1u64..).zip(&events).zip(data) {
            prop_assert_eq!(&element["seq"], &json!(seq));
            let price = |key: &str| market::parse_decimal(element[key].as_str().unwrap(), -2).unwrap();
            match event {
                Event::Trade(trade) => {
                    prop_assert_eq!(price("price"), trade.price.0);
                    prop_assert_eq!(&element["trade_id"], &json!(trade.trade_id));
                }
                Event::Quote(quote) => {
                    prop_assert_eq!(quote.bid.is_none(), element["bid"].is_null() && element["bid_size"].is_null());
                    if let Some(ask) = quote.ask {
                        prop_assert_eq!(price("ask"), ask.price.0);
                    }
                }
                Event::Bar(bar) => {
                    prop_assert_eq!([price("open"), price("high"), price("low"), price("close")],
                        [bar.open.0, bar.high.0, bar.low.0, bar.close.0]);
                }
                Event::Ticker(ticker) => {
                    // This reader is off by a last bit at times.
                    let ratio = element["turnover"].as_f64().unwrap() / ticker.turnover;
                    prop_assert!((ratio - 1.0).abs() < 1e-15, "{} {}", element["turnover"], ticker.turnover);
                }
                Event::Status(status) => prop_assert_eq!(&element["reason"], &json!(&*status.reason)),
                Event::BookSnapshot(book) | Event::BookDelta(book) => {
                    for (key, levels) in [("bids", book.bids()), ("asks", book.asks())] {
                        let prices = element[key].as_array().unwrap().iter().map(|pair| {
                            market::parse_decimal(pair[0].as_str().unwrap(), -2).unwrap()
                        });
                        prop_assert!(prices.eq(levels.iter().map(|level| level.price.0)));
                    }
                    prop_assert_eq!(&element["checksum"], &json!(book.checksum()));
                }
            }
        }
    }

    #[test]
    fn gaps_read_back(channel in prop::sample::select(Channel::ALL.to_vec()), from_seq in any::<u64>(), to_seq in any::<u64>()) {
        let gap = Gap { channel, from_seq, to_seq, reason: GapReason::Evicted };
        let mut out = Vec::new();
        encode_gap(Dialect::NativeMessagePack, &instrument(), TIME, gap, &mut out);
        prop_assert_eq!(
            decode(Dialect::NativeMessagePack, &out),
            json!([8, 7, to_seq, TIME.0, channel.name(), from_seq, to_seq, "evicted"])
        );
    }
}

#[test]
fn a_turnover_that_json_has_no_number_for_is_null() {
    let ticker = Ticker {
        last: Price(0),
        open: Price(0),
        high: Price(0),
        low: Price(0),
        volume: Size(0),
        turnover: f64::INFINITY,
        trade_count: 0,
    };
    let object = message(Dialect::NativeJson, FrameKind::Live, &[Event::Ticker(ticker)]);
    assert_eq!(object["data"][0]["turnover"], Value::Null);
}

#[test]
fn each_book_depth_has_its_name_in_a_gap() {
    let channel = Channel::Book(BookDepth::Full);
    let mut out = Vec::new();
    let gap = Gap { channel, from_seq: 1, to_seq: 2, reason: GapReason::Slow };
    encode_gap(Dialect::NativeJson, &instrument(), TIME, gap, &mut out);
    assert!(String::from_utf8(out).unwrap().contains(r#""channel":"book.full""#));
}
