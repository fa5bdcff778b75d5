//! What the hub asks of the shell around it.
//!
//! **Invariant:** an [`Io`] never calls back into the hub; what it has to tell comes in by the next call.

use std::fmt;
use std::time::Duration;

use market::Timestamp;
use wire::CommandId;

use crate::{Disconnect, Request};

/// The time of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// From a monotonic clock with any fixed origin; never goes back
    pub monotonic: Duration,
    /// The wall clock, for what is written on the wire
    pub wall: Timestamp,
}

/// Names a session of one shard. The index is dense and is used again; the generation tells the users of an index apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// Index into a slab
    pub index: u32,
    /// How often the index was used before
    pub generation: u32,
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// So many bytes were taken; fewer than offered means that the socket would block, and that the shell will call
    /// [`crate::Shard::writable`] once it does not.
    Bytes(usize),
    /// Nothing was taken because the client has had its bytes for now; the shell will call [`crate::Shard::writable`].
    Throttled,
    /// The connection is gone.
    Broken,
}

/// A client wants to authenticate.
pub struct AuthAttempt {
    /// Which
    pub session: SessionKey,
    /// Its mark on the command, to be handed back
    pub id: Option<CommandId>,
    /// What it has sent: a secret, which is why this has no derived `Debug`
    pub token: String,
}

impl fmt::Debug for AuthAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthAttempt").field("session", &self.session).finish_non_exhaustive()
    }
}

/// All connections of a holder together may not have so many subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverKeyLimit {
    /// How many they may have
    pub max: u32,
}

/// The effects of a shard.
pub trait Io {
    /// Writes as much of `bytes` as the session's socket takes without blocking.
    fn write(&mut self, session: SessionKey, bytes: &[u8]) -> Written;

    /// Hands a request to the sequencer. Requests are served in order, and the reply of each comes back through
    /// [`crate::Shard::upstream`] in stream order with the batches.
    fn request(&mut self, request: Request);

    /// A client has sent a token. Before the shell passes on anything else of that session, it answers through
    /// [`crate::Shard::authenticated`].
    fn authenticate(&mut self, attempt: AuthAttempt) {
        let _ = attempt;
    }

    /// The session is to have so many subscriptions.
    ///
    /// # Errors
    /// [`OverKeyLimit`] when its holder's other sessions leave no room for that; then it has as many as before.
    fn hold_subscriptions(&mut self, session: SessionKey, count: usize) -> Result<(), OverKeyLimit> {
        let _ = (session, count);
        Ok(())
    }

    /// The hub has forgotten the session; its socket is to be closed once what was written is out.
    fn disconnect(&mut self, session: SessionKey, reason: Disconnect);

    /// A lane was flushed: so many members, elements per member, and frame bytes per member.
    fn observe_flush(&mut self, members: usize, elements: usize, bytes: usize) {
        let _ = (members, elements, bytes);
    }
}
