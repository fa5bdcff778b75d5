//! Exact decimals as a file writes them, before the instrument's exponent is known.
//!
//! **Invariant:** no conversion here loses a digit; one that would is `None` or an error.

use market::{DecimalError, decimal_digits, parse_decimal};

/// `mantissa x 10^-places`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    mantissa: i64,
    places: u8,
}

impl Decimal {
    /// The most places a 64-bit integer can be asked to hold.
    pub(super) const PLACES_MAX: u8 = 18;

    pub(super) fn from_integer(integer: u32) -> Self {
        Self { mantissa: i64::from(integer), places: 0 }
    }

    /// From an integer of 1e-9, as DBN writes prices.
    pub(super) fn from_nanos(nanos: i64) -> Self {
        Self { mantissa: nanos, places: 9 }
    }

    /// From decimal text, exactly.
    pub(super) fn from_text(text: &str) -> Result<Self, DecimalError> {
        let places = decimal_digits(text)?;
        let places = u8::try_from(places).ok().filter(|places| *places <= Self::PLACES_MAX);
        let Some(places) = places else {
            return Err(DecimalError::TooPrecise { exponent: -(Self::PLACES_MAX as i8) });
        };
        Ok(Self { mantissa: parse_decimal(text, -(places as i8))?, places })
    }

    pub(super) fn is_negative(self) -> bool {
        self.mantissa < 0
    }

    /// The same value with the fewest places.
    pub(super) fn reduced(mut self) -> Self {
        while self.places > 0 && self.mantissa % 10 == 0 {
            self.mantissa /= 10;
            self.places -= 1;
        }
        self
    }

    pub(super) fn places(self) -> u8 {
        self.places
    }

    pub(super) fn mantissa(self) -> i64 {
        self.mantissa
    }

    /// The value as an integer of 10^-`places`, if it is one and fits.
    pub(super) fn at(self, places: u8) -> Option<i64> {
        if places >= self.places {
            let factor = 10i64.checked_pow(u32::from(places - self.places))?;
            return self.mantissa.checked_mul(factor);
        }
        let Some(factor) = 10i64.checked_pow(u32::from(self.places - places)) else {
            return (self.mantissa == 0).then_some(0);
        };
        (self.mantissa % factor == 0).then(|| self.mantissa / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::format_decimal;
    use proptest::prelude::*;

    #[test]
    fn reads_what_files_write() {
        for (text, places, want) in [
            ("9681.92", 2, Some(968_192)),
            ("9681.920", 3, Some(9_681_920)),
            ("0.132", 2, None),
            ("1e-05", 5, Some(1)),
            ("0", 0, Some(0)),
            ("-0.25", 2, Some(-25)),
            ("9223372036854775807", 1, None),
        ] {
            assert_eq!(Decimal::from_text(text).unwrap().at(places), want, "{text}");
        }
        for text in ["", "abc", "1.2.3", "0.0000000000000000001", "1e-400", "9223372036854775808"] {
            assert!(Decimal::from_text(text).is_err(), "{text}");
        }
        assert_eq!(Decimal::from_nanos(5_512_750_000_000).at(2), Some(551_275));
        assert_eq!(Decimal::from_nanos(5_512_750_000_000).reduced().places(), 2);
    }

    proptest! {
        #[test]
        fn text_survives(value in any::<i64>(), places in 0u8..=18) {
            let mut text = String::new();
            format_decimal(value, -(places as i8), &mut text);
            prop_assert_eq!(Decimal::from_text(&text).unwrap().at(places), Some(value));
        }

        #[test]
        fn nanos_survive(value in any::<i64>()) {
            let decimal = Decimal::from_nanos(value);
            prop_assert_eq!(decimal.at(9), Some(value));
            let reduced = decimal.reduced();
            prop_assert_eq!(reduced.at(9), Some(value));
            prop_assert!(reduced.places() == 0 || reduced.at(reduced.places() - 1).is_none());
        }
    }
}
