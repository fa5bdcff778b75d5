//! Nanoseconds and bytes per element and dialect: `cargo bench -p wire`.
//!
//! Each figure is the best of several rounds over a buffer that has its capacity, as a shard's has.

use std::hint::black_box;
use std::time::{Duration, Instant};

use market::{
    AssetClass, Bar, BarInterval, Event, Instrument, InstrumentId, Level, Price, Quote, Side, Size, Symbol, Ticker,
    Timestamp, Trade,
};
use wire::{Dialect, Encoding, encode_element, parse_command};

const ROUNDS: usize = 20;
const PER_ROUND: u64 = 100_000;

fn main() {
    let instrument = Instrument {
        id: InstrumentId(700),
        symbol: Symbol::new("BTC-USD").expect("a symbol"),
        price_exponent: -2,
        size_exponent: -4,
        tick_size: Price(1),
        lot_size: Size(1),
        class: AssetClass::Crypto,
        currency: "USD".into(),
        description: String::new(),
    };
    for (name, event) in events() {
        for dialect in Dialect::ALL {
            measure_element(name, dialect, &instrument, &event);
        }
    }
    let symbols: Vec<String> = (0..1000).map(|n| format!("\"SYM{n:04}\"")).collect();
    for (name, symbols) in [("1 symbol", "\"BTC-USD\"".to_owned()), ("1000 symbols", symbols.join(","))] {
        let json = format!(r#"{{"op":"subscribe","channels":["trades","quotes"],"symbols":[{symbols}],"id":1}}"#);
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let packed = rmp_serde::to_vec(&value).expect("MessagePack");
        measure_command(name, Encoding::MessagePack, &packed);
        measure_command(name, Encoding::Json, json.as_bytes());
    }
}

fn events() -> [(&'static str, Event); 4] {
    let (price, size) = (Price(968_219), Size(12_345));
    [
        ("trade", Event::Trade(Trade { price, size, side: Side::Buy, trade_id: 123_456_789 })),
        ("quote", Event::Quote(Quote { bid: Some(Level { price, size }), ask: Some(Level { price, size }) })),
        (
            "bar",
            Event::Bar(Bar {
                interval: BarInterval::M1,
                open: price,
                high: price,
                low: price,
                close: price,
                volume: size,
                trade_count: 77,
                closed: false,
            }),
        ),
        (
            "ticker",
            Event::Ticker(Ticker {
                last: price,
                open: price,
                high: price,
                low: price,
                volume: size,
                turnover: 119_525.0,
                trade_count: 77,
            }),
        ),
    ]
}

fn measure_element(name: &str, dialect: Dialect, instrument: &Instrument, event: &Event) {
    let mut out = Vec::new();
    let best = best_of(|| {
        out.clear();
        for seq in 0..PER_ROUND {
            let time = Timestamp(1_719_840_600_000_000_000 + seq * 1001);
            encode_element(dialect, instrument, 1_000_000 + seq, time, black_box(event), &mut out);
        }
        black_box(&out);
    });
    let ns = best.as_nanos() as f64 / PER_ROUND as f64;
    println!("{name:8} {:18} {ns:7.1} ns {:4} B", dialect.subprotocol(), out.len() as u64 / PER_ROUND);
}

fn measure_command(name: &str, encoding: Encoding, payload: &[u8]) {
    let best = best_of(|| {
        for _ in 0..100 {
            let _ = black_box(parse_command(encoding, black_box(payload)));
        }
    });
    println!("subscribe, {name:12} {encoding:11?} {:9.0} ns {:6} B", best.as_nanos() as f64 / 100.0, payload.len());
}

fn best_of(mut round: impl FnMut()) -> Duration {
    let time = |round: &mut dyn FnMut()| {
        let begin = Instant::now();
        round();
        begin.elapsed()
    };
    (0..ROUNDS).map(|_| time(&mut round)).min().unwrap_or_default()
}
