//! Whole WebSocket frames in buffers that are used over and over: one message as it is, and deflated if someone wants it.
//!
//! **Invariant:** a frame is one slice: the header stands directly before the payload, so one `write` sends it.

use market::Timestamp;
use websocket::deflate::Compressor;
use websocket::frame::{Compressed, HEADER_BYTES_MAX, OpCode, header};
use wire::{Dialect, FrameKind, ServerMessage};

/// The buffers.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    opcode: OpCode,
    plain: Buffer,
    deflated: Buffer,
}

/// Room for the longest header, then a payload.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Where the header begins.
    start: usize,
}

/// What a buffer keeps of its capacity between frames; more is given back, so that one large snapshot does not stay.
const CAPACITY_KEPT: usize = 1 << 20;

impl Default for FrameBuffer {
    fn default() -> Self {
        Self { opcode: OpCode::Binary, plain: Buffer::default(), deflated: Buffer::default() }
    }
}

impl FrameBuffer {
    /// Makes a data frame of `count` elements that lie in `elements`.
    pub(crate) fn data(
        &mut self,
        dialect: Dialect,
        kind: FrameKind,
        sent_at: Timestamp,
        count: usize,
        elements: &[u8],
    ) {
        let payload = self.begin(dialect);
        wire::begin_data(dialect, kind, sent_at, count, payload);
        payload.extend_from_slice(elements);
        wire::end_data(dialect, payload);
        self.plain.finish(self.opcode, Compressed::No);
    }

    /// Makes a control message.
    pub(crate) fn message(&mut self, dialect: Dialect, message: &ServerMessage<'_>) {
        let payload = self.begin(dialect);
        wire::encode_message(dialect, message, payload);
        self.plain.finish(self.opcode, Compressed::No);
    }

    /// Deflates the message; says how long its payload has become.
    pub(crate) fn deflate(&mut self, compressor: &mut Compressor) -> usize {
        compressor.compress(&self.plain.bytes[HEADER_BYTES_MAX..], self.deflated.begin());
        self.deflated.finish(self.opcode, Compressed::Yes);
        self.deflated.bytes.len() - HEADER_BYTES_MAX
    }

    /// The frame as it is.
    pub(crate) fn plain(&self) -> &[u8] {
        &self.plain.bytes[self.plain.start..]
    }

    /// The frame as it was last deflated.
    pub(crate) fn deflated(&self) -> &[u8] {
        &self.deflated.bytes[self.deflated.start..]
    }

    /// How long the payload of the frame is.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.plain.bytes.len() - HEADER_BYTES_MAX
    }

    fn begin(&mut self, dialect: Dialect) -> &mut Vec<u8> {
        self.opcode = if dialect.is_text() { OpCode::Text } else { OpCode::Binary };
        self.plain.begin()
    }
}

impl Buffer {
    fn begin(&mut self) -> &mut Vec<u8> {
        self.bytes.clear();
        self.bytes.shrink_to(CAPACITY_KEPT);
        self.bytes.resize(HEADER_BYTES_MAX, 0);
        &mut self.bytes
    }

    fn finish(&mut self, opcode: OpCode, compressed: Compressed) {
        let header = header(opcode, compressed, self.bytes.len() - HEADER_BYTES_MAX);
        self.start = HEADER_BYTES_MAX - header.len();
        self.bytes[self.start..HEADER_BYTES_MAX].copy_from_slice(&header);
    }
}
