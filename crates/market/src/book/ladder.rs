//! One side of a book: a sorted vector with the best level at its end.
//!
//! **Invariant:** keys ascend strictly and no size is zero.
//!
//! Most changes of a book are near its best price, so they move few levels, and the search begins there. A side that is
//! sorted the other way round (asks) has the bits of its prices inverted, which reverses their order and cannot overflow.
//! A tree (`BTreeMap`) costs about twice as much per change where changes are near the best price, and three to four times
//! as much to read the best ten levels, which is done after every change (`cargo bench -p market`). It is better only for
//! changes anywhere in sides of ten thousand levels: 80 ns against 340.

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
}

/// How many levels from the best one are looked at one by one before the rest is searched by halves.
const LINEAR: usize = 12;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ladder {
    levels: Vec<(i64, Size)>,
}

impl Ladder {
    #[inline]
    pub(super) fn set(&mut self, key: i64, size: Size) -> LevelChange {
        let place = self.place(key);
        let count = self.levels.len();
        match self.levels.get_mut(place) {
            Some((found, held)) if *found == key => {
                let rank = count - 1 - place;
                if size.0 == 0 {
                    let (_, old) = self.levels.remove(place);
                    return LevelChange::Removed { rank, old };
                }
                let old = std::mem::replace(held, size);
                if old == size { LevelChange::Unchanged } else { LevelChange::Resized { rank, old } }
            }
            _ if size.0 == 0 => LevelChange::Unchanged,
            _ => {
                let rank = count - place;
                self.levels.insert(place, (key, size));
                LevelChange::Inserted { rank }
            }
        }
    }

    pub(super) fn size_at(&self, key: i64) -> Size {
        match self.levels.get(self.place(key)) {
            Some((found, size)) if *found == key => *size,
            _ => Size(0),
        }
    }

    /// The level of that rank, 0 for the best.
    #[inline]
    pub(super) fn at(&self, rank: usize) -> Option<(i64, Size)> {
        let place = self.levels.len().checked_sub(rank + 1)?;
        self.levels.get(place).copied()
    }

    /// Best first.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (i64, Size)> + Clone + '_ {
        self.levels.iter().rev().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.levels.len()
    }

    pub(super) fn clear(&mut self) {
        self.levels.clear();
    }

    /// The number of levels that are worse than `key`.
    #[inline]
    fn place(&self, key: i64) -> usize {
        let mut place = self.levels.len();
        let near = place.saturating_sub(LINEAR);
        while place > near {
            if self.levels[place - 1].0 < key {
                return place;
            }
            place -= 1;
        }
        self.levels[..place].partition_point(|(other, _)| *other < key)
    }
}
