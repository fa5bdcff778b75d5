//! How a recording is to be replayed.
//!
//! **Invariant:** every option has one spelling as text; what `Display` writes, `FromStr` reads.

use std::fmt;
use std::str::FromStr;

use market::Timestamp;

/// How a recording is to be replayed. The default is: once, at recorded pace, with its own times, stopping at a bad record.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ReplayOptions {
    /// How fast
    pub speed: Speed,
    /// How often
    pub repeat: Repeat,
    /// With which times
    pub rebase: Rebase,
    /// What a bad record leads to
    pub on_bad_record: OnBadRecord,
    /// Where to begin: what is before is read for the state that it leaves, and not replayed
    pub from: Option<Timestamp>,
    /// Where to end: what comes later is not replayed
    pub to: Option<Timestamp>,
}

/// How fast time passes in a replay, compared with the receive times of the recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// That many times as fast as recorded, within [`Speed::TIMES_MIN`] and [`Speed::TIMES_MAX`]
    Times(f64),
    /// As fast as it is taken
    Max,
}

/// How often a recording is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Repeat {
    /// Once
    #[default]
    Once,
    /// Again and again; each pass is shifted in time so that it follows the one before
    Loop,
}

/// What the `time` of a replayed tick is.
///
/// Either way differences between times stay as recorded, also when the speed is not 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rebase {
    /// The recorded one
    #[default]
    Keep,
    /// The recorded one, shifted by one constant that brings the first receive time to the start of the session
    ToStart,
}

/// What a bad record leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBadRecord {
    /// The replay ends with an error
    #[default]
    Stop,
    /// The record is left out and counted. A file that cannot be read on (truncated, corrupt compression, a record of an
    /// impossible length) is an error all the same, because an unknown number of records would be lost.
    Skip,
}

/// The text is not a value of the option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}")]
pub struct InvalidOption {
    value: String,
    expected: &'static str,
}

impl InvalidOption {
    fn new(value: &str, expected: &'static str) -> Self {
        Self { value: value.chars().take(64).collect(), expected }
    }
}

impl Speed {
    /// The slowest pace: a recorded second takes more than eleven days.
    pub const TIMES_MIN: f64 = 1e-6;
    /// The fastest pace that is still a pace: a recorded day takes less than a tenth of a second.
    pub const TIMES_MAX: f64 = 1e6;

    const EXPECTED: &str = "a replay speed: max, or a number from 0.000001 to 1000000";

    /// The speed, when it is one that can be kept.
    ///
    /// # Errors
    /// [`InvalidOption`] for a number out of range or none at all.
    pub fn checked(self) -> Result<Self, InvalidOption> {
        match self {
            Self::Times(times) if !(Self::TIMES_MIN..=Self::TIMES_MAX).contains(&times) => {
                Err(InvalidOption::new(&times.to_string(), Self::EXPECTED))
            }
            _ => Ok(self),
        }
    }
}

impl Default for Speed {
    fn default() -> Self {
        Self::Times(1.0)
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => write!(f, "{times}"),
            Self::Max => f.write_str("max"),
        }
    }
}

impl FromStr for Speed {
    type Err = InvalidOption;
    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times = text.parse().map_err(|_| InvalidOption::new(text, Self::EXPECTED))?;
        Self::Times(times).checked().map_err(|_| InvalidOption::new(text, Self::EXPECTED))
    }
}

impl fmt::Display for OnBadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "stop",
            Self::Skip => "skip",
        })
    }
}

impl FromStr for OnBadRecord {
    type Err = InvalidOption;
    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        match text {
            "stop" => Ok(Self::Stop),
            "skip" => Ok(Self::Skip),
            _ => Err(InvalidOption::new(text, "stop or skip")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_read_and_written() {
        for text in ["max", "1", "0.5", "250", "0.000001", "1000000"] {
            assert_eq!(text.parse::<Speed>().map(|speed| speed.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "0", "-1", "nan", "inf", "1e7", "1e-7", "fast", "MAX", "1x"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_to_do_with_bad_records_is_read_and_written() {
        for text in ["stop", "skip"] {
            assert_eq!(text.parse::<OnBadRecord>().map(|option| option.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("abort".parse::<OnBadRecord>().unwrap_err().to_string(), "\"abort\" is not stop or skip");
    }
}
