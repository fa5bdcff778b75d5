//! The client's side of permessage-deflate (RFC 7692): what is offered, what the server made of it, and inflation.
//!
//! **Invariant:** a message that inflates beyond the bound ends the session instead of filling the memory.
//!
//! Written here again and not taken from the server's crate, so that a mistake there cannot agree with itself.

use clap::ValueEnum;
use flate2::{Decompress, FlushDecompress, Status};
use serde::{Deserialize, Serialize};

use crate::frames::Compression;

/// The longest message that is inflated.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What the client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Deflate {
    /// No compression
    Off,
    /// The server may keep its history between messages, the usual offer of a browser
    Offer,
    /// Every message has to be compressed on its own
    NoContext,
}

impl Deflate {
    /// The header's value.
    pub(crate) fn offer(self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::Offer => Some("permessage-deflate; client_max_window_bits"),
            Self::NoContext => Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits",
            ),
        }
    }
}

/// What the server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub(crate) compression: Compression,
    pub(crate) history: History,
}

/// Whether the server's compressor remembers earlier messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum History {
    Kept,
    Forgotten,
}

impl Negotiated {
    pub(crate) const NONE: Self = Self { compression: Compression::None, history: History::Forgotten };

    /// Reads the value of `Sec-WebSocket-Extensions` in the server's answer; none when it is not an answer to the offer.
    pub(crate) fn parse(header: &str, offered: Deflate) -> Option<Self> {
        if offered == Deflate::Off {
            return None;
        }
        let mut parts = header.split(';').map(str::trim);
        if parts.next() != Some("permessage-deflate") {
            return None;
        }
        let forgotten = parts.any(|part| part.eq_ignore_ascii_case("server_no_context_takeover"));
        let history = if forgotten { History::Forgotten } else { History::Kept };
        Some(Self { compression: Compression::Deflate, history })
    }
}

/// The message cannot be inflated.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InflateError {
    #[error("a compressed message is no valid deflate stream")]
    Corrupt,
    #[error("a compressed message inflates to more than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
}

/// One connection's inflater, some 46 kB.
#[derive(Debug)]
pub(crate) struct Inflater {
    stream: Decompress,
    history: History,
}

impl Inflater {
    pub(crate) fn new(history: History) -> Self {
        Self { stream: Decompress::new(false), history }
    }

    /// Inflates one message into `out`, which is cleared before.
    ///
    /// # Errors
    /// The stream is broken or the message too long; nothing after it can be read.
    pub(crate) fn message(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), InflateError> {
        out.clear();
        out.reserve(payload.len() * 4 + 64);
        // The sender cuts off the empty stored block that ends each message (section 7.2.2).
        for mut input in [payload, &[0x00, 0x00, 0xFF, 0xFF]] {
            loop {
                let (in_before, out_before) = (self.stream.total_in(), self.stream.total_out());
                let status =
                    self.stream.decompress_vec(input, out, FlushDecompress::Sync).map_err(|_| InflateError::Corrupt)?;
                let taken = (self.stream.total_in() - in_before) as usize;
                input = &input[taken..];
                if status == Status::StreamEnd {
                    // A final block inside a message is allowed; what follows begins a new stream.
                    self.stream.reset(false);
                }
                if input.is_empty() && out.len() < out.capacity() {
                    break;
                }
                if out.len() == out.capacity() {
                    if out.len() > MESSAGE_BYTES_MAX {
                        return Err(InflateError::TooLong);
                    }
                    out.reserve(out.len().max(256));
                } else if taken == 0 && self.stream.total_out() == out_before && status != Status::StreamEnd {
                    return Err(InflateError::Corrupt);
                }
            }
        }
        if self.history == History::Forgotten {
            self.stream.reset(false);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression as Level, FlushCompress};

    fn deflated(stream: &mut Compress, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len() + 1024);
        stream.compress_vec(message, &mut out, FlushCompress::Sync).unwrap();
        out.truncate(out.len() - 4);
        out
    }

    #[test]
    fn messages_with_and_without_history_come_back() {
        for history in [History::Kept, History::Forgotten] {
            let (mut sender, mut inflater) = (Compress::new(Level::fast(), false), Inflater::new(history));
            for length in [0usize, 5, 300, 100_000, 300] {
                let message: Vec<u8> = (0..length).map(|n| (n / 3) as u8).collect();
                if history == History::Forgotten {
                    sender.reset();
                }
                let mut out = Vec::new();
                inflater.message(&deflated(&mut sender, &message), &mut out).unwrap();
                assert_eq!(out, message);
            }
        }
        let mut out = Vec::new();
        assert_eq!(Inflater::new(History::Kept).message(&[0xFF; 9], &mut out), Err(InflateError::Corrupt));
    }

    #[test]
    fn only_an_answer_to_the_offer_is_taken() {
        let parse = |header| Negotiated::parse(header, Deflate::Offer);
        let kept = Negotiated { compression: Compression::Deflate, history: History::Kept };
        assert_eq!(parse("permessage-deflate"), Some(kept));
        let forgotten = Negotiated { history: History::Forgotten, ..kept };
        assert_eq!(parse("permessage-deflate; server_no_context_takeover"), Some(forgotten));
        assert_eq!(parse("x-webkit-deflate-frame"), None);
        assert_eq!(Negotiated::parse("permessage-deflate", Deflate::Off), None);
    }
}
