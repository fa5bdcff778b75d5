//! The other end of a connection: frames as a client sends them, well-formed or not.

#![allow(dead_code, reason = "every test file uses a part of this")]

use flate2::{Compress, Compression, FlushCompress};
use websocket::{Incoming, Inflater, Reader, ReaderConfig, Violation, deflate::Params};

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;
pub(crate) const FIN: u8 = 0x80;
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const RSV2: u8 = 0x20;
pub(crate) const RSV3: u8 = 0x10;

pub(crate) const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A masked frame whose first byte is `first`, with the shortest length.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len());
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The header of a masked frame, with the shortest length.
pub(crate) fn header(first: u8, payload_len: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload_len {
        0..126 => bytes.push(0x80 | payload_len as u8),
        126..0x1_0000 => {
            bytes.push(0xFE);
            bytes.extend((payload_len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0xFF);
            bytes.extend((payload_len as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// A client's compressor.
pub(crate) struct Deflater(Compress);

impl Deflater {
    pub(crate) fn new() -> Self {
        Self(Compress::new(Compression::fast(), false))
    }

    /// Deflates as RFC 7692 section 7.2.1 says; what follows may refer back to it until [`Self::reset`].
    pub(crate) fn deflate(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut deflated = Vec::with_capacity(payload.len() * 2 + 64);
        let before = self.0.total_in();
        self.0.compress_vec(payload, &mut deflated, FlushCompress::Sync).expect("deflate cannot fail");
        assert_eq!(self.0.total_in() - before, payload.len() as u64);
        // To be flushed twice with nothing in between yields nothing; some clients send just that for an empty message.
        assert!(deflated.is_empty() || deflated.ends_with(&[0, 0, 0xFF, 0xFF]));
        deflated.truncate(deflated.len().saturating_sub(4));
        deflated
    }

    pub(crate) fn reset(&mut self) {
        self.0.reset();
    }
}

pub(crate) fn deflate(payload: &[u8]) -> Vec<u8> {
    Deflater::new().deflate(payload)
}

/// No context is kept on the client's side: the usual outcome.
pub(crate) const STATELESS: Params = Params {
    server_no_context_takeover: false,
    client_no_context_takeover: true,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};
/// The client's messages refer back to earlier ones.
pub(crate) const WITH_CONTEXT: Params = Params { client_no_context_takeover: false, ..STATELESS };

/// Something called back, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Incoming<'_>> for Event {
    fn from(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Text(text) => Self::Text(text.to_owned()),
            Incoming::Binary(payload) => Self::Binary(payload.to_owned()),
            Incoming::Ping(payload) => Self::Ping(payload.to_owned()),
            Incoming::Pong(payload) => Self::Pong(payload.to_owned()),
            Incoming::Close { code, reason } => Self::Close(code, reason.to_owned()),
        }
    }
}

pub(crate) fn text(text: &str) -> Event {
    Event::Text(text.to_owned())
}

/// What comes of a stream, cut into the given parts.
pub(crate) fn read_parts<'a>(
    config: ReaderConfig,
    compression: Option<Params>,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Event>, Result<(), Violation>) {
    let mut reader = Reader::new(config, compression);
    let mut inflater = Inflater::new();
    let mut events = Vec::new();
    for part in parts {
        let outcome = reader.feed(part, &mut inflater, &mut |incoming| events.push(incoming.into()));
        if outcome.is_err() {
            assert!(reader.is_finished());
            return (events, outcome);
        }
    }
    (events, Ok(()))
}

/// What comes of a stream, which must not depend on how it is cut.
pub(crate) fn read(
    config: ReaderConfig,
    compression: Option<Params>,
    stream: &[u8],
) -> (Vec<Event>, Result<(), Violation>) {
    let whole = read_parts(config, compression, [stream]);
    let bytewise = read_parts(config, compression, stream.chunks(1));
    assert_eq!(whole, bytewise, "the cut must not matter");
    whole
}
