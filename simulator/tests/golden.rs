//! The bytes of a seed, pinned: whoever changes them on purpose changes these and says so in the change log.
//!
//! The digests can be had without this test, on any machine:
//! `tickersim ticks --seed 7 --symbols 1000 --rate 1000 --seconds 3600 --ticks-max 20000 --begin 2026-11-20T14:30:00Z --format csv | sha256sum`

use std::fmt::Write as _;
use std::time::Duration;

use market::Timestamp;
use sha2::{Digest as _, Sha256};
use simulator::{Config, Scenario, Simulator, text};

fn lines(scenario: Scenario, ticks_max: usize) -> String {
    let mut simulator = Simulator::new(Config { seed: 7, symbols: 1000, rate: 1000.0, scenario }).unwrap();
    simulator.begin_at(Timestamp::parse_rfc3339("2026-11-20T14:30:00Z").unwrap());
    let mut ticks = Vec::new();
    simulator.advance(Duration::from_hours(1), ticks_max, &mut ticks);
    let mut lines = text::TICK_CSV_HEADER.to_owned();
    for tick in &ticks {
        text::tick_csv(&simulator.instruments()[tick.instrument.index()], tick, &mut lines);
    }
    lines
}

fn sha256(text: &str) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(text) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[test]
fn a_market_begins_like_this() {
    let expected = "\
time,symbol,type,price,size,side,trade_id,bid,bid_size,ask,ask_size
1795185000003904046,BTC-USD,quote,,,,,98200.80,0.22334,98202.42,0.19044
1795185000004486147,BTCX6,quote,,,,,98300,1,98305,3
1795185000005636690,BTC-EUR,quote,,,,,90381.92,0.04441,90384.92,0.02531
1795185000007450052,BTC-USD,quote,,,,,98200.88,0.34189,98202.50,6.89071
1795185000008718536,BTC-EUR,quote,,,,,90381.96,0.07356,90384.96,0.00921
1795185000011555910,IMX-EUR,quote,,,,,1.2802,1859,1.2817,806
1795185000011677249,ZNZ6,quote,,,,,110.484375,6,110.500000,7
1795185000014275436,ESH7,quote,,,,,6151.75,12,6152.25,158
1795185000017238176,AAPL,quote,,,,,233.75,200,233.76,700
1795185000017761487,ESZ6,quote,,,,,6142.50,15,6142.75,1
1795185000019852847,BTC-USD,quote,,,,,98201.37,0.13244,98202.99,0.00281
1795185000020009074,FDAXZ7,quote,,,,,19546,3,19549,5
";
    assert_eq!(lines(Scenario::Market, 12), expected);
}

#[test]
fn a_metronome_begins_like_this() {
    let expected = "\
time,symbol,type,price,size,side,trade_id,bid,bid_size,ask,ask_size
1795185000001000000,BTC-USD,quote,,,,,98200.99,0.22334,98202.62,0.19044
1795185000002000000,BTC-USD,trade,98202.62,0.02078,buy,1,,,,
1795185000003000000,AAPL,quote,,,,,233.75,1800,233.76,400
1795185000004000000,AAPL,trade,233.76,1,buy,1,,,,
1795185000005000000,ESZ6,quote,,,,,6142.50,28,6142.75,78
1795185000006000000,ESZ6,trade,6142.75,5,buy,1,,,,
";
    assert_eq!(lines(Scenario::Uniform, 6), expected);
}

#[test]
fn twenty_thousand_ticks_have_these_digests() {
    let digests = [Scenario::Market, Scenario::Uniform].map(|scenario| sha256(&lines(scenario, 20_000)));
    assert_eq!(
        digests,
        [
            "8b9917929a7738a460c6796ba22d5b4d0774e9cd25bccd247d907e0300576220",
            "36334000c4e575bcea46d601c3bfcb547964b3b3814b8d5653c03e67903b4303"
        ]
    );
}

#[test]
fn ten_thousand_instruments_have_this_digest() {
    let simulator = Simulator::new(Config { symbols: Config::SYMBOLS_MAX, ..Config::default() }).unwrap();
    let mut lines = text::INSTRUMENT_CSV_HEADER.to_owned();
    for instrument in simulator.instruments() {
        text::instrument_csv(instrument, &mut lines);
    }
    assert_eq!(sha256(&lines), "fbb7041dd799443487ba8e4ebd5e62946d0bfe0f8140fb1beae4d68982ea72c3");
}

#[test]
fn another_seed_is_another_market_of_the_same_instruments() {
    let make = |seed| {
        let mut simulator = Simulator::new(Config { seed, ..Config::default() }).unwrap();
        let mut ticks = Vec::new();
        simulator.advance(Duration::from_secs(1), 100, &mut ticks);
        (simulator.instruments().to_vec(), ticks)
    };
    let (one, same, other) = (make(1), make(1), make(2));
    assert_eq!(one, same);
    assert_eq!(one.0, other.0);
    assert_ne!(one.1, other.1);
}
