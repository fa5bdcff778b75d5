//! From what lanes have gathered to frames on sockets.
//!
//! **Invariant:** a lane's frame is built once, whatever the number of its members; per member there is one write.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Duration;

use wire::{Dialect, FrameKind, Mode};

use super::Shard;
use super::changed::{Changed, MergedBook};
use super::deflate::follow;
use super::lane::{Joiner, LaneId};
use super::outbox::Class;
use super::session::{Membership, Outgoing, Place};
use crate::{Io, Item, Now, Run, SessionKey, StreamKey};

/// Whether an element has room in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fits {
    Yes,
    No,
}

/// Writes after which a flush pauses, so that what has arrived meanwhile is seen to and ticks that wait for the lanes at
/// the end of the round are not older than those at its begin: at about 4 us each it comes to a millisecond.
const SLICE_WRITES: usize = 256;

/// Lanes flush in *rounds*: those that have gathered something, each once, in the order of their first element. A round
/// is done in slices of [`SLICE_WRITES`]; what a lane gathers until its turn comes goes with it.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Lanes in mode `every`, and in mode `latest` without an interval, that have gathered something.
    pub(super) waiting: VecDeque<LaneId>,
    /// How many of them, from the front, belong to the round that has begun.
    left: usize,
    begun_at: Option<Duration>,
    /// When the slice began of which the shell has still to say when it was over.
    slice_begun_at: Option<Duration>,
    /// When all that was flushed so far is paid for in time, at the share of the time that may go into flushing.
    paid_at: Duration,
    rest_until: Duration,
}

impl Shard {
    /// Sends what lanes have gathered, or a part of it: call it once everything that has arrived was taken in, and see
    /// to that before the next part. It may hold back for the flush interval or for a rest. [`Shard::deadline`] says when
    /// it is to be called again.
    pub fn flush(&mut self, now: Now, io: &mut impl Io) {
        if self.flush_due().is_none_or(|due| due > now.monotonic) {
            return;
        }
        if self.rounds.left == 0 {
            self.rounds.left = self.rounds.waiting.len();
            self.rounds.begun_at = Some(now.monotonic);
        }
        self.rounds.slice_begun_at = Some(now.monotonic);
        let mut writes = 0;
        while writes < SLICE_WRITES && self.rounds.left > 0 {
            self.rounds.left -= 1;
            let Some(id) = self.rounds.waiting.pop_front() else { break };
            writes += self.flush_lane(now, id, io);
        }
        self.settle(now, io);
    }

    /// When gathered elements may be flushed; none when there are none. Not later than [`Shard::deadline`].
    pub fn flush_due(&self) -> Option<Duration> {
        if self.rounds.waiting.is_empty() {
            return None;
        }
        let begun_at = self.rounds.begun_at.filter(|_| self.rounds.left == 0);
        let interval_over = begun_at.map_or(Duration::ZERO, |at| at + self.config.flush_interval);
        Some(interval_over.max(self.rounds.rest_until))
    }

    /// Says what time it is after [`Shard::flush`] or [`Shard::advance`]: what was flushed has taken until now. When
    /// flushing takes a larger share of the time than it may, a rest follows. A shell that does not call it has no rests.
    pub fn flushed(&mut self, now: Now) {
        let Some(begun_at) = self.rounds.slice_begun_at.take() else { return };
        let took = now.monotonic.saturating_sub(begun_at);
        let rest_max = self.config.flush_rest_max;
        // Time without flushes counts in advance, as much as the longest rest: after a pause everyone is written to at once.
        let paid_at = self.rounds.paid_at.max(begun_at.saturating_sub(rest_max));
        let paid_at = paid_at + took * 100 / self.config.flush_duty_percent.clamp(1, 100);
        // Of a debt beyond the longest rest nothing is kept either.
        self.rounds.paid_at = paid_at.min(now.monotonic + rest_max);
        self.rounds.rest_until = self.rounds.paid_at;
    }

    /// Whether a round has begun and is not over: what is taken in now may have to wait for the next one.
    pub fn is_amid_round(&self) -> bool {
        self.rounds.left > 0
    }

    /// Sends all that lanes have gathered, whatever the time.
    pub(super) fn flush_all(&mut self, now: Now, io: &mut impl Io) {
        self.rounds.left = 0;
        while let Some(id) = self.rounds.waiting.pop_front() {
            self.flush_lane(now, id, io);
        }
    }

    /// Flushes the lanes in mode `latest` that are due.
    pub(super) fn flush_due_lanes(&mut self, now: Now, io: &mut impl Io) {
        while let Some(&Reverse((due, id))) = self.timers.peek() {
            if due > now.monotonic {
                break;
            }
            self.timers.pop();
            if self.lanes.lane(id).is_some_and(|lane| lane.due == Some(due)) {
                self.flush_lane(now, id, io);
            }
        }
    }

    /// Sends what a lane has gathered to its members, and to its joiners what has been gathered since they came. Says to
    /// how many it wrote.
    pub(super) fn flush_lane(&mut self, now: Now, id: LaneId, io: &mut impl Io) -> usize {
        let Some(lane) = self.lanes.lane_mut(id) else { return 0 };
        lane.due = None;
        let writes = lane.members.len() + lane.joiners.len();
        let joiners = std::mem::take(&mut lane.joiners);
        match lane.mode {
            Mode::Every => {
                let run = std::mem::take(&mut lane.pending);
                let ordinal = Some(lane.ordinal);
                self.send_run(now, id, &run, Class::Owed, ordinal, io);
                for joiner in &joiners {
                    self.send_rest(now, &run, joiner, ordinal, io);
                }
                self.lanes.recycle(run);
            }
            Mode::Latest { .. } => {
                let changed = std::mem::take(&mut lane.changed);
                self.each_newest(id, &changed, None, |shard, run, ordinal| {
                    shard.send_run(now, id, run, Class::Passing, ordinal, io);
                });
                for joiner in &joiners {
                    self.send_news(now, joiner.session, id, &changed, joiner.position, io);
                }
                self.lanes.recycle_changed(changed);
            }
        }
        self.admit(id, &joiners);
        writes
    }

    /// Sends one session the newest elements that have come since `position`.
    fn send_news(&mut self, now: Now, index: u32, id: LaneId, changed: &Changed, position: u64, io: &mut impl Io) {
        self.each_newest(id, changed, Some(position), |shard, run, ordinal| {
            shard.send_to(now, index, (&run.items, &run.bytes), Class::Passing, ordinal, io);
        });
    }

    /// Calls `send` with the newest elements of what has changed, in frames' worths; only those newer than `after`, if
    /// given. Only with the last frame a client has seen everything up to this moment.
    fn each_newest(
        &mut self,
        id: LaneId,
        changed: &Changed,
        after: Option<u64>,
        mut send: impl FnMut(&mut Self, &Run, Option<u64>),
    ) {
        let mut run = self.lanes.buffer();
        let mut merged = Vec::new();
        for &key in changed.order() {
            if self.push_newest(id, changed, key, after, &mut merged, &mut run) == Fits::No {
                send(self, &run, None);
                run.clear();
                self.push_newest(id, changed, key, after, &mut merged, &mut run);
            }
        }
        if !run.is_empty() {
            send(self, &run, Some(self.ordinal));
        }
        self.lanes.recycle(run);
    }

    /// Adds the newest element of a stream, if the lane is to get it and there is room in the frame.
    fn push_newest(
        &self,
        id: LaneId,
        changed: &Changed,
        key: StreamKey,
        after: Option<u64>,
        merged: &mut Vec<u8>,
        run: &mut Run,
    ) -> Fits {
        let Some(lane) = self.lanes.lane(id).filter(|lane| lane.selection.covers(key)) else { return Fits::Yes };
        let (seq, position, element) = if let Some(book) = changed.book(key) {
            merged.clear();
            self.encode_merged(lane.dialect, key, book, merged);
            (book.seq, book.position, &*merged)
        } else {
            let Some(newest) = self.newest[lane.dialect.index()].get(&key) else { return Fits::Yes };
            (newest.seq, newest.position, &newest.element)
        };
        if after.is_some_and(|after| position <= after) {
            return Fits::Yes;
        }
        if !run.is_empty() && run.bytes.len() + element.len() > self.config.frame_bytes_max {
            return Fits::No;
        }
        run.push(key, seq, element);
        Fits::Yes
    }

    /// Writes the changes of a book as one element.
    fn encode_merged(&self, dialect: Dialect, key: StreamKey, book: &MergedBook, out: &mut Vec<u8>) {
        // The changes may be wanted again, by a joiner of the lane.
        if let (Some(instrument), Some(event)) = (self.catalog.get(key.instrument()), book.events.clone().take()) {
            wire::encode_element(dialect, instrument, book.seq, book.time, &event, out);
        }
    }

    /// Sends one frame to all members of a lane.
    fn send_run(&mut self, now: Now, id: LaneId, run: &Run, class: Class, ordinal: Option<u64>, io: &mut impl Io) {
        if run.is_empty() {
            return;
        }
        let Some(lane) = self.lanes.lane(id) else { return };
        if lane.members.is_empty() {
            return;
        }
        self.frames.data(lane.form(), FrameKind::Live, now.wall, (run.items.len(), &run.bytes), ordinal);
        let epoch = self.deflate_for(now, id);
        let Some(lane) = self.lanes.lane(id) else { return };
        let bytes = self.frames.plain();
        io.observe_flush(lane.members.len(), run.items.len(), bytes.len());
        let mut plain = Outgoing::new(bytes, &run.items, class);
        let Some(epoch) = epoch else {
            for &member in &lane.members {
                self.sessions.send(now, member, &mut plain, &mut self.stats, io);
            }
            return;
        };
        let mut deflated = Outgoing::deflated(self.frames.deflated(), bytes, &run.items, class);
        for &member in &lane.members {
            let out = if self.sessions.is_in_step(member, epoch) { &mut deflated } else { &mut plain };
            self.sessions.send(now, member, out, &mut self.stats, io);
        }
    }

    fn send_rest(&mut self, now: Now, run: &Run, joiner: &Joiner, ordinal: Option<u64>, io: &mut impl Io) {
        let rest = (&run.items[joiner.skip_items..], &run.bytes[joiner.skip_bytes..]);
        self.send_to(now, joiner.session, rest, Class::Owed, ordinal, io);
    }

    /// Sends one session a frame of its own.
    pub(super) fn send_to(
        &mut self,
        now: Now,
        index: u32,
        (items, bytes): (&[Item], &[u8]),
        class: Class,
        ordinal: Option<u64>,
        io: &mut impl Io,
    ) {
        if items.is_empty() {
            return;
        }
        let Some(session) = self.sessions.at(index) else { return };
        self.frames.data(session.form(), FrameKind::Live, now.wall, (items.len(), bytes), ordinal);
        self.send_frame(now, index, items, class, io);
    }

    /// Makes joiners members, now that the lane has nothing from before their time.
    fn admit(&mut self, id: LaneId, joiners: &[Joiner]) {
        for joiner in joiners {
            let Some(lane) = self.lanes.lane_mut(id) else { return };
            let place = Place::Member(lane.members.len() as u32);
            lane.members.push(joiner.session);
            if let Some(session) = self.sessions.at(joiner.session) {
                follow(session, id, lane);
            }
            self.place(joiner.session, id, place);
        }
    }

    /// Notes where a session stands in a lane.
    pub(super) fn place(&mut self, session: u32, lane: LaneId, place: Place) {
        let Some(session) = self.sessions.at(session) else { return };
        if let Some(membership) = session.memberships.iter_mut().find(|membership| membership.lane == lane) {
            membership.place = place;
        }
    }

    /// Lets a session take part in a lane from here on. It is stalled: it only belongs to it.
    pub(super) fn join(&mut self, key: SessionKey, id: LaneId) {
        let position = self.position;
        let Some(session) = self.sessions.by_key(key) else { return };
        let Some(lane) = self.lanes.lane_mut(id) else { return };
        let place = if session.stall.is_some() {
            lane.detached += 1;
            Place::Detached
        } else if lane.pending.is_empty() && lane.changed.is_empty() {
            lane.members.push(key.index);
            follow(session, id, lane);
            Place::Member(lane.members.len() as u32 - 1)
        } else {
            let (skip_bytes, skip_items) = (lane.pending.bytes.len(), lane.pending.items.len());
            lane.joiners.push(Joiner { session: key.index, skip_bytes, skip_items, position });
            Place::Joining
        };
        session.memberships.push(Membership { lane: id, place });
    }

    /// Takes a session out of a lane, giving it first what the lane has gathered for it. The lane may be empty then.
    pub(super) fn leave(&mut self, now: Now, key: SessionKey, id: LaneId, io: &mut impl Io) {
        let Some(session) = self.sessions.by_key(key) else { return };
        let Some(at) = session.memberships.iter().position(|membership| membership.lane == id) else { return };
        let membership = session.memberships.swap_remove(at);
        let Some(owed) = self.take_out(key, membership) else { return };
        self.hand_over(now, id, &owed, io);
    }

    /// Removes a session from a lane's lists; says from where on the lane has gathered something for it.
    pub(super) fn take_out(&mut self, key: SessionKey, membership: Membership) -> Option<Joiner> {
        let lane = self.lanes.lane_mut(membership.lane)?;
        match membership.place {
            Place::Detached => {
                lane.detached -= 1;
                None
            }
            Place::Joining => {
                let at = lane.joiners.iter().position(|joiner| joiner.session == key.index)?;
                Some(lane.joiners.swap_remove(at))
            }
            Place::Member(at) => {
                lane.members.swap_remove(at as usize);
                let moved = lane.members.get(at as usize).copied();
                if let Some(moved) = moved {
                    self.place(moved, membership.lane, Place::Member(at));
                }
                self.unfollow(key.index, membership.lane);
                Some(Joiner { session: key.index, skip_bytes: 0, skip_items: 0, position: 0 })
            }
        }
    }

    /// Gives one session alone what the lane has gathered for it.
    fn hand_over(&mut self, now: Now, id: LaneId, owed: &Joiner, io: &mut impl Io) {
        let Some(lane) = self.lanes.lane_mut(id) else { return };
        if !lane.pending.is_empty() {
            let run = std::mem::take(&mut lane.pending);
            let ordinal = Some(lane.ordinal);
            self.send_rest(now, &run, owed, ordinal, io);
            if let Some(lane) = self.lanes.lane_mut(id) {
                lane.pending = run;
            }
        } else if !lane.changed.is_empty() {
            let changed = std::mem::take(&mut lane.changed);
            self.send_news(now, owed.session, id, &changed, owed.position, io);
            if let Some(lane) = self.lanes.lane_mut(id) {
                lane.changed = changed;
            }
        }
    }
}
