//! Lanes: sessions that want exactly the same thing in the same way, and the index that finds the lanes of a tick.
//!
//! **Invariant:** a tick touches the lanes that want it and no others, and nothing in here is done per session. A lane
//! exists as long as a session belongs to it.

use std::time::Duration;

use rustc_hash::FxHashMap;
use wire::{Dialect, Mode};

use super::changed::Changed;
use super::deflate::{CompressorId, Compressors};
use super::frames::{Form, Framing};
use super::scope::Scopes;
use super::selection::{Change, Pair, Selection, UNREGISTERED};
use crate::{Catalog, Compression, DeflateConfig, Run, StreamKey};

/// Names a lane of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneId(u32);

/// A session that takes part in a lane from a point within what has not been flushed yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Joiner {
    pub(crate) session: u32,
    /// Bytes of the lane's run that the session must not get.
    pub(crate) skip_bytes: usize,
    /// Items of the lane's run that the session must not get.
    pub(crate) skip_items: usize,
    /// The shard's position at the time: newest values from before are not news to the session.
    pub(crate) position: u64,
}

/// Sessions that want the same.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) dialect: Dialect,
    pub(crate) framing: Framing,
    pub(crate) compression: Compression,
    pub(crate) mode: Mode,
    /// Tells lanes apart that deliver the same; see [`PART_MEMBERS_MAX`].
    part: u32,
    pub(crate) selection: Selection,
    pub(crate) members: Vec<u32>,
    pub(crate) joiners: Vec<Joiner>,
    /// Sessions that belong to the lane but are stalled.
    pub(crate) detached: u32,
    /// Mode `every`: what is to be flushed.
    pub(crate) pending: Run,
    /// The ordinal of the last of it.
    pub(crate) ordinal: u64,
    /// Mode `latest`: which streams have changed, in the order of their first change.
    pub(crate) changed: Changed,
    /// Mode `latest`: when the lane is to be flushed, if something has changed.
    pub(crate) due: Option<Duration>,
    /// The members that follow the lane: those that share its compressor's history, or wait to.
    pub(crate) followers: u32,
    pub(crate) compressor: Option<CompressorId>,
    /// A lane that was refused a compressor asks again only then.
    pub(crate) retry_at: Duration,
}

/// All lanes of a shard, and who wants what.
#[derive(Debug)]
pub(crate) struct Lanes {
    slots: Vec<Option<Box<Lane>>>,
    free: Vec<LaneId>,
    by_identity: FxHashMap<Identity, LaneId>,
    /// For each stream, the lanes that name it.
    interest: Vec<Vec<LaneId>>,
    /// For each channel, the lanes that want all of it; there are few, as sessions differ little in what they leave out.
    starred: Vec<LaneId>,
    /// Buffers that no lane uses at the moment: an idle lane holds none.
    spare: Vec<Run>,
    spare_changed: Vec<Changed>,
    pub(crate) compressors: Compressors,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    dialect: usize,
    framing: Framing,
    mode: Mode,
    compression: Compression,
    part: u32,
    hash: u128,
}

/// Sessions in a lane after which another lane is begun for the same. In mode `latest` it has a grid of its own in time:
/// 10,000 dashboards at 10 Hz are not written to in one go, but 250 at a time, which takes a millisecond. In mode `every`
/// it has a place of its own in the round, so that the last to be written to does not get what was gathered before the
/// first was: the frame is as old as its lane's writes take, and not as all.
const PART_MEMBERS_MAX: usize = 250;

/// Idle buffers that are kept for reuse, of at most [`SPARE_BYTES_MAX`] each.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 64 << 10;
/// The most streams that the notes of a lane in mode `latest` have room for, if they are kept: clearing takes time in
/// proportion.
const SPARE_STREAMS_MAX: usize = 1024;

impl Lanes {
    pub(crate) fn new(deflate: DeflateConfig) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_identity: FxHashMap::default(),
            interest: Vec::new(),
            starred: Vec::new(),
            spare: Vec::new(),
            spare_changed: Vec::new(),
            compressors: Compressors::new(deflate),
        }
    }

    /// Makes room for the streams of so many instruments.
    pub(crate) fn grow(&mut self, instruments: usize) {
        self.interest.resize_with(instruments * StreamKey::PER_INSTRUMENT, Vec::new);
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn lane(&self, id: LaneId) -> Option<&Lane> {
        self.slots.get(id.0 as usize)?.as_deref()
    }

    pub(crate) fn lane_mut(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.slots.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// The lanes that name `key`.
    pub(crate) fn interested(&self, key: StreamKey) -> &[LaneId] {
        self.interest.get(key.index()).map_or(&[], Vec::as_slice)
    }

    /// The lanes that want whole channels.
    pub(crate) fn star_lanes(&self) -> &[LaneId] {
        &self.starred
    }

    /// Puts scopes that have grown in the place of what they were.
    pub(crate) fn renew_scopes(&mut self, scopes: &mut Scopes, catalog: &Catalog) {
        for id in &self.starred {
            if let Some(lane) = self.slots[id.0 as usize].as_deref_mut()
                && let Some(scope) = lane.selection.scope()
            {
                let renewed = scopes.of(&scope.symbols, catalog);
                lane.selection.renew_scope(renewed);
            }
        }
    }

    /// Forgets what lanes in mode `latest` have gathered.
    pub(crate) fn drop_changes(&mut self) {
        for lane in self.slots.iter_mut().flatten() {
            debug_assert!(lane.members.is_empty() && lane.joiners.is_empty(), "all sessions are stalled");
            lane.changed = Changed::default();
            lane.due = None;
        }
    }

    /// Gives a lane in mode `every` a buffer, if it has none.
    pub(crate) fn prepare(&mut self, id: LaneId) {
        if let Some(lane) = self.slots[id.0 as usize].as_deref_mut()
            && lane.pending.bytes.capacity() == 0
            && let Some(run) = self.spare.pop()
        {
            lane.pending = run;
        }
    }

    /// Gives a lane in mode `latest` room to note what changes.
    pub(crate) fn prepare_changed(&mut self, id: LaneId) {
        if let Some(lane) = self.slots[id.0 as usize].as_deref_mut()
            && let Some(changed) = self.spare_changed.pop()
        {
            lane.changed = changed;
        }
    }

    /// An empty buffer.
    pub(crate) fn buffer(&mut self) -> Run {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a buffer back once it was flushed.
    pub(crate) fn recycle(&mut self, mut run: Run) {
        if self.spare.len() < SPARE_MAX && run.bytes.capacity() <= SPARE_BYTES_MAX {
            run.clear();
            self.spare.push(run);
        }
    }

    /// Takes the notes of a lane back once they were flushed.
    pub(crate) fn recycle_changed(&mut self, mut changed: Changed) {
        if self.spare_changed.len() < SPARE_MAX && changed.capacity() <= SPARE_STREAMS_MAX {
            changed.clear();
            self.spare_changed.push(changed);
        }
    }

    /// The lane with that selection; a new one if there is none.
    pub(crate) fn find_or_create(
        &mut self,
        Form { dialect, framing }: Form,
        mode: Mode,
        compression: Compression,
        selection: Selection,
    ) -> LaneId {
        let hash = selection.hash;
        let mut identity = Identity { dialect: dialect.index(), framing, mode, compression, part: 0, hash };
        while let Some(&id) = self.by_identity.get(&identity) {
            let full = |lane: &Lane| lane.population() >= PART_MEMBERS_MAX;
            if !may_have_parts(mode, compression) || !self.lane(id).is_some_and(full) {
                return id;
            }
            identity.part += 1;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            LaneId(self.slots.len() as u32 - 1)
        });
        let mut lane = Box::new(Lane {
            dialect,
            framing,
            compression,
            mode,
            part: identity.part,
            selection,
            members: Vec::new(),
            joiners: Vec::new(),
            detached: 0,
            pending: Run::default(),
            ordinal: 0,
            changed: Changed::default(),
            due: None,
            followers: 0,
            compressor: None,
            retry_at: Duration::ZERO,
        });
        for pair in &mut lane.selection.pairs {
            pair.slot = register(&mut self.interest, pair.key, id);
        }
        if !lane.selection.stars().is_empty() {
            self.starred.push(id);
        }
        self.slots[id.0 as usize] = Some(lane);
        self.by_identity.insert(identity, id);
        id
    }

    /// Whether another lane already has the selection that `id` would have after `change`.
    pub(crate) fn twin_after(&self, id: LaneId, change: &Change) -> bool {
        let Some(lane) = self.lane(id) else { return false };
        let hash = lane.selection.hash_after(change);
        // A lane that would be empty is no lane any more.
        hash == 0 || self.by_identity.contains_key(&Identity { hash, ..identity(lane) })
    }

    /// Edits the selection of a lane in place: the way of a lane of one.
    pub(crate) fn edit(&mut self, id: LaneId, change: &Change) {
        let Some(mut lane) = self.slots[id.0 as usize].take() else { return };
        self.by_identity.remove(&identity(&lane));
        let had_stars = !lane.selection.stars().is_empty();
        for &key in &change.remove {
            if let Ok(at) = lane.selection.pairs.binary_search_by_key(&key, |pair| pair.key) {
                self.unregister(lane.selection.pairs[at]);
            }
        }
        lane.selection.apply(change);
        for pair in lane.selection.pairs.iter_mut().filter(|pair| pair.slot == UNREGISTERED) {
            pair.slot = register(&mut self.interest, pair.key, id);
        }
        match (had_stars, !lane.selection.stars().is_empty()) {
            (false, true) => self.starred.push(id),
            (true, false) => self.starred.retain(|lane| *lane != id),
            _ => {}
        }
        self.by_identity.insert(identity(&lane), id);
        self.slots[id.0 as usize] = Some(lane);
    }

    /// Removes a lane that nobody belongs to any more.
    pub(crate) fn remove_if_empty(&mut self, id: LaneId) {
        let Some(lane) = self.lane(id) else { return };
        if !lane.members.is_empty() || !lane.joiners.is_empty() || lane.detached > 0 {
            return;
        }
        let Some(lane) = self.slots[id.0 as usize].take() else { return };
        self.by_identity.remove(&identity(&lane));
        for pair in &lane.selection.pairs {
            self.unregister(*pair);
        }
        if !lane.selection.stars().is_empty() {
            self.starred.retain(|other| *other != id);
        }
        self.recycle(lane.pending);
        if let Some(compressor) = lane.compressor {
            self.compressors.release(compressor);
        }
        self.free.push(id);
    }

    /// Takes a lane out of the list of a stream; the lane that takes its place there learns its new slot.
    fn unregister(&mut self, pair: Pair) {
        let list = &mut self.interest[pair.key.index()];
        list.swap_remove(pair.slot as usize);
        let Some(&moved) = list.get(pair.slot as usize) else {
            if list.is_empty() {
                *list = Vec::new();
            }
            return;
        };
        if let Some(lane) = self.slots[moved.0 as usize].as_deref_mut()
            && let Ok(at) = lane.selection.pairs.binary_search_by_key(&pair.key, |pair| pair.key)
        {
            lane.selection.pairs[at].slot = pair.slot;
        }
    }
}

/// Compressing costs more than what parts gain when every tick is in the frame.
fn may_have_parts(mode: Mode, compression: Compression) -> bool {
    mode != Mode::Every || compression == Compression::Off
}

fn register(interest: &mut Vec<Vec<LaneId>>, key: StreamKey, id: LaneId) -> u32 {
    if key.index() >= interest.len() {
        interest.resize_with(key.index() + 1, Vec::new);
    }
    let list = &mut interest[key.index()];
    list.push(id);
    list.len() as u32 - 1
}

fn identity(lane: &Lane) -> Identity {
    let &Lane { framing, mode, compression, part, .. } = lane;
    Identity { dialect: lane.dialect.index(), framing, mode, compression, part, hash: lane.selection.hash }
}

impl Lane {
    /// How its messages are written.
    pub(crate) fn form(&self) -> Form {
        Form { dialect: self.dialect, framing: self.framing }
    }

    /// Whether it has gathered nothing that is still to be sent.
    pub(crate) fn is_flushed(&self) -> bool {
        self.pending.is_empty() && self.changed.is_empty()
    }

    /// A number that differs from lane to lane, to spread what they do over time.
    pub(crate) fn phase(&self) -> u64 {
        // By the golden ratio, any number of parts lie evenly.
        (self.selection.hash as u64).wrapping_add(u64::from(self.part).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// How many sessions belong to the lane.
    pub(crate) fn population(&self) -> usize {
        self.members.len() + self.joiners.len() + self.detached as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::{Channel, InstrumentId};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn key(n: u32) -> StreamKey {
        StreamKey::new(InstrumentId(n / 3), [Channel::Trades, Channel::Quotes, Channel::Ticker][(n % 3) as usize])
    }

    fn selection(keys: &[u32]) -> Selection {
        let mut selection = Selection::default();
        let keys: BTreeSet<u32> = keys.iter().copied().collect();
        selection.apply(&Change { add: keys.into_iter().map(key).collect(), ..Change::default() });
        selection
    }

    fn form(dialect: Dialect) -> Form {
        Form { dialect, framing: Framing::WebSocket }
    }

    fn create(lanes: &mut Lanes, keys: &[u32]) -> LaneId {
        let id = lanes.find_or_create(form(Dialect::NativeJson), Mode::Every, Compression::Off, selection(keys));
        if let Some(lane) = lanes.lane_mut(id) {
            lane.detached = 1;
        }
        id
    }

    #[test]
    fn the_same_selection_is_the_same_lane_however_it_came_about() {
        let mut lanes = Lanes::new(DeflateConfig::default());
        let a = create(&mut lanes, &[1, 2, 3]);
        let mut other = selection(&[9, 3]);
        other.apply(&Change { add: vec![key(1), key(2)], remove: vec![key(9)], ..Change::default() });
        assert_eq!(lanes.find_or_create(form(Dialect::NativeJson), Mode::Every, Compression::Off, other.clone()), a);
        assert_ne!(lanes.find_or_create(form(Dialect::NativeMessagePack), Mode::Every, Compression::Off, other), a);
    }

    proptest! {
        /// The index always lists exactly the lanes that name a stream, whatever was created, edited and removed.
        #[test]
        fn the_index_agrees_with_the_lanes(steps in prop::collection::vec((0u8..3, prop::collection::vec(0u32..24, 1..6), any::<prop::sample::Index>()), 1..60)) {
            let mut lanes = Lanes::new(DeflateConfig::default());
            let mut live: Vec<LaneId> = Vec::new();
            for (what, keys, pick) in steps {
                match what {
                    0 => {
                        let id = create(&mut lanes, &keys);
                        if !live.contains(&id) { live.push(id); }
                    }
                    1 if !live.is_empty() => {
                        let id = live[pick.index(live.len())];
                        let (add, remove) = keys.split_at(keys.len() / 2);
                        let change = Change { add: selection(add).keys().collect(), remove: selection(remove).keys().collect(), ..Change::default() };
                        if !lanes.twin_after(id, &change) { lanes.edit(id, &change); }
                    }
                    2 if !live.is_empty() => {
                        let id = live.swap_remove(pick.index(live.len()));
                        lanes.lane_mut(id).unwrap().detached = 0;
                        lanes.remove_if_empty(id);
                    }
                    _ => {}
                }
                prop_assert_eq!(lanes.len(), live.len());
                for n in 0..24 {
                    let mut listed = lanes.interested(key(n)).to_vec();
                    listed.sort_unstable();
                    let mut want: Vec<LaneId> = live.iter().copied().filter(|id| lanes.lane(*id).unwrap().selection.has_pair(key(n))).collect();
                    want.sort_unstable();
                    prop_assert_eq!(listed, want);
                }
            }
        }
    }
}
