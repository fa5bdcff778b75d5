//! What a lane delivers, as a set with an identity.
//!
//! **Invariant:** two selections have the same hash exactly when they name the same streams, however they came about; an
//! edit costs what it names, not what there is.
//!
//! What is *not* here: who has a selection, and the index that finds the lanes of a tick; see `lane`.

use std::sync::Arc;

use market::{Channel, ChannelSet};

use super::scope::Scope;
use crate::StreamKey;

/// What a lane delivers: some streams, and whole channels less some streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Sorted by key.
    pub(super) pairs: Vec<Pair>,
    stars: ChannelSet,
    /// Streams of `stars` that the session has in another mode; sorted.
    except: Vec<StreamKey>,
    /// Which instruments `stars` stand for, where it is not all of them; none without stars.
    scope: Option<Arc<Scope>>,
    /// The identity of the above as a set; see [`mix`].
    pub(super) hash: u128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) key: StreamKey,
    /// Where the lane stands in the index's list of the key.
    pub(super) slot: u32,
}

/// An edit of a [`Selection`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    // No stream stands in two lists that contradict each other, and each list is sorted; see `tidy`.
    pub(crate) add: Vec<StreamKey>,
    pub(crate) remove: Vec<StreamKey>,
    pub(crate) add_stars: ChannelSet,
    pub(crate) remove_stars: ChannelSet,
    /// What stars stand for from now on, if there is one in `add_stars`.
    pub(crate) scope: Option<Arc<Scope>>,
    pub(crate) add_except: Vec<StreamKey>,
    pub(crate) remove_except: Vec<StreamKey>,
}

impl Change {
    /// Sorts the lists, and leaves out what is both taken and given: what is given stays.
    pub(crate) fn tidy(&mut self) {
        for list in [&mut self.add, &mut self.remove, &mut self.add_except, &mut self.remove_except] {
            list.sort_unstable();
            list.dedup();
        }
        self.remove.retain(|key| self.add.binary_search(key).is_err());
        self.remove_except.retain(|key| self.add_except.binary_search(key).is_err());
        self.remove_stars = ChannelSet::from_bits(self.remove_stars.bits() & !self.add_stars.bits());
    }
}

impl Selection {
    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.stars.is_empty()
    }

    pub(crate) fn stars(&self) -> ChannelSet {
        self.stars
    }

    pub(crate) fn has_pair(&self, key: StreamKey) -> bool {
        self.pairs.binary_search_by_key(&key, |pair| pair.key).is_ok()
    }

    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = StreamKey> + '_ {
        self.pairs.iter().map(|pair| pair.key)
    }

    pub(crate) fn excepts(&self, key: StreamKey) -> bool {
        self.except.binary_search(&key).is_ok()
    }

    pub(crate) fn except(&self) -> &[StreamKey] {
        &self.except
    }

    /// Whether the lane delivers that stream.
    pub(crate) fn covers(&self, key: StreamKey) -> bool {
        self.has_pair(key) || self.covers_by_star(key)
    }

    /// Whether a star of the lane stands for that stream.
    pub(crate) fn covers_by_star(&self, key: StreamKey) -> bool {
        self.stars.contains(key.channel()) && !self.excepts(key) && self.in_scope(key)
    }

    fn in_scope(&self, key: StreamKey) -> bool {
        self.scope.as_ref().is_none_or(|scope| scope.allows(key.instrument()))
    }

    /// What the stars stand for; none for all instruments.
    pub(crate) fn scope(&self) -> Option<&Arc<Scope>> {
        self.scope.as_ref()
    }

    /// Takes the same scope with more instruments.
    pub(super) fn renew_scope(&mut self, scope: Option<Arc<Scope>>) {
        debug_assert_eq!(self.scope.as_ref().map(|s| s.id), scope.as_ref().map(|s| s.id), "a lane keeps its identity");
        self.scope = scope;
    }

    /// Takes everything of the batch as it lies.
    pub(crate) fn takes_all_of(&self, channels: ChannelSet) -> bool {
        self.stars.covers(channels) && self.except.is_empty() && self.scope.is_none()
    }

    /// How many subscriptions it counts as: a star counts as one.
    pub(crate) fn count(&self) -> usize {
        self.pairs.len() + self.stars.iter().count()
    }

    /// [`Selection::count`] after an edit.
    pub(crate) fn count_after(&self, change: &Change) -> usize {
        let added = change.add.iter().filter(|key| !self.has_pair(**key)).count();
        let removed = change.remove.iter().filter(|key| self.has_pair(**key)).count();
        self.pairs.len() + added - removed + self.stars_after(change).iter().count()
    }

    fn stars_after(&self, change: &Change) -> ChannelSet {
        let kept = ChannelSet::from_bits(self.stars.bits() & !change.remove_stars.bits());
        kept.union(change.add_stars)
    }

    /// The number of the scope after an edit.
    fn scope_after(&self, change: &Change) -> Option<u32> {
        if self.stars_after(change).is_empty() {
            return None;
        }
        let scope = if change.add_stars.is_empty() { &self.scope } else { &change.scope };
        scope.as_ref().map(|scope| scope.id)
    }

    /// Whether an edit changes nothing.
    pub(crate) fn is_unchanged_by(&self, change: &Change) -> bool {
        change.add.iter().all(|key| self.has_pair(*key))
            && !change.remove.iter().any(|key| self.has_pair(*key))
            && self.stars_after(change) == self.stars
            && self.scope_after(change) == self.scope.as_ref().map(|scope| scope.id)
            && change.add_except.iter().all(|key| self.excepts(*key))
            && !change.remove_except.iter().any(|key| self.excepts(*key))
    }

    /// The hash after an edit, at the cost of what the edit names.
    pub(super) fn hash_after(&self, change: &Change) -> u128 {
        let mut hash = self.hash;
        let added = change.add.iter().filter(|key| !self.has_pair(**key));
        let removed = change.remove.iter().filter(|key| self.has_pair(**key));
        for key in added.chain(removed) {
            hash ^= mix(Part::Pair(*key));
        }
        for channel in ChannelSet::from_bits(self.stars.bits() ^ self.stars_after(change).bits()).iter() {
            hash ^= mix(Part::Star(channel));
        }
        let (before, after) = (self.scope.as_ref().map(|scope| scope.id), self.scope_after(change));
        if before != after {
            for scope in before.into_iter().chain(after) {
                hash ^= mix(Part::Scope(scope));
            }
        }
        let added = change.add_except.iter().filter(|key| !self.excepts(**key));
        let removed = change.remove_except.iter().filter(|key| self.excepts(**key));
        for key in added.chain(removed) {
            hash ^= mix(Part::Except(*key));
        }
        hash
    }

    fn rehash(&mut self, part: Part) {
        self.hash ^= mix(part);
    }
}

#[derive(Clone, Copy)]
enum Part {
    Pair(StreamKey),
    Star(Channel),
    Except(StreamKey),
    Scope(u32),
}

/// Two independent 64-bit mixes (splitmix64's finaliser) of a part of a selection. The hash of a selection is the XOR of
/// its parts, so an edit costs what the edit names. With 128 bits, a million different selections of a process collide
/// with a probability of 1e-27; parts are small numbers of ours, not bytes that a client chooses.
fn mix(part: Part) -> u128 {
    let value = match part {
        Part::Pair(key) => u64::from(key.bits()),
        Part::Star(channel) => 1 << 32 | channel.index() as u64,
        Part::Except(key) => 2 << 32 | u64::from(key.bits()),
        Part::Scope(id) => 3 << 32 | u64::from(id),
    };
    let half = |seed: u64| {
        let mut x = value.wrapping_add(seed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    u128::from(half(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(half(0xd1b5_4a32_d192_ed03))
}

/// A pair that stands in no list yet.
pub(super) const UNREGISTERED: u32 = u32::MAX;

impl Selection {
    /// Applies an edit; what is there already or is not there is left as it is.
    pub(crate) fn apply(&mut self, change: &Change) {
        let scopes = (self.scope.as_ref().map(|scope| scope.id), self.scope_after(change));
        for &key in &change.remove {
            if let Ok(at) = self.pairs.binary_search_by_key(&key, |pair| pair.key) {
                self.pairs.remove(at);
                self.rehash(Part::Pair(key));
            }
        }
        let before = self.pairs.len();
        for &key in &change.add {
            if self.pairs[..before].binary_search_by_key(&key, |pair| pair.key).is_err() {
                self.pairs.push(Pair { key, slot: UNREGISTERED });
                self.rehash(Part::Pair(key));
            }
        }
        self.pairs.sort_unstable_by_key(|pair| pair.key);
        for channel in change.remove_stars.iter().filter(|channel| self.stars.contains(*channel)).collect::<Vec<_>>() {
            self.stars.remove(channel);
            self.rehash(Part::Star(channel));
        }
        for channel in change.add_stars.iter() {
            if !self.stars.contains(channel) {
                self.stars.insert(channel);
                self.rehash(Part::Star(channel));
            }
        }
        for &key in &change.remove_except {
            if let Ok(at) = self.except.binary_search(&key) {
                self.except.remove(at);
                self.rehash(Part::Except(key));
            }
        }
        for &key in &change.add_except {
            if let Err(at) = self.except.binary_search(&key) {
                self.except.insert(at, key);
                self.rehash(Part::Except(key));
            }
        }
        let (before, after) = scopes;
        if before != after {
            // What was not there before has come with the edit.
            self.scope = if after.is_some() { change.scope.clone() } else { None };
            for id in before.into_iter().chain(after) {
                self.rehash(Part::Scope(id));
            }
        }
    }
}
