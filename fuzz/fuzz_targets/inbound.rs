//! Any bytes from a client: no panic, the same messages however they are cut, and nothing beyond the limits.
//!
//! The first byte chooses compression and limits, the second the cut, the rest is the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use websocket::{Incoming, Inflater, MessageKinds, Reader, ReaderConfig, Violation, close_code, deflate::Params};

const MESSAGE_BYTES_MAX: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let [setup, cut, stream @ ..] = data else { return };
    let params = Params {
        server_no_context_takeover: false,
        client_no_context_takeover: setup & 2 != 0,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    let compression = (setup & 1 != 0).then_some(params);
    let kinds = match setup >> 2 & 3 {
        1 => MessageKinds::Text,
        2 => MessageKinds::Binary,
        _ => MessageKinds::TextAndBinary,
    };
    let config = ReaderConfig { message_bytes_max: MESSAGE_BYTES_MAX, fragments_max: 16, kinds };
    let whole = read(config, compression, stream, usize::MAX);
    let parts = read(config, compression, stream, usize::from(*cut) + 1);
    assert_eq!(whole, parts);
});

fn read(
    config: ReaderConfig,
    compression: Option<Params>,
    stream: &[u8],
    cut: usize,
) -> (Vec<(u8, Vec<u8>)>, Result<(), Violation>) {
    let mut reader = Reader::new(config, compression);
    let mut inflater = Inflater::new();
    let mut seen = Vec::new();
    for part in stream.chunks(cut) {
        let outcome = reader.feed(part, &mut inflater, &mut |incoming| seen.push(check(incoming)));
        if let Err(violation) = &outcome {
            assert!(matches!(violation.code, 1002 | 1003 | 1007 | 1009));
            assert!(violation.reason.len() <= 123);
            return (seen, outcome);
        }
    }
    (seen, Ok(()))
}

fn check(incoming: Incoming<'_>) -> (u8, Vec<u8>) {
    let (kind, payload, bytes_max) = match incoming {
        Incoming::Text(text) => (1, text.as_bytes(), MESSAGE_BYTES_MAX),
        Incoming::Binary(payload) => (2, payload, MESSAGE_BYTES_MAX),
        Incoming::Close { code, reason } => {
            assert!(code.is_none_or(close_code::may_be_sent));
            (8, reason.as_bytes(), 123)
        }
        Incoming::Ping(payload) => (9, payload, 125),
        Incoming::Pong(payload) => (10, payload, 125),
    };
    assert!(payload.len() <= bytes_max);
    (kind, payload.to_vec())
}
