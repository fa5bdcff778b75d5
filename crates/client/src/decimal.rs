//! A fixed-point number with its exponent, for showing and comparing.
//!
//! **Invariant:** exact; nothing here is a float.

use std::cmp::Ordering;
use std::fmt;

use market::{Price, Size};
use wire::decode::InstrumentTerms;

/// `mantissa x 10^exponent`, exactly. Shown with as many places as the exponent says; equal and ordered by value.
///
/// ```
/// use tickerplant_client::Decimal;
///
/// let price = Decimal::new(968_219, -2);
/// assert_eq!(price.to_string(), "9682.19");
/// assert_eq!(format!("{price:>10}"), "   9682.19");
/// assert!(price > Decimal::new(9682, 0));
/// assert_eq!(Decimal::new(50, -1), Decimal::new(5, 0));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    mantissa: i128,
    exponent: i8,
}

impl Decimal {
    /// `mantissa x 10^exponent`.
    pub const fn new(mantissa: i128, exponent: i8) -> Self {
        Self { mantissa, exponent }
    }

    /// A price of an instrument.
    pub fn price(price: Price, terms: &InstrumentTerms) -> Self {
        Self::new(price.0.into(), terms.price_exponent)
    }

    /// A size of an instrument.
    pub fn size(size: Size, terms: &InstrumentTerms) -> Self {
        Self::new(size.0.into(), terms.size_exponent)
    }

    /// The integer.
    pub const fn mantissa(self) -> i128 {
        self.mantissa
    }

    /// The power of ten.
    pub const fn exponent(self) -> i8 {
        self.exponent
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = self.mantissa.unsigned_abs().to_string();
        let places = usize::from(self.exponent.min(0).unsigned_abs());
        if self.exponent > 0 && self.mantissa != 0 {
            digits.extend(std::iter::repeat_n('0', self.exponent.unsigned_abs().into()));
        }
        if places > 0 {
            if digits.len() <= places {
                digits.insert_str(0, &"0".repeat(places + 1 - digits.len()));
            }
            digits.insert(digits.len() - places, '.');
        }
        f.pad_integral(self.mantissa >= 0, "", &digits)
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let least = self.exponent.min(other.exponent);
        let scaled = |number: &Self| {
            let shift = number.exponent.abs_diff(least);
            10_i128.checked_pow(shift.into()).and_then(|power| number.mantissa.checked_mul(power))
        };
        match (scaled(self), scaled(other)) {
            (Some(a), Some(b)) => a.cmp(&b),
            // Out of range is only the one with the larger exponent, and then it is far from zero.
            (None, _) => self.mantissa.cmp(&0),
            (_, None) => 0.cmp(&other.mantissa),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Decimal {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_exact() {
        for (mantissa, exponent, want) in [
            (968_219, -2, "9682.19"),
            (-5, -2, "-0.05"),
            (0, -2, "0.00"),
            (5, 3, "5000"),
            (0, 3, "0"),
            (i128::from(u64::MAX), -3, "18446744073709551.615"),
        ] {
            assert_eq!(Decimal::new(mantissa, exponent).to_string(), want);
        }
        assert_eq!(
            format!("{:>9}|{:<9}|{:+}", Decimal::new(15, -1), Decimal::new(-15, -1), Decimal::new(15, -1)),
            "      1.5|-1.5     |+1.5"
        );
    }

    proptest! {
        #[test]
        fn text_equals_that_of_the_market(value in any::<i64>(), exponent in -18i8..6) {
            let mut want = String::new();
            market::format_decimal(value, exponent, &mut want);
            prop_assert_eq!(Decimal::new(value.into(), exponent).to_string(), want);
        }

        #[test]
        fn order_is_that_of_the_values(a in -1000i128..1000, b in -1000i128..1000, x in -4i8..4, y in -4i8..4) {
            let value = |mantissa: i128, exponent: i8| mantissa * 10_i128.pow((exponent + 4) as u32);
            prop_assert_eq!(Decimal::new(a, x).cmp(&Decimal::new(b, y)), value(a, x).cmp(&value(b, y)));
        }
    }
}
