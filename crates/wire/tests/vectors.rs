//! The test vectors that every SDK has to pass, `sdk/vectors/messages.json`: what the encoder writes for them is exactly what
//! stands there.
//!
//! **Invariant:** the bytes are the encoder's, the expected values are not: they are written from the values that went in.
//!
//! `VECTORS=write cargo test -p wire --test vectors` writes the file anew; a change of it is a change of the protocol.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use market::{
    AssetClass, Bar, BarInterval, Book, BookDepth, BookSide, BookUpdate, Channel, ChannelSet, Event, Instrument,
    InstrumentId, Level, Price, Quote, Side, Size, Status, StatusCode, Symbol, Ticker, Timestamp, Trade,
};
use serde_json::{Value, json};
use wire::{
    CommandError, CommandId, Dialect, ErrorCode, FrameKind, Gap, GapReason, Limits, Mode, NoticeCode, Recovered,
    ServerMessage, SubscriptionInfo, begin_data, encode_element, encode_gap, encode_message, end_data,
};

/// 2024-07-01T13:30:00.000000001Z
const TIME: u64 = 1_719_840_600_000_000_001;

fn instrument(id: u32, symbol: &str, price_exponent: i8, size_exponent: i8) -> Instrument {
    Instrument {
        id: InstrumentId(id),
        symbol: Symbol::new(symbol).unwrap(),
        price_exponent,
        size_exponent,
        tick_size: Price(25),
        lot_size: Size(1),
        class: AssetClass::Future,
        currency: "USD".into(),
        description: format!("{symbol} \"é\" 漢"),
    }
}

/// Small and large numbers, and exponents of all signs.
fn instruments() -> Vec<Instrument> {
    vec![
        instrument(0, "A", 0, 0),
        instrument(7, "BTC-USD", -2, -4),
        instrument(200, "TINY.X", -18, -18),
        instrument(70_000, "LOT/3", 3, 2),
    ]
}

/// `integer x 10^exponent`, by hand.
fn decimal(integer: impl Into<i128>, exponent: i8) -> String {
    let integer: i128 = integer.into();
    let sign = if integer < 0 { "-" } else { "" };
    let digits = integer.unsigned_abs().to_string();
    if exponent >= 0 {
        let zeros = if integer == 0 { 0 } else { exponent.unsigned_abs().into() };
        return format!("{sign}{digits}{}", "0".repeat(zeros));
    }
    let places = usize::from(exponent.unsigned_abs());
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    format!("{sign}{whole}.{fraction}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn packed(value: &Value) -> String {
    hex(&rmp_serde::to_vec(value).unwrap())
}

#[derive(Clone)]
enum Part {
    Value(u64, u64, Event),
    Gap(u64, Gap),
}

fn expected(of: &Instrument, part: &Part, kind: FrameKind) -> Value {
    let price = |price: Price| decimal(price.0, of.price_exponent);
    let size = |size: Size| decimal(size.0, of.size_exponent);
    let level = |level: &Level| json!([price(level.price), size(level.size)]);
    let side = |update: &BookUpdate, wanted: BookSide| {
        let levels = update.iter().filter(|(side, _)| *side == wanted);
        levels.map(|(_, one)| level(&one)).collect::<Vec<_>>()
    };
    let (seq, time, own) = match part {
        Part::Gap(time, gap) => {
            let own = json!({"type": "gap", "channel": gap.channel.name(), "from_seq": gap.from_seq.to_string(),
                "to_seq": gap.to_seq.to_string(), "reason": gap.reason.name(), "snapshot": false});
            (gap.to_seq, *time, own)
        }
        Part::Value(seq, time, event) => {
            let own = match event {
                Event::Trade(trade) => json!({"type": "trade", "price": price(trade.price), "size": size(trade.size),
                    "side": match trade.side { Side::Buy => "buy", Side::Sell => "sell", Side::Unknown => "unknown" },
                    "trade_id": trade.trade_id.to_string()}),
                Event::Quote(quote) => json!({"type": "quote", "bid": quote.bid.as_ref().map(level),
                    "ask": quote.ask.as_ref().map(level)}),
                Event::Bar(bar) => json!({"type": "bar", "interval_s": bar.interval.seconds(), "open": price(bar.open),
                    "high": price(bar.high), "low": price(bar.low), "close": price(bar.close), "volume": size(bar.volume),
                    "trade_count": bar.trade_count.to_string(), "closed": bar.closed}),
                Event::Ticker(ticker) => {
                    json!({"type": "ticker", "last": price(ticker.last), "open": price(ticker.open),
                    "high": price(ticker.high), "low": price(ticker.low), "volume": size(ticker.volume),
                    "turnover": ticker.turnover, "trade_count": ticker.trade_count.to_string()})
                }
                Event::Status(status) => {
                    json!({"type": "status", "reason": &*status.reason, "code": match status.code {
                        StatusCode::PreOpen => "pre_open",
                        StatusCode::Trading => "trading",
                        StatusCode::Halted => "halted",
                        StatusCode::Auction => "auction",
                        StatusCode::Closed => "closed",
                    }})
                }
                Event::BookSnapshot(update) | Event::BookDelta(update) => json!({
                    "type": if matches!(event, Event::BookDelta(_)) { "book_delta" } else { "book_snapshot" },
                    "bids": side(update, BookSide::Bid), "asks": side(update, BookSide::Ask),
                    "checksum": update.checksum()}),
            };
            let Value::Object(mut own) = own else { unreachable!() };
            own.insert("channel".into(), event.channel().name().into());
            own.insert("snapshot".into(), (kind == FrameKind::Snapshot).into());
            (*seq, *time, Value::Object(own))
        }
    };
    let Value::Object(mut own) = own else { unreachable!() };
    own.insert("symbol".into(), of.symbol.as_str().into());
    own.insert("seq".into(), seq.to_string().into());
    own.insert("time".into(), time.to_string().into());
    Value::Object(own)
}

fn encode(dialect: Dialect, kind: FrameKind, parts: &[(usize, Part)]) -> Vec<u8> {
    let all = instruments();
    let mut out = Vec::new();
    begin_data(dialect, kind, Timestamp(TIME), parts.len(), &mut out);
    for (index, part) in parts {
        match part {
            Part::Value(seq, time, event) => {
                encode_element(dialect, &all[*index], *seq, Timestamp(*time), event, &mut out);
            }
            Part::Gap(time, gap) => encode_gap(dialect, &all[*index], Timestamp(*time), *gap, &mut out),
        }
    }
    end_data(dialect, &mut out);
    out
}

fn frame(name: &str, kind: FrameKind, parts: &[(usize, Part)]) -> Value {
    let all = instruments();
    let elements: Vec<_> = parts.iter().map(|(index, part)| expected(&all[*index], part, kind)).collect();
    json!({
        "name": name,
        "msgpack": hex(&encode(Dialect::NativeMessagePack, kind, parts)),
        "json": String::from_utf8(encode(Dialect::NativeJson, kind, parts)).unwrap(),
        "expected": {"type": "data", "sent_at": TIME.to_string(), "snapshot": kind == FrameKind::Snapshot,
                     "elements": elements},
    })
}

fn at(seq: u64, event: Event) -> Part {
    Part::Value(seq, TIME, event)
}

fn trade(price: i64, size: u64, side: Side, trade_id: u64) -> Event {
    Event::Trade(Trade { price: Price(price), size: Size(size), side, trade_id })
}

fn level(price: i64, size: u64) -> Level {
    Level { price: Price(price), size: Size(size) }
}

fn bar(interval: BarInterval, closed: bool) -> Event {
    let [open, high, low, close] = [100, i64::MAX, i64::MIN, -150].map(Price);
    Event::Bar(Bar { interval, open, high, low, close, volume: Size(u64::MAX), trade_count: 1 << 40, closed })
}

fn ticker(turnover: f64) -> Event {
    let [last, open, high, low] = [150, 0, 200, -50].map(Price);
    Event::Ticker(Ticker { last, open, high, low, volume: Size(70_000), turnover, trade_count: 12 })
}

fn frames() -> Vec<Value> {
    use FrameKind::{Live, Snapshot};
    let mut found = vec![frame("an empty frame", Live, &[]), frame("an empty snapshot", Snapshot, &[])];
    let one = |name: &str, index, event| frame(name, Live, &[(index, at(1, event))]);
    found.push(one("a trade", 1, trade(968_219, 12_345, Side::Buy, 300)));
    found.push(one("a trade of a seller", 0, trade(1, 1, Side::Sell, 0)));
    found.push(one("a trade of nobody known at a negative price", 1, trade(-3763, 0, Side::Unknown, 0)));
    // Each length that MessagePack has for an integer, on both of its sides.
    for bits in [5, 7, 8, 15, 16, 31, 32, 52, 53, 62, 63] {
        let edge = 1_i128 << bits;
        let parts: Vec<_> = [edge - 1, edge]
            .into_iter()
            .enumerate()
            .flat_map(|(step, edge)| {
                let price = i64::try_from(edge).unwrap_or(i64::MAX);
                let size = u64::try_from(edge).unwrap();
                let seq = 2 * step as u64 + 1;
                [trade(price, size, Side::Buy, size), trade(price.wrapping_neg(), size, Side::Sell, size)]
                    .into_iter()
                    .zip(seq..)
                    .map(|(event, seq)| (1, at(seq, event)))
            })
            .collect();
        found.push(frame(&format!("integers around 2^{bits}"), Live, &parts));
    }
    let extreme = [trade(i64::MAX, u64::MAX, Side::Buy, u64::MAX), trade(i64::MIN, u64::MAX, Side::Sell, u64::MAX)];
    for index in 0..instruments().len() {
        let parts = extreme.iter().cloned().zip([u64::MAX - 1, u64::MAX]).map(|(event, seq)| (index, at(seq, event)));
        found.push(frame(&format!("the largest numbers of instrument {index}"), Live, &parts.collect::<Vec<_>>()));
    }
    found.push(frame(
        "times far away",
        Live,
        &[
            (1, Part::Value(1, 0, trade(1, 1, Side::Buy, 1))),
            (1, Part::Value(2, 999_999_999, trade(1, 1, Side::Buy, 1))),
            (1, Part::Value(3, 4_102_444_799_123_456_789, trade(1, 1, Side::Buy, 1))),
        ],
    ));
    let quote = |bid, ask| Event::Quote(Quote { bid, ask });
    found.push(one("a quote", 1, quote(Some(level(968_218, 10_000)), Some(level(968_220, 5)))));
    found.push(one("a quote without bid", 1, quote(None, Some(level(0, 0)))));
    found.push(one("a quote without ask", 2, quote(Some(level(-1, 1)), None)));
    found.push(one("a quote of nobody", 3, quote(None, None)));
    for (number, interval) in BarInterval::ALL.into_iter().enumerate() {
        found.push(one(&format!("a bar of {} s", interval.seconds()), number % 3, bar(interval, number % 2 == 0)));
    }
    for turnover in [0.0, 1234.5, -0.1, 1e300, f64::NAN] {
        found.push(one(&format!("a ticker with a turnover of {turnover}"), 1, ticker(turnover)));
    }
    let codes = [StatusCode::PreOpen, StatusCode::Trading, StatusCode::Halted, StatusCode::Auction, StatusCode::Closed];
    for (code, reason) in
        codes.into_iter().zip(["", "news", "é 漢 🦀", "\"seq\":12345678901234567890,\\ \n\t", "a\u{7f}"])
    {
        found.push(one(&format!("a status, {reason:?}"), 1, Event::Status(Status { code, reason: reason.into() })));
    }
    for depth in [BookDepth::Top10, BookDepth::Top50, BookDepth::Full] {
        let bids = [level(552_000, 5), level(551_975, 31), level(-1, u64::MAX)];
        let update = BookUpdate::new(depth, &bids, &[level(552_025, 7)], u32::MAX);
        let channel = Channel::Book(depth).name();
        found.push(frame(
            &format!("the state of {channel}"),
            Snapshot,
            &[(1, at(41, Event::BookSnapshot(update.clone())))],
        ));
        found.push(one(&format!("a snapshot of {channel} that is an event"), 1, Event::BookSnapshot(update)));
        let delta = BookUpdate::new(depth, &[level(552_000, 0)], &[], 0);
        found.push(one(&format!("a delta of {channel}"), 1, Event::BookDelta(delta)));
        let nothing = BookUpdate::new(depth, &[], &[], 0);
        found.push(one(&format!("an empty {channel}"), 1, Event::BookSnapshot(nothing)));
    }
    for reason in [GapReason::Conflated, GapReason::Slow, GapReason::Evicted, GapReason::Source] {
        for (channel, from_seq, to_seq) in [
            (Channel::Quotes, 4, 1000),
            (Channel::Bars(BarInterval::M15), 1, 1),
            (Channel::Book(BookDepth::Full), 1, u64::MAX),
        ] {
            let gap = Gap { channel, from_seq, to_seq, reason };
            let name =
                format!("a gap of {} numbers of {channel}, {}", u128::from(to_seq - from_seq) + 1, reason.name());
            found.push(frame(&name, Live, &[(1, Part::Gap(TIME, gap))]));
        }
    }
    found.push(frame(
        "state, a gap in front of it",
        Snapshot,
        &[
            (1, Part::Gap(TIME, Gap { channel: Channel::Trades, from_seq: 1, to_seq: 9, reason: GapReason::Evicted })),
            (1, at(9, trade(1, 1, Side::Buy, 1))),
            (0, at(0, ticker(1.0))),
        ],
    ));
    let many = (1..=70_000_u64).step_by(3500).map(|seq| (0, at(seq, trade(seq as i64, seq, Side::Buy, seq))));
    found.push(frame("many elements", Live, &many.collect::<Vec<_>>()));
    found
}

fn control(name: &str, message: &ServerMessage<'_>, expected: &Value) -> Value {
    let write = |dialect| {
        let mut out = Vec::new();
        encode_message(dialect, message, &mut out);
        out
    };
    json!({
        "name": name,
        "msgpack": hex(&write(Dialect::NativeMessagePack)),
        "json": String::from_utf8(write(Dialect::NativeJson)).unwrap(),
        "expected": expected,
    })
}

#[allow(clippy::too_many_lines, reason = "it is a table")]
fn controls() -> Vec<Value> {
    let all = instruments();
    let listed: Vec<_> = all.iter().collect();
    let rows: Vec<_> =
        all.iter().map(|i| json!([i.symbol.as_str(), i.id.0, i.price_exponent, i.size_exponent])).collect();
    let details: Vec<_> = all
        .iter()
        .map(|i| {
            json!({"symbol": i.symbol.as_str(), "instrument_id": i.id.0, "price_exponent": i.price_exponent,
                   "size_exponent": i.size_exponent, "tick_size": decimal(25, i.price_exponent),
                   "lot_size": decimal(1, i.size_exponent), "class": "future", "currency": "USD",
                   "description": i.description})
        })
        .collect();
    let (id, time) = (CommandId::Integer(12), Timestamp(TIME));
    let id = Some(&id);
    let limits = Limits { message_bytes_max: 4096, ..Limits::default() };
    let mut found = vec![
        control(
            "welcome",
            &ServerMessage::Welcome {
                version: "0.1.0",
                session: "0-12-3",
                epoch: "17de19e9e14b7001",
                time,
                heartbeat_ms: 15_000,
                limits: &limits,
            },
            &json!({"type": "welcome", "version": "0.1.0", "session": "0-12-3", "epoch": "17de19e9e14b7001",
                    "heartbeat_ms": 15_000, "message_bytes_max": 4096}),
        ),
        control(
            "subscribed",
            &ServerMessage::Subscribed {
                id,
                instruments: &listed,
                channels: Channel::ALL.into_iter().collect(),
                mode: Mode::Every,
                recovered: &[
                    ("A", Channel::Quotes, Recovered::Gap),
                    ("BTC-USD", Channel::Book(BookDepth::Full), Recovered::Snapshot),
                    ("A", Channel::Trades, Recovered::Recovered),
                ],
            },
            &json!({"type": "subscribed", "id": 12, "instruments": rows, "recovered": {
                "A": {"quotes": "gap", "trades": "recovered"}, "BTC-USD": {"book.full": "snapshot"}}}),
        ),
        control(
            "subscribed to nothing, in mode latest",
            &ServerMessage::Subscribed {
                id: None,
                instruments: &[],
                channels: ChannelSet::EMPTY,
                mode: Mode::Latest { interval_ms: 250 },
                recovered: &[],
            },
            &json!({"type": "subscribed", "id": null, "instruments": [], "recovered": {}}),
        ),
        control(
            "unsubscribed",
            &ServerMessage::Unsubscribed { id, channels: [Channel::Trades].into_iter().collect(), symbols: &["*"] },
            &json!({"type": "unsubscribed", "id": 12}),
        ),
        control(
            "subscriptions",
            &ServerMessage::Subscriptions {
                id,
                subscriptions: &[SubscriptionInfo {
                    channel: Channel::Ticker,
                    symbols: vec!["A", "BTC-USD"],
                    mode: Mode::Latest { interval_ms: 0 },
                }],
            },
            &json!({"type": "subscriptions"}),
        ),
        control(
            "instruments",
            &ServerMessage::Instruments { id, instruments: &listed },
            &json!({"type": "instruments", "id": 12, "instruments": details}),
        ),
        control(
            "an announcement of an instrument",
            &ServerMessage::Instruments { id: None, instruments: &listed[..1] },
            &json!({"type": "instruments", "id": null, "instruments": details[..1]}),
        ),
        control(
            "heartbeat",
            &ServerMessage::Heartbeat { time, delivered: (1 << 53) - 1, dropped: 0 },
            &json!({"type": "heartbeat", "delivered": (1_u64 << 53) - 1, "dropped": 0}),
        ),
        control(
            "pong",
            &ServerMessage::Pong { id, time, sent_bytes: 4_294_967_296 },
            &json!({"type": "pong", "id": 12, "time": TIME.to_string(), "sent_bytes": 4_294_967_296_u64}),
        ),
        control(
            "authenticated",
            &ServerMessage::Authenticated { expires: Some(time) },
            &json!({"type": "authenticated"}),
        ),
        control(
            "authenticated for ever",
            &ServerMessage::Authenticated { expires: None },
            &json!({"type": "authenticated"}),
        ),
        control(
            "the end of an event stream",
            &ServerMessage::Closed { reason: "draining", code: 1012, may_reconnect: true, message: "bye" },
            &json!({"type": null}),
        ),
    ];
    for code in [ErrorCode::UnknownSymbol, ErrorCode::RateLimited, ErrorCode::AuthFailed, ErrorCode::NotEntitled] {
        let symbols = if code == ErrorCode::UnknownSymbol { vec!["É\"".into(), "NOPE".into()] } else { vec![] };
        let error = CommandError { id: id.cloned(), code, message: "say \"no\"".into(), symbols: symbols.clone() };
        let name = format!("error {}", code.name());
        let expected =
            json!({"type": "error", "id": 12, "code": code.name(), "message": "say \"no\"", "symbols": symbols});
        found.push(control(&name, &ServerMessage::Error(&error), &expected));
    }
    for (code, name, after) in [
        (NoticeCode::Draining, "draining", Some(1500)),
        (NoticeCode::Slow, "slow", None),
        (NoticeCode::FeedEnded, "feed_ended", None),
    ] {
        let message = ServerMessage::Notice { code, reconnect_after_ms: after, message: "so it is" };
        let expected = json!({"type": "notice", "code": name, "message": "so it is", "reconnect_after_ms": after});
        found.push(control(&format!("notice {name}"), &message, &expected));
    }
    found
}

/// What a later server may send: nobody may stumble over it.
fn tolerated() -> Vec<Value> {
    let data = |name: &str, elements: Value, objects: Value, expected: Value| {
        let Value::Array(elements) = elements else { unreachable!() };
        let message: Vec<_> = std::iter::once(json!(TIME)).chain(elements).collect();
        let text = json!({"sent_at": "2024-07-01T13:30:00.000000001Z", "later": [1, {"b": null}], "data": objects});
        json!({"name": name, "msgpack": packed(&Value::Array(message)), "json": text.to_string(), "expected": {
            "type": "data", "sent_at": TIME.to_string(), "snapshot": false, "elements": expected}})
    };
    let known = expected(&instruments()[1], &at(2, trade(150, 20_000, Side::Unknown, 5)), FrameKind::Live);
    let object = |side: &str, more: &str| {
        json!({"type": "trade", "symbol": "BTC-USD", "seq": 2, "time": "2024-07-01T13:30:00.000000001Z", "price": "1.50",
               "size": "2.0000", "side": side, "trade_id": 5, "later": more})
    };
    let unknown =
        |kind: &str| json!({"type": kind, "symbol": "BTC-USD", "seq": 1, "time": "2024-07-01T13:30:00.000000001Z"});
    let with = |mut object: Value, fields: Value| {
        let (Value::Object(object_fields), Value::Object(fields)) = (&mut object, fields) else { unreachable!() };
        object_fields.extend(fields);
        object
    };
    let bar = json!({"interval_s": 7, "open": "1.00", "high": "1.00", "low": "1.00", "close": "1.00", "volume": "1.0000",
                     "trade_count": 1, "closed": true});
    let control = |name: &str, message: Value, expected: Value| json!({"name": name, "msgpack": packed(&message), "json": message.to_string(), "expected": expected});
    vec![
        data(
            "more fields of an element, a side to come",
            json!([[1, 7, 2, TIME, 150, 20_000, 9, 5, "later", [1]]]),
            json!([object("both", "x")]),
            json!([known]),
        ),
        data(
            "a kind to come",
            json!([[99, 7, 1, TIME, {"a": [null]}], [1, 7, 2, TIME, 150, 20_000, 0, 5]]),
            json!([unknown("rumour"), object("unknown", "x")]),
            json!([known]),
        ),
        data(
            "an interval to come",
            json!([[3, 7, 1, TIME, 7, 1, 1, 1, 1, 1, 1, true], [1, 7, 2, TIME, 150, 20_000, 0, 5]]),
            json!([with(unknown("bar"), bar), object("unknown", "x")]),
            json!([known]),
        ),
        data(
            "a depth to come",
            json!([[5, 7, 1, TIME, 25, [], [], 0], [1, 7, 2, TIME, 150, 20_000, 0, 5]]),
            json!([
                with(unknown("book_delta"), json!({"depth": 25, "bids": [], "asks": [], "checksum": 0})),
                object("unknown", "x")
            ]),
            json!([known]),
        ),
        data(
            "a status to come",
            json!([[7, 7, 1, TIME, 9, "rumour"], [1, 7, 2, TIME, 150, 20_000, 0, 5]]),
            json!([with(unknown("status"), json!({"code": "rumour", "reason": "x"})), object("unknown", "x")]),
            json!([known]),
        ),
        data(
            "a gap of a channel to come",
            json!([[8, 7, 1, TIME, "rumours", 1, 1, "slow"], [1, 7, 2, TIME, 150, 20_000, 0, 5]]),
            json!([
                with(unknown("gap"), json!({"channel": "rumours", "from_seq": 1, "to_seq": 1, "reason": "slow"})),
                object("unknown", "x")
            ]),
            json!([known]),
        ),
        control("a message to come", json!({"type": "weather", "sunny": true}), json!({"type": null})),
        control(
            "more keys of a notice, nil for none",
            json!({"type": "notice", "code": "slow", "reconnect_after_ms": null, "message": "m", "later": {"a": [1]}}),
            json!({"type": "notice", "code": "slow", "reconnect_after_ms": null, "message": "m"}),
        ),
        control(
            "an error of few words",
            json!({"type": "error", "code": "internal"}),
            json!({"type": "error", "id": null, "code": "internal", "message": "", "symbols": []}),
        ),
        control(
            "more columns of an instrument",
            json!({"type": "subscribed", "id": 3, "instruments": [["A", 0, 0, 0]], "channels": ["trades", "rumours"],
                       "mode": "every", "interval_ms": 0, "recovered": {}, "later": 1}),
            json!({"type": "subscribed", "id": 3, "instruments": [["A", 0, 0, 0]], "recovered": {}}),
        ),
    ]
}

/// What no server sends, and everybody has to refuse.
fn refused() -> Vec<Value> {
    let packed = |name: &str, value: Value| json!({"name": name, "msgpack": packed(&value)});
    let text = |name: &str, text: &str| json!({"name": name, "json": text});
    let cut = {
        let whole = encode(Dialect::NativeMessagePack, FrameKind::Live, &[(1, at(1, trade(1, 1, Side::Buy, 1)))]);
        json!({"name": "a frame that is cut off", "msgpack": hex(&whole[..whole.len() - 1])})
    };
    let object = |key: &str, value: Value| {
        let mut object = json!({"type": "trade", "symbol": "BTC-USD", "seq": 2, "time": "2024-07-01T13:30:00.000000001Z",
            "price": "1.50", "size": "2.0000", "side": "buy", "trade_id": 5});
        object[key] = value;
        json!({"sent_at": "2024-07-01T13:30:00.000000001Z", "data": [object]}).to_string()
    };
    vec![
        cut,
        json!({"name": "nothing", "msgpack": ""}),
        json!({"name": "a byte that means nothing", "msgpack": "c1"}),
        packed("a number", json!(7)),
        packed("a frame without a time", json!([null, [1, 7, 1, TIME, 1, 1, 1, 1]])),
        packed("an element that is none", json!([TIME, 5])),
        packed("a trade without its id", json!([TIME, [1, 7, 1, TIME, 1, 1, 1]])),
        packed("a price in words", json!([TIME, [1, 7, 1, TIME, "1.50", 1, 1, 1]])),
        packed("a price that is a float", json!([TIME, [1, 7, 1, TIME, 1.5, 1, 1, 1]])),
        packed("levels that are no list", json!([TIME, [5, 7, 1, TIME, 10, 3, [], 0]])),
        packed("a level without a size", json!([TIME, [5, 7, 1, TIME, 10, [[1]], [], 0]])),
        packed("a message without a type", json!({"time": 5})),
        packed(
            "a welcome without an epoch",
            json!({"type": "welcome", "version": "1", "session": "s", "time": 1,
            "heartbeat_ms": 1, "limits": {}}),
        ),
        packed(
            "an exponent beyond a byte",
            json!({"type": "subscribed", "instruments": [["A", 0, 300, 0]], "channels": [],
            "mode": "every", "recovered": {}}),
        ),
        text("no JSON", "{"),
        text("a list", "[]"),
        text("a frame whose data is no list", r#"{"sent_at":"2024-07-01T13:30:00.000000001Z","data":7}"#),
        text("a frame whose time is none", r#"{"sent_at":"yesterday","data":[]}"#),
        text("a price that is a number", &object("price", json!(1.5))),
        text("a price with an exponent", &object("price", json!("1e5"))),
        text("a price in words", &object("price", json!("cheap"))),
        text("a seq that is text", &object("seq", json!("two"))),
        text("no symbol", &object("symbol", Value::Null)),
    ]
}

/// Bids and asks that are new, as price and size.
type Change<'a> = (&'a [(i64, u64)], &'a [(i64, u64)]);

/// Books as they grow, each change with its checksum, and what they are in the end.
fn books() -> Vec<Value> {
    let grown = |name: &str, index: usize, depth: BookDepth, changes: &[Change<'_>]| {
        let of = &instruments()[index];
        let mut book = Book::new();
        let mut sides: [BTreeMap<i64, u64>; 2] = Default::default();
        let mut frames = Vec::new();
        for (number, (bids, asks)) in changes.iter().enumerate() {
            let [bids, asks] = [bids, asks].map(|side| side.iter().map(|(p, s)| level(*p, *s)).collect::<Vec<_>>());
            for (side, levels) in [(BookSide::Bid, &bids), (BookSide::Ask, &asks)] {
                for one in levels {
                    book.set(side, one.price, one.size);
                    sides[usize::from(side == BookSide::Ask)].insert(one.price.0, one.size.0);
                }
            }
            let update = BookUpdate::new(depth, &bids, &asks, book.checksum());
            let (kind, event) = match number {
                0 => (FrameKind::Snapshot, Event::BookSnapshot(update)),
                _ => (FrameKind::Live, Event::BookDelta(update)),
            };
            let part = [(index, at(number as u64 + 1, event))];
            frames.push(hex(&encode(Dialect::NativeMessagePack, kind, &part)));
        }
        let show =
            |(price, size): (&i64, &u64)| json!([decimal(*price, of.price_exponent), decimal(*size, of.size_exponent)]);
        let bids: Vec<_> = sides[0].iter().rev().filter(|(_, size)| **size > 0).map(show).collect();
        let asks: Vec<_> = sides[1].iter().filter(|(_, size)| **size > 0).map(show).collect();
        json!({"name": name, "symbol": of.symbol.as_str(), "channel": Channel::Book(depth).name(), "frames": frames,
               "expected": {"bids": bids, "asks": asks, "checksum": book.checksum()}})
    };
    let ladder: Vec<(i64, u64)> = (0..30).map(|step| (1000 - step, step as u64 + 1)).collect();
    let above: Vec<(i64, u64)> = (1..30).map(|step| (1000 + 3 * step, u64::MAX - step as u64)).collect();
    vec![
        grown(
            "that of the document",
            1,
            BookDepth::Top10,
            &[(&[(552_000, 5), (551_975, 31)], &[(552_025, 7)]), (&[(552_000, 0)], &[(552_025, 9)])],
        ),
        grown("an empty one", 0, BookDepth::Full, &[(&[], &[]), (&[(1, 1)], &[]), (&[(1, 0)], &[])]),
        grown(
            "one below zero",
            1,
            BookDepth::Top50,
            &[
                (&[(-3763, 1), (i64::MIN, 2)], &[(-1, 3), (i64::MAX, 4)]),
                (&[(-3762, 7)], &[(0, 1), (-1, 0)]),
                (&[(-5, 0), (-3763, u64::MAX)], &[(2, 0)]),
            ],
        ),
        grown(
            "one deeper than the checksum",
            2,
            BookDepth::Full,
            &[
                (&ladder, &above),
                (&[(1000, 0), (995, 7), (970, 1)], &[(1003, 0), (1002, 5), (1200, 0)]),
                (&ladder[1..12].iter().map(|(price, _)| (*price, 0)).collect::<Vec<_>>(), &[]),
            ],
        ),
    ]
}

fn line(value: &Value) -> String {
    format!("    {value}")
}

fn vectors() -> String {
    let listings: Vec<_> =
        instruments().iter().map(|i| json!([i.symbol.as_str(), i.id.0, i.price_exponent, i.size_exponent])).collect();
    let parts = [
        ("instruments", listings),
        ("frames", frames()),
        ("control", controls()),
        ("tolerated", tolerated()),
        ("refused", refused()),
        ("books", books()),
    ];
    let parts = parts.map(|(name, values)| {
        let values: Vec<_> = values.iter().map(line).collect();
        format!("  \"{name}\": [\n{}\n  ]", values.join(",\n"))
    });
    format!("{{\n{}\n}}\n", parts.join(",\n"))
}

#[test]
fn the_shared_vectors_are_what_the_encoder_writes() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../sdk/vectors/messages.json");
    let ours = vectors();
    if std::env::var_os("VECTORS").is_some_and(|what| what == "write") {
        std::fs::write(&path, &ours).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    for (number, (ours, kept)) in ours.lines().zip(kept.lines()).enumerate() {
        assert_eq!(ours, kept, "line {} of {}", number + 1, path.display());
    }
    assert_eq!(ours, kept);
}
