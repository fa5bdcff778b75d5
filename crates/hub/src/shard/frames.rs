//! Whole WebSocket frames in a buffer that is used over and over.
//!
//! **Invariant:** a frame is one slice: the header stands directly before the payload, so one `write` sends it.

use market::Timestamp;
use websocket::frame::{Compressed, HEADER_BYTES_MAX, OpCode, header};
use wire::{Dialect, FrameKind, ServerMessage};

/// The buffer.
#[derive(Debug, Default)]
pub(crate) struct FrameBuffer {
    bytes: Vec<u8>,
}

/// What a buffer keeps of its capacity between frames; more is given back, so that one large snapshot does not stay.
const CAPACITY_KEPT: usize = 1 << 20;

impl FrameBuffer {
    /// A data frame of `count` elements that lie in `elements`.
    pub(crate) fn data(
        &mut self,
        dialect: Dialect,
        kind: FrameKind,
        sent_at: Timestamp,
        count: usize,
        elements: &[u8],
    ) -> &[u8] {
        self.begin();
        wire::begin_data(dialect, kind, sent_at, count, &mut self.bytes);
        self.bytes.extend_from_slice(elements);
        wire::end_data(dialect, &mut self.bytes);
        self.finish(dialect)
    }

    /// A control message.
    pub(crate) fn message(&mut self, dialect: Dialect, message: &ServerMessage<'_>) -> &[u8] {
        self.begin();
        wire::encode_message(dialect, message, &mut self.bytes);
        self.finish(dialect)
    }

    fn begin(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(CAPACITY_KEPT);
        self.bytes.resize(HEADER_BYTES_MAX, 0);
    }

    fn finish(&mut self, dialect: Dialect) -> &[u8] {
        let opcode = if dialect.is_text() { OpCode::Text } else { OpCode::Binary };
        let header = header(opcode, Compressed::No, self.bytes.len() - HEADER_BYTES_MAX);
        let start = HEADER_BYTES_MAX - header.len();
        self.bytes[start..HEADER_BYTES_MAX].copy_from_slice(&header);
        &self.bytes[start..]
    }
}
