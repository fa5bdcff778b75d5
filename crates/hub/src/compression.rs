//! How a session's messages are compressed, and what compressing may cost.
//!
//! **Invariant:** what a session may be sent follows from what its hand-shake agreed (RFC 7692 section 7.1) and from nothing
//! else; the costs bound what the server does of it.
//!
//! What is *not* here: who shares a compressor when (`shard::deflate`) and the negotiation (`websocket::deflate`).

use std::time::Duration;

use websocket::deflate::Params;

/// What a session's hand-shake agreed on for the server's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// No permessage-deflate: no message is compressed.
    #[default]
    Off,
    /// `server_no_context_takeover`: each message is compressed by itself.
    Stateless {
        /// Messages refer back at most two to this power of bytes: 9 to 15
        window_bits: u8,
    },
    /// Messages may refer to earlier ones, so lanes share a compressor with its history.
    Shared {
        /// Messages refer back at most two to this power of bytes: 9 to 15
        window_bits: u8,
    },
}

impl From<Params> for Compression {
    fn from(params: Params) -> Self {
        let window_bits = params.server_max_window_bits;
        if params.server_no_context_takeover { Self::Stateless { window_bits } } else { Self::Shared { window_bits } }
    }
}

/// What a shard spends on compression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeflateConfig {
    /// zlib's level: 1 is fast, 9 is small
    pub level: u32,
    /// Payloads shorter than this are sent as they are, in bytes
    pub threshold_bytes: usize,
    /// Bytes that compressors with history may take together. Lanes that find none left compress each message by itself.
    pub memory_bytes_max: usize,
    /// The least time between two epochs of a compressor, so how long a member that has just come waits at most for the
    /// history. Each new epoch costs the lane a little of its ratio.
    pub epoch_interval: Duration,
    /// A compressor that was not used for this long is given back.
    pub idle_max: Duration,
}

impl Default for DeflateConfig {
    fn default() -> Self {
        Self {
            level: 1,
            // Below this the saving is less than a TCP header, while to deflate costs about as much as to send.
            threshold_bytes: 128,
            // 176 compressors at 380 kB.
            memory_bytes_max: 64 << 20,
            epoch_interval: Duration::from_secs(1),
            idle_max: Duration::from_secs(10),
        }
    }
}
