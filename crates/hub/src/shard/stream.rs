//! Sessions over an event stream: the same subscriptions, lanes and outboxes, for clients that cannot speak.
//!
//! **Invariant:** an event with an id is sent only when everything up to that point was sent before it or with it, or was
//! declared missing; so whoever goes on from the last id it has seen misses nothing.
//!
//! What is *not* here: how an event is written (`frames`), and HTTP, which is the shell's.

use std::sync::Arc;
use std::time::Duration;

use wire::{Dialect, ServerMessage, SlowPolicy};

use super::Shard;
use super::command::{Subscription, Targets, Verb};
use super::frames::{EventFields, Form, Framing};
use super::outbox::Class;
use super::session::{Ending, Place, State};
use crate::{Access, Compression, Disconnect, Io, Missed, Now, Position, ResumeFrom, Seen, SessionKey};

/// What a client of an event stream wants: a subscription, from its begin to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRequest {
    /// Which channels; not empty
    pub channels: market::ChannelSet,
    /// Which instruments
    pub targets: Targets,
    /// How often
    pub mode: wire::Mode,
    /// Where the client left off
    pub after: Option<Position>,
}

/// How long a client waits at least before it connects again, in milliseconds; what it is told is up to twice that, so that
/// clients which are all cut at once do not all come back at once.
pub(super) const RETRY_MS: u64 = 1_000;

/// When a client is to connect again after a message, if the message says.
pub(super) fn retry_ms(message: &ServerMessage<'_>) -> Option<u64> {
    match message {
        ServerMessage::Notice { reconnect_after_ms, .. } => *reconnect_after_ms,
        _ => None,
    }
}

impl Shard {
    /// Opens a session whose messages are events, and subscribes for it. A client of it cannot authenticate later, and the
    /// shell has answered it by then if it asks for more than its grant covers; here nothing of that is delivered.
    pub fn open_stream(&mut self, now: Now, request: StreamRequest, access: Access, io: &mut impl Io) -> SessionKey {
        // Elements in MessagePack are no text.
        let form = Form { dialect: Dialect::NativeJson, framing: Framing::EventStream };
        let key = self.open_as(now, form, Compression::Off, access, io);
        let StreamRequest { channels, mut targets, mode, after } = request;
        let covered = self.sessions.by_key(key).and_then(|session| session.auth.entitlements().cloned());
        if let Some(covered) = &covered {
            if let Some(refusal) = covered.refusal(channels, mode) {
                let text = format!("not entitled: {refusal}; nothing was applied");
                self.refuse_not_entitled(now, key, None, text, Vec::new(), io);
                self.settle(now, io);
                return key;
            }
            if let Targets::Named(ids) = &mut targets {
                let allows = |symbol: &str| covered.symbols.allows(symbol);
                let catalog = Arc::clone(&self.catalog);
                ids.retain(|id| catalog.get(*id).is_some_and(|instrument| allows(instrument.symbol.as_str())));
            }
        }
        let missed = if mode == wire::Mode::Every { Missed::Events } else { Missed::State };
        let since = after.map(|after| ResumeFrom { epoch: after.epoch, seen: Seen::Ordinal(after.ordinal, missed) });
        let subscription = Subscription {
            id: None,
            verb: Verb::Subscribe,
            channels,
            targets,
            mode,
            slow: SlowPolicy::Conflate,
            unknown: Vec::new(),
            denied: Vec::new(),
            covered,
        };
        self.ask_to_subscribe(now, key, subscription, true, since, io);
        self.settle(now, io);
        key
    }

    /// The ordinal up to which a session has been sent everything, if it can be said now.
    pub(super) fn seen_by(&mut self, index: u32) -> Option<u64> {
        let ordinal = self.ordinal;
        let session = self.sessions.at(index)?;
        // Before it has been subscribed to something, it has not been sent the state either.
        if session.framing != Framing::EventStream || session.stall.is_some() || session.memberships.is_empty() {
            return None;
        }
        let lanes = &self.lanes;
        let flushed = session.memberships.iter().all(|membership| {
            matches!(membership.place, Place::Member(_))
                && lanes.lane(membership.lane).is_some_and(super::lane::Lane::is_flushed)
        });
        flushed.then_some(ordinal)
    }

    /// Ends a session that has no close frame: says why, and lets what was begun and that word go out.
    pub(super) fn end_stream(
        &mut self,
        now: Now,
        key: SessionKey,
        reason: Disconnect,
        code: u16,
        deadline: Duration,
        io: &mut impl Io,
    ) {
        self.abandon(key);
        let text = reason.text();
        let may_reconnect = reason.may_reconnect();
        let message = ServerMessage::Closed { reason: reason.label(), code, may_reconnect, message: &text };
        if let Some(session) = self.sessions.by_key(key) {
            debug_assert_eq!(session.state, State::Open, "it is ended once");
            self.frames.message(session.form(), &message, EventFields::default());
            self.send_frame(now, key.index, &[], Class::Urgent, io);
        }
        self.finish(key, Ending { reason, deadline }, io);
    }
}
