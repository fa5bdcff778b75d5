//! Who a session is: waiting for its token, the outcome of its attempts, expiry, and keys that change under it.
//!
//! **Invariant:** a session that has to authenticate and has not can `auth` and `ping`, and nothing else. What a session
//! is delivered is within its newest grant, from the point on at which that took effect.
//!
//! What is *not* here: whether a token is good. The shell finds out; see [`Io::authenticate`].

use std::sync::Arc;
use std::time::Duration;

use market::ChannelSet;
use wire::{CommandId, ErrorCode, Mode, NoticeCode, ServerMessage};

use super::Shard;
use super::command::{Operation, Subscription, Targets, Verb};
use super::outbox::Class;
use super::selection::Change;
use super::session::State;
use super::subscribe::Edits;
use crate::{
    Access, AuthAttempt, AuthRefusal, Disconnect, Entitlements, Grant, Io, Now, Reconsidered, Reply, SessionKey,
};

/// A session's authentication.
#[derive(Debug)]
pub(crate) struct Auth {
    state: AuthState,
    /// Tokens in a row that were not good.
    tries: u8,
    /// Whether the client was told that its token will expire.
    noticed: bool,
}

#[derive(Debug)]
enum AuthState {
    Open,
    Awaited { until: Duration },
    Granted(Arc<Grant>),
}

/// How long before its token expires a client is told: time to fetch another one.
const NOTICE_BEFORE: Duration = Duration::from_mins(1);

impl Auth {
    pub(crate) fn new(access: Access, until: Duration) -> Self {
        let state = match access {
            Access::Open => AuthState::Open,
            Access::Required => AuthState::Awaited { until },
            Access::Granted(grant) => AuthState::Granted(grant),
        };
        Self { state, tries: 0, noticed: false }
    }

    /// What the client has authenticated as.
    pub(crate) fn grant(&self) -> Option<&Arc<Grant>> {
        match &self.state {
            AuthState::Granted(grant) => Some(grant),
            AuthState::Open | AuthState::Awaited { .. } => None,
        }
    }

    /// What restricts the client, if anything does. A client that has yet to authenticate gets no further than that.
    pub(crate) fn entitlements(&self) -> Option<&Arc<Entitlements>> {
        self.grant().map(|grant| &grant.entitlements)
    }

    pub(crate) fn is_awaited(&self) -> bool {
        matches!(self.state, AuthState::Awaited { .. })
    }
}

impl Shard {
    /// The command `auth`.
    pub(super) fn auth(&mut self, now: Now, key: SessionKey, id: Option<CommandId>, token: String, io: &mut impl Io) {
        let Some(session) = self.sessions.by_key(key) else { return };
        if matches!(session.auth.state, AuthState::Open) {
            return self.say(now, key, &ServerMessage::Authenticated { expires: None }, Class::Urgent, io);
        }
        io.authenticate(AuthAttempt { session: key, id, token });
    }

    /// The shell has looked at the token of an [`AuthAttempt`].
    pub fn authenticated(
        &mut self,
        now: Now,
        key: SessionKey,
        id: Option<CommandId>,
        outcome: Result<Arc<Grant>, AuthRefusal>,
        io: &mut impl Io,
    ) {
        if self.sessions.by_key(key).is_some_and(|session| session.state == State::Open) {
            match outcome {
                Ok(grant) => {
                    self.stats.auth_successes += 1;
                    let expires = grant.expires.map(|expiry| expiry.wall);
                    self.adopt(now, key, &grant, io);
                    self.say(now, key, &ServerMessage::Authenticated { expires }, Class::Urgent, io);
                }
                Err(refusal) => self.auth_refused(now, key, id, refusal, io),
            }
        }
        self.settle(now, io);
    }

    fn auth_refused(
        &mut self,
        now: Now,
        key: SessionKey,
        id: Option<CommandId>,
        refusal: AuthRefusal,
        io: &mut impl Io,
    ) {
        self.stats.auth_failures += 1;
        let tries_max = self.config.auth_tries_max.max(1);
        let Some(session) = self.sessions.by_key(key) else { return };
        session.auth.tries = session.auth.tries.saturating_add(1);
        let last = session.auth.tries >= tries_max;
        let (code, text, end) = match refusal {
            AuthRefusal::Failed(text) => (ErrorCode::AuthFailed, text, last.then_some(Disconnect::AuthFailed)),
            AuthRefusal::TooManyAttempts(text) => {
                let (code, message) = (NoticeCode::RateLimited, text.as_str());
                let notice = ServerMessage::Notice { code, reconnect_after_ms: None, message };
                self.say(now, key, &notice, Class::Urgent, io);
                (ErrorCode::RateLimited, text, last.then_some(Disconnect::Flood))
            }
            AuthRefusal::TooManyConnections(text) => {
                (ErrorCode::RateLimited, text, Some(Disconnect::TooManyConnections))
            }
        };
        self.refuse(now, key, id, code, text, Vec::new(), io);
        if let Some(reason) = end {
            self.begin_close(now, key, reason, io);
        }
    }

    /// Asks for each session that has authenticated what its grant is worth now; for when keys were revoked or changed.
    pub fn reconsider(&mut self, now: Now, decide: &mut dyn FnMut(&Grant) -> Reconsidered, io: &mut impl Io) {
        for key in self.sessions.keys().collect::<Vec<_>>() {
            let grant = self.sessions.by_key(key).and_then(|session| session.auth.grant().cloned());
            match grant.map_or(Reconsidered::Kept, |grant| decide(&grant)) {
                Reconsidered::Kept => {}
                Reconsidered::Changed(grant) => self.adopt(now, key, &grant, io),
                Reconsidered::Revoked => {
                    let message = "the key was revoked; the connection is closed";
                    self.say_token_expires(now, key, message, io);
                    self.begin_close(now, key, Disconnect::TokenRevoked, io);
                }
            }
        }
        self.settle(now, io);
    }

    fn say_token_expires(&mut self, now: Now, key: SessionKey, message: &str, io: &mut impl Io) {
        let notice = ServerMessage::Notice { code: NoticeCode::TokenExpires, reconnect_after_ms: None, message };
        self.say(now, key, &notice, Class::Urgent, io);
    }

    /// Sees to the time limits of a session's authentication. They are kept to within a round of the sweep.
    pub(super) fn look_after_auth(&mut self, now: Now, key: SessionKey, io: &mut impl Io) {
        let Some(session) = self.sessions.by_key(key) else { return };
        match &session.auth.state {
            AuthState::Awaited { until } if *until <= now.monotonic => {
                let text = format!(
                    "no auth within {} ms (auth_timeout_ms); the connection is closed",
                    self.config.limits.auth_timeout_ms
                );
                self.refuse(now, key, None, ErrorCode::AuthTimeout, text, Vec::new(), io);
                self.begin_close(now, key, Disconnect::AuthTimeout, io);
            }
            AuthState::Granted(grant) => {
                let Some(expires) = grant.expires else { return };
                let left = expires.at.saturating_sub(now.monotonic);
                if left <= NOTICE_BEFORE && !std::mem::replace(&mut session.auth.noticed, true) {
                    let message = "the token expires: authenticate with another one, or the connection is closed";
                    self.say_token_expires(now, key, message, io);
                }
                if left.is_zero() {
                    self.begin_close(now, key, Disconnect::TokenExpired, io);
                }
            }
            AuthState::Awaited { .. } | AuthState::Open => {}
        }
    }

    /// Puts a session under a grant: ends what that does not cover, and has stars stand for what it does.
    fn adopt(&mut self, now: Now, key: SessionKey, grant: &Arc<Grant>, io: &mut impl Io) {
        let Some(session) = self.sessions.by_key(key) else { return };
        session.auth.tries = 0;
        session.auth.noticed = false;
        session.auth.state = AuthState::Granted(Arc::clone(grant));
        if session.memberships.is_empty() {
            return;
        }
        self.end_what_is_not_covered(now, key, &grant.entitlements, io);
        self.rescope(key, &grant.entitlements, io);
    }

    fn end_what_is_not_covered(&mut self, now: Now, key: SessionKey, covered: &Entitlements, io: &mut impl Io) {
        let catalog = Arc::clone(&self.catalog);
        let symbol_of = |id| catalog.get(id).map(|instrument| instrument.symbol.as_str());
        let mut edits = Edits::default();
        let mut symbols: Vec<String> = Vec::new();
        for id in self.lanes_of(key) {
            let Some(lane) = self.lanes.lane(id) else { continue };
            let is_covered = |channels| covered.refusal(channels, lane.mode).is_none();
            let one = |channel| [channel].into_iter().collect::<ChannelSet>();
            let change = edits.of(lane.mode);
            change.remove_stars = lane.selection.stars().iter().filter(|channel| !is_covered(one(*channel))).collect();
            for stream in lane.selection.keys() {
                let symbol = symbol_of(stream.instrument()).unwrap_or_default();
                if !is_covered(one(stream.channel())) || !covered.symbols.allows(symbol) {
                    change.remove.push(stream);
                    symbols.push(symbol.to_owned());
                }
            }
            let (ended, except) = (change.remove_stars, lane.selection.except());
            change.remove_except.extend(except.iter().filter(|stream| ended.contains(stream.channel())));
            if !ended.is_empty() {
                symbols.push("*".to_owned());
            }
        }
        if symbols.is_empty() {
            return;
        }
        symbols.sort_unstable();
        symbols.dedup();
        self.end_streams(now, key, edits, io);
        let text = "some subscriptions have ended, as the new entitlements do not cover them".to_owned();
        self.refuse_not_entitled(now, key, None, text, symbols, io);
    }

    /// Has the stars of a session stand for other instruments, from the point in the stream on at which the sequencer's
    /// reply comes: until then, some milliseconds, they stand for what they did.
    fn rescope(&mut self, key: SessionKey, covered: &Arc<Entitlements>, io: &mut impl Io) {
        let scope = self.scopes.of(&covered.symbols, &self.catalog).map(|scope| scope.id);
        let mut stars = ChannelSet::EMPTY;
        for id in self.lanes_of(key) {
            if let Some(lane) = self.lanes.lane(id)
                && lane.selection.scope().map(|scope| scope.id) != scope
            {
                stars = stars.union(lane.selection.stars());
            }
        }
        if !stars.is_empty() {
            let (id, mode, slow) = (None, Mode::Every, wire::SlowPolicy::Conflate);
            let rescope = Subscription {
                id,
                verb: Verb::Rescope,
                channels: stars,
                targets: Targets::All,
                mode,
                slow,
                unknown: Vec::new(),
                denied: Vec::new(),
                covered: Some(Arc::clone(covered)),
            };
            let wanted = Some((true, None, Verb::Rescope));
            self.ask_for(key, Operation::Subscribe(Box::new(rescope)), Vec::new(), stars, wanted, io);
        }
    }

    /// The reply to a rescope: announces the instruments, changes the stars, and sends the state.
    pub(super) fn apply_rescope(&mut self, now: Now, key: SessionKey, reply: &Reply, io: &mut impl Io) {
        self.catch_up(now, key, io);
        let catalog = Arc::clone(&self.catalog);
        let Some(session) = self.sessions.by_key(key) else { return };
        let symbols = session.auth.entitlements().map_or(crate::SymbolSet::ALL, |covered| covered.symbols.clone());
        let scope = self.scopes.of(&symbols, &catalog);
        let mut edits = Edits::default();
        for id in self.lanes_of(key) {
            let Some(lane) = self.lanes.lane(id) else { continue };
            let stars = lane.selection.stars();
            *edits.of(lane.mode) = Change { add_stars: stars, scope: scope.clone(), ..Change::default() };
        }
        let all: Vec<_> = catalog.iter().collect();
        self.announce(now, key, &all, io);
        self.retarget(now, key, edits, io);
        self.send_state(now, key, reply, io);
    }

    /// Tells a session of instruments that its stars may bring, as far as it is entitled to them.
    pub(super) fn announce(
        &mut self,
        now: Now,
        key: SessionKey,
        instruments: &[&market::Instrument],
        io: &mut impl Io,
    ) {
        let Some(session) = self.sessions.by_key(key) else { return };
        let symbols = session.auth.entitlements().map(|covered| &covered.symbols);
        let entitled = |symbol: &str| symbols.is_none_or(|symbols| symbols.allows(symbol));
        let instruments: Vec<_> =
            instruments.iter().copied().filter(|instrument| entitled(instrument.symbol.as_str())).collect();
        if !instruments.is_empty() {
            self.say(now, key, &ServerMessage::Instruments { id: None, instruments: &instruments }, Class::Kept, io);
        }
    }
}
