//! Any bytes as compressed messages: no panic, nothing beyond the cap; and whatever is deflated comes back.
//!
//! The first byte chooses whether the client keeps its context; the rest is cut into messages at every 0xA5 0x5A.
#![no_main]

use flate2::{Compress, Compression, FlushCompress};
use libfuzzer_sys::fuzz_target;
use websocket::{
    Incoming, Inflater, Reader, ReaderConfig,
    deflate::Params,
    frame::{Compressed, OpCode, header},
};

const MESSAGE_BYTES_MAX: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let [setup, rest @ ..] = data else { return };
    let params = Params {
        server_no_context_takeover: false,
        client_no_context_takeover: setup & 1 != 0,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    let config = ReaderConfig { message_bytes_max: MESSAGE_BYTES_MAX, ..ReaderConfig::default() };
    let mut inflater = Inflater::new();
    let mut reader = Reader::new(config, Some(params));
    for message in messages(rest) {
        let outcome = reader.feed(&frame(message), &mut inflater, &mut |incoming| {
            let Incoming::Binary(payload) = incoming else { panic!("a binary message was sent") };
            assert!(payload.len() <= MESSAGE_BYTES_MAX);
        });
        if let Err(violation) = outcome {
            assert!(matches!(violation.code, 1007 | 1009));
            break;
        }
    }
    // The same inflater, whatever state that left it in, serves the next connection.
    let mut reader = Reader::new(config, Some(params));
    let mut deflater = Compress::new(Compression::fast(), false);
    for message in messages(rest).filter(|message| message.len() <= MESSAGE_BYTES_MAX / 2) {
        if params.client_no_context_takeover {
            deflater.reset();
        }
        let mut came_back = None;
        let outcome = reader.feed(&frame(&deflate(&mut deflater, message)), &mut inflater, &mut |incoming| {
            if let Incoming::Binary(payload) = incoming {
                came_back = Some(payload.to_vec());
            }
        });
        assert_eq!(outcome, Ok(()));
        assert_eq!(came_back.as_deref(), Some(message));
    }
});

fn messages(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        match bytes.windows(2).position(|pair| pair == [0xA5, 0x5A]) {
            Some(end) => {
                rest = Some(&bytes[end + 2..]);
                Some(&bytes[..end])
            }
            None => rest.take(),
        }
    })
}

/// A compressed binary message, masked with zeros.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(OpCode::Binary, Compressed::Yes, payload.len()).to_vec();
    bytes[1] |= 0x80;
    bytes.extend([0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

fn deflate(state: &mut Compress, payload: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(payload.len() * 2 + 64);
    state.compress_vec(payload, &mut deflated, FlushCompress::Sync).expect("deflate cannot fail");
    // Flushing twice in a row yields nothing at all.
    let kept = deflated.strip_suffix(&[0x00, 0x00, 0xFF, 0xFF]).map_or(0, <[u8]>::len);
    deflated.truncate(kept);
    deflated
}
