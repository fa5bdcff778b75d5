//! tungstenite's context, shown the data frames of one message at a time.
//!
//! It removes the masks, joins the fragments, checks UTF-8 as the fragments come and keeps the message limit. It never
//! sees a control frame: it would queue pongs and closes of its own, and would replace a close code it does not like.
//!
//! It is also never shown the length of a frame that is yet to come, for which it would reserve memory at once: a part
//! of a frame is passed as a fragment of its own. So memory grows with what was received, not with what was announced.
//!
//! **Invariant:** every fragment passed is complete, so tungstenite holds no part of a frame between calls, and nothing
//! is ever written.
//!
//! What is *not* here: the rules about headers and the order of frames, which are checked before.

use std::io::{self, Read, Write};

use tungstenite::{
    Error, Message,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

use crate::{frame::OpCode, header::Position, reader::Violation};

/// tungstenite reads at most this much at a time and clears as much before each read, so that a large value makes small
/// fragments dear, and a small one large fragments.
const READ_CHUNK_BYTES: usize = 4096;
/// A fragment's header is written masked and with a 64-bit length, whatever its size: one case less.
const FRAGMENT_HEADER_BYTES: usize = 14;

/// One message in the making.
pub(crate) struct Assembler {
    context: WebSocketContext,
    begun: bool,
}

impl Assembler {
    /// An assembler for one message, which has a first fragment of `first_bytes`.
    pub(crate) fn new(message_bytes_max: usize, first_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size((FRAGMENT_HEADER_BYTES + first_bytes).min(READ_CHUNK_BYTES))
            .write_buffer_size(0)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        Self { context: WebSocketContext::new(Role::Server, Some(config)), begun: false }
    }

    /// Adds a fragment, still masked; yields the message if it was the last.
    pub(crate) fn push(
        &mut self,
        kind: OpCode,
        position: Position,
        mask: [u8; 4],
        payload: &[u8],
    ) -> Result<Option<Message>, Violation> {
        let opcode = if self.begun { OpCode::Continuation } else { kind };
        self.begun = true;
        let mut header = [0; FRAGMENT_HEADER_BYTES];
        header[0] = opcode as u8 | if position == Position::Last { 0x80 } else { 0 };
        header[1] = 0xFF;
        header[2..10].copy_from_slice(&(payload.len() as u64).to_be_bytes());
        header[10..].copy_from_slice(&mask);
        match self.context.read(&mut Fragment { header: &header, payload }) {
            Ok(message) => Ok(Some(message)),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(Error::Utf8(_)) => Err(Violation::invalid("text is not UTF-8")),
            Err(Error::Capacity(_)) => Err(Violation::too_big("message is larger than is accepted")),
            Err(error) => Err(Violation::protocol(&error.to_string())),
        }
    }
}

/// The stream that tungstenite reads one fragment from.
struct Fragment<'a> {
    header: &'a [u8],
    payload: &'a [u8],
}

impl Read for Fragment<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.header.is_empty() && self.payload.is_empty() {
            // Zero would mean that the peer has gone.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let from_header = self.header.read(buffer)?;
        let from_payload = self.payload.read(&mut buffer[from_header..])?;
        Ok(from_header + from_payload)
    }
}

impl Write for Fragment<'_> {
    /// Swallows: only answers to control frames would be written, and there are none.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
