//! Writes the seeds of `commands`, `recordings` and `sessions`: valid traffic in every form, a file each.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --example seeds`; the seeds of the other targets were written by hand.

use std::{fs, path::Path};

use dbn::{
    BidAskPair, FlagSet, MappingInterval, MboMsg, Mbp1Msg, Mbp10Msg, Metadata, RecordHeader, SType, Schema,
    SymbolMapping, TradeMsg,
    encode::{DbnEncodable, EncodeRecord, dbn::Encoder},
    rtype,
};
use market::{BookDepth, BookUpdate, Event, Instrument, InstrumentId, Level, Price, Size, Timestamp};
use serde_json::json;

const TRADES: &str = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount
binance-futures,BTCUSDT,1582329600000000,1582329600005000,1,buy,9612.25,0.5
binance-futures,BTCUSDT,1582329601000000,1582329601005000,2,sell,9612,12
binance-futures,ETHUSDT,1582329602000000,1582329602005000,c0ffee,unknown,1e2,.25
";
const QUOTES: &str = "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount
binance-futures,BTCUSDT,1582329600000000,1582329600005000,3.5,9612.5,9612.25,1
binance-futures,BTCUSDT,1582329601000000,1582329601005000,,,9612.25,2
";
const LEVELS: &str = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount
deribit,BTC-PERPETUAL,1582329600000000,1582329600005000,true,bid,99.5,1
deribit,BTC-PERPETUAL,1582329600000000,1582329600005000,true,ask,100,2.5
deribit,BTC-PERPETUAL,1582329601000000,1582329601005000,false,bid,99.5,0
deribit,BTC-PERPETUAL,1582329602000000,1582329602005000,false,ask,99.75,7
deribit,BTC-PERPETUAL,1582329603000000,1582329603005000,true,bid,98,1
";
const SYMBOL_ID: u32 = 118;
const NANO: i64 = 1_000_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    commands(&seeds.join("commands"))?;
    recordings(&seeds.join("recordings"))?;
    sessions(&seeds.join("sessions"))?;
    Ok(())
}

/// A recording with every kind of event and of block, whole and cut.
fn sessions(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(folder)?;
    let instrument = Instrument {
        id: InstrumentId(0),
        symbol: market::Symbol::new("ESU4")?,
        price_exponent: -2,
        size_exponent: 0,
        tick_size: Price(25),
        lot_size: Size(1),
        class: market::AssetClass::Future,
        currency: "USD".into(),
        description: "a future".into(),
    };
    let level = |price, size| Level { price: Price(price), size: Size(size) };
    let (bids, asks) = ([level(99, 1), level(98, 2)], [level(100, 4)]);
    let book = |depth| BookUpdate::new(depth, &bids, &asks, 7);
    let prices = [Price(100); 4];
    let [open, high, low, close] = prices;
    let bar = |interval| {
        Event::Bar(market::Bar { interval, open, high, low, close, volume: Size(3), trade_count: 1, closed: false })
    };
    let events = [
        Event::Trade(market::Trade { price: Price(100), size: Size(3), side: market::Side::Buy, trade_id: 9 }),
        Event::Ticker(market::Ticker { last: open, open, high, low, volume: Size(3), turnover: 3.0, trade_count: 1 }),
        bar(market::BarInterval::S1),
        bar(market::BarInterval::D1),
        Event::Quote(market::Quote { bid: Some(level(99, 1)), ask: None }),
        Event::Status(market::Status { code: market::StatusCode::Halted, reason: "news".into() }),
        Event::BookSnapshot(book(BookDepth::Top10)),
        Event::BookSnapshot(book(BookDepth::Full)),
        Event::BookDelta(BookUpdate::new(BookDepth::Full, &[level(97, 0)], &[], 8)),
    ];
    let session = recording::Session {
        epoch: "18ea115611cd0509".into(),
        part: 1,
        begun_at: Timestamp(1_719_840_600_000_000_000),
        writer: "seed".into(),
    };
    let mut encoder = recording::Encoder::new(recording::EncoderOptions { block_bytes: 4096, level: 3 });
    let (mut out, now) = (Vec::new(), Timestamp(1_719_840_601_000_000_000));
    encoder.begin(&session, &[instrument], &mut out);
    let mut seqs = std::collections::HashMap::new();
    let mut state = recording::State::default();
    for pass in 0..3 {
        for event in &events {
            let seq = seqs.entry(event.channel()).or_insert(0);
            *seq += 1;
            let time = Timestamp(1_719_840_600_000_000_000 + pass * 250_000_000);
            let tick = market::Tick { instrument: InstrumentId(0), time, event: event.clone() };
            let element = market::Numbered { seq: *seq, tick };
            encoder.push(&element, now, &mut out);
            state.apply(&element);
        }
        encoder.flush(now, &mut out);
    }
    fs::write(folder.join("torn.tpr"), &out[..out.len() - 20])?;
    let channel = market::Channel::Trades;
    let lost = vec![recording::Lost { instrument: InstrumentId(0), channel, from_seq: 4, to_seq: 5 }];
    encoder.loss(&recording::Loss { reason: recording::LossReason::Slow, lost }, now, &mut out);
    encoder.state(&state.elements(), now, &mut out);
    encoder.finish(now, &mut out);
    fs::write(folder.join("closed.tpr"), &out)?;
    Ok(())
}

/// Every command with all its keys; the first byte is the encoding, as the target reads it.
fn commands(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(folder)?;
    let subscribe = json!({
        "op": "subscribe", "id": 1, "channels": ["trades", "quotes"], "symbols": ["BTC-USD", "ESU4"], "mode": "latest",
        "interval_ms": 250, "snapshot": false, "slow": "disconnect",
        "since": {"epoch": "e1", "seqs": {"ESU4": {"trades": 7, "quotes": 18_446_744_073_709_551_615_u64}}},
    });
    let commands = [
        ("auth", json!({"op": "auth", "token": "secret"})),
        ("subscribe", subscribe),
        ("subscribe-all", json!({"op": "subscribe", "id": "all", "channels": ["ticker"], "symbols": ["*"]})),
        ("update", json!({"op": "update", "id": -2, "channels": ["quotes"], "symbols": ["*"], "interval_ms": 1000})),
        ("unsubscribe", json!({"op": "unsubscribe", "id": 3, "channels": ["status"], "symbols": ["ESU4"]})),
        ("unsubscribe-all", json!({"op": "unsubscribe", "channels": null})),
        ("subscriptions", json!({"op": "subscriptions", "id": "\u{e9}\n"})),
        ("instruments", json!({"op": "instruments", "prefix": "ES"})),
        ("ping", json!({"op": "ping", "id": u64::MAX})),
        ("unknown-keys", json!({"op": "ping", "x": {"y": [1.5, null, true, {"z": "w"}]}})),
        ("unknown-op", json!({"op": "shout", "id": 9})),
        ("unknown-channel", json!({"op": "subscribe", "id": 9, "channels": ["tardes"], "symbols": ["A"]})),
        ("no-map", json!("not a map but a text, and a long one: ".repeat(30))),
        ("wrong-type", json!({"op": "subscribe", "id": 9, "channels": "trades", "symbols": [7]})),
    ];
    for (name, command) in commands {
        fs::write(folder.join(format!("{name}-json")), [b"\0", command.to_string().as_bytes()].concat())?;
        fs::write(folder.join(format!("{name}-pack")), [b"\x01", &rmp_serde::to_vec(&command)?[..]].concat())?;
    }
    Ok(())
}

fn recordings(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("trades.csv"), TRADES)?;
    fs::write(folder.join("quotes.csv"), QUOTES)?;
    fs::write(folder.join("windows.csv"), format!("\u{feff}{}", QUOTES.replace('\n', "\r\n")))?;
    fs::write(folder.join("bad-line.csv"), format!("{TRADES}binance,BTCUSDT,x,1,1,buy,1,1\n"))?;
    let trades: Vec<TradeMsg> = (1..=2).map(trade).collect();
    fs::write(folder.join("trades.dbn"), databento(Schema::Trades, &trades)?)?;
    let tops =
        [top(1, b'A', (5511, 3), (5512, 4)), top(2, b'T', (5511, 3), (5512, 4)), top(3, b'C', (5510, 1), (5512, 4))];
    fs::write(folder.join("tops.dbn"), databento(Schema::Mbp1, &tops)?)?;
    fs::write(folder.join("levels.csv"), LEVELS)?;
    let ten = [ten_levels(1, b'A', 5511, 2), ten_levels(2, b'T', 5511, 2), ten_levels(3, b'C', 5510, 10)];
    fs::write(folder.join("ten-levels.dbn"), databento(Schema::Mbp10, &ten)?)?;
    let (snapshot, last) = (0x20, 0x80);
    let orders = [
        order(b'R', b'N', 0, 0, 0, snapshot),
        order(b'A', b'B', 1, 5511, 3, snapshot),
        order(b'A', b'A', 2, 5512, 4, snapshot | last),
        order(b'A', b'B', 3, 5511, 1, last),
        order(b'M', b'B', 1, 5510, 5, last),
        order(b'T', b'A', 3, 5511, 1, 0),
        order(b'F', b'B', 3, 5511, 1, 0),
        order(b'C', b'B', 3, 5511, 1, last),
    ];
    fs::write(folder.join("orders.dbn"), databento(Schema::Mbo, &orders)?)?;
    let mut cut = databento(Schema::Trades, &trades)?;
    cut.truncate(cut.len() - 9);
    fs::write(folder.join("cut.dbn"), cut)?;
    Ok(())
}

fn databento<R: DbnEncodable>(schema: Schema, records: &[R]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let day = |day| time::Date::from_calendar_date(2024, time::Month::July, day);
    let interval = MappingInterval { start_date: day(1)?, end_date: day(3)?, symbol: SYMBOL_ID.to_string() };
    let metadata = Metadata::builder()
        .dataset("GLBX.MDP3")
        .schema(Some(schema))
        .start(0)
        .stype_in(Some(SType::RawSymbol))
        .stype_out(SType::InstrumentId)
        .mappings(vec![SymbolMapping { raw_symbol: "ESU4".into(), intervals: vec![interval] }])
        .build();
    let mut content = Vec::new();
    let mut encoder = Encoder::new(&mut content, &metadata)?;
    for record in records {
        encoder.encode_record(record)?;
    }
    drop(encoder);
    Ok(content)
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

fn top(number: u32, action: u8, bid: (i64, u32), ask: (i64, u32)) -> Mbp1Msg {
    let time = u64::from(number) * 1000;
    Mbp1Msg {
        hd: RecordHeader::new::<Mbp1Msg>(rtype::MBP_1, 1, SYMBOL_ID, time),
        price: 5512 * NANO,
        size: 1,
        action: action as _,
        side: b'A' as _,
        ts_recv: time + 5,
        sequence: number,
        levels: [BidAskPair {
            bid_px: bid.0 * NANO,
            bid_sz: bid.1,
            ask_px: ask.0 * NANO,
            ask_sz: ask.1,
            bid_ct: 1,
            ask_ct: 1,
        }],
        ..Mbp1Msg::default()
    }
}

/// A book of `depth` levels on each side of a gap above `bid`.
fn ten_levels(number: u32, action: u8, bid: i64, depth: usize) -> Mbp10Msg {
    let levels = std::array::from_fn(|rank| {
        let step = rank as i64;
        if rank >= depth {
            return BidAskPair { bid_px: dbn::UNDEF_PRICE, ask_px: dbn::UNDEF_PRICE, ..BidAskPair::default() };
        }
        BidAskPair {
            bid_px: (bid - step) * NANO,
            ask_px: (bid + 1 + step) * NANO,
            bid_sz: 1 + rank as u32,
            ask_sz: 2,
            bid_ct: 1,
            ask_ct: 1,
        }
    });
    let time = u64::from(number) * 1000;
    Mbp10Msg {
        hd: RecordHeader::new::<Mbp10Msg>(rtype::MBP_10, 1, SYMBOL_ID, time),
        price: bid * NANO,
        size: 1,
        action: action as _,
        side: b'A' as _,
        ts_recv: time + 5,
        sequence: number,
        levels,
        ..Mbp10Msg::default()
    }
}

fn order(action: u8, side: u8, id: u64, price: i64, size: u32, flags: u8) -> MboMsg {
    MboMsg {
        hd: RecordHeader::new::<MboMsg>(rtype::MBO, 1, SYMBOL_ID, 1000 + id),
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
