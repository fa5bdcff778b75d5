//! Deflating messages on the way out (RFC 7692 section 7.2.1).
//!
//! **Invariant:** what comes out is what goes into a frame with RSV1: whole blocks up to a byte boundary, without the empty
//! block `00 00 ff ff` that ends them.
//!
//! A compressor is not bound to a connection. A DEFLATE stream may at any point go on with blocks that refer to nothing
//! before them, and a receiver's window does not mind what it was told earlier. So all connections that have received the
//! same messages since a [`Compressor::reset`] can share one compressor with its history, and any connection can join at
//! the next reset. Who has received what is the caller's to know; a connection that misses one message, or is sent any
//! other deflated message in between, must not be sent further ones before the next reset.

use flate2::{Compress, Compression, FlushCompress};

/// A DEFLATE compressor with a history.
#[derive(Debug)]
pub struct Compressor {
    state: Compress,
}

/// The empty stored block that a sync flush ends with.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

impl Compressor {
    /// About what one takes in memory: the window, its hash chains and the pending output.
    pub const BYTES: usize = 380_000;

    /// A compressor of that level (0 stores, 1 is fast, 9 is small) that refers back at most two to the power of
    /// `window_bits` bytes; 9 to 15, anything else is brought into that range.
    pub fn new(level: u32, window_bits: u8) -> Self {
        let level = Compression::new(level.min(9));
        Self { state: Compress::new_with_window_bits(level, false, window_bits.clamp(9, 15)) }
    }

    /// Begins anew: the next message refers to nothing before it.
    pub fn reset(&mut self) {
        self.state.reset();
    }

    /// Appends `message`, deflated, to `out`.
    pub fn compress(&mut self, message: &[u8], out: &mut Vec<u8>) {
        let begin = self.state.total_in();
        let kept = out.len();
        loop {
            let consumed = (self.state.total_in() - begin) as usize;
            // Incompressible input grows by 5 bytes per 16 kB and a flush; mostly this is room for all of it.
            out.reserve((message.len() - consumed) / 2 + 64);
            // Cannot fail: without a dictionary or an end there is no state in which a flush is refused.
            let _ = self.state.compress_vec(&message[consumed..], out, FlushCompress::Sync);
            // A flush that has left room has written all that it had.
            if out.len() < out.capacity() {
                break;
            }
        }
        if out[kept..].ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
        if out.len() == kept {
            // A second flush in a row yields nothing, but the receiver would take the tail that it adds for the begin of a
            // block: an empty message is the one byte that begins the empty block (section 7.2.3.6).
            out.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Decompress, FlushDecompress};
    use proptest::prelude::*;

    fn inflate(state: &mut Decompress, deflated: &[u8]) -> Vec<u8> {
        let mut input = deflated.to_vec();
        input.extend(TAIL);
        let mut out = Vec::new();
        let begin = state.total_in();
        while ((state.total_in() - begin) as usize) < input.len() {
            out.reserve(4096);
            let rest = &input[(state.total_in() - begin) as usize..];
            state.decompress_vec(rest, &mut out, FlushDecompress::Sync).unwrap();
        }
        out
    }

    fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let text = prop::collection::vec(prop::sample::select(&b"abcd{\"price\":12.5}"[..]), 0..3000);
        let noise = prop::collection::vec(any::<u8>(), 0..70_000);
        prop::collection::vec(prop_oneof![4 => text, 1 => noise], 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whoever was there from a reset on understands all that follows; resets come at random.
        #[test]
        fn receivers_may_join_at_any_reset(messages in messages(), resets in any::<u16>(), bits in 9u8..=15, level in 0u32..10) {
            let mut compressor = Compressor::new(level, bits);
            let mut receivers: Vec<Decompress> = Vec::new();
            for (n, message) in messages.iter().enumerate() {
                if n == 0 || resets & (1 << n) != 0 {
                    compressor.reset();
                    receivers.push(Decompress::new_with_window_bits(false, bits));
                }
                let mut deflated = b"before".to_vec();
                compressor.compress(message, &mut deflated);
                for receiver in &mut receivers {
                    prop_assert_eq!(&inflate(receiver, &deflated[6..]), message);
                }
            }
        }
    }

    #[test]
    fn empty_messages_are_one_byte_each() {
        let mut compressor = Compressor::new(1, 15);
        let mut receiver = Decompress::new(false);
        for message in [&b""[..], b"", b"full", b"", b"", b"again"] {
            // What is before in the buffer must not be taken for the end of the message.
            let mut deflated = TAIL.to_vec();
            compressor.compress(message, &mut deflated);
            assert_eq!(deflated[..4], TAIL);
            assert_eq!(deflated[4..] == [0], message.is_empty(), "{deflated:?}");
            assert_eq!(inflate(&mut receiver, &deflated[4..]), message);
        }
    }

    #[test]
    fn history_pays() {
        let mut compressor = Compressor::new(1, 15);
        let message = br#"{"type":"quote","symbol":"BTC-USD","bid":"96885.10","ask":"96885.20"}"#;
        let sizes: Vec<usize> = (0..3)
            .map(|_| {
                let mut out = Vec::new();
                compressor.compress(message, &mut out);
                out.len()
            })
            .collect();
        assert!(sizes[1] < sizes[0] / 3 && sizes[2] <= sizes[1], "{sizes:?}");
    }
}
