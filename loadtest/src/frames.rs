//! The client's read side of RFC 6455: bytes as they come from the socket in, whole messages out.
//!
//! **Invariant:** a frame that lies wholly in the bytes of one read is handed out where it lies; of a frame that a read cuts
//! in two, only what the caller wants to see is copied. With thousands of connections on one shared read buffer that
//! makes a counted message cost its header.
//!
//! Not here: the socket, the hand-shake, masking of what the client sends (`upgrade`), the meaning of a message.

/// The longest message that is taken from a server. No server of ours sends more than a few megabytes; a length beyond
/// this is a broken stream and not a reason to allocate.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// One whole message, or a control frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    Data(Data<'a>),
    Ping(&'a [u8]),
    Pong,
    Close { code: Option<u16>, reason: &'a [u8] },
}

/// A text or binary message, of which the caller sees as much as it wanted to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Data<'a> {
    pub(crate) kind: DataKind,
    /// Whether the payload is deflated (RFC 7692)
    pub(crate) compression: Compression,
    /// The length of the whole payload, as sent
    pub(crate) bytes: u64,
    /// The payload, or its beginning
    pub(crate) payload: &'a [u8],
}

/// What the opcode says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataKind {
    Text,
    Binary,
}

/// What the first reserved bit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Deflate,
}

/// What a server must not send.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame from the server is masked")]
    Masked,
    #[error("reserved bits are set though no extension was negotiated for them")]
    ReservedBits,
    #[error("opcode {0:#x} is reserved")]
    Opcode(u8),
    #[error("a control frame is fragmented or longer than 125 bytes")]
    Control,
    #[error("a continuation without a beginning, or a message inside a message")]
    Continuation,
    #[error("a message of {0} bytes is beyond the limit")]
    TooLong(u64),
}

/// Cuts a byte stream into messages.
#[derive(Debug)]
pub(crate) struct FrameReader {
    /// What was negotiated; without it a compressed frame is a violation.
    compression: Compression,
    /// The begin of a frame whose end has not come yet: its header and what is kept of its payload.
    cut: Vec<u8>,
    /// The rest of that frame, once its header is whole.
    pending: Option<Pending>,
    fragments: Option<Box<Fragments>>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    header: Header,
    keep_bytes: usize,
    /// Payload bytes beyond the kept ones that have not come yet
    skip_bytes: u64,
}

/// A message that came in several frames, as far as it has come.
#[derive(Debug)]
struct Fragments {
    kind: DataKind,
    compression: Compression,
    bytes: u64,
    kept: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    finished: bool,
    compression: Compression,
    opcode: u8,
    begin_bytes: usize,
    payload_bytes: u64,
}

impl FrameReader {
    pub(crate) fn new(compression: Compression) -> Self {
        Self { compression, cut: Vec::new(), pending: None, fragments: None }
    }

    /// Takes all of `bytes` and calls `on` for every message that became whole, in order, with at least the first `keep`
    /// bytes of each.
    ///
    /// # Errors
    /// The first violation; the stream cannot be read any further.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        keep: usize,
        on: &mut impl FnMut(Incoming<'_>),
    ) -> Result<(), FrameError> {
        if !self.cut.is_empty() {
            bytes = self.finish_cut(bytes, keep, on)?;
        }
        while !bytes.is_empty() {
            let Some(header) = self.parse_header(bytes)? else {
                self.cut.extend_from_slice(bytes);
                break;
            };
            let behind = &bytes[header.begin_bytes..];
            if behind.len() as u64 >= header.payload_bytes {
                let (payload, later) = behind.split_at(header.payload_bytes as usize);
                self.frame(header, payload, keep, on)?;
                bytes = later;
            } else {
                let pending = Pending::new(header, keep);
                self.cut.extend_from_slice(&bytes[..header.begin_bytes]);
                self.pending = Some(pending);
                self.finish_cut(behind, keep, on)?;
                break;
            }
        }
        Ok(())
    }

    /// Goes on with the frame that an earlier read cut; returns what lies behind it.
    fn finish_cut<'a>(
        &mut self,
        mut bytes: &'a [u8],
        keep: usize,
        on: &mut impl FnMut(Incoming<'_>),
    ) -> Result<&'a [u8], FrameError> {
        while self.pending.is_none() {
            let Some((first, later)) = bytes.split_first() else { return Ok(bytes) };
            self.cut.push(*first);
            bytes = later;
            self.pending = self.parse_header(&self.cut)?.map(|header| Pending::new(header, keep));
        }
        let Some(pending) = &mut self.pending else { return Ok(bytes) };
        let Header { begin_bytes, .. } = pending.header;
        let (now, later) = bytes.split_at((begin_bytes + pending.keep_bytes - self.cut.len()).min(bytes.len()));
        self.cut.extend_from_slice(now);
        let skip = pending.skip_bytes.min(later.len() as u64);
        pending.skip_bytes -= skip;
        let later = &later[skip as usize..];
        if pending.skip_bytes == 0 && self.cut.len() == begin_bytes + pending.keep_bytes {
            let header = pending.header;
            self.pending = None;
            let frame = std::mem::take(&mut self.cut);
            self.frame(header, &frame[begin_bytes..], keep, on)?;
            self.cut = frame;
            self.cut.clear();
        }
        Ok(later)
    }

    /// `payload` is the frame's payload, or as much of it as is kept.
    fn frame(
        &mut self,
        header: Header,
        payload: &[u8],
        keep: usize,
        on: &mut impl FnMut(Incoming<'_>),
    ) -> Result<(), FrameError> {
        let kind = match header.opcode {
            0x8 => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                on(Incoming::Close { code, reason: payload.get(2..).unwrap_or_default() });
                return Ok(());
            }
            0x9 => {
                on(Incoming::Ping(payload));
                return Ok(());
            }
            0xA => {
                on(Incoming::Pong);
                return Ok(());
            }
            0x0 => return self.continuation(header, payload, keep, on),
            0x1 => DataKind::Text,
            _ => DataKind::Binary,
        };
        if self.fragments.is_some() {
            return Err(FrameError::Continuation);
        }
        let Header { compression, payload_bytes: bytes, .. } = header;
        if header.finished {
            on(Incoming::Data(Data { kind, compression, bytes, payload }));
        } else {
            let kept = payload[..payload.len().min(keep)].to_vec();
            self.fragments = Some(Box::new(Fragments { kind, compression, bytes, kept }));
        }
        Ok(())
    }

    fn continuation(
        &mut self,
        header: Header,
        payload: &[u8],
        keep: usize,
        on: &mut impl FnMut(Incoming<'_>),
    ) -> Result<(), FrameError> {
        let Some(fragments) = &mut self.fragments else { return Err(FrameError::Continuation) };
        if header.compression == Compression::Deflate {
            return Err(FrameError::ReservedBits);
        }
        fragments.bytes += header.payload_bytes;
        if fragments.bytes > MESSAGE_BYTES_MAX {
            return Err(FrameError::TooLong(fragments.bytes));
        }
        let room = keep.saturating_sub(fragments.kept.len());
        fragments.kept.extend_from_slice(&payload[..payload.len().min(room)]);
        if header.finished
            && let Some(fragments) = self.fragments.take()
        {
            let Fragments { kind, compression, bytes, kept } = *fragments;
            on(Incoming::Data(Data { kind, compression, bytes, payload: &kept }));
        }
        Ok(())
    }

    /// Reads a frame's header; none when it is not all there.
    fn parse_header(&self, bytes: &[u8]) -> Result<Option<Header>, FrameError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let (finished, opcode, short) = (first & 0x80 != 0, first & 0x0F, second & 0x7F);
        let compression = match first & 0x70 {
            0 => Compression::None,
            // The first reserved bit belongs to the first frame of a data message (RFC 7692 section 6).
            0x40 if self.compression == Compression::Deflate && matches!(opcode, 0x0..=0x2) => Compression::Deflate,
            _ => return Err(FrameError::ReservedBits),
        };
        if second & 0x80 != 0 {
            return Err(FrameError::Masked);
        }
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
        if payload_bytes > MESSAGE_BYTES_MAX {
            return Err(FrameError::TooLong(payload_bytes));
        }
        Ok(Some(Header { finished, compression, opcode, begin_bytes, payload_bytes }))
    }
}

impl Pending {
    fn new(header: Header, keep: usize) -> Self {
        // Control frames are kept whole whatever the caller wants to see of data: they are short and must be answered.
        let keep = if header.opcode >= 0x8 { 125 } else { keep };
        let keep_bytes = header.payload_bytes.min(keep as u64) as usize;
        Self { header, keep_bytes, skip_bytes: header.payload_bytes - keep_bytes as u64 }
    }
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

    /// What is handed out; of payloads the first `keep` bytes, since a frame in one piece may show more.
    fn read(chunks: &[&[u8]], keep: usize) -> Result<Vec<String>, FrameError> {
        let (mut reader, mut seen) = (FrameReader::new(Compression::None), Vec::new());
        for chunk in chunks {
            reader.feed(chunk, keep, &mut |incoming| {
                seen.push(match incoming {
                    Incoming::Data(Data { kind, bytes, payload, .. }) => {
                        assert!(payload.len() as u64 >= bytes.min(keep as u64));
                        format!("{kind:?} {bytes} {:?}", &payload[..payload.len().min(keep)])
                    }
                    other => format!("{other:?}"),
                });
            })?;
        }
        Ok(seen)
    }

    proptest! {
        #[test]
        fn any_cut_reads_the_same(
            lengths in prop::collection::vec(prop_oneof![0usize..300, 65_530usize..65_540], 1..6),
            cuts in prop::collection::vec(1usize..2000, 1..40),
            keep in prop_oneof![Just(usize::MAX), 0usize..200],
        ) {
            let mut stream = Vec::new();
            for (index, length) in lengths.iter().enumerate() {
                stream.extend(server_frame(0x82, &vec![index as u8; *length]));
                stream.extend(server_frame(0x01, b"a"));
                stream.extend(server_frame(0x89, b"ping"));
                stream.extend(server_frame(0x80, b"b"));
            }
            let whole = read(&[&stream], keep).unwrap();
            prop_assert_eq!(whole.len(), lengths.len() * 3);
            let mut chunks = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                chunks.push(now);
                rest = later;
            }
            prop_assert_eq!(read(&chunks, keep).unwrap(), whole);
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
            assert_eq!(read(&[bytes], usize::MAX), Err(want), "{bytes:x?}");
        }
    }

    #[test]
    fn a_compressed_message_is_told_apart() {
        let mut seen = Vec::new();
        let mut reader = FrameReader::new(Compression::Deflate);
        reader
            .feed(&[0x41, 1, b'a', 0x80, 1, b'b', 0x81, 1, b'c'], usize::MAX, &mut |incoming| {
                let Incoming::Data(Data { compression, payload, .. }) = incoming else { panic!("{incoming:?}") };
                seen.push((compression, payload.to_vec()));
            })
            .unwrap();
        assert_eq!(seen, [(Compression::Deflate, b"ab".to_vec()), (Compression::None, b"c".to_vec())]);
        assert_eq!(reader.feed(&[0xC9, 0], 0, &mut |_| ()), Err(FrameError::ReservedBits));
    }
}
