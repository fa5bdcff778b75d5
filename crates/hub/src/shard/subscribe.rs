//! Subscriptions change: replies of the sequencer are applied.
//!
//! **Invariant:** a change happens between two batches. Streams that a session keeps go on without a hole or a repeat
//! while it moves from lane to lane; a stream that it gains begins with the state at that very point.
//!
//! Within a session an instrument's channel has one mode. A later subscribe replaces an earlier one; `*` replaces all of
//! its channel, and a symbol that is subscribed in another mode after `*` is left out of what `*` delivers.

use std::sync::Arc;

use market::{Channel, ChannelSet};
use wire::{CommandId, ErrorCode, FrameKind, Mode, Recovered, ServerMessage, SubscriptionInfo};

use super::Shard;
use super::command::{Operation, Subscription, Targets, Verb};
use super::frames::EventFields;
use super::lane::LaneId;
use super::outbox::Class;
use super::scope::Scope;
use super::selection::{Change, Selection};
use super::session::State;
use crate::{Catalog, Elements, Io, Now, OverKeyLimit, Reply, SessionKey, StreamKey};

/// Edits of a session's selections, one per mode.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<(Mode, Change)>);

impl Edits {
    pub(super) fn of(&mut self, mode: Mode) -> &mut Change {
        let at = self.0.iter().position(|(other, _)| *other == mode).unwrap_or_else(|| {
            self.0.push((mode, Change::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

impl Shard {
    /// Applies the sequencer's reply to the oldest request.
    pub(super) fn apply(&mut self, now: Now, reply: &Reply, io: &mut impl Io) {
        self.ordinal = self.ordinal.max(reply.ordinal);
        let Some((key, operation)) = self.in_flight.pop_front() else { return };
        for (stream, seq) in &reply.positions {
            if let Some(last) = self.last_seq.get_mut(stream.index()) {
                *last = (*last).max(*seq);
            }
        }
        if self.sessions.by_key(key).is_none_or(|session| session.state != State::Open) {
            return;
        }
        match operation {
            Operation::Subscribe(subscription) => self.apply_subscription(now, key, &subscription, reply, io),
            Operation::Unsubscribe { id, channels, targets } => self.unsubscribe(now, key, id, channels, &targets, io),
            Operation::List { id } => self.list(now, key, id.as_ref(), io),
            Operation::Recover => self.rejoin(now, key, reply, io),
        }
    }

    fn apply_subscription(
        &mut self,
        now: Now,
        key: SessionKey,
        wanted: &Subscription,
        reply: &Reply,
        io: &mut impl Io,
    ) {
        let covered = self.sessions.by_key(key).and_then(|session| session.auth.entitlements());
        let unchanged = covered == wanted.covered.as_ref();
        if wanted.verb == Verb::Rescope {
            // Where it has changed again, another one follows or none is needed.
            if unchanged {
                self.apply_rescope(now, key, reply, io);
            }
            return;
        }
        if !unchanged {
            // It was looked at under another grant, and may be more than the new one covers.
            let text = "the entitlements have changed meanwhile; nothing was applied, subscribe again".to_owned();
            return self.refuse_not_entitled(now, key, wanted.id.clone(), text, Vec::new(), io);
        }
        self.catch_up(now, key, io);
        let edits = match wanted.verb {
            Verb::Subscribe | Verb::Rescope => self.plan_subscribe(key, wanted),
            Verb::Update => {
                let Some(edits) = self.plan_update(key, wanted) else {
                    let text = "update changes what is subscribed, and some of this is not".to_owned();
                    return self.refuse(now, key, wanted.id.clone(), ErrorCode::NotSubscribed, text, Vec::new(), io);
                };
                edits
            }
        };
        let count = self.count_after(key, &edits);
        let max = self.config.limits.subscriptions_max as usize;
        if max > 0 && count > max {
            return self.refuse_too_many(now, key, wanted.id.clone(), count, io);
        }
        if let Err(OverKeyLimit { max }) = io.hold_subscriptions(key, count) {
            let text = format!(
                "{count} (channel, symbol) pairs would be subscribed here; all connections of this key together may have \
                 {max} (subscriptions_per_key, or subscriptions of the key); nothing was applied"
            );
            self.stats.over_key_subscriptions += 1;
            return self.refuse(now, key, wanted.id.clone(), ErrorCode::TooManySubscriptions, text, Vec::new(), io);
        }
        if let Some(session) = self.sessions.by_key(key) {
            session.slow = wanted.slow;
        }
        self.say_subscribed(now, key, wanted, reply, io);
        self.refuse_symbols(now, key, wanted.id.as_ref(), wanted.unknown.clone(), wanted.denied.clone(), io);
        self.retarget(now, key, edits, io);
        if wanted.verb == Verb::Subscribe {
            self.send_state(now, key, reply, io);
        }
    }

    /// Sends the session what its lanes have gathered, so that the state that follows is newer than all it has seen.
    pub(super) fn catch_up(&mut self, now: Now, key: SessionKey, io: &mut impl Io) {
        for id in self.lanes_of(key) {
            if self.lanes.lane(id).is_some_and(|lane| !lane.pending.is_empty() || !lane.changed.is_empty()) {
                self.leave(now, key, id, io);
                self.join(key, id);
            }
        }
    }

    fn say_subscribed(&mut self, now: Now, key: SessionKey, wanted: &Subscription, reply: &Reply, io: &mut impl Io) {
        let catalog = Arc::clone(&self.catalog);
        let symbols = self.symbols_of(key);
        let instruments: Vec<_> = match &wanted.targets {
            Targets::All => catalog.iter().filter(|i| symbols.allows(i.symbol.as_str())).collect(),
            Targets::Named(ids) => ids.iter().filter_map(|id| catalog.get(*id)).collect(),
        };
        let named = |(stream, how): &(StreamKey, Recovered)| {
            catalog.get(stream.instrument()).map(|i| (i.symbol.as_str(), stream.channel(), *how))
        };
        let recovered: Vec<_> = reply.recovered.iter().filter_map(named).collect();
        let message = ServerMessage::Subscribed {
            id: wanted.id.as_ref(),
            instruments: &instruments,
            channels: wanted.channels,
            mode: wanted.mode,
            recovered: &recovered,
        };
        let Some(session) = self.sessions.by_key(key) else { return };
        let nothing_follows = reply.gaps.is_empty() && reply.snapshot.is_empty() && reply.replay.is_empty();
        let ordinal = (nothing_follows && session.stall.is_none()).then_some(reply.ordinal);
        self.frames.message(session.form(), &message, EventFields { ordinal, retry_ms: None });
        self.send_frame_to(now, key, &[], Class::Kept, io);
    }

    /// Sends declared gaps, then the state, then what was missed.
    pub(super) fn send_state(&mut self, now: Now, key: SessionKey, reply: &Reply, io: &mut impl Io) {
        let Some(session) = self.sessions.by_key(key) else { return };
        let form = session.form();
        if let Some(stall) = &mut session.stall {
            // Nothing is added to what waits; the state comes with the newest values once the session has caught up.
            return stall.postpone(reply);
        }
        let mut gaps = Vec::new();
        let mut dropped = 0;
        for (stream, gap, time) in &reply.gaps {
            if let Some(instrument) = self.catalog.get(stream.instrument()) {
                wire::encode_gap(form.dialect, instrument, *time, *gap, &mut gaps);
                dropped += gap.to_seq + 1 - gap.from_seq;
            }
        }
        if !reply.gaps.is_empty() {
            // Whoever is cut before the last of all this goes on from where it was, and is told of the gaps again.
            let ordinal = (reply.snapshot.is_empty() && reply.replay.is_empty()).then_some(reply.ordinal);
            self.frames.data(form, FrameKind::Live, now.wall, (reply.gaps.len(), &gaps), ordinal);
            self.send_frame_to(now, key, &[], Class::Kept, io);
            self.stats.gaps += reply.gaps.len() as u64;
            self.stats.dropped_evicted += dropped;
            if let Some(session) = self.sessions.by_key(key) {
                session.dropped += dropped;
                session.gaps += reply.gaps.len() as u64;
            }
        }
        self.stats.snapshot_elements += reply.snapshot.len() as u64;
        let all_seen = |sent: usize| (sent == reply.snapshot.len() && reply.replay.is_empty()).then_some(reply.ordinal);
        self.send_elements(now, key, FrameKind::Snapshot, &reply.snapshot, all_seen, io);
        let all_seen = |sent: usize| {
            if sent == reply.replay.len() {
                return Some(reply.ordinal);
            }
            // Beside a state that is newer, the middle of the replay is no point to go on from.
            let alone = reply.gaps.is_empty() && reply.snapshot.is_empty();
            reply.replay_ordinals.get(sent - 1).copied().filter(|_| alone)
        };
        self.send_elements(now, key, FrameKind::Live, &reply.replay, all_seen, io);
    }

    /// Sends elements in frames of at most the longest size; `seen` says up to which ordinal a client has seen everything
    /// that was sent so many of them.
    fn send_elements(
        &mut self,
        now: Now,
        key: SessionKey,
        kind: FrameKind,
        elements: &Elements,
        seen: impl Fn(usize) -> Option<u64>,
        io: &mut impl Io,
    ) {
        let mut sent = 0;
        for (items, bytes) in elements.chunks(self.config.frame_bytes_max) {
            sent += items.len();
            let Some(session) = self.sessions.by_key(key) else { return };
            let class = if kind == FrameKind::Live { Class::Missed } else { Class::State };
            self.frames.data(session.form(), kind, now.wall, (items.len(), bytes), seen(sent));
            self.send_frame(now, key.index, items, class, io);
        }
    }

    /// The lanes of a session.
    pub(super) fn lanes_of(&mut self, key: SessionKey) -> Vec<LaneId> {
        self.sessions.by_key(key).map(|s| s.memberships.iter().map(|m| m.lane).collect()).unwrap_or_default()
    }

    fn plan_subscribe(&mut self, key: SessionKey, wanted: &Subscription) -> Edits {
        let lanes = self.lanes_of(key);
        let mut edits = Edits::default();
        match &wanted.targets {
            Targets::All => {
                for id in lanes {
                    let Some(lane) = self.lanes.lane(id) else { continue };
                    clear_channels(edits.of(lane.mode), &lane.selection, wanted.channels);
                }
                let scope = self.scope_of(key);
                let change = edits.of(wanted.mode);
                (change.add_stars, change.scope) = (wanted.channels, scope);
            }
            Targets::Named(_) => {
                for stream in wanted.targets.keys(wanted.channels) {
                    self.plan_pair(&lanes, stream, wanted.mode, &mut edits);
                }
            }
        }
        edits
    }

    /// What the stars of a session stand for.
    fn scope_of(&mut self, key: SessionKey) -> Option<Arc<Scope>> {
        let symbols = self.symbols_of(key);
        self.scopes.of(&symbols, &self.catalog)
    }

    /// Gives one stream a mode.
    fn plan_pair(&self, lanes: &[LaneId], stream: StreamKey, mode: Mode, edits: &mut Edits) {
        let mut covered = false;
        for id in lanes {
            let Some(lane) = self.lanes.lane(*id) else { continue };
            if lane.selection.has_pair(stream) && lane.mode != mode {
                edits.of(lane.mode).remove.push(stream);
            }
            if lane.selection.stars().contains(stream.channel()) {
                if lane.mode == mode {
                    covered = true;
                    edits.of(mode).remove_except.push(stream);
                } else {
                    edits.of(lane.mode).add_except.push(stream);
                }
            }
        }
        if !covered {
            edits.of(mode).add.push(stream);
        }
    }

    /// The edits of an update; none when something of it is not subscribed.
    fn plan_update(&mut self, key: SessionKey, wanted: &Subscription) -> Option<Edits> {
        let lanes = self.lanes_of(key);
        let scope = self.scope_of(key);
        let mut edits = Edits::default();
        match &wanted.targets {
            Targets::Named(_) => {
                for stream in wanted.targets.keys(wanted.channels) {
                    let covers = |id: &&LaneId| self.lanes.lane(**id).is_some_and(|lane| lane.selection.covers(stream));
                    lanes.iter().find(covers)?;
                    self.plan_pair(&lanes, stream, wanted.mode, &mut edits);
                }
            }
            // All that is subscribed of these channels, be it by `*` or by name.
            Targets::All => {
                let mut found = ChannelSet::EMPTY;
                for id in lanes {
                    let lane = self.lanes.lane(id)?;
                    let mut moved = Change::default();
                    clear_channels(&mut moved, &lane.selection, wanted.channels);
                    found = found.union(moved.remove_stars);
                    found = found.union(moved.remove.iter().map(|stream| stream.channel()).collect());
                    let target = edits.of(wanted.mode);
                    target.add_stars = target.add_stars.union(moved.remove_stars);
                    target.add.extend(moved.remove.iter().copied());
                    if lane.mode == wanted.mode {
                        target.remove_except.extend(moved.remove_except);
                    } else {
                        let source = edits.of(lane.mode);
                        source.remove.extend(moved.remove);
                        source.remove_stars = source.remove_stars.union(moved.remove_stars);
                        source.remove_except.extend(moved.remove_except);
                    }
                }
                // What `*` covers need not be named.
                let target = edits.of(wanted.mode);
                target.scope = scope;
                let stars = target.add_stars;
                let (named, covered): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut target.add).into_iter().partition(|stream| !stars.contains(stream.channel()));
                target.add = named;
                target.remove.extend(covered);
                if found.is_empty() {
                    return None;
                }
            }
        }
        Some(edits)
    }

    /// The number of a session's subscriptions after the edits.
    fn count_after(&mut self, key: SessionKey, edits: &Edits) -> usize {
        let lanes = self.lanes_of(key);
        let mut count = 0;
        for id in &lanes {
            let Some(lane) = self.lanes.lane(*id) else { continue };
            if !edits.0.iter().any(|(mode, _)| *mode == lane.mode) {
                count += lane.selection.count();
            }
        }
        for (mode, change) in &edits.0 {
            let lane = lanes.iter().filter_map(|id| self.lanes.lane(*id)).find(|lane| lane.mode == *mode);
            count += lane.map_or_else(|| Selection::default().count_after(change), |l| l.selection.count_after(change));
        }
        count
    }

    /// Moves a session to the lanes that follow from the edits.
    pub(super) fn retarget(&mut self, now: Now, key: SessionKey, edits: Edits, io: &mut impl Io) {
        for (mode, mut change) in edits.0 {
            change.tidy();
            let lane = self.lanes_of(key).into_iter().find(|id| self.lanes.lane(*id).is_some_and(|l| l.mode == mode));
            if let Some(id) = lane {
                self.change_lane(now, key, id, &change, io);
            } else {
                let mut selection = Selection::default();
                selection.apply(&change);
                self.enter(key, mode, selection);
            }
        }
    }

    fn change_lane(&mut self, now: Now, key: SessionKey, id: LaneId, change: &Change, io: &mut impl Io) {
        let Some(lane) = self.lanes.lane(id) else { return };
        if lane.selection.is_unchanged_by(change) {
            return;
        }
        if lane.population() == 1 && !self.lanes.twin_after(id, change) {
            self.flush_lane(now, id, io);
            self.lanes.edit(id, change);
            return;
        }
        let mode = lane.mode;
        let mut selection = lane.selection.clone();
        selection.apply(change);
        self.leave(now, key, id, io);
        self.enter(key, mode, selection);
        self.lanes.remove_if_empty(id);
    }

    fn enter(&mut self, key: SessionKey, mode: Mode, selection: Selection) {
        if selection.is_empty() {
            return;
        }
        let Some(session) = self.sessions.by_key(key) else { return };
        let id = self.lanes.find_or_create(session.form(), mode, session.compression, selection);
        self.join(key, id);
    }

    fn unsubscribe(
        &mut self,
        now: Now,
        key: SessionKey,
        id: Option<CommandId>,
        channels: ChannelSet,
        targets: &Targets,
        io: &mut impl Io,
    ) {
        let lanes = self.lanes_of(key);
        let mut edits = Edits::default();
        let mut found = ChannelSet::EMPTY;
        for lane in lanes.iter().filter_map(|id| self.lanes.lane(*id)) {
            let change = edits.of(lane.mode);
            match targets {
                Targets::All => clear_channels(change, &lane.selection, channels),
                Targets::Named(_) => {
                    change.remove =
                        targets.keys(channels).into_iter().filter(|k| lane.selection.has_pair(*k)).collect();
                }
            }
            found = found.union(change.remove_stars).union(change.remove.iter().map(|k| k.channel()).collect());
        }
        // A stream that was left out of `*` for a mode of its own is not subscribed after this, so it stays left out.
        if found.is_empty() {
            let text = match targets {
                Targets::All => "nothing of these channels is subscribed".to_owned(),
                Targets::Named(_) => {
                    "none of these symbols is subscribed by its name (what * covers ends with *)".to_owned()
                }
            };
            return self.refuse(now, key, id, ErrorCode::NotSubscribed, text, Vec::new(), io);
        }
        self.end_streams(now, key, edits, io);
        let catalog = Arc::clone(&self.catalog);
        let symbols: Vec<&str> = match targets {
            Targets::All => vec!["*"],
            Targets::Named(ids) => ids.iter().filter_map(|id| catalog.get(*id)).map(|i| i.symbol.as_str()).collect(),
        };
        let message = ServerMessage::Unsubscribed { id: id.as_ref(), channels: found, symbols: &symbols };
        self.say(now, key, &message, Class::Kept, io);
    }

    /// Takes streams from a session.
    pub(super) fn end_streams(&mut self, now: Now, key: SessionKey, edits: Edits, io: &mut impl Io) {
        if let Some(session) = self.sessions.by_key(key)
            && let Some(stall) = &mut session.stall
        {
            for (_, change) in &edits.0 {
                stall.base.retain(|k, _| !change.remove_stars.contains(k.channel()) && !change.remove.contains(k));
            }
        }
        let count = self.count_after(key, &edits);
        // Fewer always fit.
        let _ = io.hold_subscriptions(key, count);
        self.retarget(now, key, edits, io);
    }

    fn list(&mut self, now: Now, key: SessionKey, id: Option<&CommandId>, io: &mut impl Io) {
        let catalog = Arc::clone(&self.catalog);
        let subscriptions = self.subscriptions_of(key, &catalog);
        let message = ServerMessage::Subscriptions { id, subscriptions: &subscriptions };
        self.say(now, key, &message, Class::Kept, io);
    }

    /// All that a session is subscribed to.
    pub(super) fn subscriptions_of<'a>(&mut self, key: SessionKey, catalog: &'a Catalog) -> Vec<SubscriptionInfo<'a>> {
        let mut subscriptions: Vec<SubscriptionInfo<'a>> = Vec::new();
        for lane in self.lanes_of(key) {
            let Some(lane) = self.lanes.lane(lane) else { continue };
            for channel in Channel::ALL {
                let mut symbols: Vec<&str> = lane
                    .selection
                    .keys()
                    .filter(|stream| stream.channel() == channel)
                    .filter_map(|stream| catalog.get(stream.instrument()).map(|i| i.symbol.as_str()))
                    .collect();
                if lane.selection.stars().contains(channel) {
                    symbols = vec!["*"];
                }
                if !symbols.is_empty() {
                    subscriptions.push(SubscriptionInfo { channel, symbols, mode: lane.mode });
                }
            }
        }
        subscriptions.sort_by_key(|info| (info.channel, info.mode.interval_ms(), info.mode.name()));
        subscriptions
    }
}

/// Takes everything of those channels out of a selection.
fn clear_channels(change: &mut Change, selection: &Selection, channels: ChannelSet) {
    change.remove.extend(selection.keys().filter(|stream| channels.contains(stream.channel())));
    change.remove_stars = ChannelSet::from_bits(selection.stars().bits() & channels.bits());
    change.remove_except.extend(selection.except().iter().filter(|stream| channels.contains(stream.channel())));
}
