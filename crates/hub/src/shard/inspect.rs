//! What operators can see of a shard's sessions.
//!
//! **Invariant:** looking changes nothing, and a look is bounded: at most [`SLOTS_PER_PAGE`] places and the asked number of
//! sessions, so that it costs no more than a flush however many sessions there are.
//!
//! What is *not* here: addresses and sockets, which the shell adds, and whoever asks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use market::Channel;
use wire::{Dialect, Mode};

use super::Shard;
use super::frames::Framing;
use super::outbox::Outbox;
use super::session::State;
use crate::{Compression, Now, SessionKey};

/// Places looked at for one page, at a few nanoseconds each, when most of them are empty or filtered out. A page that ends
/// here says where to go on.
const SLOTS_PER_PAGE: u32 = 65_536;

/// Symbols of one channel that a report names; it has the count of all.
const SYMBOLS_REPORTED_MAX: usize = 100;

/// A session's name, as its `welcome` has it: shard, index, generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// Which shard
    pub shard: usize,
    /// Which session of it
    pub key: SessionKey,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.shard, self.key.index, self.key.generation)
    }
}

/// The text names no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session is named by three numbers, such as 0-17-3")]
pub struct InvalidSessionId;

impl FromStr for SessionId {
    type Err = InvalidSessionId;

    fn from_str(text: &str) -> Result<Self, InvalidSessionId> {
        let mut parts = text.split('-');
        let mut part = || parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        let shard = part().and_then(|part| part.parse().ok()).ok_or(InvalidSessionId)?;
        let index = part().and_then(|part| part.parse().ok()).ok_or(InvalidSessionId)?;
        let generation = part().and_then(|part| part.parse().ok()).ok_or(InvalidSessionId)?;
        if parts.next().is_some() {
            return Err(InvalidSessionId);
        }
        Ok(Self { shard, key: SessionKey { index, generation } })
    }
}

/// How a session's bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A WebSocket
    WebSocket,
    /// Server-sent events, or a poll
    EventStream,
}

/// One session at one instant.
#[derive(Debug, Clone)]
pub struct SessionReport {
    /// Which
    pub key: SessionKey,
    /// How its messages are encoded
    pub dialect: Dialect,
    /// How they travel
    pub transport: Transport,
    /// What was agreed of permessage-deflate
    pub compression: Compression,
    /// What the key is called with which it has authenticated
    pub name: Option<Box<str>>,
    /// Whether it has to authenticate first
    pub auth_awaited: bool,
    /// How long it has been open
    pub age: Duration,
    /// Subscribed pairs of channel and symbol; a star counts as one
    pub subscriptions: usize,
    /// How long something has been waiting for it without a pause; zero when nothing is
    pub lag: Duration,
    /// What waits for it
    pub outbox_bytes: usize,
    /// Elements sent, snapshots and gaps aside
    pub delivered: u64,
    /// Elements owed in mode `every` that were declared as gaps
    pub dropped: u64,
    /// Gap elements sent
    pub gaps: u64,
    /// Bytes of frames given to it, those that wait included
    pub bytes: u64,
    /// Whether it is left out until it has caught up
    pub stalled: bool,
    /// Why it is being closed, if it is
    pub closing: Option<&'static str>,
}

/// Some of a shard's sessions.
#[derive(Debug, Clone, Default)]
pub struct SessionPage {
    /// In the order of their indices
    pub sessions: Vec<SessionReport>,
    /// The index with which to go on, unless these were the last
    pub next: Option<u32>,
}

/// What a session is subscribed to of one channel in one mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSubscription {
    /// Which channel
    pub channel: Channel,
    /// How often
    pub mode: Mode,
    /// The first symbols, or a star
    pub symbols: Vec<String>,
    /// How many there are
    pub count: usize,
}

impl Shard {
    /// The name of a session.
    pub fn session_id(&self, key: SessionKey) -> SessionId {
        SessionId { shard: self.config.index, key }
    }

    /// What there is to say about a session; none when it is gone.
    pub fn inspect(&self, now: Now, key: SessionKey) -> Option<SessionReport> {
        let session = self.sessions.look(key)?;
        let outbox = session.outbox.as_deref();
        let count = |m: &super::session::Membership| self.lanes.lane(m.lane).map_or(0, |lane| lane.selection.count());
        Some(SessionReport {
            key,
            dialect: session.dialect,
            transport: match session.framing {
                Framing::WebSocket => Transport::WebSocket,
                Framing::EventStream => Transport::EventStream,
            },
            compression: session.compression,
            name: session.auth.grant().map(|grant| grant.name.clone()),
            auth_awaited: session.auth.is_awaited(),
            age: now.monotonic.saturating_sub(session.opened_at),
            subscriptions: session.memberships.iter().map(count).sum(),
            lag: outbox.map_or(Duration::ZERO, |outbox| now.monotonic.saturating_sub(outbox.since)),
            outbox_bytes: outbox.map_or(0, Outbox::bytes),
            delivered: session.delivered,
            dropped: session.dropped,
            gaps: session.gaps,
            bytes: session.bytes,
            stalled: session.stall.is_some(),
            closing: match &session.state {
                State::Open => None,
                State::Closing(ending) | State::Finishing(ending) => Some(ending.reason.label()),
            },
        })
    }

    /// Up to `max` sessions from the index `from` on that `wanted` accepts.
    pub fn page(&self, now: Now, from: u32, max: usize, wanted: impl Fn(&SessionReport) -> bool) -> SessionPage {
        let slots = self.sessions.slots();
        let end = from.saturating_add(SLOTS_PER_PAGE).min(slots);
        let mut page = SessionPage::default();
        for index in from..end {
            let report = self.sessions.used_at(index).and_then(|key| self.inspect(now, key));
            let Some(report) = report.filter(|report| wanted(report)) else { continue };
            if page.sessions.len() >= max {
                page.next = Some(index);
                return page;
            }
            page.sessions.push(report);
        }
        page.next = (end < slots).then_some(end);
        page
    }

    /// What a session is subscribed to.
    pub fn subscriptions(&mut self, key: SessionKey) -> Vec<SessionSubscription> {
        if self.sessions.by_key(key).is_none() {
            return Vec::new();
        }
        let catalog = Arc::clone(&self.catalog);
        let report = |info: wire::SubscriptionInfo<'_>| SessionSubscription {
            channel: info.channel,
            mode: info.mode,
            count: info.symbols.len(),
            symbols: info.symbols.iter().take(SYMBOLS_REPORTED_MAX).map(|&symbol| symbol.to_owned()).collect(),
        };
        self.subscriptions_of(key, &catalog).into_iter().map(report).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sessions_are_read_back_and_nothing_else_is() {
        let id = SessionId { shard: 3, key: SessionKey { index: 17, generation: 4_294_967_295 } };
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "1", "1-2", "1-2-3-4", "1--3", "a-1-2", "+1-2-3", "1-2-4294967296", " 1-2-3"] {
            assert_eq!(text.parse::<SessionId>(), Err(InvalidSessionId), "{text:?}");
        }
    }
}
