//! The limits of a session that a client is told about in the `welcome`.
//!
//! **Invariant:** the defaults are those of the protocol; 0 switches a limit off.
//! What is *not* here: limits that apply before a session exists (connections, hand-shake), which are the gateway's.

use serde::{Deserialize, Serialize};

/// What a session may do; 0 = no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// The largest message a client may send, in bytes.
    pub message_bytes_max: u32,
    /// Commands per second, sustained.
    pub commands_per_s: u32,
    /// Commands at once, after a pause.
    pub commands_burst: u32,
    /// Commands refused for their rate within 10 s before the connection is closed with 4429.
    pub commands_rejected_max: u32,
    /// Subscribed (channel, symbol) pairs.
    pub subscriptions_max: u32,
    /// Bytes waiting for a client that does not read, before its slow policy applies.
    pub outbox_bytes_max: u32,
    /// How long a client has to authenticate.
    pub auth_timeout_ms: u32,
    /// How often the server pings.
    pub ping_interval_ms: u32,
    /// Pings a client may leave unanswered before it is closed.
    pub pings_unanswered_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 64 * 1024,
            commands_per_s: 10,
            commands_burst: 50,
            commands_rejected_max: 100,
            subscriptions_max: 10_000,
            outbox_bytes_max: 1024 * 1024,
            auth_timeout_ms: 10_000,
            ping_interval_ms: 20_000,
            pings_unanswered_max: 2,
        }
    }
}
