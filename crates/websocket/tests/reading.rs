//! What a reader makes of frames, good and bad.

mod client;

use client::*;
use proptest::prelude::*;
use websocket::{Inflater, MessageKinds, Reader, ReaderConfig, deflate::Params};

fn check(compression: Option<Params>, frames: &[Vec<u8>], expected: &[Event]) {
    let (events, outcome) = read(ReaderConfig::default(), compression, &frames.concat());
    assert_eq!((&events[..], outcome), (expected, Ok(())));
}

/// After a good message, `frames` must end in a violation with this code.
fn check_violation(compression: Option<Params>, what: &str, code: u16, frames: &[Vec<u8>]) {
    let stream = [frame(FIN | TEXT, b"good"), frames.concat(), frame(FIN | TEXT, b"ignored")].concat();
    let (events, outcome) = read(ReaderConfig::default(), compression, &stream);
    assert_eq!(events[0], text("good"), "{what}");
    assert!(!events.contains(&text("ignored")), "{what}");
    assert_eq!(outcome.map_err(|violation| violation.code), Err(code), "{what}");
}

#[test]
fn messages_come_whole_and_in_order() {
    check(None, &[frame(FIN | TEXT, b"")], &[text("")]);
    check(None, &[frame(FIN | BINARY, b"")], &[Event::Binary(vec![])]);
    check(
        None,
        &[frame(FIN | TEXT, "κόσμε".as_bytes()), frame(FIN | BINARY, &[0xFF, 0, 1]), frame(FIN | PONG, b"")],
        &[text("κόσμε"), Event::Binary(vec![0xFF, 0, 1]), Event::Pong(vec![])],
    );
    for len in [125, 126, 127, 128, 4096, 65535, 65536] {
        let payload = vec![b'x'; len];
        check(None, &[frame(FIN | BINARY, &payload)], &[Event::Binary(payload.clone())]);
    }
}

#[test]
fn control_frames_come_between_the_fragments_of_a_message() {
    check(
        None,
        &[
            frame(TEXT, b"one "),
            frame(FIN | PING, b"are you there"),
            frame(CONTINUATION, b""),
            frame(CONTINUATION, "t\u{fc}".as_bytes().split_at(2).0),
            frame(FIN | PONG, &[9; 125]),
            frame(FIN | CONTINUATION, "\u{fc}".as_bytes().split_at(1).1),
            frame(FIN | TEXT, b"next"),
        ],
        &[Event::Ping(b"are you there".to_vec()), Event::Pong(vec![9; 125]), text("one tü"), text("next")],
    );
    check(
        None,
        &[frame(BINARY, b""), frame(CONTINUATION, b""), frame(FIN | CONTINUATION, b"")],
        &[Event::Binary(vec![])],
    );
}

#[test]
fn a_close_ends_the_reading() {
    let mut payload = 1000_u16.to_be_bytes().to_vec();
    payload.extend_from_slice("fertig ✓".as_bytes());
    let after = frame(FIN | TEXT, b"ignored");
    check(None, &[frame(FIN | CLOSE, &payload), after.clone()], &[Event::Close(Some(1000), "fertig ✓".to_owned())]);
    check(None, &[frame(FIN | CLOSE, b""), after.clone()], &[Event::Close(None, String::new())]);
    check(None, &[frame(TEXT, b"never ended"), frame(FIN | CLOSE, b""), after], &[Event::Close(None, String::new())]);
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999_u16] {
        let frame = frame(FIN | CLOSE, &code.to_be_bytes());
        check(None, &[frame], &[Event::Close(Some(code), String::new())]);
    }
}

#[test]
fn broken_rules_of_framing_are_1002() {
    let unmasked = |first: u8, payload: &[u8]| [&[first, payload.len() as u8], payload].concat();
    let long = |first: u8, length: &[u8], payload: &[u8]| {
        [&[first, if length.len() == 2 { 0xFE } else { 0xFF }], length, &[0; 4], payload].concat()
    };
    let cases: &[(&str, Vec<Vec<u8>>)] = &[
        ("unmasked text", vec![unmasked(FIN | TEXT, b"hi")]),
        ("unmasked empty ping", vec![unmasked(FIN | PING, b"")]),
        ("RSV1 without compression", vec![frame(FIN | RSV1 | TEXT, b"hi")]),
        ("RSV2", vec![frame(FIN | RSV2 | TEXT, b"hi")]),
        ("RSV3", vec![frame(FIN | RSV3 | BINARY, b"hi")]),
        ("RSV1 on a ping", vec![frame(FIN | RSV1 | PING, b"hi")]),
        ("RSV2 on a continuation", vec![frame(TEXT, b"a"), frame(FIN | RSV2 | CONTINUATION, b"b")]),
        ("fragmented ping", vec![frame(PING, b"hi")]),
        ("fragmented close", vec![frame(CLOSE, b"")]),
        ("ping of 126 bytes", vec![frame(FIN | PING, &[0; 126])]),
        ("close of 126 bytes", vec![frame(FIN | CLOSE, &[0; 126])]),
        ("continuation of nothing", vec![frame(FIN | CONTINUATION, b"hi")]),
        (
            "continuation after the last",
            vec![frame(TEXT, b"a"), frame(FIN | CONTINUATION, b"b"), frame(CONTINUATION, b"")],
        ),
        ("text within a message", vec![frame(TEXT, b"a"), frame(FIN | TEXT, b"b")]),
        ("binary within a message", vec![frame(TEXT, b"a"), frame(BINARY, b"b")]),
        ("two bytes for a short length", vec![long(FIN | TEXT, &[0, 2], b"hi")]),
        ("eight bytes for a short length", vec![long(FIN | TEXT, &[0, 0, 0, 0, 0, 0, 0, 2], b"hi")]),
        ("the top bit of the length", vec![long(FIN | TEXT, &[0x80, 0, 0, 0, 0, 0, 0, 2], b"hi")]),
        ("close of one byte", vec![frame(FIN | CLOSE, &[3])]),
    ];
    for (what, frames) in cases {
        check_violation(None, what, 1002, frames);
    }
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        check_violation(None, "reserved opcode", 1002, &[frame(FIN | opcode, b"hi")]);
        check_violation(None, "reserved opcode, fragmented", 1002, &[frame(opcode, b"hi")]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535_u16] {
        check_violation(None, "close code", 1002, &[frame(FIN | CLOSE, &code.to_be_bytes())]);
    }
}

#[test]
fn compression_bits_in_the_wrong_place_are_1002() {
    let hello = deflate(b"hello");
    let cases: &[(&str, Vec<Vec<u8>>)] = &[
        ("RSV1 on a ping", vec![frame(FIN | RSV1 | PING, b"hi")]),
        ("RSV1 on a pong", vec![frame(FIN | RSV1 | PONG, b"hi")]),
        ("RSV1 on a close", vec![frame(FIN | RSV1 | CLOSE, b"")]),
        ("RSV1 on a continuation", vec![frame(RSV1 | TEXT, &hello), frame(FIN | RSV1 | CONTINUATION, b"")]),
        ("RSV1 on a plain message's continuation", vec![frame(TEXT, b"a"), frame(FIN | RSV1 | CONTINUATION, b"b")]),
        ("RSV2", vec![frame(FIN | RSV1 | RSV2 | TEXT, &hello)]),
    ];
    for (what, frames) in cases {
        check_violation(Some(STATELESS), what, 1002, frames);
        check_violation(Some(WITH_CONTEXT), what, 1002, frames);
    }
}

#[test]
fn text_that_is_not_utf8_is_1007() {
    let cases: [&[u8]; 7] = [
        b"\xFF",
        b"\xC0\xAF",
        b"\xED\xA0\x80",
        b"\xF4\x90\x80\x80",
        b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80edited",
        b"cut short \xE2\x82",
        b"\x80",
    ];
    for bad in cases {
        check_violation(None, "one frame", 1007, &[frame(FIN | TEXT, bad)]);
        let (a, b) = bad.split_at(bad.len() / 2);
        check_violation(None, "two frames", 1007, &[frame(TEXT, a), frame(FIN | CONTINUATION, b)]);
        let deflated = deflate(bad);
        check_violation(Some(STATELESS), "compressed", 1007, &[frame(FIN | RSV1 | TEXT, &deflated)]);
        check_violation(Some(WITH_CONTEXT), "compressed", 1007, &[frame(FIN | RSV1 | TEXT, &deflated)]);
        check_violation(None, "reason", 1007, &[frame(FIN | CLOSE, &[&1000_u16.to_be_bytes(), bad].concat())]);
        let binary = [frame(FIN | BINARY, bad), frame(FIN | RSV1 | BINARY, &deflated)];
        check(Some(STATELESS), &binary, &[Event::Binary(bad.to_vec()), Event::Binary(bad.to_vec())]);
    }
    check_violation(None, "before the end of the message", 1007, &[frame(TEXT, b"\xFF"), frame(FIN | PING, b"")]);
}

#[test]
fn too_large_a_message_is_1009() {
    let config = ReaderConfig { message_bytes_max: 1000, fragments_max: 3, ..ReaderConfig::default() };
    let check = |compression, what: &str, frames: &[Vec<u8>], expected: Result<(), u16>| {
        let (_, outcome) = read(config, compression, &frames.concat());
        assert_eq!(outcome.map_err(|violation| violation.code), expected, "{what}");
    };
    check(None, "as large as allowed", &[frame(FIN | BINARY, &[0; 1000])], Ok(()));
    check(None, "one more, merely announced", &[header(FIN | BINARY, 1001)], Err(1009));
    check(None, "as much as can be announced", &[header(FIN | BINARY, usize::MAX >> 1)], Err(1009));
    check(None, "fragments", &[frame(BINARY, &[0; 600]), frame(CONTINUATION, &[0; 400])], Ok(()));
    check(None, "in sum", &[frame(BINARY, &[0; 600]), header(CONTINUATION, 401)], Err(1009));
    let fragments = [frame(TEXT, b""), frame(CONTINUATION, b"a"), frame(FIN | CONTINUATION, b"b")];
    check(None, "as many fragments as allowed, twice", &[fragments.concat(), fragments.concat()], Ok(()));
    check(
        None,
        "one more",
        &[frame(TEXT, b""), frame(CONTINUATION, b""), frame(CONTINUATION, b""), frame(CONTINUATION, b"")],
        Err(1009),
    );
    for compression in [STATELESS, WITH_CONTEXT] {
        let full = frame(FIN | RSV1 | BINARY, &deflate(&[7; 1000]));
        check(Some(compression), "as large as allowed when inflated", &[full], Ok(()));
        let bomb = frame(FIN | RSV1 | BINARY, &deflate(&[7; 1001]));
        check(Some(compression), "one more when inflated", &[bomb], Err(1009));
        let bomb = frame(FIN | RSV1 | TEXT, &deflate(&vec![b' '; 80_000]));
        assert!(bomb.len() < 1000, "{}", bomb.len());
        check(Some(compression), "bomb", &[bomb], Err(1009));
    }
}

#[test]
fn the_limits_may_be_as_small_or_as_large_as_can_be() {
    let least = ReaderConfig { message_bytes_max: 0, fragments_max: 1, ..ReaderConfig::default() };
    let empty = [frame(FIN | TEXT, b""), frame(FIN | PING, &[1; 125])].concat();
    assert_eq!(read(least, None, &empty), (vec![text(""), Event::Ping(vec![1; 125])], Ok(())));
    for over in [frame(FIN | TEXT, b"x"), [frame(TEXT, b""), frame(FIN | CONTINUATION, b"")].concat()] {
        assert_eq!(read(least, None, &over).1.map_err(|violation| violation.code), Err(1009));
    }
    let bomb = frame(FIN | RSV1 | TEXT, &deflate(b"x"));
    assert_eq!(read(least, Some(STATELESS), &bomb).1.map_err(|violation| violation.code), Err(1009));
    let most = ReaderConfig { message_bytes_max: usize::MAX, fragments_max: usize::MAX, ..least };
    for compression in [STATELESS, WITH_CONTEXT] {
        let frames = [frame(TEXT, b"a"), frame(FIN | CONTINUATION, b"b"), frame(FIN | RSV1 | TEXT, &deflate(b"c"))];
        assert_eq!(read(most, Some(compression), &frames.concat()), (vec![text("ab"), text("c")], Ok(())));
    }
    // What is announced is not made room for; the sum of what is announced must not overflow.
    let frames = [frame(BINARY, b"x"), header(FIN | CONTINUATION, usize::MAX >> 1)].concat();
    assert_eq!(read(most, None, &frames), (vec![], Ok(())));
}

#[test]
fn what_is_wrong_is_noticed_at_the_first_byte_that_shows_it() {
    let check = |compression, shown: &[u8], code: u16| {
        let (last, before) = shown.split_last().expect("at least one byte");
        let mut reader = Reader::new(ReaderConfig { message_bytes_max: 1000, ..ReaderConfig::default() }, compression);
        let mut inflater = Inflater::new();
        assert_eq!(reader.feed(before, &mut inflater, &mut |_| ()), Ok(()), "{shown:?}");
        assert!(!reader.is_finished());
        let outcome = reader.feed(&[*last], &mut inflater, &mut |_| ());
        assert_eq!(outcome.map_err(|violation| violation.code), Err(code), "{shown:?}");
        // Once is enough: the caller goes on reading only to see the end of the connection.
        assert!(reader.is_finished());
        assert_eq!(reader.feed(&frame(FIN | PING, b"ignored"), &mut inflater, &mut |_| panic!("called back")), Ok(()));
    };
    // The first two bytes of a header are judged together.
    for first in [FIN | 0x3, FIN | RSV2 | TEXT, FIN | RSV3 | TEXT, FIN | RSV1 | TEXT, PING, CLOSE] {
        check(None, &[first, 0x80], 1002);
    }
    check(Some(STATELESS), &[FIN | RSV1 | PING, 0x80], 1002);
    check(None, &[FIN | TEXT, 0x05], 1002);
    check(None, &[FIN | PING, 0xFE], 1002);
    // A length or the order of frames is judged when the header is complete, before the payload.
    check(None, &header(FIN | CONTINUATION, 5), 1002);
    check(None, &[frame(TEXT, b"a"), header(TEXT, 5)].concat(), 1002);
    check(None, &header(FIN | TEXT, 1001), 1009);
    check(None, &[frame(TEXT, &[b'a'; 500]), header(CONTINUATION, 501)].concat(), 1009);
    // Text at the very byte that cannot be: within a frame that goes on, within a message that goes on.
    check(None, &frame(FIN | TEXT, b"fine \xFF and more")[..12], 1007);
    check(None, &frame(TEXT, b"\xC0\x80")[..7], 1007);
}

#[test]
fn a_kind_that_is_not_accepted_is_1003() {
    for (kinds, first) in [(MessageKinds::Text, BINARY), (MessageKinds::Binary, TEXT)] {
        let config = ReaderConfig { kinds, ..ReaderConfig::default() };
        let (_, outcome) = read(config, None, &frame(FIN | first, b"hi"));
        assert_eq!(outcome.map_err(|violation| violation.code), Err(1003));
        let (events, outcome) = read(config, None, &frame(FIN | (first ^ 0x3), b"hi"));
        assert_eq!((events.len(), outcome), (1, Ok(())));
    }
}

#[test]
fn compressed_messages_are_inflated() {
    // The examples of RFC 7692 section 7.2.3: one block, two fragments, no compression, a final block, two blocks.
    let hello = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
    let examples: [&[u8]; 4] = [
        &hello,
        &[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00],
        &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00],
        &[0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00],
    ];
    for compression in [STATELESS, WITH_CONTEXT] {
        for example in examples {
            check(Some(compression), &[frame(FIN | RSV1 | TEXT, example)], &[text("Hello")]);
        }
        let (a, b) = hello.split_at(3);
        let fragments = [frame(RSV1 | TEXT, a), frame(FIN | PING, b"p"), frame(FIN | CONTINUATION, b)];
        check(Some(compression), &fragments, &[Event::Ping(b"p".to_vec()), text("Hello")]);
        check(Some(compression), &[frame(FIN | TEXT, b"plain")], &[text("plain")]);
        check(Some(compression), &[frame(FIN | RSV1 | TEXT, &[0x00])], &[text("")]);
        check(Some(compression), &[frame(FIN | RSV1 | TEXT, b"")], &[text("")]);
    }
}

#[test]
fn a_message_may_refer_to_an_earlier_one_only_as_agreed() {
    let first = frame(FIN | RSV1 | TEXT, &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00]);
    let second = frame(FIN | RSV1 | TEXT, &[0xF2, 0x00, 0x11, 0x00, 0x00]);
    let frames = [first, frame(FIN | TEXT, b"plain"), second];
    check(Some(WITH_CONTEXT), &frames, &[text("Hello"), text("plain"), text("Hello")]);
    check_violation(Some(STATELESS), "reference to what is not there", 1007, &frames);
}

#[test]
fn a_broken_deflate_stream_is_1007() {
    let whole = deflate("a message that is long enough to be cut somewhere, long enough to be cut".as_bytes());
    for cut in 1..whole.len() {
        check_violation(Some(STATELESS), "cut", 1007, &[frame(FIN | RSV1 | BINARY, &whole[..cut])]);
    }
    for compression in [STATELESS, WITH_CONTEXT] {
        check_violation(Some(compression), "reserved block type", 1007, &[frame(FIN | RSV1 | TEXT, &[0x07, 0, 0])]);
        check_violation(Some(compression), "not deflated", 1007, &[frame(FIN | RSV1 | TEXT, b"\xFF\xFF\xFF\xFF")]);
    }
}

/// A message of a client, as proptest makes it up.
#[derive(Clone, Debug)]
struct Spoken {
    event: Event,
    deflated: bool,
    fragments: Vec<usize>,
    ping_between: bool,
}

fn spoken() -> impl Strategy<Value = Spoken> {
    let event = prop_oneof![
        "\\PC{0,200}".prop_map(Event::Text),
        prop::collection::vec(any::<u8>(), 0..400).prop_map(Event::Binary),
        (0_usize..5000).prop_map(|len| Event::Binary((0..len).map(|index| (index % 7) as u8).collect())),
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(Event::Ping),
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(Event::Pong),
    ];
    (event, any::<bool>(), prop::collection::vec(0_usize..300, 0..5), any::<bool>())
        .prop_map(|(event, deflated, fragments, ping_between)| Spoken { event, deflated, fragments, ping_between })
}

impl Spoken {
    fn write(&self, deflater: &mut Deflater, stream: &mut Vec<u8>, expected: &mut Vec<Event>) {
        let (opcode, payload) = match &self.event {
            Event::Text(text) => (TEXT, text.as_bytes()),
            Event::Binary(payload) => (BINARY, &payload[..]),
            Event::Ping(payload) => (PING, &payload[..]),
            Event::Pong(payload) => (PONG, &payload[..]),
            Event::Close(..) => unreachable!("not made up"),
        };
        if opcode >= CLOSE {
            stream.extend(frame(FIN | opcode, payload));
            return expected.push(self.event.clone());
        }
        let (mut first, payload) =
            if self.deflated { (RSV1 | opcode, deflater.deflate(payload)) } else { (opcode, payload.to_vec()) };
        let mut rest = &payload[..];
        for &len in &self.fragments {
            let (fragment, remaining) = rest.split_at(len.min(rest.len()));
            stream.extend(frame(first, fragment));
            if self.ping_between {
                stream.extend(frame(FIN | PING, b"between"));
                expected.push(Event::Ping(b"between".to_vec()));
            }
            (first, rest) = (CONTINUATION, remaining);
        }
        stream.extend(frame(FIN | first, rest));
        expected.push(self.event.clone());
    }
}

proptest! {
    #[test]
    fn any_cut_of_a_valid_stream_gives_the_same_messages(
        messages in prop::collection::vec(spoken(), 0..12),
        cuts in prop::collection::vec(1_usize..600, 1..20),
        keeps_context in any::<bool>(),
    ) {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        let mut deflater = Deflater::new();
        for message in &messages {
            message.write(&mut deflater, &mut stream, &mut expected);
            if !keeps_context {
                deflater.reset();
            }
        }
        let compression = if keeps_context { WITH_CONTEXT } else { STATELESS };
        let mut rest = &stream[..];
        let parts = cuts.iter().cycle().map_while(|&cut| {
            let part = rest.split_off(..cut.min(rest.len()))?;
            (!part.is_empty()).then_some(part)
        });
        let outcome = read_parts(ReaderConfig::default(), Some(compression), parts);
        prop_assert_eq!(outcome, (expected, Ok(())));
    }

    #[test]
    fn bytes_at_random_never_panic(stream in prop::collection::vec(any::<u8>(), 0..2000)) {
        for compression in [None, Some(STATELESS), Some(WITH_CONTEXT)] {
            let _ = read(ReaderConfig::default(), compression, &stream);
        }
    }

    #[test]
    fn frames_at_random_never_panic(
        frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..50)), 0..30),
    ) {
        let stream: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(*first, payload)).collect();
        for compression in [None, Some(STATELESS), Some(WITH_CONTEXT)] {
            let _ = read(ReaderConfig::default(), compression, &stream);
        }
    }
}
