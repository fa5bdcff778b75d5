//! Frames and messages as an outsider reads them: with generic decoders, not with the crate under test.

use hub::StreamKey;
use market::{BarInterval, BookDepth, Channel, InstrumentId};
use serde_json::Value;

/// A frame of the server.
pub(crate) struct RawFrame {
    pub(crate) opcode: u8,
    pub(crate) deflated: bool,
    pub(crate) payload: Vec<u8>,
}

/// Takes the first whole frame out of `bytes`.
pub(crate) fn take_frame(bytes: &mut Vec<u8>) -> Option<RawFrame> {
    let first = *bytes.first()?;
    assert_eq!(first & 0xb0, 0x80, "final, no reserved bits but RSV1");
    let short = *bytes.get(1)?;
    let (header, len) = match short {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()) as usize),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize),
        len => (2, len as usize),
    };
    let payload = bytes.get(header..header + len)?.to_vec();
    bytes.drain(..header + len);
    Some(RawFrame { opcode: first & 0x0f, deflated: first & 0x40 != 0, payload })
}

/// A message in the shape of either dialect.
pub(crate) enum Message {
    Control(Value),
    Data { snapshot: bool, elements: Vec<Element> },
}

/// An element, reduced to what identifies it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Element {
    Value { key: StreamKey, seq: u64, time: u64, price: i64, id: u64 },
    Book { key: StreamKey, seq: u64, whole: bool, sides: [Vec<(i64, u64)>; 2], checksum: u32 },
    Gap { key: StreamKey, from: u64, to: u64 },
}

pub(crate) fn message_pack(payload: &[u8]) -> Message {
    let value: rmpv::Value = rmpv::decode::read_value(&mut &*payload).unwrap();
    if value.is_map() {
        return Message::Control(rmpv_to_json(&value));
    }
    let list = value.as_array().unwrap();
    assert!(list[0].as_u64().is_some(), "sent_at comes first");
    let mut elements: Vec<_> = list[1..].iter().map(|element| element.as_array().unwrap()).collect();
    let snapshot = elements.first().is_some_and(|first| first.len() == 2 && first[0].as_u64() == Some(0));
    if snapshot {
        assert_eq!(elements[0][1].as_u64(), Some(elements.len() as u64 - 1));
        elements.remove(0);
    }
    Message::Data { snapshot, elements: elements.into_iter().map(|e| packed_element(e)).collect() }
}

fn packed_element(fields: &[rmpv::Value]) -> Element {
    let number = |index: usize| fields[index].as_u64().unwrap();
    let instrument = InstrumentId(number(1) as u32);
    let value = |channel, price: usize, id: Option<usize>| Element::Value {
        key: StreamKey::new(instrument, channel),
        seq: number(2),
        time: number(3),
        price: fields[price].as_i64().unwrap_or(0),
        id: id.map_or(0, number),
    };
    match number(0) {
        1 => value(Channel::Trades, 4, Some(7)),
        2 => value(Channel::Quotes, 4, None),
        3 => value(bars(number(4)), 5, None),
        kind @ (4 | 5) => {
            let side = |index: usize| {
                let levels = fields[index].as_array().unwrap().iter().map(|level| level.as_array().unwrap());
                levels.map(|level| (level[0].as_i64().unwrap(), level[1].as_u64().unwrap())).collect()
            };
            Element::Book {
                key: StreamKey::new(instrument, book(number(4))),
                seq: number(2),
                whole: kind == 4,
                sides: [side(5), side(6)],
                checksum: number(7) as u32,
            }
        }
        6 => value(Channel::Ticker, 4, None),
        8 => {
            let channel: Channel = fields[4].as_str().unwrap().parse().unwrap();
            Element::Gap { key: StreamKey::new(instrument, channel), from: number(5), to: number(6) }
        }
        other => panic!("kind {other} was not fed"),
    }
}

pub(crate) fn json(payload: &[u8]) -> Message {
    let value: Value = serde_json::from_slice(payload).unwrap();
    let Some(data) = value.get("data") else { return Message::Control(value) };
    let elements = data.as_array().unwrap().iter().map(json_element).collect();
    Message::Data { snapshot: value.get("snapshot").is_some_and(|flag| flag == true), elements }
}

fn json_element(element: &Value) -> Element {
    let text = |name: &str| element[name].as_str().unwrap();
    let symbol = text("symbol");
    let seq = element["seq"].as_u64().unwrap();
    let time = market::Timestamp::parse_rfc3339(text("time")).unwrap().0;
    let price = |name: &str| element[name].as_str().map_or(0, |text| market::parse_decimal(text, -2).unwrap());
    let value = |channel, price, id| Element::Value { key: channel_key(symbol, channel), seq, time, price, id };
    match text("type") {
        "trade" => value(Channel::Trades, price("price"), element["trade_id"].as_u64().unwrap()),
        "quote" => value(Channel::Quotes, price("bid"), 0),
        "ticker" => value(Channel::Ticker, price("last"), 0),
        "bar" => value(bars(element["interval_s"].as_u64().unwrap()), price("open"), 0),
        kind @ ("book_snapshot" | "book_delta") => {
            let side = |name: &str| {
                let decimal = |text: &Value, exponent| market::parse_decimal(text.as_str().unwrap(), exponent).unwrap();
                let levels = element[name].as_array().unwrap().iter();
                levels.map(|level| (decimal(&level[0], -2), decimal(&level[1], -3) as u64)).collect()
            };
            Element::Book {
                key: channel_key(symbol, book(element["depth"].as_u64().unwrap())),
                seq,
                whole: kind == "book_snapshot",
                sides: [side("bids"), side("asks")],
                checksum: element["checksum"].as_u64().unwrap() as u32,
            }
        }
        "gap" => Element::Gap {
            key: channel_key(symbol, text("channel").parse().unwrap()),
            from: element["from_seq"].as_u64().unwrap(),
            to: element["to_seq"].as_u64().unwrap(),
        },
        other => panic!("type {other} was not fed"),
    }
}

/// Instruments are called `S` and their number here.
pub(crate) fn channel_key(symbol: &str, channel: Channel) -> StreamKey {
    StreamKey::new(InstrumentId(symbol[1..].parse().unwrap()), channel)
}

fn bars(seconds: u64) -> Channel {
    let interval = BarInterval::ALL.into_iter().find(|interval| u64::from(interval.seconds()) == seconds);
    Channel::Bars(interval.unwrap())
}

fn book(depth: u64) -> Channel {
    Channel::Book(match depth {
        10 => BookDepth::Top10,
        50 => BookDepth::Top50,
        0 => BookDepth::Full,
        other => panic!("no channel has depth {other}"),
    })
}

fn rmpv_to_json(value: &rmpv::Value) -> Value {
    serde_json::to_value(value).unwrap_or_else(|_| panic!("not a plain value: {value}"))
}
