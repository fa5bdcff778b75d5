//! Compressed messages from clients, inflated under a cap (RFC 7692 section 7.2.2).
//!
//! A client that resets its compressor after every message needs no state here: one inflater, shared by every connection
//! of a thread, serves them all. Only a client that keeps its context gets a decoder of its own (about 46 kB), and that
//! at its first compressed message.
//!
//! **Invariant:** memory for output never grows beyond the cap by more than one byte, whatever the input, and is kept
//! from one message to the next only up to [`KEPT_BYTES_MAX`].
//!
//! What is *not* here: what the bytes mean; UTF-8 is the reader's matter.

use flate2::{Decompress, FlushDecompress, Status};

use super::Params;

/// What every sender removes from the end of a message (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// An empty final block. A stream that does not end here was not at the boundary of a block: it was cut.
const END: [u8; 5] = [0x01, 0x00, 0x00, 0xFF, 0xFF];
/// Room for the output of usual messages, kept from one to the next; more is given back.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// The part of inflating that connections can share: one per thread.
pub struct Inflater {
    shared: Option<Box<Decompress>>,
    output: Vec<u8>,
}

impl Inflater {
    /// An inflater that has not been used and owns no memory yet.
    pub const fn new() -> Self {
        Self { shared: None, output: Vec::new() }
    }

    /// Inflates a complete message; the output is borrowed until [`Self::give_back`].
    pub(crate) fn inflate(
        &mut self,
        decoder: &mut Decoder,
        message: &[u8],
        bytes_max: usize,
    ) -> Result<&[u8], InflateError> {
        match self.run(decoder, message, bytes_max) {
            Ok(()) => Ok(&self.output),
            Err(error) => {
                self.give_back();
                Err(error)
            }
        }
    }

    fn run(&mut self, decoder: &mut Decoder, message: &[u8], bytes_max: usize) -> Result<(), InflateError> {
        self.output.clear();
        if message.is_empty() {
            // Not quite a deflate stream (it should be one zero byte), but what zlib yields for flushing twice.
            return Ok(());
        }
        let (state, ending) = match decoder {
            Decoder::Shared => (&mut self.shared, Ending::Stream),
            Decoder::Own(own) => (own, Ending::Message),
        };
        let state = state.get_or_insert_with(|| Box::new(Decompress::new(false)));
        if ending == Ending::Stream {
            state.reset(false);
        }
        let mut output = Output { bytes: &mut self.output, bytes_max };
        output.bytes.reserve(message.len().saturating_mul(4).min(bytes_max).saturating_add(1));
        output.run(state, message)?;
        output.run(state, &TAIL)?;
        if ending == Ending::Stream && output.run(state, &END)? == Ended::No {
            return Err(InflateError::Corrupt);
        }
        Ok(())
    }

    /// Gives the memory of an unusually large message back.
    pub(crate) fn give_back(&mut self) {
        if self.output.capacity() > KEPT_BYTES_MAX {
            self.output = Vec::new();
        }
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

/// The part of inflating that belongs to one connection.
pub(crate) enum Decoder {
    /// Every message begins anew.
    Shared,
    /// Messages refer to earlier ones.
    Own(Option<Box<Decompress>>),
}

impl Decoder {
    pub(crate) fn new(params: Params) -> Self {
        if params.client_no_context_takeover { Self::Shared } else { Self::Own(None) }
    }
}

/// Why a message could not be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InflateError {
    TooBig,
    Corrupt,
}

/// What ends with a message: where the whole stream does, that it was complete can be checked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Stream,
    Message,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Yes,
    No,
}

struct Output<'a> {
    bytes: &'a mut Vec<u8>,
    bytes_max: usize,
}

impl Output<'_> {
    /// Inflates all of `input`; says whether it ended with a final block.
    fn run(&mut self, state: &mut Decompress, mut input: &[u8]) -> Result<Ended, InflateError> {
        loop {
            if self.bytes.len() == self.bytes.capacity() {
                // One byte more than allowed, to tell "exactly full" from "too much".
                let room_max = self.bytes_max.saturating_add(1).saturating_sub(self.bytes.len());
                self.bytes.reserve_exact(self.bytes.len().max(256).min(room_max));
            }
            let (in_before, out_before) = (state.total_in(), self.bytes.len());
            let status =
                state.decompress_vec(input, self.bytes, FlushDecompress::Sync).map_err(|_| InflateError::Corrupt)?;
            let consumed = (state.total_in() - in_before) as usize;
            input = &input[consumed..];
            if self.bytes.len() > self.bytes_max {
                return Err(InflateError::TooBig);
            }
            let has_room = self.bytes.len() < self.bytes.capacity();
            match status {
                Status::StreamEnd => {
                    // A final block is legal within a message; what follows is a stream that begins anew
                    // (RFC 7692 section 7.2.3.4).
                    state.reset(false);
                    if input.is_empty() {
                        return Ok(Ended::Yes);
                    }
                }
                _ if input.is_empty() && has_room => return Ok(Ended::No),
                // Neither input nor room lacks, and yet nothing moves: zlib would have said what is wrong, but the loop
                // must end whatever it says.
                _ if consumed == 0 && self.bytes.len() == out_before && has_room => return Err(InflateError::Corrupt),
                _ => {}
            }
        }
    }
}
