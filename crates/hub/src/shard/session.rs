//! Sessions and the way bytes reach them: at once when the socket takes them, through the outbox otherwise.
//!
//! **Invariant:** a session without an outbox owes its socket nothing; the common path is one `write` and one addition.
//! What a write brings about (a lost connection, an outbox past its bound) is noted and settled by the shard after its
//! loop over the members, so that no list changes under a loop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use wire::{Dialect, GapReason, Limits, SlowPolicy};

use super::auth::Auth;
use super::deflate::Epoch;
use super::frames::{Form, Framing};
use super::lane::LaneId;
use super::outbox::{Class, Frame, Outbox, Withdraw};
use crate::{Compression, Disconnect, Io, Item, Now, SessionKey, Stats, StreamKey, Written};

/// One client.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) dialect: Dialect,
    pub(crate) framing: Framing,
    pub(crate) compression: Compression,
    /// The lane whose compressor's history the session shares, or waits to.
    pub(crate) follows: Option<LaneId>,
    /// The epoch of that compressor, while the session has been sent all of it.
    pub(crate) in_step: Epoch,
    pub(crate) state: State,
    pub(crate) slow: SlowPolicy,
    pub(crate) memberships: Vec<Membership>,
    pub(crate) outbox: Option<Box<Outbox>>,
    pub(crate) stall: Option<Box<Stall>>,
    /// Elements sent, snapshots and gaps aside; withdrawn ones are taken off again.
    pub(crate) delivered: u64,
    /// Elements owed in mode `every` that were declared as a gap.
    pub(crate) dropped: u64,
    pub(crate) bucket: Bucket,
    pub(crate) auth: Auth,
    pub(crate) heartbeat_due: Duration,
    pub(crate) ping_due: Duration,
    pub(crate) pings_unanswered: u8,
    /// Whether what waits in the outbox waits for the key's bytes per second.
    pub(crate) throttled: bool,
    pub(crate) opened_at: Duration,
    /// Bytes of frames given to it, those that wait included.
    pub(crate) bytes: u64,
    /// Gap elements sent.
    pub(crate) gaps: u64,
}

impl Session {
    /// How its messages are written.
    pub(crate) fn form(&self) -> Form {
        Form { dialect: self.dialect, framing: self.framing }
    }
}

/// Where a session is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    /// Our close frame is queued; the socket is closed when the client answers, or at the deadline.
    Closing(Box<Ending>),
    /// Both close frames are exchanged but ours is not out yet.
    Finishing(Box<Ending>),
}

/// How a session ends; boxed, because nearly all sessions are open and pay for the size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) reason: Disconnect,
    pub(crate) deadline: Duration,
}

/// A session's place in a lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Membership {
    pub(crate) lane: LaneId,
    pub(crate) place: Place,
}

/// Where in the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Index into the lane's members.
    Member(u32),
    /// Among the lane's joiners until its next flush.
    Joining,
    /// Not served by the lane while the session is stalled.
    Detached,
}

/// A session whose outbox went past its bound, until it has caught up.
#[derive(Debug)]
pub(crate) struct Stall {
    /// What its gaps will give as the reason.
    pub(crate) reason: GapReason,
    /// For each stream, the last number that the session was given.
    pub(crate) base: FxHashMap<StreamKey, u64>,
    /// Streams whose snapshot was withdrawn.
    pub(crate) unsent: FxHashSet<StreamKey>,
    /// Whether the newest values have been asked for.
    pub(crate) recovering: bool,
    /// Whether streams were subscribed since, which the answer will not cover.
    pub(crate) outdated: bool,
}

/// A token bucket of commands and what follows from it being empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    tokens_milli: u32,
    refilled_ms: u32,
    error_ms: u32,
    window_ms: u32,
    rejected: u16,
    noticed: bool,
}

/// What the bucket says of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    /// Refused, and it was said less than a second ago.
    Silent,
    /// Refused; an error is due.
    Error,
    /// Refused for the first time of an episode; an error and a notice are due.
    Notice,
    /// Refused too often.
    Flood,
}

/// The time within which `commands_rejected_max` refused commands close the session.
const FLOOD_WINDOW_MS: u32 = 10_000;

impl Bucket {
    pub(crate) fn new(burst: u32, now: Duration) -> Self {
        let now_ms = now.as_millis() as u32;
        Self {
            tokens_milli: burst.saturating_mul(1000),
            refilled_ms: now_ms,
            error_ms: now_ms.wrapping_sub(1000),
            window_ms: now_ms,
            rejected: 0,
            noticed: false,
        }
    }

    /// Takes a token if there is one. A rate of 0 switches the limit off.
    pub(crate) fn take(&mut self, limits: &Limits, now: Duration) -> Verdict {
        let (rate, burst) = (limits.commands_per_s, limits.commands_burst);
        if rate == 0 {
            return Verdict::Allowed;
        }
        let now_ms = now.as_millis() as u32;
        let capacity = burst.max(1).saturating_mul(1000);
        let refill = u64::from(now_ms.wrapping_sub(self.refilled_ms)) * u64::from(rate);
        self.refilled_ms = now_ms;
        self.tokens_milli = (u64::from(self.tokens_milli) + refill).min(u64::from(capacity)) as u32;
        if self.tokens_milli >= 1000 {
            self.tokens_milli -= 1000;
            // A full half of the bucket means that the episode is over.
            self.noticed &= self.tokens_milli < capacity / 2;
            return Verdict::Allowed;
        }
        if now_ms.wrapping_sub(self.window_ms) > FLOOD_WINDOW_MS {
            self.window_ms = now_ms;
            self.rejected = 0;
        }
        self.rejected = self.rejected.saturating_add(1);
        if limits.commands_rejected_max > 0 && u32::from(self.rejected) >= limits.commands_rejected_max {
            return Verdict::Flood;
        }
        if !std::mem::replace(&mut self.noticed, true) {
            self.error_ms = now_ms;
            return Verdict::Notice;
        }
        if now_ms.wrapping_sub(self.error_ms) >= 1000 {
            self.error_ms = now_ms;
            return Verdict::Error;
        }
        Verdict::Silent
    }
}

/// What a write brought about, to be settled after the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Aftermath {
    /// The connection is gone.
    Lost,
    /// More live data waits than the session may hold.
    Overflow,
    /// More waits that cannot be withdrawn than any client that reads at all would leave.
    Glut,
}

/// Bound on snapshots and answers that wait for one session: the snapshot of 10,000 instruments in JSON takes about 4 MB
/// and a client can ask for it again; past this it has asked several times without reading and is closed.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// All sessions of a shard.
#[derive(Debug)]
pub(crate) struct Sessions {
    slots: Vec<Slot>,
    free: Vec<u32>,
    open: usize,
    outbox_bytes: usize,
    outbox_bytes_max: usize,
    outbox_total_max: usize,
    aftermath: VecDeque<(SessionKey, Aftermath)>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    session: Option<Box<Session>>,
}

/// A frame that is sent to several sessions: shared from the first that cannot take it at once.
pub(crate) struct Outgoing<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) items: &'a [Item],
    pub(crate) class: Class,
    /// Bytes that compression has saved.
    saved: usize,
    shared: Option<Arc<Frame>>,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(bytes: &'a [u8], items: &'a [Item], class: Class) -> Self {
        Self { bytes, items, class, saved: 0, shared: None }
    }

    /// The same message in fewer bytes than `plain`.
    pub(crate) fn deflated(bytes: &'a [u8], plain: &[u8], items: &'a [Item], class: Class) -> Self {
        Self { saved: plain.len().saturating_sub(bytes.len()), ..Self::new(bytes, items, class) }
    }

    fn share(&mut self) -> Arc<Frame> {
        let (bytes, items) = (self.bytes, self.items);
        Arc::clone(self.shared.get_or_insert_with(|| Arc::new(Frame { bytes: bytes.into(), items: items.into() })))
    }
}

impl Sessions {
    pub(crate) fn new(outbox_bytes_max: usize, outbox_total_max: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            open: 0,
            outbox_bytes: 0,
            outbox_bytes_max,
            outbox_total_max,
            aftermath: VecDeque::new(),
        }
    }

    /// Bounds each outbox by so many bytes from now on.
    pub(crate) fn set_outbox_bytes_max(&mut self, bytes: usize) {
        self.outbox_bytes_max = bytes;
    }

    /// The key that the next [`Sessions::insert`] will use.
    pub(crate) fn next_key(&self) -> SessionKey {
        match self.free.last() {
            Some(&index) => SessionKey { index, generation: self.slots[index as usize].generation },
            None => SessionKey { index: self.slots.len() as u32, generation: 0 },
        }
    }

    pub(crate) fn insert(&mut self, session: Session) -> SessionKey {
        let key = self.next_key();
        if self.free.pop().is_none() {
            self.slots.push(Slot { generation: 0, session: None });
        }
        self.slots[key.index as usize].session = Some(Box::new(session));
        self.open += 1;
        key
    }

    /// Forgets a session and gives its index back.
    pub(crate) fn remove(&mut self, key: SessionKey) -> Option<Box<Session>> {
        self.by_key(key)?;
        let slot = &mut self.slots[key.index as usize];
        let session = slot.session.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        self.open -= 1;
        self.outbox_bytes -= session.outbox.as_ref().map_or(0, |outbox| outbox.bytes());
        Some(session)
    }

    pub(crate) fn by_key(&mut self, key: SessionKey) -> Option<&mut Session> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.session.as_deref_mut() } else { None }
    }

    /// As [`Sessions::by_key`], to read.
    pub(crate) fn look(&self, key: SessionKey) -> Option<&Session> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.session.as_deref() } else { None }
    }

    /// The key of the session at an index, if there is one.
    pub(crate) fn used_at(&self, index: u32) -> Option<SessionKey> {
        let slot = self.slots.get(index as usize)?;
        slot.session.as_ref().map(|_| SessionKey { index, generation: slot.generation })
    }

    /// The session at an index that a lane or a loop over the slab knows to be in use.
    pub(crate) fn at(&mut self, index: u32) -> Option<&mut Session> {
        self.slots.get_mut(index as usize)?.session.as_deref_mut()
    }

    /// Whether the session may be sent a message of that epoch.
    pub(crate) fn is_in_step(&mut self, index: u32, epoch: Epoch) -> bool {
        self.at(index).is_some_and(|session| session.in_step == epoch)
    }

    pub(crate) fn key_at(&self, index: u32) -> SessionKey {
        SessionKey { index, generation: self.slots[index as usize].generation }
    }

    /// The keys of all sessions there are.
    pub(crate) fn keys(&self) -> impl Iterator<Item = SessionKey> + '_ {
        let keyed = |(index, slot): (usize, &Slot)| SessionKey { index: index as u32, generation: slot.generation };
        self.slots.iter().enumerate().filter(|(_, slot)| slot.session.is_some()).map(keyed)
    }

    /// The number of indices in use or free.
    pub(crate) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(crate) fn len(&self) -> usize {
        self.open
    }

    pub(crate) fn outbox_bytes(&self) -> usize {
        self.outbox_bytes
    }

    /// The oldest thing to settle.
    pub(crate) fn next_aftermath(&mut self) -> Option<(SessionKey, Aftermath)> {
        self.aftermath.pop_front()
    }

    /// Sends a frame to the session at `index`, as far as its socket takes it, and queues the rest.
    pub(crate) fn send(&mut self, now: Now, index: u32, out: &mut Outgoing<'_>, stats: &mut Stats, io: &mut impl Io) {
        let slot = &mut self.slots[index as usize];
        let key = SessionKey { index, generation: slot.generation };
        let Some(session) = slot.session.as_deref_mut() else { return };
        stats.frames += 1;
        stats.bytes += out.bytes.len() as u64;
        session.bytes += out.bytes.len() as u64;
        stats.bytes_saved += out.saved as u64;
        let delivered = if out.class.is_delivery() { out.items.len() as u64 } else { 0 };
        stats.deliveries += delivered;
        session.delivered += delivered;
        let mut taken = 0;
        if session.outbox.is_none() {
            match io.write(key, out.bytes) {
                Written::Bytes(n) if n >= out.bytes.len() => return,
                Written::Bytes(n) => taken = n,
                Written::Throttled => session.throttled = true,
                Written::Broken => {
                    self.aftermath.push_back((key, Aftermath::Lost));
                    return;
                }
            }
        }
        let outbox = session.outbox.get_or_insert_with(|| Box::new(Outbox::new(now.monotonic)));
        let replaced = outbox.push(out.share(), out.class, taken);
        self.outbox_bytes = self.outbox_bytes + out.bytes.len() - taken - replaced;
        let is_outdated = session.slow == SlowPolicy::Conflate && outbox.is_outdated();
        let is_full = outbox.data_bytes() > self.outbox_bytes_max || self.outbox_bytes > self.outbox_total_max;
        if outbox.kept_bytes() > KEPT_BYTES_MAX {
            self.aftermath.push_back((key, Aftermath::Glut));
        } else if is_full || is_outdated {
            self.aftermath.push_back((key, Aftermath::Overflow));
        }
    }

    /// Writes from the outbox of a session whose socket takes bytes again. Whether nothing is left.
    pub(crate) fn drain(&mut self, now: Now, key: SessionKey, io: &mut impl Io) -> bool {
        let slot = &mut self.slots[key.index as usize];
        let Some(session) = slot.session.as_deref_mut() else { return false };
        let Some(outbox) = &mut session.outbox else { return true };
        while let Some(head) = outbox.head() {
            let offered = head.len();
            match io.write(key, head) {
                Written::Bytes(0) => return false,
                Written::Throttled => {
                    // It is the server that waits here, not the client.
                    session.throttled = true;
                    outbox.progress_at = now.monotonic;
                    return false;
                }
                Written::Bytes(n) => {
                    outbox.advance(n);
                    self.outbox_bytes -= n;
                    outbox.progress_at = now.monotonic;
                    if n < offered {
                        return false;
                    }
                }
                Written::Broken => {
                    self.aftermath.push_back((key, Aftermath::Lost));
                    return false;
                }
            }
        }
        session.outbox = None;
        session.throttled = false;
        true
    }

    /// Takes frames that wait for a session back, calling `on` for each.
    pub(crate) fn withdraw(
        &mut self,
        key: SessionKey,
        what: Withdraw,
        stats: &mut Stats,
        mut on: impl FnMut(Class, &[Item]),
    ) {
        let Some(session) = self.slots[key.index as usize].session.as_deref_mut() else { return };
        let Some(outbox) = &mut session.outbox else { return };
        let before = outbox.bytes();
        let delivered = &mut session.delivered;
        outbox.withdraw(what, |class, items| {
            if class.is_delivery() {
                *delivered -= items.len() as u64;
                stats.withdrawn += items.len() as u64;
            }
            on(class, items);
        });
        self.outbox_bytes -= before - outbox.bytes();
        if outbox.is_empty() {
            session.outbox = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rate: u32, burst: u32) -> Limits {
        Limits { commands_per_s: rate, commands_burst: burst, ..Limits::default() }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_is_allowed_then_refused_then_a_flood() {
        let mut bucket = Bucket::new(50, ms(0));
        let verdicts: Vec<Verdict> = (0..50).map(|_| bucket.take(&limits(10, 50), ms(1))).collect();
        assert!(verdicts.iter().all(|v| *v == Verdict::Allowed));
        assert_eq!(bucket.take(&limits(10, 50), ms(2)), Verdict::Notice);
        assert_eq!(bucket.take(&limits(10, 50), ms(3)), Verdict::Silent);
        // A tenth of a second later there is one token again.
        assert_eq!(bucket.take(&limits(10, 50), ms(110)), Verdict::Allowed);
        assert_eq!(bucket.take(&limits(10, 50), ms(111)), Verdict::Silent);
        let flood = (0..100).map(|_| bucket.take(&limits(10, 50), ms(120))).find(|v| *v == Verdict::Flood);
        assert_eq!(flood, Some(Verdict::Flood));
    }

    #[test]
    fn errors_come_at_most_once_a_second_and_one_notice_an_episode() {
        let mut bucket = Bucket::new(1, ms(0));
        assert_eq!(bucket.take(&limits(1, 1), ms(0)), Verdict::Allowed);
        assert_eq!(bucket.take(&limits(1, 1), ms(1)), Verdict::Notice);
        assert_eq!(bucket.take(&limits(1, 1), ms(500)), Verdict::Silent);
        assert_eq!(bucket.take(&limits(1, 1), ms(999)), Verdict::Silent);
        assert_eq!(bucket.take(&limits(1, 1), ms(2000)), Verdict::Allowed);
        assert_eq!(bucket.take(&limits(0, 1), ms(2001)), Verdict::Allowed);
    }

    #[test]
    fn an_index_is_used_again_under_another_generation() {
        let mut sessions = Sessions::new(1, 1);
        let session = || Session {
            compression: Compression::Off,
            follows: None,
            in_step: Epoch::NONE,
            dialect: Dialect::NativeJson,
            framing: Framing::WebSocket,
            state: State::Open,
            slow: SlowPolicy::Conflate,
            memberships: Vec::new(),
            outbox: None,
            stall: None,
            delivered: 0,
            dropped: 0,
            bucket: Bucket::new(1, ms(0)),
            auth: Auth::new(crate::Access::Open, ms(0)),
            throttled: false,
            heartbeat_due: ms(0),
            ping_due: ms(0),
            pings_unanswered: 0,
            opened_at: ms(0),
            bytes: 0,
            gaps: 0,
        };
        let first = sessions.insert(session());
        assert!(sessions.remove(first).is_some());
        assert!(sessions.remove(first).is_none());
        let expected = sessions.next_key();
        let second = sessions.insert(session());
        assert_eq!((second, second.index), (expected, first.index));
        assert!(sessions.by_key(first).is_none() && sessions.by_key(second).is_some());
        assert_eq!(sessions.len(), 1);
    }
}
