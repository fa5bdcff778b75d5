//! The header of a frame from a client, judged as early as its bytes allow.
//!
//! **Invariant:** a header that comes out complete is masked, has the shortest length, no reserved opcode and no reserved
//! bit that was not negotiated, and if it is a control frame's, it is final and of at most 125 bytes.
//!
//! What is *not* here: rules that need to know of earlier frames; [`crate::Reader`] keeps those.

use crate::{
    close_code,
    frame::{CONTROL_PAYLOAD_BYTES_MAX, Compressed, OpCode},
    reader::Violation,
};

/// Two bytes, a 64-bit length and a mask.
const CLIENT_HEADER_BYTES_MAX: usize = 14;

/// Whether this frame is the last of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    Last,
    NotLast,
}

/// A checked header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHeader {
    pub(crate) opcode: OpCode,
    pub(crate) position: Position,
    pub(crate) compressed: Compressed,
    pub(crate) payload_len: u64,
    pub(crate) mask: [u8; 4],
}

/// Whether permessage-deflate was negotiated, which alone gives RSV1 a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rsv1 {
    Reserved,
    Negotiated,
}

/// A header of which some bytes have arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PartialHeader {
    bytes: [u8; CLIENT_HEADER_BYTES_MAX],
    len: u8,
}

impl PartialHeader {
    /// Takes the header's bytes off the front of `input`; `None` if they have not all arrived yet.
    pub(crate) fn fill(&mut self, input: &mut &[u8], rsv1: Rsv1) -> Result<Option<FrameHeader>, Violation> {
        if !self.take(2, input) {
            return Ok(None);
        }
        // Judged before the rest has arrived (and again at each further part, which is cheap and rare), so that nobody
        // waits for the remainder of something that is already wrong.
        let opcode = check_opening(self.bytes[0], self.bytes[1], rsv1)?;
        let length_bytes = match self.bytes[1] & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if !self.take(2 + length_bytes + 4, input) {
            return Ok(None);
        }
        let (length, mask) = self.bytes[2..2 + length_bytes + 4].split_at(length_bytes);
        let payload_len = match length_bytes {
            0 => u64::from(self.bytes[1] & 0x7F),
            _ => length.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
        };
        check_length(length_bytes, payload_len)?;
        let header = FrameHeader {
            opcode,
            position: if self.bytes[0] & 0x80 == 0 { Position::NotLast } else { Position::Last },
            compressed: if self.bytes[0] & 0x40 == 0 { Compressed::No } else { Compressed::Yes },
            payload_len,
            mask: [mask[0], mask[1], mask[2], mask[3]],
        };
        *self = Self::default();
        Ok(Some(header))
    }

    /// Whether `want` bytes are there, after taking what lacks from `input`.
    fn take(&mut self, want: usize, input: &mut &[u8]) -> bool {
        let have = usize::from(self.len);
        if have < want {
            let taken = input.split_off(..input.len().min(want - have)).unwrap_or_default();
            self.bytes[have..have + taken.len()].copy_from_slice(taken);
            self.len += taken.len() as u8;
        }
        usize::from(self.len) >= want
    }
}

fn check_opening(first: u8, second: u8, rsv1: Rsv1) -> Result<OpCode, Violation> {
    let Some(opcode) = OpCode::from_bits(first & 0x0F) else {
        return Err(Violation::protocol("reserved opcode"));
    };
    if first & 0x30 != 0 {
        return Err(Violation::protocol("reserved bit RSV2 or RSV3 is set"));
    }
    if first & 0x40 != 0 {
        if rsv1 == Rsv1::Reserved {
            return Err(Violation::protocol("RSV1 is set but no compression was negotiated"));
        }
        if !matches!(opcode, OpCode::Text | OpCode::Binary) {
            return Err(Violation::protocol("RSV1 is set on a frame that does not begin a message"));
        }
    }
    if second & 0x80 == 0 {
        return Err(Violation::protocol("frame is not masked"));
    }
    if opcode.is_control() {
        if first & 0x80 == 0 {
            return Err(Violation::protocol("fragmented control frame"));
        }
        if usize::from(second & 0x7F) > CONTROL_PAYLOAD_BYTES_MAX {
            return Err(Violation::protocol("control frame of more than 125 bytes"));
        }
    }
    Ok(opcode)
}

/// "The minimal number of bytes MUST be used to encode the length", and the top bit of 64 be 0 (RFC 6455 section 5.2).
fn check_length(length_bytes: usize, payload_len: u64) -> Result<(), Violation> {
    match (length_bytes, payload_len) {
        (2, 0..126) | (8, 0..0x1_0000) => Err(Violation::protocol("payload length is not in its shortest form")),
        (8, 0x8000_0000_0000_0000..) => {
            Err(Violation { code: close_code::PROTOCOL_ERROR, reason: "payload length has its top bit set".to_owned() })
        }
        _ => Ok(()),
    }
}
