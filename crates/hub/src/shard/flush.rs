//! From what lanes have gathered to frames on sockets.
//!
//! **Invariant:** a lane's frame is built once, whatever the number of its members; per member there is one write.

use std::cmp::Reverse;
use std::time::Duration;

use wire::{Dialect, FrameKind, Mode};

use super::changed::{Changed, MergedBook};
use super::deflate::follow;
use super::lane::{Joiner, LaneId};
use super::outbox::Class;
use super::session::{Membership, Outgoing, Place};
use super::{Newest, Shard};
use crate::{Io, Item, Now, Run, SessionKey, StreamKey};

impl Shard {
    /// Sends what lanes have gathered. Call it once everything that has arrived was taken in; it may hold back for
    /// the flush interval or for the rest after the last flush, which [`Shard::deadline`] then reflects.
    pub fn flush(&mut self, now: Now, io: &mut impl Io) {
        if self.dirty.is_empty() || self.flush_due().is_some_and(|due| due > now.monotonic) {
            return;
        }
        self.flush_all(now, io);
        self.settle(now, io);
    }

    /// When gathered elements may be flushed; none when there are none.
    pub(super) fn flush_due(&self) -> Option<Duration> {
        if self.dirty.is_empty() {
            return None;
        }
        let interval_over = self.flushed_at.map_or(Duration::ZERO, |at| at + self.config.flush_interval);
        Some(interval_over.max(self.rest_until))
    }

    /// Says what time it is after [`Shard::flush`] or [`Shard::advance`]: what was flushed has taken until now, and is
    /// followed by a rest in proportion. A shell that does not call it has no rests.
    pub fn flushed(&mut self, now: Now) {
        if let (true, Some(begun_at)) = (std::mem::take(&mut self.flushing), self.flushed_at) {
            let took = now.monotonic.saturating_sub(begun_at);
            let duty_percent = self.config.flush_duty_percent.clamp(1, 100);
            let rest = took * (100 - duty_percent) / duty_percent;
            self.rest_until = now.monotonic + rest.min(self.config.flush_rest_max);
        }
    }

    pub(super) fn flush_all(&mut self, now: Now, io: &mut impl Io) {
        if !self.dirty.is_empty() {
            self.flushed_at = Some(now.monotonic);
            self.flushing = true;
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            self.flush_lane(now, id, io);
        }
        self.dirty = dirty;
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

    /// Sends what a lane has gathered to its members, and to its joiners what has been gathered since they came.
    pub(super) fn flush_lane(&mut self, now: Now, id: LaneId, io: &mut impl Io) {
        let Some(lane) = self.lanes.lane_mut(id) else { return };
        lane.due = None;
        let joiners = std::mem::take(&mut lane.joiners);
        match lane.mode {
            Mode::Every => {
                let run = std::mem::take(&mut lane.pending);
                self.send_run(now, id, &run, Class::Owed, io);
                for joiner in &joiners {
                    self.send_rest(now, id, &run, joiner, io);
                }
                self.lanes.recycle(run);
            }
            Mode::Latest { .. } => {
                let changed = std::mem::take(&mut lane.changed);
                self.send_changed(now, id, &changed, io);
                for joiner in &joiners {
                    self.send_news(now, id, &changed, joiner, io);
                }
            }
        }
        self.admit(id, &joiners);
    }

    fn send_changed(&mut self, now: Now, id: LaneId, changed: &Changed, io: &mut impl Io) {
        for run in self.newest_runs(id, changed, None) {
            self.send_run(now, id, &run, Class::Passing, io);
        }
    }

    fn send_news(&mut self, now: Now, id: LaneId, changed: &Changed, joiner: &Joiner, io: &mut impl Io) {
        for run in self.newest_runs(id, changed, Some(joiner.position)) {
            self.send_to(now, joiner.session, &run.items, &run.bytes, Class::Passing, io);
        }
    }

    /// The newest elements of what has changed, in frames' worths; only those newer than `after`, if given.
    fn newest_runs(&self, id: LaneId, changed: &Changed, after: Option<u64>) -> Vec<Run> {
        let Some(lane) = self.lanes.lane(id) else { return Vec::new() };
        let newest = &self.newest[lane.dialect.index()];
        let mut runs = vec![Run::default()];
        let mut merged = Vec::new();
        for key in changed.order() {
            if !lane.selection.covers(*key) {
                continue;
            }
            let (seq, position, element) = if let Some(book) = changed.book(*key) {
                merged.clear();
                self.encode_merged(lane.dialect, *key, book, &mut merged);
                (book.seq, book.position, &merged)
            } else {
                let Some(Newest { seq, position, element }) = newest.get(key) else { continue };
                (*seq, *position, element)
            };
            if after.is_some_and(|after| position <= after) {
                continue;
            }
            if runs.last().is_some_and(|run| run.bytes.len() + element.len() > self.config.frame_bytes_max) {
                runs.push(Run::default());
            }
            if let Some(run) = runs.last_mut() {
                run.push(*key, seq, element);
            }
        }
        runs.retain(|run| !run.is_empty());
        runs
    }

    /// Writes the changes of a book as one element.
    fn encode_merged(&self, dialect: Dialect, key: StreamKey, book: &MergedBook, out: &mut Vec<u8>) {
        // The changes may be wanted again, by a joiner of the lane.
        if let (Some(instrument), Some(event)) = (self.catalog.get(key.instrument()), book.events.clone().take()) {
            wire::encode_element(dialect, instrument, book.seq, book.time, &event, out);
        }
    }

    /// Sends one frame to all members of a lane.
    fn send_run(&mut self, now: Now, id: LaneId, run: &Run, class: Class, io: &mut impl Io) {
        if run.is_empty() {
            return;
        }
        let Some(lane) = self.lanes.lane(id) else { return };
        if lane.members.is_empty() {
            return;
        }
        self.frames.data(lane.dialect, FrameKind::Live, now.wall, run.items.len(), &run.bytes);
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

    fn send_rest(&mut self, now: Now, id: LaneId, run: &Run, joiner: &Joiner, io: &mut impl Io) {
        debug_assert!(self.lanes.lane(id).is_some());
        let (items, bytes) = (&run.items[joiner.skip_items..], &run.bytes[joiner.skip_bytes..]);
        self.send_to(now, joiner.session, items, bytes, Class::Owed, io);
    }

    /// Sends one session a frame of its own.
    pub(super) fn send_to(
        &mut self,
        now: Now,
        index: u32,
        items: &[Item],
        bytes: &[u8],
        class: Class,
        io: &mut impl Io,
    ) {
        if items.is_empty() {
            return;
        }
        let Some(session) = self.sessions.at(index) else { return };
        self.frames.data(session.dialect, FrameKind::Live, now.wall, items.len(), bytes);
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
        self.hand_over(now, key, id, &owed, io);
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
    fn hand_over(&mut self, now: Now, key: SessionKey, id: LaneId, owed: &Joiner, io: &mut impl Io) {
        let Some(lane) = self.lanes.lane_mut(id) else { return };
        if !lane.pending.is_empty() {
            let run = std::mem::take(&mut lane.pending);
            self.send_rest(now, id, &run, owed, io);
            if let Some(lane) = self.lanes.lane_mut(id) {
                lane.pending = run;
            }
        } else if !lane.changed.is_empty() {
            let changed = std::mem::take(&mut lane.changed);
            for run in self.newest_runs(id, &changed, Some(owed.position)) {
                self.send_to(now, key.index, &run.items, &run.bytes, Class::Passing, io);
            }
            if let Some(lane) = self.lanes.lane_mut(id) {
                lane.changed = changed;
            }
        }
    }
}
