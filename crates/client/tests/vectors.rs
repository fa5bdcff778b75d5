//! The vectors that every SDK and the server have to pass: bytes, text, and what they mean.
//!
//! **Invariant:** the expected values stand in `sdk/vectors/messages.json`; nothing here computes them.

use std::path::PathBuf;
use std::sync::Arc;

use market::Event;
use serde_json::{Value, json};
use tickerplant_client::{
    Book, BookSide, BookUpdate, Decimal, Encoding, InstrumentDetails, InstrumentTerms, Level, Price, Side, Size,
    StatusCode, Symbol,
};
use wire::decode::{
    Content, ControlMessage, Element, begin, decode_control, decode_elements, decode_text_data, is_packed_data,
    is_text_data,
};
use wire::{CommandId, ErrorCode, FrameKind, GapReason};

fn vectors() -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../sdk/vectors/messages.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn instruments(vectors: &Value) -> Vec<Arc<InstrumentTerms>> {
    let rows = vectors["instruments"].as_array().unwrap();
    let exponent = |value: &Value| i8::try_from(value.as_i64().unwrap()).unwrap();
    let row = |row: &Value| {
        Arc::new(InstrumentTerms {
            id: tickerplant_client::InstrumentId(u32::try_from(row[1].as_u64().unwrap()).unwrap()),
            symbol: Symbol::new(row[0].as_str().unwrap()).unwrap(),
            price_exponent: exponent(&row[2]),
            size_exponent: exponent(&row[3]),
        })
    };
    rows.iter().map(row).collect()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn level(terms: &InstrumentTerms, level: &Level) -> Value {
    json!([Decimal::price(level.price, terms).to_string(), Decimal::size(level.size, terms).to_string()])
}

fn sides(terms: &InstrumentTerms, update: &BookUpdate) -> [Vec<Value>; 2] {
    BookSide::ALL
        .map(|wanted| update.iter().filter(|(side, _)| *side == wanted).map(|(_, one)| level(terms, &one)).collect())
}

/// An element as the vectors write it; none when it means nothing here.
fn element(known: &[Arc<InstrumentTerms>], element: &Element, kind: FrameKind) -> Option<Value> {
    let terms = known.iter().find(|terms| terms.id == element.instrument)?;
    let price = |price: Price| Decimal::price(price, terms).to_string();
    let size = |size: Size| Decimal::size(size, terms).to_string();
    let (channel, snapshot, own) = match &element.content {
        Content::Unknown(_) => return None,
        Content::Gap { channel, from_seq, to_seq, reason } => {
            let reason = reason.map(GapReason::name);
            let numbers = (from_seq.to_string(), to_seq.to_string());
            (*channel, false, json!({"type": "gap", "from_seq": numbers.0, "to_seq": numbers.1, "reason": reason}))
        }
        Content::Event(event) => (
            event.channel(),
            kind == FrameKind::Snapshot,
            match event {
                Event::Trade(trade) => json!({"type": "trade", "price": price(trade.price), "size": size(trade.size),
                    "side": match trade.side { Side::Buy => "buy", Side::Sell => "sell", Side::Unknown => "unknown" },
                    "trade_id": trade.trade_id.to_string()}),
                Event::Quote(quote) => json!({"type": "quote", "bid": quote.bid.as_ref().map(|one| level(terms, one)),
                    "ask": quote.ask.as_ref().map(|one| level(terms, one))}),
                Event::Bar(bar) => json!({"type": "bar", "interval_s": bar.interval.seconds(), "open": price(bar.open),
                    "high": price(bar.high), "low": price(bar.low), "close": price(bar.close),
                    "volume": size(bar.volume), "trade_count": bar.trade_count.to_string(), "closed": bar.closed}),
                Event::Ticker(ticker) => json!({"type": "ticker", "last": price(ticker.last),
                    "open": price(ticker.open), "high": price(ticker.high), "low": price(ticker.low),
                    "volume": size(ticker.volume), "turnover": ticker.turnover,
                    "trade_count": ticker.trade_count.to_string()}),
                Event::Status(status) => json!({"type": "status", "reason": &*status.reason,
                "code": match status.code {
                    StatusCode::PreOpen => "pre_open",
                    StatusCode::Trading => "trading",
                    StatusCode::Halted => "halted",
                    StatusCode::Auction => "auction",
                    StatusCode::Closed => "closed",
                }}),
                Event::BookSnapshot(update) | Event::BookDelta(update) => {
                    let [bids, asks] = sides(terms, update);
                    let kind = if matches!(event, Event::BookDelta(_)) { "book_delta" } else { "book_snapshot" };
                    json!({"type": kind, "bids": bids, "asks": asks, "checksum": update.checksum()})
                }
            },
        ),
    };
    let Value::Object(mut own) = own else { unreachable!() };
    own.insert("symbol".into(), terms.symbol.as_str().into());
    own.insert("channel".into(), channel.name().into());
    own.insert("snapshot".into(), snapshot.into());
    own.insert("seq".into(), element.seq.to_string().into());
    own.insert("time".into(), element.time.0.to_string().into());
    Some(Value::Object(own))
}

fn details(one: &InstrumentDetails) -> Value {
    let terms = &one.terms;
    json!({"symbol": terms.symbol.as_str(), "instrument_id": terms.id.0, "price_exponent": terms.price_exponent,
           "size_exponent": terms.size_exponent, "tick_size": Decimal::price(one.tick_size, terms).to_string(),
           "lot_size": Decimal::size(one.lot_size, terms).to_string(), "class": one.class, "currency": one.currency,
           "description": one.description})
}

fn number(id: Option<&CommandId>) -> Value {
    match id {
        Some(CommandId::Integer(id)) => (*id).into(),
        Some(other) => panic!("{other:?}"),
        None => Value::Null,
    }
}

fn control(message: ControlMessage) -> Value {
    match message {
        ControlMessage::Welcome { version, session, epoch, heartbeat_ms, limits, .. } => {
            json!({"type": "welcome", "version": version, "session": session, "epoch": epoch,
                   "heartbeat_ms": heartbeat_ms, "message_bytes_max": limits.message_bytes_max})
        }
        ControlMessage::Subscribed { id, instruments, recovered, .. } => {
            let row = |i: &InstrumentTerms| json!([i.symbol.as_str(), i.id.0, i.price_exponent, i.size_exponent]);
            let mut by_symbol = json!({});
            for (symbol, channel, how) in recovered {
                by_symbol[symbol][channel.name()] = serde_json::to_value(how).unwrap();
            }
            let rows: Vec<_> = instruments.iter().map(row).collect();
            json!({"type": "subscribed", "id": number(id.as_ref()), "instruments": rows, "recovered": by_symbol})
        }
        ControlMessage::Unsubscribed { id, .. } => json!({"type": "unsubscribed", "id": number(id.as_ref())}),
        ControlMessage::Subscriptions { .. } => json!({"type": "subscriptions"}),
        ControlMessage::Instruments { id, instruments } => {
            let all: Vec<_> = instruments.iter().map(details).collect();
            json!({"type": "instruments", "id": number(id.as_ref()), "instruments": all})
        }
        ControlMessage::Error { id, code, message, symbols } => {
            json!({"type": "error", "id": number(id.as_ref()), "code": code.map(ErrorCode::name),
                   "message": message, "symbols": symbols})
        }
        ControlMessage::Heartbeat { delivered, dropped, .. } => {
            json!({"type": "heartbeat", "delivered": delivered, "dropped": dropped})
        }
        ControlMessage::Notice { code, reconnect_after_ms, message } => {
            json!({"type": "notice", "code": code, "message": message, "reconnect_after_ms": reconnect_after_ms})
        }
        ControlMessage::Pong { id, time, sent_bytes } => {
            json!({"type": "pong", "id": number(id.as_ref()), "time": time.0.to_string(), "sent_bytes": sent_bytes})
        }
        ControlMessage::Authenticated { .. } => json!({"type": "authenticated"}),
        ControlMessage::Closed { .. } | ControlMessage::Unknown => json!({"type": null}),
    }
}

/// A message as the vectors write it: numbers that can be large, and prices, as text.
fn read(known: &[Arc<InstrumentTerms>], encoding: Encoding, payload: &[u8]) -> Result<Value, String> {
    let mut found = Vec::new();
    let (sent_at, kind) = match encoding {
        Encoding::MessagePack if is_packed_data(payload) => {
            let (head, cursor) = begin(payload).map_err(|error| error.to_string())?;
            decode_elements(cursor, head.elements, |one| found.extend(element(known, &one, head.kind)))
                .map_err(|error| error.to_string())?;
            (head.sent_at, head.kind)
        }
        Encoding::Json if is_text_data(payload) => {
            let mut elements = Vec::new();
            let mut frame = (0, FrameKind::Live);
            let terms = |symbol: &str| known.iter().find(|terms| terms.symbol.as_str() == symbol).map(|terms| &**terms);
            decode_text_data(payload, terms, |at, kind, _| frame = (at.0, kind), |one| elements.push(one))
                .map_err(|error| error.to_string())?;
            found.extend(elements.iter().filter_map(|one| element(known, one, frame.1)));
            frame
        }
        _ => return decode_control(encoding, payload).map(control).map_err(|error| error.to_string()),
    };
    let snapshot = kind == FrameKind::Snapshot;
    Ok(json!({"type": "data", "sent_at": sent_at.to_string(), "snapshot": snapshot, "elements": found}))
}

#[test]
fn what_the_server_writes_means_what_it_says() {
    let vectors = vectors();
    let known = instruments(&vectors);
    let mut passed = 0;
    for part in ["frames", "control", "tolerated"] {
        for vector in vectors[part].as_array().unwrap() {
            let name = &vector["name"];
            let packed = read(&known, Encoding::MessagePack, &bytes(&vector["msgpack"]));
            assert_eq!(packed.as_ref(), Ok(&vector["expected"]), "{name}");
            let text = vector["json"].as_str().unwrap();
            // Data is told from answers by its first key, which the server always writes first.
            let text = text.find("\"sent_at\"").map_or(text.to_owned(), |_| data_first(text));
            assert_eq!(read(&known, Encoding::Json, text.as_bytes()).as_ref(), Ok(&vector["expected"]), "{name}");
            passed += 1;
        }
    }
    assert!(passed > 80, "{passed}");
}

/// Later keys may stand anywhere, but not before the time.
fn data_first(text: &str) -> String {
    if is_text_data(text.as_bytes()) {
        return text.to_owned();
    }
    let value: Value = serde_json::from_str(text).unwrap();
    let rest: Vec<_> = value.as_object().unwrap().iter().filter(|(key, _)| *key != "sent_at").collect();
    let rest: Vec<_> = rest.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    format!("{{\"sent_at\":{},{}}}", value["sent_at"], rest.join(","))
}

#[test]
fn what_no_server_sends_is_refused() {
    let vectors = vectors();
    let known = instruments(&vectors);
    for vector in vectors["refused"].as_array().unwrap() {
        let read = if vector["msgpack"].is_string() {
            read(&known, Encoding::MessagePack, &bytes(&vector["msgpack"]))
        } else {
            read(&known, Encoding::Json, vector["json"].as_str().unwrap().as_bytes())
        };
        assert!(read.is_err(), "{}: {read:?}", vector["name"]);
    }
}

#[test]
fn books_grow_with_right_checksums() {
    let vectors = vectors();
    let known = instruments(&vectors);
    for vector in vectors["books"].as_array().unwrap() {
        let terms = known.iter().find(|terms| terms.symbol.as_str() == vector["symbol"]).unwrap();
        let mut book = Book::new();
        for frame in vector["frames"].as_array().unwrap() {
            let payload = bytes(frame);
            let (head, cursor) = begin(&payload).unwrap();
            decode_elements(cursor, head.elements, |one| {
                let Content::Event(Event::BookSnapshot(update) | Event::BookDelta(update)) = one.content else {
                    panic!("{one:?}")
                };
                for (side, level) in update.iter() {
                    book.set(side, level.price, level.size);
                }
                assert_eq!(book.checksum(), update.checksum(), "{}", vector["name"]);
            })
            .unwrap();
        }
        let show = |side| book.levels(side).map(|one| level(terms, &one)).collect::<Vec<_>>();
        let (bids, asks) = (show(BookSide::Bid), show(BookSide::Ask));
        assert_eq!(json!({"bids": bids, "asks": asks, "checksum": book.checksum()}), vector["expected"]);
    }
}
