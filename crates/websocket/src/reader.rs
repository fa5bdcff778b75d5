//! What a client sends, turned into messages.
//!
//! The reader parses frame headers and control frames itself and leaves the data frames' payloads to tungstenite (see
//! `assembler`). Because RSV1 has been taken off and the payload of a compressed message is passed as binary, tungstenite
//! needs to know nothing of permessage-deflate; the complete message is inflated afterwards and its UTF-8 is checked then.
//!
//! **Invariant:** between messages a reader owns no heap memory (but the history of a client that keeps its compression
//! context); within one it owns at most about two times `message_bytes_max`, and never more than a small multiple of what
//! the peer has really sent of it. After a violation or a Close nothing more is ever called back.
//!
//! What is *not* here: answers. Pings and closes are handed to the caller, who also closes after a [`Violation`].

use thiserror::Error;
use tungstenite::Message;

use crate::{
    assembler::Assembler,
    close_code,
    deflate::{Decoder, InflateError, Inflater, Params},
    frame::{Compressed, OpCode},
    header::{FrameHeader, PartialHeader, Position, Rsv1},
};

/// The limits of a [`Reader`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderConfig {
    /// Bytes of a message, both as sent and as inflated; a larger one is a violation with code 1009 as soon as a header
    /// announces it. Default 64 KiB: a client of a server that mostly sends has little to say.
    pub message_bytes_max: usize,
    /// Fragments of a message; more are a violation with code 1009. Default 1,024, since every fragment costs some work
    /// however few bytes it has.
    pub fragments_max: usize,
    /// The kinds of message that are accepted; another is a violation with code 1003.
    pub kinds: MessageKinds,
}

impl Default for ReaderConfig {
    fn default() -> Self {
        Self { message_bytes_max: 64 * 1024, fragments_max: 1024, kinds: MessageKinds::TextAndBinary }
    }
}

/// The kinds of message that a [`Reader`] accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MessageKinds {
    /// Both.
    #[default]
    TextAndBinary,
    /// Text only.
    Text,
    /// Binary only.
    Binary,
}

impl MessageKinds {
    const fn accept(self, opcode: OpCode) -> bool {
        !matches!((self, opcode), (Self::Text, OpCode::Binary) | (Self::Binary, OpCode::Text))
    }
}

/// Something that a client sent, complete; the payload is borrowed for the time of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered by a pong with this payload of at most 125 bytes.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The peer closes; nothing comes after this. To be answered by a Close, unless this answers ours.
    Close {
        /// The code, one of which [`close_code::may_be_sent`] is true; `None` if there was none.
        code: Option<u16>,
        /// The reason, empty if there was none.
        reason: &'a str,
    },
}

/// The peer broke a rule or a limit; the connection is to be closed with this code.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{reason} (close code {code})")]
pub struct Violation {
    /// 1002, 1003, 1007 or 1009.
    pub code: u16,
    /// What was wrong, fit for the reason of the Close frame.
    pub reason: String,
}

impl Violation {
    pub(crate) fn protocol(reason: &str) -> Self {
        Self { code: close_code::PROTOCOL_ERROR, reason: reason.to_owned() }
    }

    pub(crate) fn invalid(reason: &str) -> Self {
        Self { code: close_code::INVALID_DATA, reason: reason.to_owned() }
    }

    pub(crate) fn too_big(reason: &str) -> Self {
        Self { code: close_code::TOO_BIG, reason: reason.to_owned() }
    }
}

/// Reads one connection's frames, however they are cut.
pub struct Reader {
    config: ReaderConfig,
    decoder: Option<Decoder>,
    stage: Stage,
    message: Option<Begun>,
    assembler: Option<Box<Assembler>>,
}

/// Where in the stream of frames the reader is.
enum Stage {
    Header(PartialHeader),
    Data(FrameHeader),
    /// Control frames are at most 125 bytes; what has arrived of one is held here.
    Control(FrameHeader, Vec<u8>),
    Finished,
}

/// What is known of a message of which a frame has begun.
#[derive(Clone, Copy)]
struct Begun {
    kind: OpCode,
    compressed: Compressed,
    /// Sum of the announced payloads.
    bytes: usize,
    fragments: usize,
}

impl Reader {
    /// A reader for a connection that has just been upgraded, with the compression that was negotiated for it.
    pub fn new(config: ReaderConfig, compression: Option<Params>) -> Self {
        Self {
            config,
            decoder: compression.map(Decoder::new),
            stage: Stage::Header(PartialHeader::default()),
            message: None,
            assembler: None,
        }
    }

    /// Takes in all of `bytes`, as they came from the socket, and calls `on` for everything that they complete, in order.
    ///
    /// After a [`Incoming::Close`] or a violation, further bytes are discarded without a word, so that a caller may go on
    /// reading until the peer has closed too.
    ///
    /// # Errors
    ///
    /// The first violation. `on` has been called for all that came before it.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        inflater: &mut Inflater,
        on: &mut dyn FnMut(Incoming<'_>),
    ) -> Result<(), Violation> {
        while let Some(progress) = self.step(&mut bytes, inflater, on).inspect_err(|_| self.finish())? {
            if progress == Progress::Finished {
                self.finish();
            }
        }
        Ok(())
    }

    /// Whether a Close was received or a rule was broken, so that nothing more will be called back.
    pub const fn is_finished(&self) -> bool {
        matches!(self.stage, Stage::Finished)
    }

    fn finish(&mut self) {
        self.stage = Stage::Finished;
        self.message = None;
        self.assembler = None;
        self.decoder = None;
    }

    /// Takes one header or one payload, or what there is of it; `None` if more bytes are needed.
    fn step(
        &mut self,
        bytes: &mut &[u8],
        inflater: &mut Inflater,
        on: &mut dyn FnMut(Incoming<'_>),
    ) -> Result<Option<Progress>, Violation> {
        match &mut self.stage {
            Stage::Finished => Ok(None),
            Stage::Header(partial) => {
                let rsv1 = if self.decoder.is_some() { Rsv1::Negotiated } else { Rsv1::Reserved };
                let Some(header) = partial.fill(bytes, rsv1)? else { return Ok(None) };
                self.stage = if header.opcode.is_control() {
                    Stage::Control(header, Vec::new())
                } else {
                    self.admit(&header)?;
                    Stage::Data(header)
                };
                Ok(Some(Progress::Going))
            }
            Stage::Control(header, payload) => {
                let (header, lacking) = (*header, header.payload_len as usize - payload.len());
                payload.extend_from_slice(take_front(bytes, lacking));
                if payload.len() < header.payload_len as usize {
                    return Ok(None);
                }
                let mut payload = std::mem::take(payload);
                self.stage = Stage::Header(PartialHeader::default());
                payload.iter_mut().zip(header.mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
                control(header.opcode, &payload, on).map(Some)
            }
            Stage::Data(header) => {
                let chunk = take_front(bytes, usize::try_from(header.payload_len).unwrap_or(usize::MAX));
                if chunk.is_empty() && header.payload_len > 0 {
                    return Ok(None);
                }
                let mask = header.mask;
                header.payload_len -= chunk.len() as u64;
                header.mask.rotate_left(chunk.len() % 4);
                let position = if header.payload_len > 0 { Position::NotLast } else { header.position };
                if header.payload_len == 0 {
                    self.stage = Stage::Header(PartialHeader::default());
                }
                self.assemble(position, mask, chunk, inflater, on)?;
                Ok(Some(Progress::Going))
            }
        }
    }

    /// Checks a data frame's header against the message that it begins or continues.
    fn admit(&mut self, header: &FrameHeader) -> Result<(), Violation> {
        let message = match (&mut self.message, header.opcode) {
            (Some(message), OpCode::Continuation) => message,
            (None, OpCode::Continuation) => return Err(Violation::protocol("continuation of nothing")),
            (Some(_), _) => return Err(Violation::protocol("new message before the last fragment of the one before")),
            (none @ None, kind) => {
                if !self.config.kinds.accept(kind) {
                    let reason = "this kind of message is not accepted".to_owned();
                    return Err(Violation { code: close_code::UNSUPPORTED, reason });
                }
                none.insert(Begun { kind, compressed: header.compressed, bytes: 0, fragments: 0 })
            }
        };
        if header.payload_len > (self.config.message_bytes_max - message.bytes) as u64 {
            let reason = format!("message is larger than {} bytes", self.config.message_bytes_max);
            return Err(Violation::too_big(&reason));
        }
        // The limit has just been found to hold, so neither can overflow.
        message.bytes += header.payload_len as usize;
        message.fragments += 1;
        if message.fragments > self.config.fragments_max {
            let reason = format!("message has more than {} fragments", self.config.fragments_max);
            return Err(Violation::too_big(&reason));
        }
        Ok(())
    }

    /// Passes a part of the present message on, and calls back if it was the last.
    fn assemble(
        &mut self,
        position: Position,
        mask: [u8; 4],
        chunk: &[u8],
        inflater: &mut Inflater,
        on: &mut dyn FnMut(Incoming<'_>),
    ) -> Result<(), Violation> {
        let Some(begun) = self.message else { return Ok(()) };
        if chunk.is_empty() && position == Position::NotLast {
            return Ok(());
        }
        let kind = if begun.compressed == Compressed::Yes { OpCode::Binary } else { begun.kind };
        let limit = self.config.message_bytes_max;
        let assembler = self.assembler.get_or_insert_with(|| Box::new(Assembler::new(limit, chunk.len())));
        let Some(message) = assembler.push(kind, position, mask, chunk)? else { return Ok(()) };
        self.message = None;
        // Dropped rather than kept: its buffers have the size of the message.
        self.assembler = None;
        match (message, begun.compressed, &mut self.decoder) {
            (Message::Binary(deflated), Compressed::Yes, Some(decoder)) => {
                let inflated = inflater.inflate(decoder, &deflated, limit).map_err(|error| match error {
                    InflateError::TooBig => Violation::too_big(&format!("message inflates to more than {limit} bytes")),
                    InflateError::Corrupt => Violation::invalid("message is not a deflate stream"),
                })?;
                let outcome = hand_over(begun.kind, inflated, on);
                inflater.give_back();
                outcome?;
            }
            (Message::Binary(payload), ..) => on(Incoming::Binary(&payload)),
            (Message::Text(text), ..) => on(Incoming::Text(&text)),
            _ => return Err(Violation::protocol("unexpected frame")),
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Going,
    Finished,
}

fn take_front<'a>(bytes: &mut &'a [u8], count_max: usize) -> &'a [u8] {
    bytes.split_off(..bytes.len().min(count_max)).unwrap_or_default()
}

/// Hands over a control frame.
fn control(opcode: OpCode, payload: &[u8], on: &mut dyn FnMut(Incoming<'_>)) -> Result<Progress, Violation> {
    match opcode {
        OpCode::Ping => on(Incoming::Ping(payload)),
        OpCode::Pong => on(Incoming::Pong(payload)),
        _ => {
            let (code, reason) = parse_close(payload)?;
            on(Incoming::Close { code, reason });
            return Ok(Progress::Finished);
        }
    }
    Ok(Progress::Going)
}

/// Hands over an inflated message.
fn hand_over(kind: OpCode, inflated: &[u8], on: &mut dyn FnMut(Incoming<'_>)) -> Result<(), Violation> {
    if kind == OpCode::Text {
        let text = str::from_utf8(inflated).map_err(|_| Violation::invalid("text is not UTF-8"))?;
        on(Incoming::Text(text));
    } else {
        on(Incoming::Binary(inflated));
    }
    Ok(())
}

fn parse_close(payload: &[u8]) -> Result<(Option<u16>, &str), Violation> {
    let (code, reason) = match payload {
        [] => return Ok((None, "")),
        [_] => return Err(Violation::protocol("close frame with one byte")),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !close_code::may_be_sent(code) {
        return Err(Violation::protocol(&format!("close code {code} may not be sent")));
    }
    let reason = str::from_utf8(reason).map_err(|_| Violation::invalid("close reason is not UTF-8"))?;
    Ok((Some(code), reason))
}
