//! What a client reads is what a server wrote: elements, control messages and commands, there and back.
//!
//! **Invariant:** the writer and the reader agree on every value in both encodings, and no input makes the reader panic.

use market::{
    AssetClass, Bar, BarInterval, BookDepth, BookUpdate, Channel, ChannelSet, Event, Instrument, InstrumentId, Level,
    Price, Quote, Side, Size, Status, StatusCode, Symbol, Ticker, Timestamp, Trade,
};
use proptest::prelude::*;
use wire::decode::{
    Content, ControlMessage, Element, InstrumentTerms, begin, decode_control, decode_elements, decode_text_data,
    is_packed_data, is_text_data,
};
use wire::{
    Command, CommandError, CommandId, Dialect, Encoding, Envelope, ErrorCode, FrameKind, Gap, GapReason, Limits, Mode,
    NoticeCode, Recovered, ServerMessage, Since, SlowPolicy, Subscribe, Symbols, begin_data, encode_command,
    encode_element, encode_gap, encode_message, end_data, parse_command,
};

const TIME: Timestamp = Timestamp(1_719_840_600_000_000_001);

fn instrument() -> Instrument {
    Instrument {
        id: InstrumentId(7),
        symbol: Symbol::new("BTC-USD").unwrap(),
        price_exponent: -2,
        size_exponent: -4,
        tick_size: Price(25),
        lot_size: Size(10),
        class: AssetClass::Crypto,
        currency: "USD".into(),
        description: "Bitcoin \"in\" US dollars".into(),
    }
}

fn terms() -> InstrumentTerms {
    InstrumentTerms { id: InstrumentId(7), symbol: instrument().symbol, price_exponent: -2, size_exponent: -4 }
}

/// Reads a data message of either dialect.
fn read(dialect: Dialect, message: &[u8]) -> Result<(Timestamp, FrameKind, Vec<Element>), String> {
    let mut elements = Vec::new();
    let mut begun = None;
    match dialect {
        Dialect::NativeMessagePack => {
            let (head, cursor) = begin(message).map_err(|e| e.to_string())?;
            begun = Some((Timestamp(head.sent_at), head.kind));
            decode_elements(cursor, head.elements, |element| elements.push(element)).map_err(|e| e.to_string())?;
        }
        Dialect::NativeJson => {
            let terms = terms();
            let known = |symbol: &str| (symbol == "BTC-USD").then_some(&terms);
            let head = |sent_at, kind, _| begun = Some((sent_at, kind));
            decode_text_data(message, known, head, |element| elements.push(element)).map_err(|e| e.to_string())?;
        }
    }
    let (sent_at, kind) = begun.unwrap();
    Ok((sent_at, kind, elements))
}

fn level() -> impl Strategy<Value = Level> {
    (any::<i64>(), any::<u64>()).prop_map(|(price, size)| Level { price: Price(price), size: Size(size) })
}

fn content() -> impl Strategy<Value = Content> {
    let prices = || any::<[i64; 4]>().prop_map(|prices| prices.map(Price));
    let side = prop::sample::select(vec![Side::Unknown, Side::Buy, Side::Sell]);
    let trade = (level(), side, any::<u64>()).prop_map(|(level, side, trade_id)| {
        Event::Trade(Trade { price: level.price, size: level.size, side, trade_id })
    });
    let quote =
        (prop::option::of(level()), prop::option::of(level())).prop_map(|(bid, ask)| Event::Quote(Quote { bid, ask }));
    let interval = prop::sample::select(BarInterval::ALL.to_vec());
    let bar = (interval, prices(), any::<(u64, u64, bool)>()).prop_map(
        |(interval, [open, high, low, close], (volume, trade_count, closed))| {
            Event::Bar(Bar { interval, open, high, low, close, volume: Size(volume), trade_count, closed })
        },
    );
    // Few digits: the last bit of a float in JSON depends on the reader.
    let ticker = (prices(), any::<(u64, u64)>(), 0u32..1_000_000).prop_map(
        |([last, open, high, low], (volume, trade_count), turnover)| {
            let turnover = f64::from(turnover) / 4.0;
            Event::Ticker(Ticker { last, open, high, low, volume: Size(volume), turnover, trade_count })
        },
    );
    let status = (".{0,80}", 0..5usize).prop_map(|(reason, code)| {
        use StatusCode as C;
        let code = [C::PreOpen, C::Trading, C::Halted, C::Auction, C::Closed][code];
        Event::Status(Status { code, reason: reason.into() })
    });
    let depth = prop::sample::select(vec![BookDepth::Top10, BookDepth::Top50, BookDepth::Full]);
    let side = || prop::collection::vec(level(), 0..40);
    let book = (any::<bool>(), depth, side(), side(), any::<u32>()).prop_map(|(whole, depth, bids, asks, checksum)| {
        let update = BookUpdate::new(depth, &bids, &asks, checksum);
        if whole { Event::BookSnapshot(update) } else { Event::BookDelta(update) }
    });
    let channel = prop::sample::select(Channel::ALL.to_vec());
    let reason =
        prop::sample::select(vec![GapReason::Conflated, GapReason::Slow, GapReason::Evicted, GapReason::Source]);
    let gap = (channel, any::<u64>(), any::<u64>(), reason).prop_map(|(channel, from_seq, to_seq, reason)| {
        Content::Gap { channel, from_seq, to_seq, reason: Some(reason) }
    });
    prop_oneof![6 => prop_oneof![trade, quote, bar, ticker, status, book].prop_map(Content::Event), 1 => gap]
}

/// A data message of those elements, as the server writes it.
fn written(dialect: Dialect, kind: FrameKind, contents: &[Content]) -> Vec<u8> {
    let mut out = Vec::new();
    begin_data(dialect, kind, TIME, contents.len(), &mut out);
    for (seq, content) in (1..).zip(contents) {
        match content {
            Content::Event(event) => encode_element(dialect, &instrument(), seq, TIME, event, &mut out),
            Content::Gap { channel, from_seq, to_seq, reason } => {
                let gap = Gap { channel: *channel, from_seq: *from_seq, to_seq: *to_seq, reason: reason.unwrap() };
                encode_gap(dialect, &instrument(), TIME, gap, &mut out);
            }
            Content::Unknown(_) => unreachable!("nobody writes it"),
        }
    }
    end_data(dialect, &mut out);
    out
}

fn subscribe() -> impl Strategy<Value = Subscribe> {
    let channels = prop::collection::vec(prop::sample::select(Channel::ALL.to_vec()), 1..4);
    let symbols = prop_oneof![Just(Symbols::All), prop::collection::vec("[A-Z]{1,8}", 1..5).prop_map(Symbols::Named),];
    let mode = prop_oneof![Just(Mode::Every), any::<u32>().prop_map(|interval_ms| Mode::Latest { interval_ms })];
    let seqs =
        prop::collection::btree_map(("[A-Z]{1,8}", prop::sample::select(Channel::ALL.to_vec())), any::<u64>(), 0..6);
    let since = ("[0-9a-f]{0,16}", seqs).prop_map(|(epoch, seqs)| {
        let mut seqs: Vec<_> = seqs.into_iter().map(|((symbol, channel), seq)| (symbol, channel, seq)).collect();
        // A command is a map of maps: it comes back in the order of the names.
        seqs.sort_by_key(|(symbol, channel, _)| (symbol.clone(), channel.name()));
        Since { epoch, seqs }
    });
    let flags = any::<(bool, bool)>();
    (channels, symbols, mode, prop::option::of(since), flags).prop_map(|(channels, symbols, mode, since, flags)| {
        let channels: ChannelSet = channels.into_iter().collect();
        let slow = if flags.1 { SlowPolicy::Conflate } else { SlowPolicy::Disconnect };
        Subscribe { channels, symbols, mode, snapshot: flags.0, slow, since }
    })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        ".{0,40}".prop_map(|token| Command::Auth { token }),
        subscribe().prop_map(Command::Subscribe),
        subscribe().prop_map(Command::Update),
        subscribe().prop_map(|s| Command::Unsubscribe { channels: Some(s.channels), symbols: Some(s.symbols) }),
        Just(Command::Unsubscribe { channels: None, symbols: None }),
        Just(Command::Subscriptions),
        prop::option::of("[A-Z]{0,4}").prop_map(|prefix| Command::Instruments { prefix }),
        Just(Command::Ping),
    ]
}

proptest! {
    #[test]
    fn elements_come_back_as_they_were(contents in prop::collection::vec(content(), 0..40), snapshot in any::<bool>()) {
        let kind = if snapshot { FrameKind::Snapshot } else { FrameKind::Live };
        for dialect in Dialect::ALL {
            let message = written(dialect, kind, &contents);
            prop_assert_eq!(is_packed_data(&message), dialect == Dialect::NativeMessagePack);
            prop_assert_eq!(is_text_data(&message), dialect == Dialect::NativeJson);
            let (sent_at, read_kind, elements) = read(dialect, &message).map_err(TestCaseError::fail)?;
            prop_assert_eq!((sent_at, read_kind), (TIME, kind));
            let want: Vec<_> = (1..).zip(&contents).map(|(seq, content)| {
                let seq = if let Content::Gap { to_seq, .. } = content { *to_seq } else { seq };
                Element { instrument: InstrumentId(7), seq, time: TIME, content: content.clone() }
            }).collect();
            prop_assert_eq!(elements, want);
        }
    }

    #[test]
    fn no_message_cut_short_is_taken_for_whole(contents in prop::collection::vec(content(), 1..6), cut in 1usize..60) {
        for dialect in Dialect::ALL {
            let message = written(dialect, FrameKind::Live, &contents);
            prop_assert!(read(dialect, &message[..message.len() - cut.min(message.len() - 1)]).is_err());
        }
    }

    #[test]
    fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in r#"[{}\[\]":,a-z0-9\\ ]{0,80}"#) {
        for payload in [&bytes[..], text.as_bytes()] {
            for (dialect, encoding) in [(Dialect::NativeMessagePack, Encoding::MessagePack), (Dialect::NativeJson, Encoding::Json)] {
                let _ = read(dialect, payload);
                let _ = decode_control(encoding, payload);
            }
        }
    }

    #[test]
    fn commands_come_back_as_they_were(command in command(), id in prop::option::of(any::<i64>())) {
        let envelope = Envelope { id: id.map(CommandId::Integer), command };
        for encoding in [Encoding::MessagePack, Encoding::Json] {
            let mut out = Vec::new();
            encode_command(encoding, &envelope, &mut out);
            prop_assert_eq!(parse_command(encoding, &out), Ok(envelope.clone()));
        }
    }
}

#[track_caller]
fn check_control(message: &ServerMessage<'_>, want: &ControlMessage) {
    for (dialect, encoding) in
        [(Dialect::NativeMessagePack, Encoding::MessagePack), (Dialect::NativeJson, Encoding::Json)]
    {
        let mut out = Vec::new();
        encode_message(dialect, message, &mut out);
        assert_eq!(decode_control(encoding, &out).as_ref(), Ok(want), "{dialect:?}");
        assert!(!is_packed_data(&out) && !is_text_data(&out));
    }
}

#[test]
fn control_messages_come_back_as_they_were() {
    let id = CommandId::Text("a".into());
    let limits = Limits { commands_per_s: 77, ..Limits::default() };
    check_control(
        &ServerMessage::Welcome {
            version: "1",
            session: "s",
            epoch: "e",
            time: TIME,
            heartbeat_ms: 5,
            limits: &limits,
        },
        &ControlMessage::Welcome {
            version: "1".into(),
            session: "s".into(),
            epoch: "e".into(),
            time: TIME,
            heartbeat_ms: 5,
            limits,
        },
    );
    let channels: ChannelSet = [Channel::Trades, Channel::Bars(BarInterval::M1)].into_iter().collect();
    check_control(
        &ServerMessage::Subscribed {
            id: Some(&id),
            instruments: &[&instrument()],
            channels,
            mode: Mode::Latest { interval_ms: 250 },
            recovered: &[("BTC-USD", Channel::Trades, Recovered::Gap)],
        },
        &ControlMessage::Subscribed {
            id: Some(id.clone()),
            instruments: vec![terms()],
            channels,
            mode: Mode::Latest { interval_ms: 250 },
            recovered: vec![("BTC-USD".into(), Channel::Trades, Recovered::Gap)],
        },
    );
    let error = CommandError {
        id: None,
        code: ErrorCode::UnknownSymbol,
        message: "no \"such\"".into(),
        symbols: vec!["X".into()],
    };
    check_control(
        &ServerMessage::Error(&error),
        &ControlMessage::Error {
            id: None,
            code: Some(ErrorCode::UnknownSymbol),
            message: error.message.clone(),
            symbols: vec!["X".into()],
        },
    );
    check_control(
        &ServerMessage::Notice { code: NoticeCode::Draining, reconnect_after_ms: Some(9), message: "m" },
        &ControlMessage::Notice { code: Some(NoticeCode::Draining), reconnect_after_ms: Some(9), message: "m".into() },
    );
    check_control(
        &ServerMessage::Pong { id: Some(&CommandId::Integer(-1)), time: TIME, sent_bytes: 3 },
        &ControlMessage::Pong { id: Some(CommandId::Integer(-1)), time: TIME, sent_bytes: Some(3) },
    );
    check_control(
        &ServerMessage::Heartbeat { time: TIME, delivered: 1, dropped: 2 },
        &ControlMessage::Heartbeat { time: TIME, delivered: 1, dropped: 2 },
    );
    check_control(
        &ServerMessage::Authenticated { expires: Some(TIME) },
        &ControlMessage::Authenticated { expires: Some(TIME) },
    );
    check_control(&ServerMessage::Authenticated { expires: None }, &ControlMessage::Authenticated { expires: None });
    check_control(
        &ServerMessage::Unsubscribed { id: None, channels, symbols: &["*"] },
        &ControlMessage::Unsubscribed { id: None, channels, symbols: vec!["*".into()] },
    );
    check_control(
        &ServerMessage::Instruments { id: None, instruments: &[&instrument()] },
        &ControlMessage::Instruments {
            id: None,
            instruments: vec![wire::decode::InstrumentDetails {
                terms: terms(),
                tick_size: Price(25),
                lot_size: Size(10),
                class: "crypto".into(),
                currency: "USD".into(),
                description: instrument().description,
            }],
        },
    );
}

#[test]
fn what_a_later_server_may_add_is_passed_over() {
    let control = |text: &str| decode_control(Encoding::Json, text.as_bytes()).unwrap();
    assert_eq!(control(r#"{"type":"weather","sun":true}"#), ControlMessage::Unknown);
    assert_eq!(
        control(r#"{"type":"error","code":"new_code","message":"m","more":[1]}"#),
        ControlMessage::Error { id: None, code: None, message: "m".into(), symbols: vec![] }
    );
    // A trade with a field more, and an element of a kind that is not known.
    let message = rmp_serde::to_vec(&serde_json::json!([
        9,
        [1, 7, 3, 5, -100, 2, 1, 0, {"more": [1, 2]}],
        [99, 7, 1, 5, "what", []],
    ]))
    .unwrap();
    let (_, _, elements) = read(Dialect::NativeMessagePack, &message).unwrap();
    let trade = Trade { price: Price(-100), size: Size(2), side: Side::Buy, trade_id: 0 };
    assert_eq!(elements[0].content, Content::Event(Event::Trade(trade)));
    assert_eq!(elements[1].content, Content::Unknown(None));
}
