//! One side of a book: a sorted vector of the best levels, its best at the end, and blocks of what lies further off.
//!
//! **Invariant:** keys ascend strictly, within the blocks and from block to block, and no size is zero; no block is empty,
//! and the best levels are not while there are others.
//!
//! Most changes of a book are near its best price. There the search begins at the end and few levels are moved; a change
//! far off costs a search by halves among the blocks and one in a block, and moves half a block at most. A side that is
//! sorted the other way round (asks) has the bits of its prices inverted, which reverses their order and cannot overflow.
//! A tree (`BTreeMap`) costs about twice as much per change where changes are near the best price, and three to four times
//! as much to read the best ten levels, which is done after every change; for changes anywhere in sides of ten thousand
//! levels both cost about the same. One sorted vector for all took four times as long there (`cargo bench -p market`).

use crate::Size;

/// What a change of a level came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelChange {
    /// Nothing: it was like that
    Unchanged,
    /// A level was made at that rank
    Inserted {
        /// 0 for the best
        rank: usize,
    },
    /// The level at that rank was removed
    Removed {
        /// 0 for the best
        rank: usize,
        /// What was there
        old: Size,
    },
    /// The level at that rank has another size
    Resized {
        /// 0 for the best
        rank: usize,
        /// What was there
        old: Size,
    },
}

impl LevelChange {
    /// The size from before.
    pub fn old(self, new: Size) -> Size {
        match self {
            Self::Unchanged => new,
            Self::Inserted { .. } => Size(0),
            Self::Removed { old, .. } | Self::Resized { old, .. } => old,
        }
    }

    /// How many better levels there are beside those that it counts in its own vector.
    fn behind(self, better: usize) -> Self {
        match self {
            Self::Unchanged => self,
            Self::Inserted { rank } => Self::Inserted { rank: rank + better },
            Self::Removed { rank, old } => Self::Removed { rank: rank + better, old },
            Self::Resized { rank, old } => Self::Resized { rank: rank + better, old },
        }
    }
}

/// How many levels from the best one are looked at one by one before the rest is searched by halves.
const LINEAR: usize = 12;

/// A vector of more levels is divided in two: 2 KiB, of which a change moves a quarter on average.
const BLOCK_MAX: usize = 128;

/// With fewer levels in the top vector the next block is joined to it, and neighbouring blocks that have no more than
/// this together are joined.
const BLOCK_MIN: usize = 32;

type Level = (i64, Size);

#[derive(Debug, Clone, Default)]
pub(super) struct Ladder {
    /// The best levels, ascending
    top: Vec<Level>,
    /// The others, ascending
    far: Vec<Block>,
    /// How many there are in `far`
    far_len: usize,
}

#[derive(Debug, Clone)]
struct Block {
    /// The key of its first level, so that a search need not look into the levels
    first: i64,
    levels: Vec<Level>,
}

impl Ladder {
    #[inline]
    pub(super) fn set(&mut self, key: i64, size: Size) -> LevelChange {
        if self.far.is_empty() || self.top.first().is_some_and(|(first, _)| *first <= key) {
            let place = place_from_end(&self.top, key);
            let change = set(&mut self.top, place, key, size);
            match change {
                LevelChange::Inserted { .. } if self.top.len() > BLOCK_MAX => self.divide_top(),
                LevelChange::Removed { .. } if self.top.len() < BLOCK_MIN => self.extend_top(),
                _ => {}
            }
            change
        } else {
            self.set_far(key, size)
        }
    }

    pub(super) fn size_at(&self, key: i64) -> Size {
        let levels = match self.block_of(key) {
            None => &self.top,
            Some(block) => &self.far[block].levels,
        };
        match levels.get(place_from_end(levels, key)) {
            Some((found, size)) if *found == key => *size,
            _ => Size(0),
        }
    }

    /// The level of that rank, 0 for the best.
    #[inline]
    pub(super) fn at(&self, rank: usize) -> Option<(i64, Size)> {
        match self.top.len().checked_sub(rank + 1) {
            Some(place) => self.top.get(place).copied(),
            None => self.iter().nth(rank),
        }
    }

    /// Best first.
    pub(super) fn iter(&self) -> Levels<'_> {
        Levels { now: self.top.iter(), far: self.far.iter(), left: self.len() }
    }

    pub(super) fn len(&self) -> usize {
        self.top.len() + self.far_len
    }

    pub(super) fn clear(&mut self) {
        self.top.clear();
        self.far.clear();
        self.far_len = 0;
    }

    /// The block in which the key's place is; none if it is among the best.
    #[inline]
    fn block_of(&self, key: i64) -> Option<usize> {
        if self.far.is_empty() || self.top.first().is_some_and(|(first, _)| *first <= key) {
            return None;
        }
        Some(self.far.partition_point(|block| block.first <= key).saturating_sub(1))
    }

    fn set_far(&mut self, key: i64, size: Size) -> LevelChange {
        let index = self.far.partition_point(|block| block.first <= key).saturating_sub(1);
        let levels = &mut self.far[index].levels;
        let place = levels.partition_point(|(other, _)| *other < key);
        let change = set(levels, place, key, size);
        if change == LevelChange::Unchanged {
            return change;
        }
        // Fewer than there are blocks to walk over; the sums are not kept, because each change would move them all.
        let better = self.top.len() + self.far[index + 1..].iter().map(|block| block.levels.len()).sum::<usize>();
        match change {
            LevelChange::Inserted { .. } => self.inserted(index),
            LevelChange::Removed { .. } => self.removed(index),
            LevelChange::Unchanged | LevelChange::Resized { .. } => {}
        }
        change.behind(better)
    }

    fn inserted(&mut self, index: usize) {
        self.far_len += 1;
        let block = &mut self.far[index];
        block.first = block.levels[0].0;
        if block.levels.len() > BLOCK_MAX {
            let better = block.levels.split_off(BLOCK_MAX / 2);
            self.far.insert(index + 1, Block { first: better[0].0, levels: better });
        }
    }

    fn removed(&mut self, index: usize) {
        self.far_len -= 1;
        let count = self.far[index].levels.len();
        if count == 0 {
            self.far.remove(index);
            return;
        }
        self.far[index].first = self.far[index].levels[0].0;
        if self.far.get(index + 1).is_some_and(|better| better.levels.len() + count <= BLOCK_MIN) {
            let better = self.far.remove(index + 1);
            self.far[index].levels.extend(better.levels);
        }
    }

    /// Moves the worse half of the best levels to the others.
    #[cold]
    fn divide_top(&mut self) {
        let worse: Vec<Level> = self.top.drain(..BLOCK_MAX / 2).collect();
        self.far_len += worse.len();
        self.far.push(Block { first: worse[0].0, levels: worse });
    }

    /// Joins the next of the others to the best levels.
    #[inline]
    fn extend_top(&mut self) {
        if let Some(block) = self.far.pop() {
            self.far_len -= block.levels.len();
            self.top.splice(..0, block.levels);
        }
    }
}

/// Books are equal if their levels are, however they are divided.
impl PartialEq for Ladder {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Ladder {}

/// The levels of a side, best first.
#[derive(Debug, Clone)]
pub(super) struct Levels<'a> {
    now: std::slice::Iter<'a, Level>,
    far: std::slice::Iter<'a, Block>,
    left: usize,
}

impl Iterator for Levels<'_> {
    type Item = Level;

    #[inline]
    fn next(&mut self) -> Option<Level> {
        loop {
            if let Some(level) = self.now.next_back() {
                self.left -= 1;
                return Some(*level);
            }
            self.now = self.far.next_back()?.levels.iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Levels<'_> {}

/// Changes the level whose place among `levels` is `place`.
#[inline]
fn set(levels: &mut Vec<Level>, place: usize, key: i64, size: Size) -> LevelChange {
    let count = levels.len();
    match levels.get_mut(place) {
        Some((found, held)) if *found == key => {
            let rank = count - 1 - place;
            if size.0 == 0 {
                let (_, old) = levels.remove(place);
                return LevelChange::Removed { rank, old };
            }
            let old = std::mem::replace(held, size);
            if old == size { LevelChange::Unchanged } else { LevelChange::Resized { rank, old } }
        }
        _ if size.0 == 0 => LevelChange::Unchanged,
        _ => {
            let rank = count - place;
            levels.insert(place, (key, size));
            LevelChange::Inserted { rank }
        }
    }
}

/// The number of levels that are worse than `key`.
#[inline]
fn place_from_end(levels: &[Level], key: i64) -> usize {
    let mut place = levels.len();
    let near = place.saturating_sub(LINEAR);
    while place > near {
        if levels[place - 1].0 < key {
            return place;
        }
        place -= 1;
    }
    levels[..place].partition_point(|(other, _)| *other < key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn check(ladder: &Ladder, naive: &BTreeMap<i64, u64>) {
        assert!(ladder.iter().map(|(key, size)| (key, size.0)).eq(naive.iter().rev().map(|(key, size)| (*key, *size))));
        assert_eq!((ladder.len(), ladder.iter().len()), (naive.len(), naive.len()));
        assert!(ladder.far.is_empty() || !ladder.top.is_empty());
        for block in &ladder.far {
            assert_eq!(block.levels.first().map(|level| level.0), Some(block.first));
            assert!(block.levels.len() <= BLOCK_MAX + BLOCK_MIN);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Sides of many blocks that grow, are worn down at the top, the far end or anywhere, and grow again.
        #[test]
        fn many_levels_are_those_of_a_tree(
            phases in prop::collection::vec((0u8..4, 1usize..900, 0u64..10), 1..8), seed in any::<u64>(),
        ) {
            let (mut ladder, mut naive) = (Ladder::default(), BTreeMap::new());
            let mut state = seed | 1;
            let mut random = move |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            for (place, count, removals) in phases {
                for _ in 0..count {
                    let held = |rank: usize| naive.keys().rev().nth(rank).copied();
                    let removes = random(10) < removals;
                    let key = match place {
                        0 if removes => held(0),
                        1 if removes => held(naive.len().saturating_sub(1)),
                        2 if removes => held(random(naive.len().max(1) as u64) as usize),
                        _ => None,
                    };
                    let key = key.unwrap_or_else(|| random(2000) as i64 - 1000);
                    let size = if removes { 0 } else { 1 + random(3) };
                    let rank = naive.range(key + 1..).count();
                    let old = if size == 0 { naive.remove(&key) } else { naive.insert(key, size) };
                    let want = match old {
                        None if size == 0 => LevelChange::Unchanged,
                        None => LevelChange::Inserted { rank },
                        Some(old) if old == size => LevelChange::Unchanged,
                        Some(old) if size == 0 => LevelChange::Removed { rank, old: Size(old) },
                        Some(old) => LevelChange::Resized { rank, old: Size(old) },
                    };
                    prop_assert_eq!(ladder.set(key, Size(size)), want);
                    prop_assert_eq!(ladder.size_at(key), Size(size));
                    let other = random(200) as usize;
                    prop_assert_eq!(ladder.at(other).map(|level| level.0), naive.keys().rev().nth(other).copied());
                }
                check(&ladder, &naive);
                let mut again = Ladder::default();
                for (key, size) in &naive {
                    again.set(*key, Size(*size));
                }
                prop_assert_eq!(&again, &ladder);
            }
            ladder.clear();
            check(&ladder, &BTreeMap::new());
        }
    }
}
