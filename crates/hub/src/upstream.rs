//! What travels between shards and the sequencer.
//!
//! **Invariant:** a reply takes its place in the shard's stream: batches before it are older than the state in it, batches
//! after it are newer. That is why a snapshot and live data join without a hole or a repeat, without a lock.

use std::sync::Arc;

use market::{ChannelSet, Timestamp};
use rustc_hash::FxHashMap;
use wire::{Dialect, Gap, Recovered};

use crate::{Batch, Catalog, Elements, StreamKey, SymbolSet};

/// A shard asks for the state of some streams and wants to see their ticks from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// How the elements are to be encoded
    pub dialect: Dialect,
    /// The streams, sorted
    pub keys: Vec<StreamKey>,
    /// These channels of every instrument too
    pub stars: ChannelSet,
    /// Which instruments those are
    pub star_symbols: SymbolSet,
    /// Whether the state itself is wanted; the positions always are
    pub snapshot: bool,
    /// Where to resume
    pub since: Option<ResumeFrom>,
    /// Whether it is a client's subscribe (a feed may wait for the first)
    pub subscribes: bool,
}

/// The point up to which a client has seen some streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeFrom {
    /// The epoch in which it saw them
    pub epoch: String,
    /// How far
    pub seen: Seen,
}

/// How much of its streams a client has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The last sequence number of each
    Seqs(FxHashMap<StreamKey, u64>),
    /// Everything up to an ordinal, of all that is asked for
    Ordinal(u64, Missed),
}

/// What a client that has not seen everything wants instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// Each event
    Events,
    /// The state of the streams that have changed
    State,
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The last sequence number of each stream asked for that has had a tick
    pub positions: Vec<(StreamKey, u64)>,
    /// The last value of each stream that has had a tick, unless it is resumed
    pub snapshot: Elements,
    /// What resumed streams have missed, in order per stream; where an ordinal was asked for, in the order of all
    pub replay: Elements,
    /// Where an ordinal was asked for: those of the replay's elements
    pub replay_ordinals: Vec<u64>,
    /// The ordinal up to which all of this is true
    pub ordinal: u64,
    /// What cannot be resumed any more, each with the time of the value that follows
    pub gaps: Vec<(StreamKey, Gap, Timestamp)>,
    /// What became of each stream in `since`; where an ordinal was asked for, of each stream that is not where it was
    pub recovered: Vec<(StreamKey, Recovered)>,
}

/// How a feed came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedOutcome {
    /// It is over.
    Ended,
    /// It broke.
    Failed,
}

/// What the sequencer's side sends to a shard.
#[derive(Debug, Clone)]
pub enum Upstream {
    /// New instruments
    Catalog(Arc<Catalog>),
    /// Ticks
    Batch(Arc<Batch>),
    /// The answer to the shard's oldest open request
    Reply(Box<Reply>),
    /// The feed is over
    Feed(FeedOutcome),
    /// Batches were left out here because the shard's queue was full
    Lagged,
}
