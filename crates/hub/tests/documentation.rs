//! The protocol's document, held to the code: names, tables and examples.
//!
//! **Invariant:** what a client can be sent, and every reason for which it is closed, stands in `docs/protocol.md` as it is.

use std::collections::BTreeSet;

use hub::Disconnect;
use market::{
    AssetClass, Bar, BarInterval, Book, BookDepth, BookSide, BookUpdate, Channel, Event, Instrument, InstrumentId,
    Level, Price, Quote, Side, Size, StatusCode, Symbol, Timestamp, Trade,
};
use serde_json::Value;
use wire::{
    CommandError, CommandId, Dialect, Encoding, ErrorCode, FrameKind, Gap, GapReason, Limits, Mode, NoticeCode,
    Recovered, ServerMessage, SubscriptionInfo,
};

const PROTOCOL: &str = include_str!("../../../docs/protocol.md");

/// 2024-07-01T13:30:00.000000001Z
const TIME: Timestamp = Timestamp(1_719_840_600_000_000_001);

fn documented(text: &str) {
    assert!(PROTOCOL.contains(text), "docs/protocol.md does not say: {text}");
}

/// The blocks of code in that language.
fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    let fence = format!("```{language}\n");
    let mut rest = PROTOCOL;
    std::iter::from_fn(move || {
        let begin = rest.find(&fence)? + fence.len();
        let (block, after) = rest[begin..].split_once("\n```")?;
        rest = after;
        Some(block)
    })
}

/// The lines of code, as bytes in hex, that an encoder is to write.
fn documented_bytes(bytes: &[u8]) {
    let hex: String =
        bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|n| char::from_digit(n.into(), 16)).collect();
    assert!(blocks("text").any(|block| block.replace(' ', "") == hex), "docs/protocol.md does not show {hex}");
}

fn instrument(id: u32, symbol: &str, size_exponent: i8) -> Instrument {
    Instrument {
        id: InstrumentId(id),
        symbol: Symbol::new(symbol).unwrap(),
        price_exponent: -2,
        size_exponent,
        tick_size: Price(25),
        lot_size: Size(1),
        class: AssetClass::Future,
        currency: "USD".into(),
        description: "E-mini S&P 500".into(),
    }
}

#[test]
fn every_reason_to_disconnect_is_in_the_table() {
    use Disconnect as D;
    let protocol = D::Protocol { code: 1002, reason: String::new() };
    let reasons = [
        (D::PeerClosed, "the client's, repeated"),
        (D::Lost, "none"),
        (D::PingTimeout, "1008"),
        (protocol, "1002, 1003 or 1007"),
        (D::MessageTooBig, "1009"),
        (D::Flood, "4429"),
        (D::SlowConsumer, "4408"),
        (D::AuthFailed, "4401"),
        (D::AuthTimeout, "4401"),
        (D::TokenExpired, "4401"),
        (D::TokenRevoked, "4401"),
        (D::Draining, "1012"),
        (D::ShuttingDown, "1001"),
        (D::Replaced, "4409"),
        (D::TooManyConnections, "4409"),
        (D::ClosedByOperator, "1008"),
        (D::OverCapacity, "1013"),
        (D::Internal, "1011"),
    ];
    for (reason, code) in &reasons {
        if let Some(sent) = reason.close_code() {
            assert!(code.starts_with(&sent.to_string()), "{reason:?}");
        }
        let reconnect = if reason.may_reconnect() { "yes" } else { "no" };
        documented(&format!("\n| `{}` | {code} | {reconnect} | ", reason.label()));
    }
    let rows = PROTOCOL.split_once("| reason (metric label) |").unwrap().1.split_once("\n\n").unwrap().0;
    assert_eq!(rows.lines().filter(|line| line.starts_with("| `")).count(), reasons.len());
}

#[test]
fn every_name_on_the_wire_is_explained() {
    use ErrorCode as E;
    for code in [
        E::NotSubscribed,
        E::BadCommand,
        E::UnknownOp,
        E::UnknownChannel,
        E::UnknownSymbol,
        E::TooManySubscriptions,
        E::RateLimited,
        E::AuthRequired,
        E::AuthFailed,
        E::AuthTimeout,
        E::NotEntitled,
        E::MessageTooBig,
        E::Internal,
    ] {
        documented(&format!("`{}`", code.name()));
    }
    for reason in [GapReason::Conflated, GapReason::Slow, GapReason::Evicted, GapReason::Source] {
        documented(&format!("\n| `{}` | ", reason.name()));
    }
    for status in
        [StatusCode::PreOpen, StatusCode::Trading, StatusCode::Halted, StatusCode::Auction, StatusCode::Closed]
    {
        documented(&format!("{} `{}`", status as u8, status.name()));
    }
    for dialect in Dialect::ALL {
        documented(&format!("\n| `{}` | ", dialect.subprotocol()));
    }
    for channel in Channel::ALL {
        documented(&format!("`{channel}`"));
    }
    let served = hub::ShardConfig::default().served;
    for channel in Channel::ALL {
        let row = PROTOCOL.lines().find(|line| line.starts_with("| ") && line.contains(&format!("`{channel}` ")));
        assert_eq!(row.unwrap().ends_with("| reserved |"), !served.contains(channel), "{channel}");
    }
    for notice in [
        NoticeCode::Draining,
        NoticeCode::Slow,
        NoticeCode::RateLimited,
        NoticeCode::FeedEnded,
        NoticeCode::FeedFailed,
        NoticeCode::TokenExpires,
    ] {
        documented(&format!("\n| `{}` | ", serde_json::to_value(notice).unwrap().as_str().unwrap()));
    }
}

#[test]
fn every_limit_of_the_welcome_has_its_default() {
    let limits = serde_json::to_value(Limits::default()).unwrap();
    for (key, value) in limits.as_object().unwrap() {
        if key == "auth_timeout_ms" {
            documented(&format!("`{key}` ({value})"));
        } else {
            documented(&format!("\n| `{key}` | {value} | w | "));
        }
    }
    documented(&format!("\n| `heartbeat_ms` | {} | ", hub::ShardConfig::default().heartbeat_ms));
}

#[test]
fn every_example_is_a_command_or_a_message() {
    let messages = messages();
    let mut shown = BTreeSet::new();
    let mut ops = BTreeSet::new();
    for block in blocks("json") {
        let value: Value = serde_json::from_str(block).unwrap_or_else(|error| panic!("{error}: {block}"));
        if let Some(op) = value["op"].as_str() {
            let read = wire::parse_command(Encoding::Json, block.as_bytes());
            assert!(read.is_ok(), "{block}: {read:?}");
            ops.insert(op.to_owned());
        } else {
            assert!(messages.contains(&value), "no message is written as {block}");
            shown.insert(value["type"].as_str().unwrap_or("data").to_owned());
        }
    }
    for message in &messages {
        let kind = message["type"].as_str().unwrap_or("data");
        assert!(shown.contains(kind), "{kind} has no example");
        assert!(kind == "data" || PROTOCOL.contains(&format!("\n### {kind}\n")), "{kind} has no section");
    }
    let unknown = wire::parse_command(Encoding::Json, br#"{"op":"x"}"#).unwrap_err().message;
    for op in unknown.split_once("known are ").unwrap().1.split(", ") {
        documented(&format!("\n| `{op}` | "));
        ops.remove(op);
    }
    assert!(ops.is_empty(), "{ops:?}");
}

/// One message of each type with the values of the examples, as a client that reads JSON has it; data frames too.
fn messages() -> Vec<Value> {
    let (btc, es) = (instrument(7, "BTC-USD", -4), instrument(8, "ESU4", 0));
    let integer = |id| Some(CommandId::Integer(id));
    let error = CommandError {
        id: integer(1),
        code: ErrorCode::UnknownSymbol,
        message: "1 of the symbols do not exist; see the command instruments".into(),
        symbols: vec!["NOPE".into()],
    };
    let latest = Mode::Latest { interval_ms: 250 };
    let control = [
        ServerMessage::Welcome {
            version: "0.1.0",
            session: "0-12-3",
            epoch: "17de19e9e14b7001",
            time: TIME,
            heartbeat_ms: 10_000,
            limits: &Limits::default(),
        },
        ServerMessage::Subscribed {
            id: integer(1).as_ref(),
            instruments: &[&btc, &es],
            channels: [Channel::Trades, Channel::Quotes].into_iter().collect(),
            mode: Mode::Every,
            recovered: &[("BTC-USD", Channel::Trades, Recovered::Recovered), ("ESU4", Channel::Quotes, Recovered::Gap)],
        },
        ServerMessage::Unsubscribed {
            id: integer(3).as_ref(),
            channels: [Channel::Quotes].into_iter().collect(),
            symbols: &["ESU4"],
        },
        ServerMessage::Subscriptions {
            id: integer(5).as_ref(),
            subscriptions: &[
                SubscriptionInfo { channel: Channel::Trades, symbols: vec!["*"], mode: Mode::Every },
                SubscriptionInfo { channel: Channel::Trades, symbols: vec!["ESU4"], mode: latest },
            ],
        },
        ServerMessage::Instruments { id: integer(4).as_ref(), instruments: &[&es] },
        ServerMessage::Error(&error),
        ServerMessage::Heartbeat { time: TIME, delivered: 5, dropped: 0 },
        ServerMessage::Notice {
            code: NoticeCode::Draining,
            reconnect_after_ms: Some(1500),
            message: "the server is draining; the connection will be closed, reconnect after reconnect_after_ms",
        },
        ServerMessage::Pong { id: integer(-1).as_ref(), time: TIME, sent_bytes: 4321 },
        ServerMessage::Authenticated { expires: None },
        ServerMessage::Closed {
            reason: Disconnect::Draining.label(),
            code: Disconnect::Draining.close_code().unwrap_or(0),
            may_reconnect: Disconnect::Draining.may_reconnect(),
            message: &Disconnect::Draining.text(),
        },
    ]
    .map(|message| {
        let mut text = Vec::new();
        wire::encode_message(Dialect::NativeJson, &message, &mut text);
        text
    });
    let frames = frames(Dialect::NativeJson, &btc);
    let books_and_bars = books_and_bars(&es);
    control.iter().chain(&frames).chain(&books_and_bars).map(|text| serde_json::from_slice(text).unwrap()).collect()
}

/// The data frames of the examples.
fn frames(dialect: Dialect, instrument: &Instrument) -> [Vec<u8>; 3] {
    let trade = Trade { price: Price(968_219), size: Size(12_345), side: Side::Buy, trade_id: 300 };
    let quote = Quote {
        bid: Some(Level { price: Price(968_218), size: Size(10_000) }),
        ask: Some(Level { price: Price(968_220), size: Size(5) }),
    };
    let gap = Gap { channel: Channel::Quotes, from_seq: 4, to_seq: 1000, reason: GapReason::Conflated };
    let frame = |kind, encode: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        wire::begin_data(dialect, kind, TIME, 1, &mut out);
        encode(&mut out);
        wire::end_data(dialect, &mut out);
        out
    };
    [
        frame(FrameKind::Live, &|out| wire::encode_element(dialect, instrument, 1, TIME, &Event::Trade(trade), out)),
        frame(FrameKind::Snapshot, &|out| {
            wire::encode_element(dialect, instrument, 128, TIME, &Event::Quote(quote), out);
        }),
        frame(FrameKind::Live, &|out| wire::encode_gap(dialect, instrument, TIME, gap, out)),
    ]
}

/// A book, a change of it, and a bar, in JSON.
fn books_and_bars(instrument: &Instrument) -> [Vec<u8>; 3] {
    let level = |price, size| Level { price: Price(price), size: Size(size) };
    let mut book = Book::new();
    let depth = BookDepth::Top10;
    for (side, price, size) in [(BookSide::Bid, 552_000, 5), (BookSide::Bid, 551_975, 31), (BookSide::Ask, 552_025, 7)]
    {
        book.set(side, Price(price), Size(size));
    }
    let (bids, asks) = ([level(552_000, 5), level(551_975, 31)], [level(552_025, 7)]);
    let snapshot = BookUpdate::new(depth, &bids, &asks, book.checksum());
    book.set(BookSide::Bid, Price(552_000), Size(0));
    book.set(BookSide::Ask, Price(552_025), Size(9));
    let delta = BookUpdate::new(depth, &[level(552_000, 0)], &[level(552_025, 9)], book.checksum());
    let bar = Bar {
        interval: BarInterval::M1,
        open: Price(552_000),
        high: Price(552_050),
        low: Price(551_950),
        close: Price(552_025),
        volume: Size(812),
        trade_count: 96,
        closed: true,
    };
    let frame = |kind, seq, event: Event| {
        let mut out = Vec::new();
        wire::begin_data(Dialect::NativeJson, kind, TIME, 1, &mut out);
        wire::encode_element(Dialect::NativeJson, instrument, seq, TIME, &event, &mut out);
        wire::end_data(Dialect::NativeJson, &mut out);
        out
    };
    [
        frame(FrameKind::Snapshot, 41, Event::BookSnapshot(snapshot)),
        frame(FrameKind::Live, 42, Event::BookDelta(delta)),
        frame(FrameKind::Live, 3, Event::Bar(bar)),
    ]
}

#[test]
fn books_and_bars_are_shown() {
    for frame in books_and_bars(&instrument(8, "ESU4", 0)) {
        let text = String::from_utf8(frame).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        let shown = blocks("json").any(|block| serde_json::from_str::<Value>(block).is_ok_and(|other| other == value));
        assert!(shown, "docs/protocol.md does not show {text}");
    }
}

#[test]
fn the_bytes_are_those_of_the_encoders() {
    for frame in frames(Dialect::NativeMessagePack, &instrument(7, "BTC-USD", -4)) {
        documented_bytes(&frame);
    }
    let mut heartbeat = Vec::new();
    let message = ServerMessage::Heartbeat { time: TIME, delivered: 5, dropped: 0 };
    wire::encode_message(Dialect::NativeMessagePack, &message, &mut heartbeat);
    documented_bytes(&heartbeat);
}
