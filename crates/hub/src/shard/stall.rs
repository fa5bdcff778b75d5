//! Sessions that do not keep up: withdrawal, the newest values once they have caught up, and the gap that says so.
//!
//! **Invariant:** what a stalled session is not sent is known exactly: for each stream the last number it was given is
//! kept, and everything up to the newest value is declared in one gap.

use rustc_hash::{FxHashMap, FxHashSet};
use wire::{Gap, GapReason, Mode, NoticeCode, ServerMessage, SlowPolicy};

use super::Shard;
use super::command::Operation;
use super::lane::Joiner;
use super::outbox::{Class, Withdraw};
use super::session::{Place, Session, Stall, State};
use crate::{Disconnect, Io, Item, Now, Reply, Request, Run, SessionKey, StreamKey, SymbolSet};

impl Shard {
    /// The outbox of a session is past its bound.
    pub(super) fn overflow(&mut self, now: Now, key: SessionKey, io: &mut impl Io) {
        let Some(session) = self.sessions.by_key(key) else { return };
        if session.state != State::Open {
            return;
        }
        match session.slow {
            SlowPolicy::Disconnect => self.begin_close(now, key, Disconnect::SlowConsumer, io),
            SlowPolicy::Conflate => {
                self.stall(now, key, GapReason::Slow, io);
            }
        }
    }

    /// Stops serving a session from its lanes, takes back what waits for it, and notes what it has been given.
    fn stall(&mut self, now: Now, key: SessionKey, reason: GapReason, io: &mut impl Io) {
        let Some(session) = self.sessions.by_key(key) else { return };
        if session.stall.is_some() {
            return;
        }
        let mut stall = Box::new(Stall::new(reason));
        self.sessions.withdraw(key, Withdraw::Data, &mut self.stats, |class, items| match class {
            Class::State => stall.unsend(items),
            _ => stall.lower(items),
        });
        self.detach(key, &mut stall);
        self.note_positions(key, &mut stall);
        let Some(session) = self.sessions.by_key(key) else { return };
        session.stall = Some(stall);
        self.stats.stalls += 1;
        if reason == GapReason::Slow {
            let (code, message) = self.sessions.by_key(key).map_or((NoticeCode::Slow, READS_SLOWLY), why_slow);
            self.say(now, key, &ServerMessage::Notice { code, reconnect_after_ms: None, message }, Class::Urgent, io);
        }
        // Where nothing waits (any more), no call of `writable` will come.
        if self.sessions.by_key(key).is_some_and(|session| session.outbox.is_none()) {
            self.recover(now, key, io);
        }
    }

    /// Takes the session out of what its lanes do, though it goes on to belong to them.
    fn detach(&mut self, key: SessionKey, stall: &mut Stall) {
        let Some(session) = self.sessions.by_key(key) else { return };
        for membership in session.memberships.clone() {
            if membership.place == Place::Detached {
                continue;
            }
            let owed = self.take_out(key, membership);
            if let Some(lane) = self.lanes.lane_mut(membership.lane) {
                lane.detached += 1;
                if let Some(Joiner { skip_items, position, .. }) = owed {
                    // What the lane has gathered for the session and not flushed was not given either.
                    stall.lower(lane.pending.items.get(skip_items..).unwrap_or(&[]));
                    let newest = &self.newest[lane.dialect.index()];
                    for &key in lane.changed.order() {
                        let book = lane.changed.book(key).map(|book| (book.seq, book.position));
                        let of_newest = || newest.get(&key).map(|newest| (newest.seq, newest.position));
                        if let Some((seq, _)) = book.or_else(of_newest).filter(|(_, at)| *at > position) {
                            stall.lower(&[Item { key, seq }]);
                        }
                    }
                }
            }
            self.place(key.index, membership.lane, Place::Detached);
        }
    }

    /// For every stream that nothing was taken back of, the session has been given all there was.
    fn note_positions(&mut self, key: SessionKey, stall: &mut Stall) {
        let Some(session) = self.sessions.by_key(key) else { return };
        for membership in &session.memberships {
            let Some(lane) = self.lanes.lane(membership.lane) else { continue };
            for key in lane.selection.keys() {
                stall.base.entry(key).or_insert(self.last_seq.get(key.index()).copied().unwrap_or(0));
            }
            for channel in lane.selection.stars().iter() {
                for instrument in self.catalog.iter() {
                    let key = StreamKey::new(instrument.id, channel);
                    if lane.selection.covers_by_star(key) {
                        stall.base.entry(key).or_insert(self.last_seq.get(key.index()).copied().unwrap_or(0));
                    }
                }
            }
        }
    }

    /// The outbox of a session is empty again: if it was stalled, asks for the newest values.
    pub(super) fn recover(&mut self, _now: Now, key: SessionKey, io: &mut impl Io) {
        let Some(session) = self.sessions.by_key(key) else { return };
        let dialect = session.dialect;
        let Some(stall) = &mut session.stall else { return };
        if std::mem::replace(&mut stall.recovering, true) {
            return;
        }
        let mut keys: Vec<StreamKey> = Vec::new();
        let mut stars = market::ChannelSet::EMPTY;
        // Within a session all stars stand for the same.
        let mut star_symbols = SymbolSet::ALL;
        for membership in &session.memberships {
            if let Some(lane) = self.lanes.lane(membership.lane) {
                keys.extend(lane.selection.keys());
                stars = stars.union(lane.selection.stars());
                if let Some(scope) = lane.selection.scope() {
                    star_symbols = scope.symbols.clone();
                }
            }
        }
        keys.sort_unstable();
        self.in_flight.push_back((key, Operation::Recover));
        io.request(Request { dialect, keys, stars, star_symbols, snapshot: true, since: None, subscribes: false });
    }

    /// The newest values have come: declares what is missing, sends them, and lets the session rejoin its lanes.
    pub(super) fn rejoin(&mut self, now: Now, key: SessionKey, reply: &Reply, io: &mut impl Io) {
        let Some(session) = self.sessions.by_key(key) else { return };
        if session.state != State::Open {
            return;
        }
        let Some(stall) = &mut session.stall else { return };
        if std::mem::take(&mut stall.outdated) {
            stall.recovering = false;
            return self.recover(now, key, io);
        }
        let Some(stall) = session.stall.take() else { return };
        let memberships = std::mem::take(&mut session.memberships);
        let dialect = session.dialect;
        let mut run = Run::default();
        let mut state = Run::default();
        let mut gaps = 0;
        let mut dropped = 0;
        for (index, item) in reply.snapshot.items().iter().enumerate() {
            let element = reply.snapshot.element(index);
            let holds = |membership: &super::session::Membership| {
                let lane = self.lanes.lane(membership.lane)?;
                lane.selection.covers(item.key).then_some(lane.mode)
            };
            let Some(mode) = memberships.iter().find_map(holds) else { continue };
            let base = stall.base.get(&item.key).copied().unwrap_or(0);
            let unsent = stall.unsent.contains(&item.key);
            if item.seq <= base && !unsent {
                continue;
            }
            if run.bytes.len() + element.len() > self.config.frame_bytes_max {
                self.send_recovered(now, key, &mut run, &mut gaps, None, io);
            }
            // Before a value the gap ends with the number before, before a snapshot with the snapshot's.
            let to_seq = if unsent { item.seq } else { item.seq - 1 };
            if mode == Mode::Every
                && to_seq > base
                && let Some(instrument) = self.catalog.get(item.key.instrument())
            {
                let gap = Gap { channel: item.key.channel(), from_seq: base + 1, to_seq, reason: stall.reason };
                wire::encode_gap(dialect, instrument, now.wall, gap, &mut run.bytes);
                gaps += 1;
                dropped += to_seq - base;
            }
            if unsent { &mut state } else { &mut run }.push(item.key, item.seq, element);
        }
        let after_run = state.is_empty().then_some(reply.ordinal);
        self.send_recovered(now, key, &mut run, &mut gaps, after_run, io);
        self.send_recovered_state(now, key, &state, reply.ordinal, io);
        if let Some(session) = self.sessions.by_key(key) {
            session.dropped += dropped;
        }
        match stall.reason {
            GapReason::Slow => self.stats.dropped_slow += dropped,
            _ => self.stats.dropped_conflated += dropped,
        }
        for membership in memberships {
            if let Some(lane) = self.lanes.lane_mut(membership.lane) {
                lane.detached -= 1;
            }
            self.join(key, membership.lane);
        }
    }

    fn send_recovered(
        &mut self,
        now: Now,
        key: SessionKey,
        run: &mut Run,
        gaps: &mut usize,
        ordinal: Option<u64>,
        io: &mut impl Io,
    ) {
        if run.items.len() + *gaps > 0
            && let Some(session) = self.sessions.by_key(key)
        {
            let count = run.items.len() + *gaps;
            self.frames.data(session.form(), wire::FrameKind::Live, now.wall, (count, &run.bytes), ordinal);
            // Kept: a gap that has been counted must reach the client.
            self.send_frame(now, key.index, &run.items, Class::Kept, io);
            self.stats.gaps += *gaps as u64;
            if let Some(session) = self.sessions.by_key(key) {
                session.gaps += *gaps as u64;
            }
        }
        run.clear();
        *gaps = 0;
    }

    /// Sends the snapshot that had been withdrawn; one frame, as large as what the client had asked for.
    fn send_recovered_state(&mut self, now: Now, key: SessionKey, state: &Run, ordinal: u64, io: &mut impl Io) {
        if state.is_empty() {
            return;
        }
        let Some(session) = self.sessions.by_key(key) else { return };
        let kind = wire::FrameKind::Snapshot;
        self.frames.data(session.form(), kind, now.wall, (state.items.len(), &state.bytes), Some(ordinal));
        self.stats.snapshot_elements += state.items.len() as u64;
        self.send_frame(now, key.index, &[], Class::Kept, io);
    }

    /// Batches were left out: every session is as if stalled, and asks for the newest values at once.
    pub(super) fn lagged(&mut self, now: Now, io: &mut impl Io) {
        self.stats.lags += 1;
        self.flush_all(now, io);
        self.settle(now, io);
        for key in self.sessions.keys().collect::<Vec<_>>() {
            self.stall(now, key, GapReason::Conflated, io);
        }
        // Nobody is owed these any more; and changes of a book from before the hole would overwrite what came of it since.
        self.lanes.drop_changes();
    }
}

const READS_SLOWLY: &str = "the client reads too slowly: values are left out until it has caught up, gaps say which";
const SENT_ENOUGH: &str = "the key is sent more than it may be (bytes_per_s_per_key, or bytes_per_s of the key): values are left out until there is room, gaps say which";

/// What a session that falls behind is told: whether it is its own doing or that of its key's limit.
fn why_slow(session: &mut Session) -> (NoticeCode, &'static str) {
    if session.throttled { (NoticeCode::RateLimited, SENT_ENOUGH) } else { (NoticeCode::Slow, READS_SLOWLY) }
}

impl Stall {
    fn new(reason: GapReason) -> Self {
        Self { reason, base: FxHashMap::default(), unsent: FxHashSet::default(), recovering: false, outdated: false }
    }

    /// What the session subscribes to now will be made up for with all the rest. What it has been given of a stream that
    /// it had before stays as it is noted.
    pub(super) fn postpone(&mut self, reply: &Reply) {
        for (key, gap, _) in &reply.gaps {
            self.base.entry(*key).or_insert(gap.from_seq - 1);
        }
        for item in reply.replay.items() {
            self.base.entry(item.key).or_insert(item.seq - 1);
        }
        self.unsend(reply.snapshot.items());
        for (key, seq) in &reply.positions {
            self.base.entry(*key).or_insert(*seq);
        }
        self.outdated = self.recovering;
    }

    /// The session was not given this snapshot after all.
    fn unsend(&mut self, items: &[Item]) {
        for item in items {
            self.base.entry(item.key).or_insert(item.seq);
            self.unsent.insert(item.key);
        }
    }

    /// The session was not given these after all.
    fn lower(&mut self, items: &[Item]) {
        for item in items {
            let base = self.base.entry(item.key).or_insert(item.seq - 1);
            *base = (*base).min(item.seq - 1);
        }
    }
}
