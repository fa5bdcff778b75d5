//! Numbers and times as text, straight into bytes.
//!
//! **Invariant:** the text equals that of `market`'s `format_decimal` and of [`Timestamp`]'s `Display`, to the last byte;
//! only the way there is shorter, without a formatter and without a `String` in between.

use market::{Price, Size, Timestamp};

const PAIRS: &[u8; 200] =
    b"00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748\
495051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

/// Appends an integer.
pub(crate) fn unsigned(value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    out.extend_from_slice(tail(value, &mut digits));
}

/// Appends a price as exact decimal text.
pub(crate) fn price(value: Price, exponent: i8, out: &mut Vec<u8>) {
    if value.0 < 0 {
        out.push(b'-');
    }
    magnitude(value.0.unsigned_abs(), exponent, out);
}

/// Appends a size as exact decimal text.
pub(crate) fn size(value: Size, exponent: i8, out: &mut Vec<u8>) {
    magnitude(value.0, exponent, out);
}

/// Appends an instant as RFC 3339 with nine fractional digits.
pub(crate) fn time(value: Timestamp, out: &mut Vec<u8>) {
    const NANOS_PER_SECOND: u64 = 1_000_000_000;
    const SECONDS_PER_DAY: u64 = 86_400;
    let (seconds, nanos) = (value.0 / NANOS_PER_SECOND, (value.0 % NANOS_PER_SECOND) as u32);
    let of_day = (seconds % SECONDS_PER_DAY) as u32;
    let (year, month, day) = date((seconds / SECONDS_PER_DAY) as u32);
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    put_pair(&mut text, 0, year / 100);
    put_pair(&mut text, 2, year % 100);
    put_pair(&mut text, 5, month);
    put_pair(&mut text, 8, day);
    put_pair(&mut text, 11, of_day / 3600);
    put_pair(&mut text, 14, of_day / 60 % 60);
    put_pair(&mut text, 17, of_day % 60);
    text[20] = b'0' + (nanos / 100_000_000) as u8;
    put_pair(&mut text, 21, nanos / 1_000_000 % 100);
    put_pair(&mut text, 23, nanos / 10_000 % 100);
    put_pair(&mut text, 25, nanos / 100 % 100);
    put_pair(&mut text, 27, nanos % 100);
    out.extend_from_slice(&text);
}

fn magnitude(value: u64, exponent: i8, out: &mut Vec<u8>) {
    let mut buffer = [0; 20];
    let digits = tail(value, &mut buffer);
    if exponent >= 0 {
        out.extend_from_slice(digits);
        if value != 0 {
            out.extend(std::iter::repeat_n(b'0', exponent.unsigned_abs().into()));
        }
        return;
    }
    let places = usize::from(exponent.unsigned_abs());
    if let Some(whole) = digits.len().checked_sub(places).filter(|whole| *whole > 0) {
        out.extend_from_slice(&digits[..whole]);
        out.push(b'.');
        out.extend_from_slice(&digits[whole..]);
    } else {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', places - digits.len()));
        out.extend_from_slice(digits);
    }
}

/// The decimal digits of `value`, at the end of `buffer`.
fn tail(mut value: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut at = buffer.len();
    while value >= 100 {
        at -= 2;
        put_pair(buffer, at, (value % 100) as u32);
        value /= 100;
    }
    if value >= 10 {
        at -= 2;
        put_pair(buffer, at, value as u32);
    } else {
        at -= 1;
        buffer[at] = b'0' + value as u8;
    }
    &buffer[at..]
}

fn put_pair(text: &mut [u8], at: usize, value: u32) {
    let pair = value as usize * 2;
    text[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
}

/// The Gregorian date of a day number since 1970-01-01, in unsigned 32-bit arithmetic: a [`Timestamp`] has no days
/// before the epoch and ends in 2554. Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn date(days: u32) -> (u32, u32, u32) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + u32::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::format_decimal;
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn edges_are_exact() {
        for (value, exponent, want) in [
            (968_219, -2, "9682.19"),
            (-25, -2, "-0.25"),
            (-5, -2, "-0.05"),
            (0, -2, "0.00"),
            (5000, 0, "5000"),
            (5, 3, "5000"),
            (0, 3, "0"),
            (i64::MIN, -18, "-9.223372036854775808"),
            (1, -20, "0.00000000000000000001"),
        ] {
            assert_eq!(text(|out| price(Price(value), exponent, out)), want);
        }
        assert_eq!(text(|out| size(Size(u64::MAX), -3, out)), "18446744073709551.615");
        assert_eq!(text(|out| time(Timestamp(u64::MAX), out)), Timestamp(u64::MAX).to_string());
    }

    proptest! {
        #[test]
        fn prices_read_as_the_market_writes_them(value in any::<i64>(), exponent in -24i8..6) {
            let mut want = String::new();
            format_decimal(value, exponent, &mut want);
            prop_assert_eq!(text(|out| price(Price(value), exponent, out)), want);
        }

        #[test]
        fn integers_and_times_read_as_displayed(value in any::<u64>(), shift in 0u32..64) {
            prop_assert_eq!(text(|out| unsigned(value >> shift, out)), (value >> shift).to_string());
            prop_assert_eq!(text(|out| time(Timestamp(value), out)), Timestamp(value).to_string());
        }
    }
}
