//! What a simulation is asked to be.
//!
//! **Invariant:** a [`Config`] that [`Config::check`] accepts can be simulated for ever.

use std::fmt;
use std::str::FromStr;

/// Everything that decides which ticks come out.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Chooses one of 2^64 markets
    pub seed: u64,
    /// The number of instruments, 1 to [`Config::SYMBOLS_MAX`]; the most active ones come first
    pub symbols: usize,
    /// Ticks per virtual second in all, trades, quotes and changes of books together, [`Config::RATE_MIN`] to
    /// [`Config::RATE_MAX`]; about that with order books, and times the scenario's activity
    pub rate: f64,
    /// What the market is like
    pub scenario: Scenario,
}

/// What the market is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scenario {
    /// Bursts, a few very active instruments and many quiet ones; the rate is a mean
    #[default]
    Market,
    /// A metronome for benchmarks: evenly spaced ticks, exactly `rate` in each second, round robin over equally active
    /// instruments, a quote and a trade of each in turn
    Uniform,
    /// Order books on a quiet day: few orders, deep books
    Calm,
    /// Order books with twice the orders and wilder prices
    Busy,
    /// An opening auction and the burst after it, again and again
    Open,
    /// Sellers in a rush and makers that step back, again and again
    FlashCrash,
    /// A trading halt and the auction that ends it, again and again
    Halt,
    /// Order books with little in them and wide spreads
    Thin,
}

/// A configuration that cannot be simulated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// No instruments, or more than there are.
    #[error("{0} symbols cannot be simulated; 1 to {max} can", max = Config::SYMBOLS_MAX)]
    Symbols(usize),
    /// Too slow, too fast or no number.
    #[error("{0} ticks per second cannot be simulated; {min} to {max} can", min = Config::RATE_MIN, max = Config::RATE_MAX)]
    Rate(f64),
}

/// No scenario has that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a scenario; known are market, uniform, calm, busy, open, flash-crash, halt and thin")]
pub struct UnknownScenario(pub String);

impl Config {
    /// The most instruments: ids fit into 16 bits with room to spare, and the tables into a core's cache.
    pub const SYMBOLS_MAX: usize = 10_000;
    /// The lowest rate, in ticks per second.
    pub const RATE_MIN: f64 = 1.0;
    /// The highest rate, in ticks per second; about what one core can make and hand over.
    pub const RATE_MAX: f64 = 2_000_000.0;

    /// Whether it can be simulated.
    ///
    /// # Errors
    /// [`ConfigError`] names the value that is out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !(1..=Self::SYMBOLS_MAX).contains(&self.symbols) {
            return Err(ConfigError::Symbols(self.symbols));
        }
        if !(Self::RATE_MIN..=Self::RATE_MAX).contains(&self.rate) {
            return Err(ConfigError::Rate(self.rate));
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { seed: 1, symbols: 1000, rate: 1000.0, scenario: Scenario::default() }
    }
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Market, Self::Uniform, Self::Calm, Self::Busy, Self::Open, Self::FlashCrash, Self::Halt, Self::Thin];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Market => "market",
            Self::Uniform => "uniform",
            Self::Calm => "calm",
            Self::Busy => "busy",
            Self::Open => "open",
            Self::FlashCrash => "flash-crash",
            Self::Halt => "halt",
            Self::Thin => "thin",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scenario {
    type Err = UnknownScenario;
    fn from_str(text: &str) -> Result<Self, UnknownScenario> {
        Self::ALL
            .into_iter()
            .find(|scenario| scenario.name() == text)
            .ok_or_else(|| UnknownScenario(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_simulated_is_accepted() {
        let check = |symbols, rate| Config { symbols, rate, ..Config::default() }.check();
        assert_eq!(check(1, 1.0), Ok(()));
        assert_eq!(check(10_000, 2_000_000.0), Ok(()));
        assert_eq!(check(0, 1.0), Err(ConfigError::Symbols(0)));
        assert_eq!(check(10_001, 1.0), Err(ConfigError::Symbols(10_001)));
        for rate in [0.0, 0.99, -1.0, 2_000_001.0, f64::INFINITY] {
            assert_eq!(check(1, rate), Err(ConfigError::Rate(rate)));
        }
        assert!(check(1, f64::NAN).is_err());
    }

    #[test]
    fn scenarios_have_names() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.to_string().parse(), Ok(scenario));
        }
        assert!("Market".parse::<Scenario>().is_err());
    }
}
