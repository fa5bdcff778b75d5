//! Fixed-point prices and sizes, and their exact decimal text.
//!
//! **Invariant:** `value = integer x 10^exponent`, where the exponent belongs to the instrument and is never stored
//! beside the integer.

use std::fmt::Write as _;

/// A price as an integer of 10^`price_exponent`; negative prices exist (spreads, energy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Price(pub i64);

/// A size or volume as an integer of 10^`size_exponent`; never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

/// Why a decimal text is not a fixed-point number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Empty, or a character that is neither a digit, a leading minus nor the one point.
    #[error("not a decimal number")]
    Malformed,
    /// More significant fractional digits than the exponent keeps.
    #[error("has more decimal places than 10^{exponent} can hold")]
    TooPrecise {
        /// The instrument's exponent.
        exponent: i8,
    },
    /// Does not fit into 64 bits.
    #[error("out of range")]
    OutOfRange,
}

/// How many decimal places the text needs, trailing zeros aside: `"9682.190"` needs 2, `"5000"` none.
/// Scientific notation (`1e-05`, as some exports write small sizes) counts too.
///
/// # Errors
/// [`DecimalError`] when the power of ten is no number or absurd; the digits themselves are not checked here.
pub fn decimal_digits(text: &str) -> Result<u32, DecimalError> {
    let (mantissa, shift) = split_exponent(text)?;
    let (_, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let significant = fraction.trim_end_matches('0').len() as i64;
    if significant == 0 && shift < 0 {
        let whole = mantissa.split('.').next().unwrap_or("");
        let trailing = whole.len() - whole.trim_end_matches('0').len();
        return u32::try_from((-shift - trailing as i64).max(0)).map_err(|_| DecimalError::OutOfRange);
    }
    u32::try_from((significant - shift).max(0)).map_err(|_| DecimalError::OutOfRange)
}

/// Reads a decimal text exactly as an integer of 10^`exponent`.
///
/// # Errors
/// [`DecimalError`] when the text is no number, does not fit, or would lose a digit.
pub fn parse_decimal(text: &str, exponent: i8) -> Result<i64, DecimalError> {
    let (mantissa, shift) = split_exponent(text)?;
    let (negative, unsigned) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(DecimalError::Malformed);
    }
    let fraction = fraction.trim_end_matches('0');
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return Err(DecimalError::Malformed);
        }
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(i128::from(digit - b'0')))
            .ok_or(DecimalError::OutOfRange)?;
    }
    // value x 10^(shift - fraction digits) is to become integer x 10^exponent.
    let mut power = shift - fraction.len() as i64 - i64::from(exponent);
    while power < 0 && value != 0 {
        if value % 10 != 0 {
            return Err(DecimalError::TooPrecise { exponent });
        }
        value /= 10;
        power += 1;
    }
    while power > 0 && value != 0 {
        value = value.checked_mul(10).ok_or(DecimalError::OutOfRange)?;
        power -= 1;
    }
    i64::try_from(if negative { -value } else { value }).map_err(|_| DecimalError::OutOfRange)
}

/// Appends `value x 10^exponent` as exact decimal text, with exactly `-exponent` places: (968219, -2) is `9682.19`.
pub fn format_decimal(value: i64, exponent: i8, out: &mut String) {
    if exponent >= 0 {
        let _ = write!(out, "{value}");
        if value != 0 {
            out.extend(std::iter::repeat_n('0', exponent.unsigned_abs() as usize));
        }
        return;
    }
    let places = exponent.unsigned_abs() as usize;
    if value < 0 {
        out.push('-');
    }
    let magnitude = value.unsigned_abs();
    let Some(unit) = 10u64.checked_pow(places as u32) else {
        // More than 19 places: every digit stands behind the point.
        let _ = write!(out, "0.{magnitude:0places$}");
        return;
    };
    let _ = write!(out, "{}.{:0places$}", magnitude / unit, magnitude % unit);
}

/// Splits `1.5e-7` into its mantissa and power of ten; plain decimals have power 0.
fn split_exponent(text: &str) -> Result<(&str, i64), DecimalError> {
    match text.split_once(['e', 'E']) {
        None => Ok((text, 0)),
        Some((mantissa, power)) => {
            let power: i64 = power.parse().map_err(|_| DecimalError::Malformed)?;
            if power.abs() > 400 { Err(DecimalError::OutOfRange) } else { Ok((mantissa, power)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_exactly_or_not_at_all() {
        for (text, exponent, want) in [
            ("9682.19", -2, Ok(968_219)),
            ("5512.750000000", -2, Ok(551_275)),
            ("-0.25", -2, Ok(-25)),
            ("5000", 0, Ok(5000)),
            ("5000", 3, Ok(5)),
            ("1e-05", -8, Ok(1000)),
            ("2.5E3", 0, Ok(2500)),
            ("0.001", -2, Err(DecimalError::TooPrecise { exponent: -2 })),
            ("", -2, Err(DecimalError::Malformed)),
            (".", -2, Err(DecimalError::Malformed)),
            ("1,5", -2, Err(DecimalError::Malformed)),
            ("nan", -2, Err(DecimalError::Malformed)),
            ("99999999999999999999", 0, Err(DecimalError::OutOfRange)),
            ("1e999", 0, Err(DecimalError::OutOfRange)),
        ] {
            assert_eq!(parse_decimal(text, exponent), want, "{text}");
        }
    }

    #[test]
    fn counts_the_places_that_matter() {
        for (text, want) in [("9682.190", 2), ("5000", 0), ("1e-05", 5), ("10e-05", 4), ("1.50e-3", 4), ("0.0", 0)] {
            assert_eq!(decimal_digits(text), Ok(want), "{text}");
        }
    }

    proptest! {
        #[test]
        fn decimal_text_round_trips(value in any::<i64>(), exponent in -18i8..=0) {
            let mut text = String::new();
            format_decimal(value, exponent, &mut text);
            prop_assert_eq!(parse_decimal(&text, exponent), Ok(value));
        }

        #[test]
        fn parsing_never_panics(text in "[-0-9.eE]{0,24}", exponent in any::<i8>()) {
            let _ = parse_decimal(&text, exponent);
            let _ = decimal_digits(&text);
        }
    }
}
