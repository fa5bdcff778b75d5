//! The book that a client keeps, written from the document alone: two sorted maps and a bitwise CRC.

use std::collections::BTreeMap;

use market::BookDepth;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ClientBook {
    /// Bids, asks: size by price.
    sides: [BTreeMap<i64, u64>; 2],
    /// The largest number that was applied; 0 before a snapshot.
    reached: u64,
}

impl ClientBook {
    /// Applies an element and compares checksums. A resume may repeat what is known already; in the meantime the book is
    /// between two states.
    pub(crate) fn apply(&mut self, seq: u64, whole: bool, sides: &[Vec<(i64, u64)>; 2], checksum: u32, context: &str) {
        if self.reached == 0 && !whole {
            return;
        }
        for (mine, changes) in self.sides.iter_mut().zip(sides) {
            if whole {
                mine.clear();
            }
            for &(price, size) in changes {
                if size == 0 {
                    assert!(!whole, "{context}: a deletion in a snapshot");
                    mine.remove(&price);
                } else {
                    mine.insert(price, size);
                }
            }
        }
        if whole || seq >= self.reached {
            assert_eq!(self.checksum(), checksum, "{context}: the checksum of number {seq}, whole: {whole}");
        }
        self.reached = self.reached.max(seq);
    }

    /// The largest number that was applied.
    pub(crate) fn reached(&self) -> u64 {
        self.reached
    }

    /// Whether a snapshot has come.
    pub(crate) fn is_known(&self) -> bool {
        self.reached() > 0
    }

    /// Compares with the best levels of the whole book.
    pub(crate) fn check(&self, whole: &market::Book, depth: BookDepth, context: &str) {
        let count = if depth == BookDepth::Full { usize::MAX } else { depth.wire_depth() as usize };
        for side in market::BookSide::ALL {
            let want: BTreeMap<i64, u64> = whole.levels(side).take(count).map(|l| (l.price.0, l.size.0)).collect();
            assert_eq!(self.sides[side as usize], want, "{context}: {side:?}");
        }
    }

    fn checksum(&self) -> u32 {
        let [bids, asks] = &self.sides;
        let levels = asks.iter().take(10).chain(bids.iter().rev().take(10));
        let text: Vec<String> = levels.map(|(price, size)| format!("{price}{size}")).collect();
        let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        !text.concat().bytes().fold(!0u32, |crc, byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
    }
}
