//! The client's read side of RFC 6455: bytes as they come from the socket in, whole messages out.
//!
//! **Invariant:** a frame that lies wholly in the bytes of one read is handed out where it lies; only the frame that a
//! read cuts in two is copied. With thousands of connections on one shared read buffer that is nearly every frame.
//!
//! Not here: the socket, the hand-shake, masking of what the client sends (`upgrade`), the meaning of a message.

/// The longest frame that is taken from a server. No server of ours sends more than a few megabytes; a length beyond
/// this is a broken stream and not a reason to allocate.
const FRAME_BYTES_MAX: u64 = 64 << 20;

/// One whole message, or a control frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    Text(&'a [u8]),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    Close { code: Option<u16>, reason: &'a [u8] },
}

/// What a server must not send.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame from the server is masked")]
    Masked,
    #[error("reserved bits are set though no extension was offered")]
    ReservedBits,
    #[error("opcode {0:#x} is reserved")]
    Opcode(u8),
    #[error("a control frame is fragmented or longer than 125 bytes")]
    Control,
    #[error("a continuation without a beginning, or a message inside a message")]
    Continuation,
    #[error("a frame of {0} bytes is beyond the limit")]
    TooLong(u64),
}

/// Cuts a byte stream into messages.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    /// The beginning of a frame whose end has not come yet.
    cut: Vec<u8>,
    /// The fragments so far of a message that came in several frames, and its opcode (0: none is open).
    fragments: Vec<u8>,
    fragments_opcode: u8,
}

#[derive(Clone, Copy)]
struct Header {
    finished: bool,
    opcode: u8,
    begin_bytes: usize,
    payload_bytes: usize,
}

impl FrameReader {
    /// Takes all of `bytes` and calls `on` for every message that became whole, in order.
    ///
    /// # Errors
    /// The first violation; the stream cannot be read any further.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], on: &mut dyn FnMut(Incoming<'_>)) -> Result<(), FrameError> {
        while !self.cut.is_empty() && !bytes.is_empty() {
            // First the header, byte by byte as far as it is missing; then exactly the rest of that one frame.
            let missing = match parse_header(&self.cut)? {
                None => 1,
                Some(header) => header.begin_bytes + header.payload_bytes - self.cut.len(),
            };
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.cut.extend_from_slice(now);
            bytes = later;
            if let Some(header) = parse_header(&self.cut)?
                && self.cut.len() == header.begin_bytes + header.payload_bytes
            {
                let frame = std::mem::take(&mut self.cut);
                self.frame(header, &frame[header.begin_bytes..], on)?;
                self.cut = frame;
                self.cut.clear();
            }
        }
        while !bytes.is_empty() {
            match parse_header(bytes)? {
                Some(header) if bytes.len() - header.begin_bytes >= header.payload_bytes => {
                    let (frame, later) = bytes.split_at(header.begin_bytes + header.payload_bytes);
                    self.frame(header, &frame[header.begin_bytes..], on)?;
                    bytes = later;
                }
                _ => {
                    self.cut.extend_from_slice(bytes);
                    break;
                }
            }
        }
        Ok(())
    }

    fn frame(&mut self, header: Header, payload: &[u8], on: &mut dyn FnMut(Incoming<'_>)) -> Result<(), FrameError> {
        match (header.opcode, header.finished) {
            (0x8, _) => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                on(Incoming::Close { code, reason: payload.get(2..).unwrap_or_default() });
            }
            (0x9, _) => on(Incoming::Ping(payload)),
            (0xA, _) => on(Incoming::Pong),
            (opcode @ (0x1 | 0x2), finished) => {
                if self.fragments_opcode != 0 {
                    return Err(FrameError::Continuation);
                }
                if finished {
                    on(message(opcode, payload));
                } else {
                    self.fragments_opcode = opcode;
                    self.fragments.extend_from_slice(payload);
                }
            }
            (_, finished) => {
                if self.fragments_opcode == 0 {
                    return Err(FrameError::Continuation);
                }
                let bytes = (self.fragments.len() + payload.len()) as u64;
                if bytes > FRAME_BYTES_MAX {
                    return Err(FrameError::TooLong(bytes));
                }
                self.fragments.extend_from_slice(payload);
                if finished {
                    on(message(self.fragments_opcode, &self.fragments));
                    self.fragments_opcode = 0;
                    self.fragments = Vec::new();
                }
            }
        }
        Ok(())
    }
}

fn message(opcode: u8, payload: &[u8]) -> Incoming<'_> {
    if opcode == 0x1 { Incoming::Text(payload) } else { Incoming::Binary(payload) }
}

/// Reads a frame's header; none when it is not all there.
fn parse_header(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(FrameError::ReservedBits);
    }
    if second & 0x80 != 0 {
        return Err(FrameError::Masked);
    }
    let (finished, opcode, short) = (first & 0x80 != 0, first & 0x0F, second & 0x7F);
    match opcode {
        0x0..=0x2 => {}
        0x8..=0xA if finished && short <= 125 => {}
        0x8..=0xA => return Err(FrameError::Control),
        other => return Err(FrameError::Opcode(other)),
    }
    let (begin_bytes, payload_bytes) = match short {
        126 => match rest.first_chunk() {
            Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(length) => (10, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        short => (2, u64::from(short)),
    };
    if payload_bytes > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(payload_bytes));
    }
    Ok(Some(Header { finished, opcode, begin_bytes, payload_bytes: payload_bytes as usize }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            n @ 0..=125 => out.push(n as u8),
            n @ 126..=0xFFFF => {
                out.push(126);
                out.extend_from_slice(&(n as u16).to_be_bytes());
            }
            n => {
                out.push(127);
                out.extend_from_slice(&(n as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(payload);
        out
    }

    fn read(chunks: &[&[u8]]) -> Result<Vec<String>, FrameError> {
        let (mut reader, mut seen) = (FrameReader::default(), Vec::new());
        for chunk in chunks {
            reader.feed(chunk, &mut |incoming| seen.push(format!("{incoming:?}")))?;
        }
        Ok(seen)
    }

    proptest! {
        #[test]
        fn any_cut_reads_the_same(
            lengths in prop::collection::vec(prop_oneof![0usize..300, 65_530usize..65_540], 1..6),
            cuts in prop::collection::vec(1usize..2000, 1..40),
        ) {
            let mut stream = Vec::new();
            for (index, length) in lengths.iter().enumerate() {
                stream.extend(server_frame(0x82, &vec![index as u8; *length]));
                stream.extend(server_frame(0x01, b"a"));
                stream.extend(server_frame(0x89, b"ping"));
                stream.extend(server_frame(0x80, b"b"));
            }
            let whole = read(&[&stream]).unwrap();
            prop_assert_eq!(whole.len(), lengths.len() * 3);
            let mut chunks = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                chunks.push(now);
                rest = later;
            }
            prop_assert_eq!(read(&chunks).unwrap(), whole);
        }
    }

    #[test]
    fn what_a_server_must_not_send_is_named() {
        for (bytes, want) in [
            (&[0x82, 0x81, 0, 0, 0, 0, 0][..], FrameError::Masked),
            (&[0xC2, 0x00], FrameError::ReservedBits),
            (&[0x83, 0x00], FrameError::Opcode(3)),
            (&[0x09, 0x00], FrameError::Control),
            (&[0x89, 126, 0, 126], FrameError::Control),
            (&[0x80, 0x00], FrameError::Continuation),
            (&[0x01, 0x00, 0x82, 0x00], FrameError::Continuation),
            (&[0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0], FrameError::TooLong(1 << 56)),
        ] {
            assert_eq!(read(&[bytes]), Err(want), "{bytes:x?}");
        }
    }
}
