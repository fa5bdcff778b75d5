//! The text of every control message in JSON, the bytes of some in MessagePack, and that both say the same.
//!
//! **Invariant:** a change of these bytes is a change of the protocol.

use std::fmt::Write as _;

use market::{AssetClass, BarInterval, Channel, ChannelSet, Instrument, InstrumentId, Price, Size, Symbol, Timestamp};
use serde_json::{Value, json};
use wire::{
    CommandError, CommandId, Dialect, ErrorCode, Limits, Mode, NoticeCode, Recovered, ServerMessage, SubscriptionInfo,
    encode_message,
};

const TIME: Timestamp = Timestamp(1_719_840_600_000_000_001);
const TEXT: &str = "2024-07-01T13:30:00.000000001Z";

fn instrument() -> Instrument {
    Instrument {
        id: InstrumentId(7),
        symbol: Symbol::new("ESU4").unwrap(),
        price_exponent: -2,
        size_exponent: 0,
        tick_size: Price(25),
        lot_size: Size(1),
        class: AssetClass::Future,
        currency: "USD".into(),
        description: "E-mini S&P 500".into(),
    }
}

fn encode(dialect: Dialect, message: &ServerMessage<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode_message(dialect, message, &mut out);
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The JSON is exactly `text`; the MessagePack has the same keys in the same order and, times and steps aside, the same
/// values: `differing` has those that differ.
fn check(message: &ServerMessage<'_>, text: &str, differing: &[(&str, Value)]) {
    let written = encode(Dialect::NativeJson, message);
    assert_eq!(std::str::from_utf8(&written).unwrap(), text);

    let mut want: Value = serde_json::from_str(text).unwrap();
    for (pointer, value) in differing {
        *want.pointer_mut(pointer).unwrap() = value.clone();
    }
    let packed = encode(Dialect::NativeMessagePack, message);
    assert_eq!(rmp_serde::from_slice::<Value>(&packed).unwrap(), want);
}

#[test]
fn welcome() {
    check(
        &ServerMessage::Welcome {
            version: "0.1.0",
            session: "s-1",
            epoch: "e1",
            time: TIME,
            heartbeat_ms: 15_000,
            limits: &Limits::default(),
        },
        &format!(
            r#"{{"type":"welcome","version":"0.1.0","session":"s-1","epoch":"e1","time":"{TEXT}","heartbeat_ms":15000,"limits":{{"message_bytes_max":65536,"commands_per_s":10,"commands_burst":50,"commands_rejected_max":100,"subscriptions_max":10000,"outbox_bytes_max":1048576,"auth_timeout_ms":10000,"ping_interval_ms":20000,"pings_unanswered_max":2}}}}"#
        ),
        &[("/time", json!(TIME.0))],
    );
}

#[test]
fn subscribed() {
    let recovered = [
        ("ESU4", Channel::Quotes, Recovered::Gap),
        ("BTC-USD", Channel::Trades, Recovered::Snapshot),
        ("ESU4", Channel::Trades, Recovered::Recovered),
    ];
    check(
        &ServerMessage::Subscribed {
            id: Some(&CommandId::Text("a".into())),
            instruments: &[&instrument()],
            channels: [Channel::Trades, Channel::Bars(BarInterval::M1)].into_iter().collect(),
            mode: Mode::Latest { interval_ms: 250 },
            recovered: &recovered,
        },
        r#"{"type":"subscribed","id":"a","instruments":[["ESU4",7,-2,0]],"channels":["trades","bars.1m"],"mode":"latest","interval_ms":250,"recovered":{"BTC-USD":{"trades":"snapshot"},"ESU4":{"quotes":"gap","trades":"recovered"}}}"#,
        &[],
    );
}

#[test]
fn subscribed_to_everything_without_an_id() {
    check(
        &ServerMessage::Subscribed {
            id: None,
            instruments: &[],
            channels: ChannelSet::EMPTY,
            mode: Mode::Every,
            recovered: &[],
        },
        r#"{"type":"subscribed","instruments":[],"channels":[],"mode":"every","interval_ms":0,"recovered":{}}"#,
        &[],
    );
}

#[test]
fn error() {
    let mut error = CommandError {
        id: Some(CommandId::Unsigned(u64::MAX)),
        code: ErrorCode::UnknownSymbol,
        message: "unknown".into(),
        symbols: vec!["É\"".into()],
    };
    check(
        &ServerMessage::Error(&error),
        r#"{"type":"error","id":18446744073709551615,"code":"unknown_symbol","message":"unknown","symbols":["É\""]}"#,
        &[],
    );
    error = CommandError { id: None, code: ErrorCode::BadCommand, message: "bad".into(), symbols: vec![] };
    check(&ServerMessage::Error(&error), r#"{"type":"error","code":"bad_command","message":"bad"}"#, &[]);
}

#[test]
fn heartbeat() {
    let message = ServerMessage::Heartbeat { time: TIME, delivered: 5, dropped: 0 };
    check(
        &message,
        &format!(r#"{{"type":"heartbeat","time":"{TEXT}","delivered":5,"dropped":0}}"#),
        &[("/time", json!(TIME.0))],
    );
    let packed = hex(&encode(Dialect::NativeMessagePack, &message));
    let want =
        "84 a474797065 a9686561727462656174 a474696d65 cf17de19e9e14b7001 a964656c697665726564 05 a764726f70706564 00";
    assert_eq!(packed, want.replace(' ', ""));
}

#[test]
fn notice() {
    use NoticeCode as N;
    check(
        &ServerMessage::Notice { code: N::Draining, reconnect_after_ms: Some(1500), message: "bye" },
        r#"{"type":"notice","code":"draining","reconnect_after_ms":1500,"message":"bye"}"#,
        &[],
    );
    for (code, name) in [
        (N::Draining, "draining"),
        (N::Slow, "slow"),
        (N::RateLimited, "rate_limited"),
        (N::FeedEnded, "feed_ended"),
        (N::FeedFailed, "feed_failed"),
        (N::TokenExpires, "token_expires"),
    ] {
        let text = format!(r#"{{"type":"notice","code":"{name}","message":""}}"#);
        check(&ServerMessage::Notice { code, reconnect_after_ms: None, message: "" }, &text, &[]);
    }
}

#[test]
fn pong() {
    let message = ServerMessage::Pong { id: Some(&CommandId::Integer(-1)), time: TIME, sent_bytes: 4321 };
    check(
        &message,
        &format!(r#"{{"type":"pong","id":-1,"time":"{TEXT}","sent_bytes":4321}}"#),
        &[("/time", json!(TIME.0))],
    );
    let packed = hex(&encode(Dialect::NativeMessagePack, &message));
    assert_eq!(packed, "84a474797065a4706f6e67a26964ffa474696d65cf17de19e9e14b7001aa73656e745f6279746573cd10e1");
}

#[test]
fn unsubscribed() {
    check(
        &ServerMessage::Unsubscribed {
            id: Some(&CommandId::Integer(3)),
            channels: [Channel::Quotes].into_iter().collect(),
            symbols: &["ESU4"],
        },
        r#"{"type":"unsubscribed","id":3,"channels":["quotes"],"symbols":["ESU4"]}"#,
        &[],
    );
}

#[test]
fn subscriptions() {
    let subscriptions = [
        SubscriptionInfo { channel: Channel::Trades, symbols: vec!["*"], mode: Mode::Every },
        SubscriptionInfo { channel: Channel::Quotes, symbols: vec!["A", "B"], mode: Mode::Latest { interval_ms: 100 } },
    ];
    check(
        &ServerMessage::Subscriptions { id: None, subscriptions: &subscriptions },
        r#"{"type":"subscriptions","subscriptions":[{"channel":"trades","symbols":["*"],"mode":"every","interval_ms":0},{"channel":"quotes","symbols":["A","B"],"mode":"latest","interval_ms":100}]}"#,
        &[],
    );
}

#[test]
fn instruments() {
    check(
        &ServerMessage::Instruments { id: None, instruments: &[&instrument()] },
        r#"{"type":"instruments","instruments":[{"symbol":"ESU4","instrument_id":7,"price_exponent":-2,"size_exponent":0,"tick_size":"0.25","lot_size":"1","class":"future","currency":"USD","description":"E-mini S&P 500"}]}"#,
        &[("/instruments/0/tick_size", json!(25)), ("/instruments/0/lot_size", json!(1))],
    );
}

#[test]
fn authenticated() {
    check(&ServerMessage::Authenticated { expires: None }, r#"{"type":"authenticated"}"#, &[]);
    check(
        &ServerMessage::Authenticated { expires: Some(TIME) },
        &format!(r#"{{"type":"authenticated","expires":"{TEXT}"}}"#),
        &[("/expires", json!(TIME.0))],
    );
}

#[test]
fn closed() {
    let message = ServerMessage::Closed {
        reason: "slow_consumer",
        code: 4408,
        may_reconnect: true,
        message: "the client reads too slowly",
    };
    check(
        &message,
        r#"{"type":"closed","reason":"slow_consumer","code":4408,"may_reconnect":true,"message":"the client reads too slowly"}"#,
        &[],
    );
}
