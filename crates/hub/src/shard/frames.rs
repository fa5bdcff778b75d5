//! Whole frames in buffers that are used over and over: one message as it is, and deflated if someone wants it.
//!
//! **Invariant:** a frame is one slice: what belongs before a payload stands directly before it, so one `write` sends it.
//! A message of an event stream is one line: neither dialect writes line breaks into JSON.

use std::io::Write as _;

use market::Timestamp;
use websocket::deflate::Compressor;
use websocket::frame::{Compressed, HEADER_BYTES_MAX, OpCode, header};
use wire::{Dialect, FrameKind, ServerMessage};

/// How messages are told apart on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Framing {
    /// Frames of RFC 6455
    WebSocket,
    /// Events of the HTML standard, "server-sent events", with one message in JSON each
    EventStream,
}

/// How a session's messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) dialect: Dialect,
    pub(crate) framing: Framing,
}

/// What an event has beside its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EventFields {
    /// With this event, the client has seen everything up to here.
    pub(crate) ordinal: Option<u64>,
    /// How long the client is to wait before it connects again.
    pub(crate) retry_ms: Option<u64>,
}

/// A line that is no event: it keeps the connection alive and makes a lost one known.
pub(crate) const COMMENT: &[u8] = b":\n";

/// The buffers.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    epoch: Box<str>,
    opcode: OpCode,
    framing: Framing,
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

impl FrameBuffer {
    /// Buffers for events of that epoch.
    pub(crate) fn new(epoch: &str) -> Self {
        Self {
            epoch: epoch.into(),
            opcode: OpCode::Binary,
            framing: Framing::WebSocket,
            plain: Buffer::default(),
            deflated: Buffer::default(),
        }
    }

    /// Makes a data frame of `count` elements that lie in `elements`.
    pub(crate) fn data(
        &mut self,
        form: Form,
        kind: FrameKind,
        sent_at: Timestamp,
        (count, elements): (usize, &[u8]),
        ordinal: Option<u64>,
    ) {
        let payload = self.begin(form, EventFields { ordinal, retry_ms: None });
        wire::begin_data(form.dialect, kind, sent_at, count, payload);
        payload.extend_from_slice(elements);
        wire::end_data(form.dialect, payload);
        self.end();
    }

    /// Makes a control message.
    pub(crate) fn message(&mut self, form: Form, message: &ServerMessage<'_>, fields: EventFields) {
        let payload = self.begin(form, fields);
        wire::encode_message(form.dialect, message, payload);
        self.end();
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

    fn begin(&mut self, form: Form, fields: EventFields) -> &mut Vec<u8> {
        self.opcode = if form.dialect.is_text() { OpCode::Text } else { OpCode::Binary };
        self.framing = form.framing;
        let bytes = self.plain.begin();
        if form.framing == Framing::EventStream {
            // Writing to a `Vec` cannot fail.
            if let Some(retry_ms) = fields.retry_ms {
                let _ = writeln!(bytes, "retry: {retry_ms}");
            }
            if let Some(ordinal) = fields.ordinal {
                let _ = writeln!(bytes, "id: {}-{ordinal}", self.epoch);
            }
            bytes.extend_from_slice(b"data: ");
        }
        bytes
    }

    fn end(&mut self) {
        match self.framing {
            Framing::WebSocket => self.plain.finish(self.opcode, Compressed::No),
            Framing::EventStream => {
                self.plain.bytes.extend_from_slice(b"\n\n");
                self.plain.start = HEADER_BYTES_MAX;
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_fields_and_one_line_of_data() {
        let mut frames = FrameBuffer::new("e1");
        let form = Form { dialect: Dialect::NativeJson, framing: Framing::EventStream };
        let elements = br#"{"type":"x"},"#;
        frames.data(form, FrameKind::Live, Timestamp(0), (1, elements), Some(7));
        let text = std::str::from_utf8(frames.plain()).unwrap();
        assert_eq!(
            text,
            "id: e1-7\ndata: {\"sent_at\":\"1970-01-01T00:00:00.000000000Z\",\"data\":[{\"type\":\"x\"}]}\n\n"
        );
        let message = ServerMessage::Pong { id: None, time: Timestamp(0), sent_bytes: 9 };
        frames.message(form, &message, EventFields { ordinal: None, retry_ms: Some(1500) });
        let text = std::str::from_utf8(frames.plain()).unwrap();
        assert_eq!(
            text,
            "retry: 1500\ndata: {\"type\":\"pong\",\"time\":\"1970-01-01T00:00:00.000000000Z\",\"sent_bytes\":9}\n\n"
        );
        let form = Form { framing: Framing::WebSocket, ..form };
        frames.message(form, &message, EventFields { ordinal: Some(1), retry_ms: Some(1) });
        assert_eq!(frames.plain()[..2], [0x81, frames.payload_bytes() as u8], "a frame has no fields");
    }
}
