//! One compressor with history for all members of a lane.
//!
//! A receiver's window does not mind what a compressor leaves unmentioned, so sessions that have been sent the same
//! messages since a compressor began anew can share it (see [`websocket::deflate::Compressor`]). What lies between two
//! beginnings is an *epoch*. A session is *in step* with an epoch when it was there at its begin. A session that comes
//! later, or has missed a message, is sent plain frames until the next epoch; who waits brings that about, but not more
//! often than [`DeflateConfig::epoch_interval`](crate::DeflateConfig).
//!
//! **Invariant:** a session that is in step has been sent every message of the epoch, and no other compressed message
//! since the epoch began. That is why a session *follows* at most one lane, and why, while it is in step, all that it is
//! sent besides goes out plain (RSV1 = 0, RFC 7692 section 6), as do urgent frames always: they may pass messages of an
//! epoch that wait in the outbox.

use std::time::Duration;

use websocket::deflate::Compressor;

use super::Shard;
use super::lane::{Lane, LaneId};
use super::outbox::Class;
use super::session::{Outgoing, Place, Session};
use crate::{Compression, DeflateConfig, Io, Item, Now, SessionKey};

/// Names a stretch of messages of one compressor; unique within a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Epoch(u64);

impl Epoch {
    /// Of a session that is in step with no compressor, and of messages that are compressed by themselves: exactly the
    /// former may be sent the latter.
    pub(crate) const NONE: Self = Self(0);
}

/// Names a compressor of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CompressorId(u32);

/// The compressors of a shard.
#[derive(Debug)]
pub(crate) struct Compressors {
    config: DeflateConfig,
    slots: Vec<Option<Box<History>>>,
    /// For messages that are compressed by themselves, by window: 9 to 15 bits.
    stateless: [Option<Box<Compressor>>; 7],
    epochs: u64,
    live: usize,
}

/// A compressor that a lane holds.
#[derive(Debug)]
struct History {
    lane: LaneId,
    compressor: Compressor,
    epoch: Epoch,
    begun_at: Duration,
    used_at: Duration,
    /// The number of sessions that are in step.
    in_step: u32,
}

impl Compressors {
    pub(crate) fn new(config: DeflateConfig) -> Self {
        Self { config, slots: Vec::new(), stateless: Default::default(), epochs: 0, live: 0 }
    }

    /// How many with history there are.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Gives back the compressor of a lane that is no more.
    pub(crate) fn release(&mut self, id: CompressorId) {
        if self.slots[id.0 as usize].take().is_some() {
            self.live -= 1;
        }
    }

    /// A compressor without history.
    fn stateless(&mut self, window_bits: u8) -> &mut Compressor {
        let bits = window_bits.clamp(9, 15);
        let level = self.config.level;
        let compressor =
            self.stateless[usize::from(bits - 9)].get_or_insert_with(|| Box::new(Compressor::new(level, bits)));
        compressor.reset();
        compressor
    }

    fn get(&mut self, id: CompressorId) -> Option<&mut History> {
        self.slots[id.0 as usize].as_deref_mut()
    }

    fn has_room(&self) -> bool {
        (self.live + 1) * Compressor::BYTES <= self.config.memory_bytes_max
    }

    fn hand_out(&mut self, now: Now, lane: LaneId, window_bits: u8) -> CompressorId {
        let at = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[at] = Some(Box::new(History {
            lane,
            compressor: Compressor::new(self.config.level, window_bits),
            epoch: Epoch::NONE,
            begun_at: now.monotonic,
            used_at: now.monotonic,
            in_step: 0,
        }));
        self.live += 1;
        CompressorId(at as u32)
    }

    /// The lanes that hold a compressor which `which` picks.
    fn holders(&self, which: impl Fn(&History) -> bool) -> Vec<LaneId> {
        self.slots.iter().flatten().filter(|history| which(history)).map(|history| history.lane).collect()
    }
}

impl History {
    fn begin_epoch(&mut self, now: Now, epoch: Epoch, in_step: u32) {
        self.compressor.reset();
        self.epoch = epoch;
        self.begun_at = now.monotonic;
        self.in_step = in_step;
    }
}

/// Has a session that has become a member of a lane follow it, unless it follows one already.
pub(super) fn follow(session: &mut Session, id: LaneId, lane: &mut Lane) {
    if session.follows.is_none() && matches!(lane.compression, Compression::Shared { .. }) {
        session.follows = Some(id);
        lane.followers += 1;
    }
}

impl Shard {
    /// Ends a session's following of a lane that it is leaving; it may follow another one that it is a member of.
    pub(super) fn unfollow(&mut self, index: u32, id: LaneId) {
        let Some(session) = self.sessions.at(index).filter(|session| session.follows == Some(id)) else { return };
        session.follows = None;
        let epoch = std::mem::take(&mut session.in_step);
        let next = session.memberships.iter().find(|m| m.lane != id && matches!(m.place, Place::Member(_)));
        let next = next.map(|membership| membership.lane);
        if let Some(lane) = self.lanes.lane_mut(id) {
            lane.followers -= 1;
            let history = lane.compressor.and_then(|compressor| self.lanes.compressors.get(compressor));
            if let Some(history) = history.filter(|history| epoch != Epoch::NONE && history.epoch == epoch) {
                history.in_step -= 1;
            }
        }
        if let Some(next) = next
            && let Some(session) = self.sessions.at(index)
            && let Some(lane) = self.lanes.lane_mut(next)
        {
            follow(session, next, lane);
        }
    }

    /// Compresses the frame that lies in the buffer for the members of a lane; says which of them may be sent it so.
    /// None when nobody may.
    pub(super) fn deflate_for(&mut self, now: Now, id: LaneId) -> Option<Epoch> {
        let lane = self.lanes.lane(id)?;
        let payload_bytes = self.frames.payload_bytes();
        if payload_bytes < self.config.deflate.threshold_bytes {
            return None;
        }
        let (window_bits, compressor) = match lane.compression {
            Compression::Off => return None,
            Compression::Stateless { window_bits } => (window_bits, None),
            Compression::Shared { .. } if lane.followers == 0 => return None,
            Compression::Shared { window_bits } => (window_bits, self.compressor_of(now, id, window_bits)),
        };
        let history = compressor.and_then(|compressor| self.lanes.compressors.get(compressor));
        let (epoch, deflated_bytes) = if let Some(history) = history {
            (history.epoch, self.frames.deflate(&mut history.compressor))
        } else {
            (Epoch::NONE, self.frames.deflate(self.lanes.compressors.stateless(window_bits)))
        };
        self.stats.deflated_messages += 1;
        self.stats.deflated_bytes_in += payload_bytes as u64;
        self.stats.deflated_bytes_out += deflated_bytes as u64;
        Some(epoch)
    }

    /// The compressor that a lane holds or can get, with everyone in step who can be.
    fn compressor_of(&mut self, now: Now, id: LaneId, window_bits: u8) -> Option<CompressorId> {
        let held = self.lanes.lane(id)?.compressor;
        let compressor = if held.is_some() { held } else { self.acquire(now, id, window_bits) }?;
        let followers = self.lanes.lane(id)?.followers;
        let interval = self.config.deflate.epoch_interval;
        let compressors = &mut self.lanes.compressors;
        let history = compressors.get(compressor)?;
        history.used_at = now.monotonic;
        let someone_waits = history.in_step < followers;
        if someone_waits && (history.in_step == 0 || history.begun_at + interval <= now.monotonic) {
            compressors.epochs += 1;
            let epoch = Epoch(compressors.epochs);
            compressors.get(compressor)?.begin_epoch(now, epoch, followers);
            self.stats.deflate_epochs += 1;
            self.set_step(id, epoch);
        }
        Some(compressor)
    }

    /// Gets a compressor for a lane: a new one while there is room, or that of a lane that has at most half as many
    /// members. A lane that gets none asks again after some time.
    fn acquire(&mut self, now: Now, id: LaneId, window_bits: u8) -> Option<CompressorId> {
        let lane = self.lanes.lane(id)?;
        if lane.retry_at > now.monotonic {
            return None;
        }
        let followers = lane.followers;
        if !self.lanes.compressors.has_room() {
            let holders = self.lanes.compressors.holders(|_| true);
            let population = |id: &LaneId| self.lanes.lane(*id).map_or(0, |lane| lane.followers);
            match holders.into_iter().min_by_key(population) {
                Some(smallest) if population(&smallest) <= followers / 2 => self.release_compressor(smallest),
                _ => {
                    let retry_at = now.monotonic + self.config.deflate.epoch_interval;
                    self.lanes.lane_mut(id)?.retry_at = retry_at;
                    return None;
                }
            }
        }
        let compressor = self.lanes.compressors.hand_out(now, id, window_bits);
        self.lanes.lane_mut(id)?.compressor = Some(compressor);
        Some(compressor)
    }

    /// Says of all who follow a lane what they are in step with.
    fn set_step(&mut self, id: LaneId, epoch: Epoch) {
        let Some(lane) = self.lanes.lane(id) else { return };
        for &member in &lane.members {
            if let Some(session) = self.sessions.at(member).filter(|session| session.follows == Some(id)) {
                session.in_step = epoch;
            }
        }
    }

    /// Takes a lane's compressor away from it.
    fn release_compressor(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.lane_mut(id) else { return };
        if let Some(compressor) = lane.compressor.take() {
            self.lanes.compressors.release(compressor);
            self.set_step(id, Epoch::NONE);
        }
    }

    /// Gives compressors back that nobody has used for long.
    pub(super) fn release_idle_compressors(&mut self, now: Now) {
        let idle_max = self.config.deflate.idle_max;
        for id in self.lanes.compressors.holders(|history| history.used_at + idle_max <= now.monotonic) {
            self.release_compressor(id);
        }
    }

    /// Sends one session the frame that lies in the buffer; compressed by itself if the session may have it so and it is
    /// worth it.
    pub(super) fn send_frame(&mut self, now: Now, index: u32, items: &[Item], class: Class, io: &mut impl Io) {
        let Some(session) = self.sessions.at(index) else { return };
        // An urgent frame may pass others in the outbox that refer to what was sent before them.
        let may = session.in_step == Epoch::NONE && !matches!(class, Class::Pong | Class::Urgent);
        let worth_it = self.frames.payload_bytes() >= self.config.deflate.threshold_bytes;
        let window_bits = match session.compression {
            Compression::Stateless { window_bits } | Compression::Shared { window_bits } if may && worth_it => {
                window_bits
            }
            _ => {
                let mut out = Outgoing::new(self.frames.plain(), items, class);
                return self.sessions.send(now, index, &mut out, &mut self.stats, io);
            }
        };
        self.frames.deflate(self.lanes.compressors.stateless(window_bits));
        let mut out = Outgoing::deflated(self.frames.deflated(), self.frames.plain(), items, class);
        self.sessions.send(now, index, &mut out, &mut self.stats, io);
    }

    /// As [`Shard::send_frame`], for a key that may be outdated.
    pub(super) fn send_frame_to(&mut self, now: Now, key: SessionKey, items: &[Item], class: Class, io: &mut impl Io) {
        if self.sessions.by_key(key).is_some() {
            self.send_frame(now, key.index, items, class, io);
        }
    }
}
