//! Frames as the server sends them: unmasked, with the shortest header (RFC 6455 section 5.2).
//!
//! A data frame's header and payload stay apart, so that one payload can lie behind an `Arc` and serve any number of
//! connections; control frames are small and come whole.
//!
//! **Invariant:** what is built here is a complete, final frame, and a control frame's payload is at most
//! [`CONTROL_PAYLOAD_BYTES_MAX`] bytes.
//!
//! What is *not* here: fragmentation on the way out (whole frames are known before they are sent) and masks.

use std::ops::Deref;

/// The longest header a server sends: two bytes and a 64-bit length.
pub const HEADER_BYTES_MAX: usize = 10;
/// The longest payload of a control frame (RFC 6455 section 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;
/// The longest reason of a Close frame: a control frame's payload without the two bytes of the code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

/// What a frame is, by the four bits that say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpCode {
    /// A further fragment of a message.
    Continuation = 0x0,
    /// The first or only frame of a text message.
    Text = 0x1,
    /// The first or only frame of a binary message.
    Binary = 0x2,
    /// The last frame of a connection.
    Close = 0x8,
    /// A question whether the peer is there.
    Ping = 0x9,
    /// The answer to a ping, or a heartbeat of its own accord.
    Pong = 0xA,
}

impl OpCode {
    /// The opcode with this number; the ten others are reserved.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    /// Whether this is Close, Ping or Pong.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Whether a message's payload is deflated, which its first frame says with RSV1 (RFC 7692 section 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compressed {
    /// The payload is the message.
    #[default]
    No,
    /// The payload is the message deflated.
    Yes,
}

/// The header of one final, unmasked frame; [`AsRef`] yields its 2, 4 or 10 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

impl AsRef<[u8]> for Header {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Deref for Header {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

/// The header to send before `payload_len` bytes of payload.
pub const fn header(opcode: OpCode, rsv1: Compressed, payload_len: usize) -> Header {
    let mut bytes = [0; HEADER_BYTES_MAX];
    bytes[0] = FIN | opcode as u8;
    if matches!(rsv1, Compressed::Yes) {
        bytes[0] |= RSV1;
    }
    let long = (payload_len as u64).to_be_bytes();
    let len = match payload_len {
        0..=125 => {
            bytes[1] = long[7];
            2
        }
        126..=0xFFFF => {
            bytes[1] = 126;
            bytes[2] = long[6];
            bytes[3] = long[7];
            4
        }
        _ => {
            bytes[1] = 127;
            let mut index = 0;
            while index < long.len() {
                bytes[2 + index] = long[index];
                index += 1;
            }
            10
        }
    };
    Header { bytes, len }
}

/// A whole Ping or Pong frame, small enough to be copied; dereferences to its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlFrame {
    bytes: [u8; 2 + CONTROL_PAYLOAD_BYTES_MAX],
    len: u8,
}

impl AsRef<[u8]> for ControlFrame {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Deref for ControlFrame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

/// A Ping frame; of a payload longer than 125 bytes, only the first 125 are sent.
pub fn ping_frame(payload: &[u8]) -> ControlFrame {
    control_frame(OpCode::Ping, payload)
}

/// A Pong frame, which answers a ping with the ping's own payload; of a longer one, only the first 125 bytes are sent.
pub fn pong_frame(payload: &[u8]) -> ControlFrame {
    control_frame(OpCode::Pong, payload)
}

fn control_frame(opcode: OpCode, payload: &[u8]) -> ControlFrame {
    let payload = &payload[..payload.len().min(CONTROL_PAYLOAD_BYTES_MAX)];
    let mut bytes = [0; 2 + CONTROL_PAYLOAD_BYTES_MAX];
    bytes[..2].copy_from_slice(&header(opcode, Compressed::No, payload.len()));
    bytes[2..2 + payload.len()].copy_from_slice(payload);
    ControlFrame { bytes, len: 2 + payload.len() as u8 }
}

/// A Close frame with a code and a reason, which is cut to 123 bytes at the boundary of a character.
///
/// The code is the caller's: only one of which [`crate::close_code::may_be_sent`] is true is understood by the peer.
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
    let mut frame = Vec::with_capacity(2 + 2 + reason.len());
    frame.extend_from_slice(&header(OpCode::Close, Compressed::No, 2 + reason.len()));
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason.as_bytes());
    frame
}

/// A Close frame without code or reason, the answer to one that had none.
pub fn empty_close_frame() -> Vec<u8> {
    header(OpCode::Close, Compressed::No, 0).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_header(payload_len: usize, expected: &[u8]) {
        assert_eq!(header(OpCode::Binary, Compressed::No, payload_len).as_ref(), expected, "{payload_len}");
    }

    #[test]
    fn a_header_has_the_shortest_length_that_fits() {
        check_header(0, &[0x82, 0]);
        check_header(125, &[0x82, 125]);
        check_header(126, &[0x82, 126, 0, 126]);
        check_header(0xFFFF, &[0x82, 126, 0xFF, 0xFF]);
        check_header(0x1_0000, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        check_header(0x1_2345_6789, &[0x82, 127, 0, 0, 0, 1, 0x23, 0x45, 0x67, 0x89]);
    }

    #[test]
    fn a_compressed_message_is_marked_by_rsv1() {
        assert_eq!(header(OpCode::Text, Compressed::Yes, 5).as_ref(), [0xC1, 5]);
    }

    #[test]
    fn control_frames_carry_at_most_125_bytes() {
        assert_eq!(&*ping_frame(b"hi"), b"\x89\x02hi");
        assert_eq!(&*pong_frame(b""), b"\x8A\x00");
        let cut = pong_frame(&[7; 200]);
        assert_eq!((cut[1], cut.len()), (125, 127));
    }

    #[test]
    fn a_close_reason_is_cut_between_characters() {
        assert_eq!(close_frame(1000, "bye"), b"\x88\x05\x03\xE8bye");
        let frame = close_frame(1001, &"é".repeat(70));
        assert_eq!((frame[1], frame.len()), (2 + 122, 2 + 2 + 122));
        assert_eq!(std::str::from_utf8(&frame[4..]), Ok("é".repeat(61).as_str()));
        assert_eq!(empty_close_frame(), [0x88, 0]);
    }
}
