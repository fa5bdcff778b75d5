//! The checksum of a book, as the protocol has it.
//!
//! **Invariant:** it depends on the ten best levels of each side and on nothing else, so that books of every depth have
//! the same one.

use super::{Book, BookSide};

/// How many levels of a side count.
pub(super) const LEVELS: usize = 10;

/// A sign and 19 digits of a price, 20 of a size.
const LEVEL_BYTES_MAX: usize = 40;

pub(super) fn of(book: &Book) -> u32 {
    let mut digits = Digits { bytes: [0; 2 * LEVELS * LEVEL_BYTES_MAX], length: 0 };
    for side in [BookSide::Ask, BookSide::Bid] {
        for level in book.levels(side).take(LEVELS) {
            if level.price.0 < 0 {
                digits.push(b'-');
            }
            digits.push_decimal(level.price.0.unsigned_abs());
            digits.push_decimal(level.size.0);
        }
    }
    crc32fast::hash(&digits.bytes[..digits.length])
}

struct Digits {
    bytes: [u8; 2 * LEVELS * LEVEL_BYTES_MAX],
    length: usize,
}

impl Digits {
    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn push_decimal(&mut self, mut value: u64) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        let written = &digits[first..];
        self.bytes[self.length..self.length + written.len()].copy_from_slice(written);
        self.length += written.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Price, Size};

    #[test]
    fn asks_come_first_and_ten_of_each_count() {
        let mut book = Book::new();
        assert_eq!(book.checksum(), 0);
        for n in 0..12 {
            book.set(BookSide::Bid, Price(99 - n), Size(1));
            book.set(BookSide::Ask, Price(100 + n), Size(20));
        }
        let text: String =
            (100..110).map(|p| format!("{p}20")).chain((90..100).rev().map(|p| format!("{p}1"))).collect();
        assert_eq!(book.checksum(), crc32fast::hash(text.as_bytes()));
    }

    #[test]
    fn the_longest_numbers_fit() {
        let mut book = Book::new();
        for n in 0..10 {
            book.set(BookSide::Bid, Price(i64::MIN + n), Size(u64::MAX));
            book.set(BookSide::Ask, Price(i64::MIN + n), Size(u64::MAX));
        }
        assert_ne!(book.checksum(), 0);
        let mut one = Book::new();
        one.set(BookSide::Bid, Price(i64::MIN), Size(u64::MAX));
        assert_eq!(one.checksum(), crc32fast::hash(b"-922337203685477580818446744073709551615"));
    }
}
