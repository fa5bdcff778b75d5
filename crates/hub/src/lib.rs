//! The fan-out hub: sequencing, last values, replay, subscriptions, lanes and outboxes, as pure state machines.
//!
//! The [`Sequencer`] is the only writer: it numbers ticks, remembers them and encodes each once per dialect. Every
//! [`Shard`] owns a set of sessions, groups those that want the same into lanes, and turns batches into frames.
//!
//! **Invariant:** nothing here opens a socket, spawns a task or reads a clock. Time comes in as [`Now`], effects go out
//! through [`Io`]. The same calls in the same order give the same bytes, which is what the simulation test relies on.
//!
//! What is *not* here: how bytes reach a socket (`gateway`), how an element looks (`wire`), where ticks come from (`feed`).

mod batch;
mod catalog;
mod compression;
mod derived;
mod disconnect;
mod grant;
mod io;
mod key;
mod order;
mod replay;
mod sequencer;
mod shard;
mod stats;
mod upstream;

pub use batch::{Batch, Elements, Item, Run};
pub use catalog::Catalog;
pub use compression::{Compression, DeflateConfig};
pub use disconnect::Disconnect;
pub use grant::{
    Access, AuthRefusal, Entitlements, Expiry, Grant, InvalidSymbols, ModesAllowed, Reconsidered, SYMBOL_PATTERNS_MAX,
    SYMBOLS_NAMED_MAX, SymbolSet,
};
pub use io::{AuthAttempt, Io, Now, OverKeyLimit, SessionKey, Written};
pub use key::StreamKey;
pub use order::{InvalidPosition, Position};
pub use sequencer::{Sequencer, SequencerConfig, SequencerStats, SnapshotElement};
pub use shard::{
    SessionId, SessionPage, SessionReport, SessionSubscription, Shard, ShardConfig, StreamRequest, Targets, Transport,
};
pub use stats::Stats;
pub use upstream::{FeedOutcome, Missed, Reply, Request, ResumeFrom, Seen, Upstream};
