//! What a shard has done so far, in plain counters that the shell exports when it likes.
//!
//! **Invariant:** counters only grow; gauges say what is there now.

/// Counters and gauges of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions opened
    pub sessions_opened: u64,
    /// Elements given to sessions, snapshots and gaps aside
    pub deliveries: u64,
    /// Snapshot elements given to sessions
    pub snapshot_elements: u64,
    /// WebSocket frames begun, control messages included
    pub frames: u64,
    /// Bytes of those frames
    pub bytes: u64,
    /// Bytes that those frames would have had more without compression
    pub bytes_saved: u64,
    /// Messages deflated for lanes, once for all members
    pub deflated_messages: u64,
    /// Bytes of those messages
    pub deflated_bytes_in: u64,
    /// What they were deflated to
    pub deflated_bytes_out: u64,
    /// Times that a lane's compressor began anew
    pub deflate_epochs: u64,
    /// Elements that sessions in mode `every` were owed and did not get because they read too slowly
    pub dropped_slow: u64,
    /// Elements that sessions in mode `every` were owed and did not get because the shard fell behind
    pub dropped_conflated: u64,
    /// Elements that resuming sessions had missed and that were not kept any more
    pub dropped_evicted: u64,
    /// Gap elements sent
    pub gaps: u64,
    /// Elements withdrawn from outboxes; each is later declared by a gap, followed by a newer value, or its session ended
    pub withdrawn: u64,
    /// Times that a session's outbox went past its bound
    pub stalls: u64,
    /// Commands received, refused ones included
    pub commands: u64,
    /// Commands answered with an error
    pub command_errors: u64,
    /// Commands refused by the rate limit
    pub commands_rate_limited: u64,
    /// Commands refused because the session would have too many subscriptions
    pub over_subscriptions: u64,
    /// Commands refused because all sessions of the key together would have too many subscriptions
    pub over_key_subscriptions: u64,
    /// Commands refused because the client is not entitled to what it asked for
    pub not_entitled: u64,
    /// Attempts to authenticate that were good
    pub auth_successes: u64,
    /// Attempts to authenticate that were refused
    pub auth_failures: u64,
    /// Times that the upstream queue of the shard overflowed
    pub lags: u64,
    /// Gauge: sessions open now
    pub sessions: u64,
    /// Gauge: lanes now
    pub lanes: u64,
    /// Gauge: compressors with history now
    pub compressors: u64,
    /// Gauge: bytes waiting in outboxes now, shared frames counted for each session
    pub outbox_bytes: u64,
}
