//! The life of a session: welcome, pings and heartbeats, both ways of closing, draining.
//!
//! **Invariant:** every session that was opened is disconnected exactly once, with one reason. After our close frame
//! nothing more is sent (RFC 6455 section 5.5.1).

use std::collections::VecDeque;
use std::time::Duration;

use websocket::frame;
use wire::{Dialect, NoticeCode, ServerMessage, SlowPolicy};

use super::auth::Auth;
use super::deflate::Epoch;
use super::frames::{self, EventFields, Form, Framing};
use super::outbox::{Class, Outbox, Withdraw};
use super::session::{Bucket, Ending, Outgoing, Session, State};
use super::{Shard, ShardConfig, stream};
use crate::{Access, Compression, Disconnect, Io, Now, SessionKey};

/// A round over all sessions, a part of them at a time, that looks at what is due for each. One comparison of a few
/// instants per session and round is cheaper than a timer for each, and lateness by up to one round harms none of them.
#[derive(Debug)]
pub(super) struct Sweep {
    /// How long a round takes.
    period: Duration,
    /// The part that is next.
    part: u32,
    due: Option<Duration>,
}

/// How many parts a round has.
const PARTS: u32 = 16;

impl Sweep {
    pub(super) fn new(config: &ShardConfig) -> Self {
        Self { period: Self::period(config), part: 0, due: None }
    }

    /// Takes as long for a round as other limits want; what is due stays due.
    pub(super) fn retime(&mut self, config: &ShardConfig) {
        self.period = Self::period(config);
    }

    fn period(config: &ShardConfig) -> Duration {
        let (ping, auth) = (config.limits.ping_interval_ms, config.limits.auth_timeout_ms);
        let shortest = [config.heartbeat_ms, ping.into(), auth.into()]
            .into_iter()
            .filter(|ms| *ms > 0)
            .map(Duration::from_millis)
            .chain([config.close_timeout, config.write_stall_timeout])
            .min()
            .unwrap_or(Duration::from_secs(1));
        (shortest / 4).clamp(Duration::from_millis(16), Duration::from_secs(1))
    }
}

/// Sessions that are to be closed one after the other.
#[derive(Debug)]
pub(super) struct Draining {
    queue: VecDeque<(Duration, SessionKey)>,
}

impl Shard {
    /// The key that the next session will have, so that its socket can be put in place before it is opened.
    pub fn next_key(&self) -> SessionKey {
        self.sessions.next_key()
    }

    /// Opens a session and welcomes it.
    pub fn open(
        &mut self,
        now: Now,
        dialect: Dialect,
        compression: Compression,
        access: Access,
        io: &mut impl Io,
    ) -> SessionKey {
        self.open_as(now, Form { dialect, framing: Framing::WebSocket }, compression, access, io)
    }

    pub(super) fn open_as(
        &mut self,
        now: Now,
        form: Form,
        compression: Compression,
        access: Access,
        io: &mut impl Io,
    ) -> SessionKey {
        let auth = Auth::new(access, self.auth_deadline(now));
        let limits = auth.entitlements().map_or(self.config.limits, |covered| covered.limits(&self.config.limits));
        let key = self.sessions.insert(Session {
            dialect: form.dialect,
            framing: form.framing,
            compression,
            follows: None,
            in_step: Epoch::NONE,
            state: State::Open,
            slow: SlowPolicy::Conflate,
            memberships: Vec::new(),
            outbox: None,
            stall: None,
            delivered: 0,
            dropped: 0,
            bucket: Bucket::new(limits.commands_burst, now.monotonic),
            auth,
            throttled: false,
            heartbeat_due: now.monotonic + Duration::from_millis(self.config.heartbeat_ms),
            ping_due: now.monotonic + Duration::from_millis(u64::from(limits.ping_interval_ms)),
            pings_unanswered: 0,
            opened_at: now.monotonic,
            bytes: 0,
            gaps: 0,
        });
        self.stats.sessions_opened += 1;
        let retry_ms = match form.framing {
            Framing::WebSocket => None,
            Framing::EventStream => Some(stream::RETRY_MS + self.random() % stream::RETRY_MS),
        };
        let name = self.session_id(key).to_string();
        let welcome = ServerMessage::Welcome {
            version: &self.config.version,
            session: &name,
            epoch: &self.config.epoch,
            time: now.wall,
            heartbeat_ms: self.config.heartbeat_ms,
            limits: &limits,
        };
        let fields = EventFields { retry_ms, ordinal: None };
        self.frames.message(form, &welcome, fields);
        self.send_frame(now, key.index, &[], Class::Kept, io);
        if let Some(outcome) = self.outcome {
            self.say_outcome(now, key, outcome, io);
        }
        if let Some(draining) = &mut self.draining {
            draining.queue.push_front((now.monotonic, key));
        }
        self.settle(now, io);
        key
    }

    /// Until when a client that connects now has to authenticate.
    fn auth_deadline(&self, now: Now) -> Duration {
        match self.config.limits.auth_timeout_ms {
            0 => Duration::MAX,
            ms => now.monotonic + Duration::from_millis(ms.into()),
        }
    }

    /// Answers a ping of the client.
    pub fn ping_received(&mut self, now: Now, key: SessionKey, payload: &[u8], io: &mut impl Io) {
        let Some(session) = self.sessions.by_key(key) else { return };
        session.pings_unanswered = 0;
        if session.state == State::Open {
            let pong = frame::pong_frame(payload);
            let mut out = Outgoing::new(&pong, &[], Class::Pong);
            self.sessions.send(now, key.index, &mut out, &mut self.stats, io);
        }
        self.settle(now, io);
    }

    /// Notes that the client is there.
    pub fn pong_received(&mut self, _now: Now, key: SessionKey) {
        if let Some(session) = self.sessions.by_key(key) {
            session.pings_unanswered = 0;
        }
    }

    /// Answers a close frame of the client, or completes the closing that we began.
    pub fn close_received(&mut self, now: Now, key: SessionKey, code: Option<u16>, io: &mut impl Io) {
        let Some(session) = self.sessions.by_key(key) else { return };
        let deadline = now.monotonic + self.config.close_timeout;
        match session.state.clone() {
            State::Open => {
                self.abandon(key);
                // The answer repeats the code (RFC 6455 section 5.5.1).
                let answer = code.map_or_else(frame::empty_close_frame, |code| frame::close_frame(code, ""));
                self.send_control(now, key, &answer, io);
                self.finish(key, Ending { reason: Disconnect::PeerClosed, deadline }, io);
            }
            State::Closing(ending) => self.finish(key, *ending, io),
            State::Finishing(_) => {}
        }
        self.settle(now, io);
    }

    /// Begins the closing hand-shake.
    pub fn fail(&mut self, now: Now, key: SessionKey, reason: Disconnect, io: &mut impl Io) {
        if reason == Disconnect::MessageTooBig {
            let text = format!(
                "a message may have at most {} bytes (message_bytes_max)",
                self.config.limits.message_bytes_max
            );
            self.refuse(now, key, None, wire::ErrorCode::MessageTooBig, text, Vec::new(), io);
        }
        self.begin_close(now, key, reason, io);
        self.settle(now, io);
    }

    /// Forgets a session whose connection has ended.
    pub fn lost(&mut self, now: Now, key: SessionKey, io: &mut impl Io) {
        let reason = match self.sessions.by_key(key).map(|session| session.state.clone()) {
            Some(State::Closing(ending) | State::Finishing(ending)) => ending.reason,
            _ => Disconnect::Lost,
        };
        self.forget(key, reason, io);
        self.settle(now, io);
    }

    /// Does what is due: lanes with an interval, heartbeats, pings, time limits, draining.
    pub fn advance(&mut self, now: Now, io: &mut impl Io) {
        self.flush_due_lanes(now, io);
        self.flush(now, io);
        self.settle(now, io);
        self.drain_due(now, io);
        while let Some(due) = self.sweep_due() {
            if due > now.monotonic {
                break;
            }
            self.sweep_part(now, io);
            self.settle(now, io);
            // A shell that was away for long does not make up for the rounds it missed.
            let next = due + self.sweep.period / PARTS;
            self.sweep.due = Some(next.max(now.monotonic.saturating_sub(self.sweep.period)));
        }
        if self.sessions.len() > 0 && self.sweep.due.is_none() {
            self.sweep.due = Some(now.monotonic + self.sweep.period / PARTS);
        }
    }

    /// When [`Shard::advance`] wants to be called next, on the monotonic clock.
    pub fn deadline(&self) -> Option<Duration> {
        let lane = self.timers.peek().map(|entry| entry.0.0);
        let drain = self.draining.as_ref().and_then(|draining| draining.queue.front()).map(|(due, _)| *due);
        let sweep = if self.sessions.len() > 0 { Some(self.sweep.due.unwrap_or(Duration::ZERO)) } else { None };
        [lane, drain, sweep, self.flush_due()].into_iter().flatten().min()
    }

    /// Tells every session to come back elsewhere, and closes them one after the other over the time `over`. A session
    /// that is opened later is closed at once.
    pub fn drain(&mut self, now: Now, over: Duration, io: &mut impl Io) {
        if self.draining.is_some() {
            return;
        }
        let mut queue: Vec<(Duration, SessionKey)> = Vec::with_capacity(self.sessions.len());
        for key in self.sessions.keys().collect::<Vec<_>>() {
            let span = (over.as_millis() as u64).max(1);
            let (wait, jitter) = (self.random() % span, self.random() % span);
            queue.push((now.monotonic + Duration::from_millis(wait), key));
            let message = ServerMessage::Notice {
                code: NoticeCode::Draining,
                reconnect_after_ms: Some(jitter),
                message: "the server is draining; the connection will be closed, reconnect after reconnect_after_ms",
            };
            self.say(now, key, &message, Class::Urgent, io);
        }
        queue.sort_by_key(|(due, key)| (*due, key.index));
        self.draining = Some(Draining { queue: queue.into() });
        self.settle(now, io);
    }

    /// Closes every session now.
    pub fn shut_down(&mut self, now: Now, io: &mut impl Io) {
        for key in self.sessions.keys().collect::<Vec<_>>() {
            self.begin_close(now, key, Disconnect::ShuttingDown, io);
        }
        self.draining = Some(Draining { queue: VecDeque::new() });
        self.settle(now, io);
    }

    fn drain_due(&mut self, now: Now, io: &mut impl Io) {
        while let Some(draining) = &mut self.draining
            && let Some(&(due, key)) = draining.queue.front()
            && due <= now.monotonic
        {
            draining.queue.pop_front();
            self.begin_close(now, key, Disconnect::Draining, io);
        }
        self.settle(now, io);
    }

    fn sweep_due(&self) -> Option<Duration> {
        if self.sessions.len() > 0 { self.sweep.due } else { None }
    }

    /// Looks after every [`PARTS`]th session.
    fn sweep_part(&mut self, now: Now, io: &mut impl Io) {
        let part = self.sweep.part;
        self.sweep.part = (part + 1) % PARTS;
        if part == 0 {
            self.release_idle_compressors(now);
        }
        for index in (part..self.sessions.slots()).step_by(PARTS as usize) {
            self.look_after(now, index, io);
        }
    }

    fn look_after(&mut self, now: Now, index: u32, io: &mut impl Io) {
        let key = self.sessions.key_at(index);
        let (heartbeat_ms, limits) = (self.config.heartbeat_ms, self.config.limits);
        let stall_timeout = self.config.write_stall_timeout;
        self.look_after_auth(now, key, io);
        let Some(session) = self.sessions.at(index) else { return };
        match &session.state {
            State::Closing(ending) | State::Finishing(ending) => {
                if ending.deadline <= now.monotonic {
                    let reason = ending.reason.clone();
                    self.forget(key, reason, io);
                }
                return;
            }
            State::Open => {}
        }
        let stalled = |outbox: &Outbox| now.monotonic.saturating_sub(outbox.progress_at) >= stall_timeout;
        if session.outbox.as_deref().is_some_and(stalled) {
            return self.begin_close(now, key, Disconnect::SlowConsumer, io);
        }
        if limits.ping_interval_ms > 0 && session.ping_due <= now.monotonic {
            if session.framing == Framing::WebSocket
                && u32::from(session.pings_unanswered) >= limits.pings_unanswered_max.max(1)
            {
                return self.begin_close(now, key, Disconnect::PingTimeout, io);
            }
            session.pings_unanswered = session.pings_unanswered.saturating_add(1);
            session.ping_due = now.monotonic + Duration::from_millis(u64::from(limits.ping_interval_ms));
            match session.framing {
                Framing::WebSocket => self.send_control(now, key, &frame::ping_frame(&[]), io),
                Framing::EventStream => self.send_control(now, key, frames::COMMENT, io),
            }
        }
        let Some(session) = self.sessions.at(index) else { return };
        if heartbeat_ms > 0 && session.heartbeat_due <= now.monotonic {
            let interval = Duration::from_millis(heartbeat_ms);
            session.heartbeat_due = (session.heartbeat_due + interval).max(now.monotonic);
            let (delivered, dropped) = (session.delivered, session.dropped);
            let message = ServerMessage::Heartbeat { time: now.wall, delivered, dropped };
            let (form, ordinal) = (session.form(), self.seen_by(index));
            self.frames.message(form, &message, EventFields { ordinal, retry_ms: None });
            self.send_frame(now, index, &[], Class::Passing, io);
        }
    }

    /// Queues our close frame and stops serving the session.
    pub(super) fn begin_close(&mut self, now: Now, key: SessionKey, reason: Disconnect, io: &mut impl Io) {
        let Some(session) = self.sessions.by_key(key) else { return };
        if session.state != State::Open {
            return;
        }
        let Some(code) = reason.close_code() else { return self.forget(key, reason, io) };
        let deadline = now.monotonic + self.config.close_timeout;
        if session.framing == Framing::EventStream {
            return self.end_stream(now, key, reason, code, deadline, io);
        }
        self.abandon(key);
        self.send_control(now, key, &frame::close_frame(code, &reason.text()), io);
        if let Some(session) = self.sessions.by_key(key) {
            session.state = State::Closing(Box::new(Ending { reason, deadline }));
        }
    }

    /// Takes a session out of its lanes and takes back what waits for it.
    pub(super) fn abandon(&mut self, key: SessionKey) {
        self.leave_all(key);
        self.sessions.withdraw(key, Withdraw::AllButUrgent, &mut self.stats, |_, _| {});
    }

    pub(super) fn leave_all(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.by_key(key) else { return };
        session.stall = None;
        for membership in std::mem::take(&mut session.memberships) {
            self.take_out(key, membership);
            self.lanes.remove_if_empty(membership.lane);
        }
    }

    /// Disconnects when the outbox is empty, or lets it drain until the deadline.
    pub(super) fn finish(&mut self, key: SessionKey, ending: Ending, io: &mut impl Io) {
        let Some(session) = self.sessions.by_key(key) else { return };
        if session.outbox.is_none() {
            self.forget(key, ending.reason, io);
        } else {
            session.state = State::Finishing(Box::new(ending));
        }
    }

    /// A session's outbox has become empty.
    pub(super) fn drained(&mut self, now: Now, key: SessionKey, io: &mut impl Io) {
        let Some(session) = self.sessions.by_key(key) else { return };
        match &session.state {
            State::Finishing(ending) => {
                let reason = ending.reason.clone();
                self.forget(key, reason, io);
            }
            State::Open => self.recover(now, key, io),
            State::Closing(_) => {}
        }
    }

    /// The end of a session.
    pub(super) fn forget(&mut self, key: SessionKey, reason: Disconnect, io: &mut impl Io) {
        self.leave_all(key);
        if self.sessions.remove(key).is_some() {
            io.disconnect(key, reason);
        }
    }

    pub(super) fn send_control(&mut self, now: Now, key: SessionKey, frame: &[u8], io: &mut impl Io) {
        if self.sessions.by_key(key).is_some() {
            let mut out = Outgoing::new(frame, &[], Class::Urgent);
            self.sessions.send(now, key.index, &mut out, &mut self.stats, io);
        }
    }
}
