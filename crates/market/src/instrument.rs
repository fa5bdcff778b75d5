//! Instruments and the names they go by.

use std::borrow::Borrow;
use std::fmt;

use crate::{Price, Size};

/// A dense number for an instrument: its index in the feed's list, stable within an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InstrumentId(pub u32);

impl InstrumentId {
    /// The number as an array index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A checked instrument name: 1 to 32 of `A-Z a-z 0-9 . - _ / : = ^`, case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(Box<str>);

/// The text cannot be a symbol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a symbol: 1 to 32 of A-Z a-z 0-9 . - _ / : = ^")]
pub struct InvalidSymbol(pub String);

impl Symbol {
    /// The longest symbol, in bytes.
    pub const LENGTH_MAX: usize = 32;

    /// Checks and keeps `text`.
    ///
    /// # Errors
    /// [`InvalidSymbol`] when it is empty, too long, or has another character.
    pub fn new(text: &str) -> Result<Self, InvalidSymbol> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_/:=^".contains(&b);
        if (1..=Self::LENGTH_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSymbol(text.chars().take(64).collect()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Symbol {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What kind of thing is traded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AssetClass {
    /// Currency pairs of crypto venues
    Crypto,
    /// Shares
    Equity,
    /// Futures
    Future,
}

impl AssetClass {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crypto => "crypto",
            Self::Equity => "equity",
            Self::Future => "future",
        }
    }
}

/// Everything that is fixed about an instrument within an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instrument {
    /// Its number
    pub id: InstrumentId,
    /// Its name
    pub symbol: Symbol,
    /// Prices are integers of 10^`price_exponent`
    pub price_exponent: i8,
    /// Sizes are integers of 10^`size_exponent`
    pub size_exponent: i8,
    /// The smallest price step, in integers of the price exponent; at least 1
    pub tick_size: Price,
    /// The smallest size step, in integers of the size exponent; at least 1
    pub lot_size: Size,
    /// What kind of thing it is
    pub class: AssetClass,
    /// The currency of its price, such as `USD`
    pub currency: String,
    /// A name for people
    pub description: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_checked() {
        for good in ["BTC-USD", "ESU4", "BRK.B", "^SPX", "EUR/USD", "ES=F", "a:b_c", &"X".repeat(32)] {
            assert!(Symbol::new(good).is_ok(), "{good}");
        }
        for bad in ["", "*", "BTC USD", "é", "a\nb", &"X".repeat(33)] {
            assert!(Symbol::new(bad).is_err(), "{bad:?}");
        }
    }
}
