//! What clients may send and what they are told when they should not have.

use market::{Channel, ChannelSet};
use proptest::prelude::*;
use serde_json::{Value, json};
use wire::{
    Command, CommandError, CommandId, Encoding, Envelope, ErrorCode, Mode, Since, SlowPolicy, Subscribe, Symbols,
    parse_command,
};

fn channels(names: &[&str]) -> ChannelSet {
    names.iter().map(|name| name.parse::<Channel>().unwrap()).collect()
}

fn named(symbols: &[&str]) -> Symbols {
    Symbols::Named(symbols.iter().map(ToString::to_string).collect())
}

fn trades_of_a() -> Subscribe {
    Subscribe {
        channels: channels(&["trades"]),
        symbols: named(&["A"]),
        mode: Mode::Every,
        snapshot: true,
        slow: SlowPolicy::Conflate,
        since: None,
    }
}

/// Parses in both encodings, which must agree.
fn parse(command: &Value) -> Result<Envelope, CommandError> {
    let json = parse_command(Encoding::Json, command.to_string().as_bytes());
    let packed = parse_command(Encoding::MessagePack, &rmp_serde::to_vec(command).unwrap());
    assert_eq!(json, packed, "{command}");
    json
}

fn check(command: &Value, want: Command) {
    assert_eq!(parse(command).map(|envelope| envelope.command), Ok(want), "{command}");
}

/// The error has the code and its message all the words.
fn refused(command: &Value, code: ErrorCode, words: &[&str]) {
    let error = parse(command).expect_err(&command.to_string());
    assert_eq!(error.code, code, "{command}: {error}");
    for word in words {
        assert!(error.message.contains(word), "{command}: {error} does not say {word}");
    }
}

#[test]
fn every_command_is_read() {
    check(&json!({"op":"auth","token":"t"}), Command::Auth { token: "t".into() });
    check(&json!({"op":"subscribe","channels":["trades"],"symbols":["A"]}), Command::Subscribe(trades_of_a()));
    check(
        &json!({"op":"subscribe","channels":["quotes","bars.1m","quotes"],"symbols":["A","*"],"mode":"latest",
                "interval_ms":0,"snapshot":false,"slow":"disconnect","unknown":{"x":[1.5,null]},
                "since":{"epoch":"e","seqs":{"A":{"quotes":7,"bars.1m":0}}}}),
        Command::Subscribe(Subscribe {
            channels: channels(&["quotes", "bars.1m"]),
            symbols: Symbols::All,
            mode: Mode::Latest { interval_ms: 0 },
            snapshot: false,
            slow: SlowPolicy::Disconnect,
            since: Some(Since {
                epoch: "e".into(),
                // The maps of serde_json are sorted.
                seqs: vec![("A".into(), "bars.1m".parse().unwrap(), 0), ("A".into(), Channel::Quotes, 7)],
            }),
        }),
    );
    check(&json!({"op":"unsubscribe"}), Command::Unsubscribe { channels: None, symbols: None });
    check(
        &json!({"op":"unsubscribe","channels":["trades"],"symbols":["*"]}),
        Command::Unsubscribe { channels: Some(channels(&["trades"])), symbols: Some(Symbols::All) },
    );
    check(&json!({"op":"subscriptions"}), Command::Subscriptions);
    check(&json!({"op":"instruments"}), Command::Instruments { prefix: None });
    check(&json!({"op":"instruments","prefix":"BT"}), Command::Instruments { prefix: Some("BT".into()) });
    check(&json!({"op":"ping"}), Command::Ping);
}

#[test]
fn the_mode_follows_from_mode_and_interval() {
    let subscribe = |extra: Value| with(json!({"op":"subscribe","channels":["trades"],"symbols":["A"]}), extra);
    let update = |extra: Value| with(json!({"op":"update","channels":["trades"],"symbols":["A"]}), extra);
    let latest = |interval_ms| Subscribe { mode: Mode::Latest { interval_ms }, ..trades_of_a() };

    check(&subscribe(json!({"mode":"every"})), Command::Subscribe(trades_of_a()));
    check(&subscribe(json!({"mode":null,"snapshot":null,"since":null})), Command::Subscribe(trades_of_a()));
    check(&subscribe(json!({"interval_ms":5})), Command::Subscribe(trades_of_a()));
    check(&subscribe(json!({"mode":"latest"})), Command::Subscribe(latest(100)));
    check(&subscribe(json!({"mode":"latest","interval_ms":5})), Command::Subscribe(latest(5)));
    check(&update(json!({"interval_ms":5})), Command::Update(latest(5)));
    check(&update(json!({"mode":"latest"})), Command::Update(latest(100)));
    check(&update(json!({"mode":"every"})), Command::Update(trades_of_a()));
    refused(&update(json!({})), ErrorCode::BadCommand, &["mode", "interval_ms", "update"]);
    refused(&subscribe(json!({"mode":"fast"})), ErrorCode::BadCommand, &["mode", "\"fast\"", "every or latest"]);
    refused(&subscribe(json!({"interval_ms":-1})), ErrorCode::BadCommand, &["interval_ms", "negative"]);
    refused(&subscribe(json!({"interval_ms":4_294_967_296u64})), ErrorCode::BadCommand, &["interval_ms", "4294967296"]);
    refused(&subscribe(json!({"interval_ms":1.5})), ErrorCode::BadCommand, &["interval_ms", "integer"]);
}

fn with(mut command: Value, extra: Value) -> Value {
    let Value::Object(extra) = extra else { unreachable!() };
    command.as_object_mut().unwrap().extend(extra);
    command
}

#[test]
fn mistakes_are_named() {
    use ErrorCode::{BadCommand, UnknownChannel, UnknownOp};
    let subscribe = |extra: Value| with(json!({"op":"subscribe","channels":["trades"],"symbols":["A"]}), extra);
    for (command, code, words) in [
        (json!({}), BadCommand, &["op", "missing"][..]),
        (json!({"op":7}), BadCommand, &["op", "an integer"]),
        (json!({"op":"subscrib"}), UnknownOp, &["\"subscrib\"", "subscribe"]),
        (json!({"op":"subscribe"}), BadCommand, &["channels", "missing"]),
        (json!({"op":"subscribe","channels":["trades"]}), BadCommand, &["symbols", "missing"]),
        (subscribe(json!({"channels":[]})), BadCommand, &["channels", "empty"]),
        (subscribe(json!({"symbols":[]})), BadCommand, &["symbols", "empty"]),
        (subscribe(json!({"channels":"trades"})), BadCommand, &["channels", "a string", "list"]),
        (subscribe(json!({"channels":["trades",1]})), BadCommand, &["channels[1]", "an integer"]),
        (subscribe(json!({"channels":["trades","tades"]})), UnknownChannel, &["\"tades\"", "trades"]),
        (subscribe(json!({"symbols":{"A":1}})), BadCommand, &["symbols", "a map"]),
        (subscribe(json!({"symbols":["*",null]})), BadCommand, &["symbols[1]", "nil"]),
        (subscribe(json!({"snapshot":1})), BadCommand, &["snapshot", "true or false"]),
        (subscribe(json!({"slow":"wait"})), BadCommand, &["slow", "\"wait\"", "conflate or disconnect"]),
        (subscribe(json!({"since":[]})), BadCommand, &["since", "a list"]),
        (subscribe(json!({"since":{}})), BadCommand, &["since.epoch", "missing"]),
        (subscribe(json!({"since":{"epoch":1}})), BadCommand, &["since.epoch", "an integer"]),
        (subscribe(json!({"since":{"epoch":"e"}})), BadCommand, &["since.seqs", "missing"]),
        (subscribe(json!({"since":{"epoch":"e","seqs":{"A":1}}})), BadCommand, &["since.seqs", "\"A\""]),
        (subscribe(json!({"since":{"epoch":"e","seqs":{"A":{"trades":-1}}}})), BadCommand, &["\"trades\"", "negative"]),
        (subscribe(json!({"since":{"epoch":"e","seqs":{"A":{"x":1}}}})), UnknownChannel, &["\"x\""]),
        (json!({"op":"unsubscribe","channels":[]}), BadCommand, &["channels", "empty"]),
        (json!({"op":"unsubscribe","symbols":[]}), BadCommand, &["symbols", "empty"]),
        (json!({"op":"auth"}), BadCommand, &["token", "missing"]),
        (json!({"op":"auth","token":1}), BadCommand, &["token", "an integer"]),
        (json!({"op":"instruments","prefix":1}), BadCommand, &["prefix", "an integer"]),
        (json!({"op":"ping","id":1.5}), BadCommand, &["id", "integer or a string"]),
        (json!({"op":"ping","id":[1]}), BadCommand, &["id", "a list"]),
    ] {
        refused(&command, code, words);
    }
}

#[test]
fn the_id_is_echoed_whatever_happens() {
    for (id, want) in [
        (json!(7), CommandId::Integer(7)),
        (json!(-7), CommandId::Integer(-7)),
        (json!(i64::MIN), CommandId::Integer(i64::MIN)),
        (json!(u64::MAX), CommandId::Unsigned(u64::MAX)),
        (json!(""), CommandId::Text("".into())),
        (json!("a"), CommandId::Text("a".into())),
    ] {
        assert_eq!(parse(&json!({"id":id,"op":"ping"})).unwrap().id, Some(want.clone()));
        assert_eq!(parse(&json!({"id":id,"op":"pong"})).unwrap_err().id, Some(want.clone()));
        assert_eq!(parse(&json!({"id":id,"op":1})).unwrap_err().id, Some(want));
    }
    assert_eq!(parse(&json!({"op":"ping","id":null})).unwrap().id, None);
    // It is even read from a message that is broken further on.
    let error = parse_command(Encoding::Json, br#"{"id":3,"op":"ping","#).unwrap_err();
    assert_eq!((error.id, error.code), (Some(CommandId::Integer(3)), ErrorCode::BadCommand));
    let error = parse_command(Encoding::MessagePack, b"\x82\xa2id\x03\xa2op\xa9x").unwrap_err();
    assert_eq!((error.id, error.code), (Some(CommandId::Integer(3)), ErrorCode::BadCommand));
}

#[test]
fn a_text_in_the_place_of_a_command_is_not_repeated() {
    let text = format!("{:?}", "x".repeat(10_000));
    let error = parse_command(Encoding::Json, text.as_bytes()).unwrap_err();
    assert!(error.message.contains("a string") && error.message.len() < 200, "{}", error.message);
}

#[test]
fn what_is_no_map_is_a_bad_command() {
    for (encoding, payload) in [
        (Encoding::Json, &b""[..]),
        (Encoding::Json, b"hello"),
        (Encoding::Json, b"[]"),
        (Encoding::Json, b"null"),
        (Encoding::Json, b"{\"op\":\"ping\"} {}"),
        (Encoding::Json, b"{\"op\":\"ping\",}"),
        (Encoding::Json, b"\xff"),
        (Encoding::Json, b"{\"op\":\"\\ud800\"}"),
        (Encoding::Json, b"\x81\xa2op\xa4ping"),
        (Encoding::MessagePack, b""),
        (Encoding::MessagePack, b"{\"op\":\"ping\"}"),
        (Encoding::MessagePack, b"\x90"),
        (Encoding::MessagePack, b"\xc1"),
        (Encoding::MessagePack, b"\x81\xa2op\xa4ping\x00"),
        (Encoding::MessagePack, b"\x81\xa2op\xa1\xff"),
        (Encoding::MessagePack, b"\x81\xa2op"),
    ] {
        let error = parse_command(encoding, payload).expect_err(&String::from_utf8_lossy(payload));
        assert_eq!((error.id, error.code), (None, ErrorCode::BadCommand), "{payload:?}");
        assert!(error.message.starts_with(
            ["not a command in JSON: ", "not a command in MessagePack: "]
                [usize::from(encoding == Encoding::MessagePack)]
        ));
    }
}

#[test]
fn every_form_of_message_pack_is_read() {
    // {"op": str 8, "id": int 8, 1: ignored, "x": [every other form]}
    let mut payload = b"\xde\x00\x04\xd9\x02op\xda\x00\x04ping\xa2id\xd0\xfe\x01\xc0\xa1x\xdc\x00\x16".to_vec();
    let others: [&[u8]; 22] = [
        b"\xc2",
        b"\xc3",
        b"\xc4\x01x",
        b"\xc5\x00\x01x",
        b"\xc6\x00\x00\x00\x01x",
        b"\xc7\x01\x05x",
        b"\xc8\x00\x01\x05x",
        b"\xc9\x00\x00\x00\x01\x05x",
        b"\xca\x00\x00\x00\x00",
        b"\xcb\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\xcc\x01",
        b"\xcd\x00\x01",
        b"\xce\x00\x00\x00\x01",
        b"\xcf\x00\x00\x00\x00\x00\x00\x00\x01",
        b"\xd1\xff\xff",
        b"\xd2\xff\xff\xff\xff",
        b"\xd3\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xd4\x05x",
        b"\xd6\x05xxxx",
        b"\xd8\x05xxxxxxxxxxxxxxxx",
        b"\xdb\x00\x00\x00\x01x",
        b"\xdd\x00\x00\x00\x01\xdf\x00\x00\x00\x00",
    ];
    for other in others {
        payload.extend_from_slice(other);
    }
    let envelope = parse_command(Encoding::MessagePack, &payload);
    assert_eq!(envelope, Ok(Envelope { id: Some(CommandId::Integer(-2)), command: Command::Ping }));
}

#[test]
fn of_a_key_given_twice_the_last_counts() {
    let envelope = parse_command(Encoding::Json, br#"{"op":"subscriptions","op":"ping","id":1,"id":2}"#);
    assert_eq!(envelope, Ok(Envelope { id: Some(CommandId::Integer(2)), command: Command::Ping }));
    let envelope = parse_command(Encoding::MessagePack, b"\x82\xa2op\xadsubscriptions\xa2op\xa4ping");
    assert_eq!(envelope, Ok(Envelope { id: None, command: Command::Ping }));
}

#[test]
fn ten_thousand_symbols_and_more_are_read() {
    let symbols: Vec<String> = (0..20_000).map(|n| format!("S{n}")).collect();
    let envelope = parse(&json!({"op":"subscribe","channels":["trades"],"symbols":symbols})).unwrap();
    let Command::Subscribe(subscribe) = envelope.command else { panic!("not a subscribe") };
    assert_eq!(subscribe.symbols, Symbols::Named(symbols));
}

#[test]
fn deep_nesting_is_refused_before_the_stack_ends() {
    let depth = 1_000_000;
    let json = format!("{{\"id\":1,\"x\":{}", "[".repeat(depth));
    let mut lists = b"\x82\xa2id\x01\xa1x".to_vec();
    lists.resize(depth, 0x91);
    let mut maps = b"\x82\xa2id\x01\xa1x".to_vec();
    maps.extend(b"\x81\xa1x".repeat(depth));
    for (encoding, payload) in [
        (Encoding::Json, json.as_bytes()),
        (Encoding::Json, "{\"x\":".repeat(depth).as_bytes()),
        (Encoding::MessagePack, &lists),
        (Encoding::MessagePack, &maps),
    ] {
        let error = parse_command(encoding, payload).unwrap_err();
        assert_eq!(error.code, ErrorCode::BadCommand);
        assert!(error.message.contains("deep"), "{error}");
    }
    // What is nested a little is only unknown.
    let inner = (0..14).fold(json!(1), |inner, _| json!([inner]));
    check(&json!({"op":"ping","x":inner}), Command::Ping);
}

#[test]
fn claimed_lengths_are_not_believed() {
    for payload in [
        &b"\xdf\xff\xff\xff\xff"[..],
        b"\xdf\xff\xff\xff\xff\xa2op\xa4ping",
        b"\x81\xa1x\xdd\xff\xff\xff\xff",
        b"\x81\xa1x\xdb\xff\xff\xff\xff",
        b"\x81\xa1x\xc6\xff\xff\xff\xff",
        b"\x81\xa1x\xc9\xff\xff\xff\xff",
    ] {
        let error = parse_command(Encoding::MessagePack, payload).unwrap_err();
        assert!(error.message.contains("ends at byte"), "{error}");
    }
}

#[test]
fn a_long_word_is_not_sent_back_in_full() {
    let error = parse(&json!({"op":"é".repeat(10_000)})).unwrap_err();
    assert!(error.message.len() < 400, "{}", error.message.len());
    let error = parse(&json!({"op":"subscribe","channels":["x".repeat(10_000)],"symbols":["A"]})).unwrap_err();
    assert!(error.message.len() < 400, "{}", error.message.len());
}

#[test]
fn a_token_does_not_get_into_logs() {
    let envelope = parse(&json!({"op":"auth","token":"secret"})).unwrap();
    assert!(!format!("{envelope:?}").contains("secret"));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        "(subscribe|update|trades|quotes|every|latest|\\*|A|.{0,5})".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("(A|trades|epoch|seqs)", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn command() -> impl Strategy<Value = Value> {
    let key = "(op|id|channels|symbols|mode|interval_ms|snapshot|slow|since|token|prefix)";
    let op = "(subscribe|update|unsubscribe|auth|instruments|ping)";
    (op, prop::collection::hash_map(key, value(), 0..8)).prop_map(|(op, entries)| {
        let mut command: serde_json::Map<_, _> = entries.into_iter().collect();
        command.entry("op").or_insert(op.into());
        Value::Object(command)
    })
}

proptest! {
    #[test]
    fn any_bytes_are_a_command_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_command(Encoding::Json, &bytes);
        let _ = parse_command(Encoding::MessagePack, &bytes);
        let mut in_a_map = b"\x8f\xa2op".to_vec();
        in_a_map.extend(&bytes);
        let _ = parse_command(Encoding::MessagePack, &in_a_map);
    }

    #[test]
    fn any_text_is_a_command_or_an_error(text in "[\\[\\]{}:,\"0-9a-z\\\\.eE+ -]{0,80}") {
        let _ = parse_command(Encoding::Json, text.as_bytes());
    }

    #[test]
    fn both_encodings_mean_the_same(command in command()) {
        let _ = parse(&command);
    }

    #[test]
    fn a_cut_command_is_a_bad_one(command in command(), cut in any::<prop::sample::Index>()) {
        let packed = rmp_serde::to_vec(&command).unwrap();
        let error = parse_command(Encoding::MessagePack, &packed[..cut.index(packed.len())]).unwrap_err();
        prop_assert_eq!(error.code, ErrorCode::BadCommand);
        let text = command.to_string();
        let error = parse_command(Encoding::Json, &text.as_bytes()[..cut.index(text.len())]).unwrap_err();
        prop_assert_eq!(error.code, ErrorCode::BadCommand);
    }
}
