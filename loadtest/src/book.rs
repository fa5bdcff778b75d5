//! Order books as a client keeps them, for their checksums.
//!
//! **Invariant:** a book is checked only from a snapshot on, and not again after a gap before the next snapshot: what is
//! not known to be whole is not called wrong.
//!
//! Written here again and not taken from the server's crates, so that a mistake there cannot agree with itself. In JSON books are
//! not checked.

use std::collections::BTreeMap;

use market::Channel;
use rustc_hash::FxHashMap;

use crate::sequence::Findings;
use wire::decode::{Cursor, DataError};

/// How many levels of each side the checksum covers.
const CHECKED_LEVELS: usize = 10;

/// The books of one session.
#[derive(Debug, Default)]
pub(crate) struct Books(FxHashMap<(u32, Channel), Book>);

#[derive(Debug, Default)]
struct Book {
    /// By price, sizes
    bids: BTreeMap<i64, u64>,
    asks: BTreeMap<i64, u64>,
}

/// What a book element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Snapshot,
    Delta,
}

impl Books {
    /// Takes a book element, of which `body` holds bids, asks and the checksum.
    ///
    /// # Errors
    /// The body is malformed.
    pub(crate) fn take(
        &mut self,
        (instrument, channel): (u32, Channel),
        change: Change,
        mut body: Cursor<'_>,
        findings: &mut Findings,
    ) -> Result<(), DataError> {
        let book = match change {
            Change::Snapshot => {
                let book = self.0.entry((instrument, channel)).or_default();
                book.bids.clear();
                book.asks.clear();
                book
            }
            Change::Delta => match self.0.get_mut(&(instrument, channel)) {
                Some(book) => book,
                None => return Ok(()),
            },
        };
        for side in [&mut book.bids, &mut book.asks] {
            for _ in 0..body.array()? {
                body.array()?;
                let (price, size) = (body.integer()?, body.unsigned()?);
                if size == 0 {
                    side.remove(&price);
                } else {
                    side.insert(price, size);
                }
            }
        }
        if let Some(checksum) = body.unsigned_or_nil()? {
            findings.checksums += 1;
            findings.checksums_wrong += u64::from(u64::from(book.checksum()) != checksum);
        }
        Ok(())
    }

    /// Elements are missing: the book is not whole until the next snapshot.
    pub(crate) fn lose(&mut self, instrument: u32, channel: Channel) {
        self.0.remove(&(instrument, channel));
    }
}

impl Book {
    /// CRC-32 (IEEE) over the best asks, low to high, then the best bids, high to low: price and size as decimal digits.
    fn checksum(&self) -> u32 {
        let mut crc = !0;
        let mut digits = String::new();
        let best = self.asks.iter().take(CHECKED_LEVELS).chain(self.bids.iter().rev().take(CHECKED_LEVELS));
        for (price, size) in best {
            use std::fmt::Write as _;
            digits.clear();
            // Writing to a string cannot fail.
            let _ = write!(digits, "{price}{size}");
            for byte in digits.bytes() {
                crc = (crc >> 8) ^ CRC_TABLE[usize::from(crc as u8 ^ byte)];
            }
        }
        !crc
    }
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut number = 0;
    while number < 256 {
        let (mut crc, mut bit) = (number as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[number] = crc;
        number += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: (u32, Channel) = (3, Channel::Book(market::BookDepth::Top10));

    #[track_caller]
    fn check(books: &mut Books, change: Change, body: &serde_json::Value, want: (u64, u64)) {
        let packed = rmp_serde::to_vec(body).unwrap();
        // The body of an element has no array around it.
        let mut findings = Findings::default();
        books.take(KEY, change, Cursor::new(&packed[1..]), &mut findings).unwrap();
        assert_eq!((findings.checksums, findings.checksums_wrong), want, "{body}");
    }

    #[test]
    fn the_crc_is_that_of_everyone() {
        // The check value of CRC-32/ISO-HDLC is over "123456789".
        let book = Book { asks: BTreeMap::from([(1234, 56789)]), bids: BTreeMap::new() };
        assert_eq!(book.checksum(), 0xCBF4_3926);
        let book = Book { asks: BTreeMap::from([(12, 34)]), bids: BTreeMap::from([(56, 7), (8, 9), (5, 0)]) };
        assert_ne!(book.checksum(), 0xCBF4_3926);
    }

    #[test]
    fn a_book_is_checked_from_a_snapshot_on() {
        let mut books = Books::default();
        // 1234 x 56789 alone gives the CRC's check value.
        let whole = 0xCBF4_3926_u64;
        check(&mut books, Change::Delta, &json!([[], [], 5]), (0, 0));
        check(&mut books, Change::Snapshot, &json!([[], [[1234, 56789]], whole]), (1, 0));
        check(&mut books, Change::Delta, &json!([[[-5, 7]], [], null]), (0, 0));
        check(&mut books, Change::Delta, &json!([[[-5, 0]], [[1234, 56789]], whole]), (1, 0));
        check(&mut books, Change::Delta, &json!([[], [[1235, 1]], whole]), (1, 1));
        books.lose(KEY.0, KEY.1);
        check(&mut books, Change::Delta, &json!([[], [], whole]), (0, 0));
    }
}
