//! What happens in a market with order books, and when: the built-in scenarios and files in the same form.
//!
//! **Invariant:** a [`Script`] that could be parsed can be played for ever; whatever it asks is bounded.
//!
//! A script is TOML: a list of `[[at]]` with `seconds` since the begin, in ascending order, and what changes then. What
//! is not named stays as it is.
//!
//! | key | what it is | usual |
//! | --- | --- | --- |
//! | `phase` | `pre_open`, `auction`, `trading`, `halted` or `closed` | `trading` |
//! | `reason` | the text of the status that says so | |
//! | `activity` | orders per second, as a multiple of the configured rate; for the whole market | 1 |
//! | `volatility` | movements of values, as a multiple; for the whole market | 1 |
//! | `depth` | what makers show, as a multiple | 1 |
//! | `spread` | how far apart makers quote, as a multiple | 1 |
//! | `pressure` | who is in a hurry, from -1 (all sell) to 1 (all buy) | 0 |
//! | `move`, `over_seconds` | moves values by that part of them, within that time | |
//! | `symbols` | for these instruments only | all |
//!
//! `repeat_seconds` beside the list begins it anew after that time, with everything as usual.

use serde::Deserialize;

use crate::Scenario;

/// A market's day; see the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    pub(crate) directives: Vec<Directive>,
    /// In nanoseconds
    pub(crate) repeat: Option<u64>,
}

/// A script that cannot be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// No TOML, or a key or value that no script has.
    #[error("{0}")]
    Malformed(String),
    /// A value out of its range.
    #[error("at {seconds} s: {key} is {value}; it can be {range}")]
    OutOfRange {
        /// When
        seconds: String,
        /// Of what
        key: &'static str,
        /// What it is
        value: String,
        /// What it can be
        range: &'static str,
    },
    /// A directive earlier than the one before.
    #[error("at {0} s: it comes after a later one")]
    Order(String),
    /// A key that is of the whole market, with symbols.
    #[error("at {seconds} s: {key} is of the whole market and cannot be set for single symbols")]
    WholeMarket {
        /// When
        seconds: String,
        /// Of what
        key: &'static str,
    },
}

/// A phase of trading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    PreOpen,
    Auction,
    Trading,
    Halted,
    Closed,
}

/// What changes at one time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Directive {
    /// Nanoseconds since the script's begin
    pub(crate) at: u64,
    /// For which instruments; none for all
    pub(crate) symbols: Option<Vec<String>>,
    pub(crate) phase: Option<(Phase, String)>,
    pub(crate) activity: Option<f64>,
    pub(crate) volatility: Option<f64>,
    pub(crate) depth: Option<f64>,
    pub(crate) spread: Option<f64>,
    pub(crate) pressure: Option<f64>,
    /// By how much, and within how many nanoseconds
    pub(crate) movement: Option<(f64, u64)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScript {
    repeat_seconds: Option<f64>,
    at: Vec<RawDirective>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDirective {
    seconds: f64,
    symbols: Option<Vec<String>>,
    phase: Option<Phase>,
    reason: Option<String>,
    activity: Option<f64>,
    volatility: Option<f64>,
    depth: Option<f64>,
    spread: Option<f64>,
    pressure: Option<f64>,
    #[serde(rename = "move")]
    movement: Option<f64>,
    over_seconds: Option<f64>,
}

const NANOS_PER_SECOND: f64 = 1e9;
/// A year; beyond it nobody plays a script.
const SECONDS_MAX: f64 = 366.0 * 86_400.0;
const REASON_BYTES_MAX: usize = 200;

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// [`ScriptError`] says what is wrong and when.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let raw: RawScript = toml::from_str(text).map_err(|error| ScriptError::Malformed(error.to_string()))?;
        let directives = raw.at.into_iter().map(Directive::check).collect::<Result<Vec<_>, _>>()?;
        let late = directives.windows(2).find(|pair| pair[1].at < pair[0].at);
        if let Some(pair) = late {
            return Err(ScriptError::Order(seconds_text(pair[1].at)));
        }
        let end = directives.last().map_or(0, |last| last.at);
        let repeat = raw.repeat_seconds.map(|repeat| {
            let is_sound = (1.0..=SECONDS_MAX).contains(&repeat) && (repeat * NANOS_PER_SECOND) as u64 > end;
            let wrong = || ScriptError::OutOfRange {
                seconds: seconds_text(end),
                key: "repeat_seconds",
                value: repeat.to_string(),
                range: "at least 1 and more than the last time",
            };
            if is_sound { Ok((repeat * NANOS_PER_SECOND) as u64) } else { Err(wrong()) }
        });
        Ok(Self { directives, repeat: repeat.transpose()? })
    }

    /// The script of a built-in scenario; none for those that have no order books.
    pub fn of(scenario: Scenario) -> Option<Self> {
        let text = match scenario {
            Scenario::Market | Scenario::Uniform => return None,
            Scenario::Calm => include_str!("../data/scenarios/calm.toml"),
            Scenario::Busy => include_str!("../data/scenarios/busy.toml"),
            Scenario::Open => include_str!("../data/scenarios/open.toml"),
            Scenario::FlashCrash => include_str!("../data/scenarios/flash-crash.toml"),
            Scenario::Halt => include_str!("../data/scenarios/halt.toml"),
            Scenario::Thin => include_str!("../data/scenarios/thin.toml"),
        };
        // They are checked by a test; an empty script is a market as usual.
        Some(Self::parse(text).unwrap_or(Self { directives: Vec::new(), repeat: None }))
    }
}

impl Directive {
    fn check(raw: RawDirective) -> Result<Self, ScriptError> {
        let seconds = raw.seconds.to_string();
        let in_range = |key: &'static str, value: Option<f64>, low: f64, high: f64, range: &'static str| match value {
            Some(value) if !(low..=high).contains(&value) => {
                Err(ScriptError::OutOfRange { seconds: seconds.clone(), key, value: value.to_string(), range })
            }
            other => Ok(other),
        };
        let at = in_range("seconds", Some(raw.seconds), 0.0, SECONDS_MAX, "0 to a year")?.unwrap_or(0.0);
        let over = in_range("over_seconds", raw.over_seconds, 0.0, SECONDS_MAX, "0 to a year")?.unwrap_or(0.0);
        let movement = in_range("move", raw.movement, -0.5, 1.0, "-0.5 to 1")?;
        if raw.symbols.is_some() {
            for (key, value) in [("activity", raw.activity), ("volatility", raw.volatility)] {
                if value.is_some() {
                    return Err(ScriptError::WholeMarket { seconds, key });
                }
            }
        }
        let reason = raw.reason.unwrap_or_default();
        if reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
            let (key, range) = ("reason", "one line of at most 200 bytes");
            return Err(ScriptError::OutOfRange { seconds, key, value: format!("{reason:?}"), range });
        }
        Ok(Self {
            at: (at * NANOS_PER_SECOND) as u64,
            symbols: raw.symbols,
            phase: raw.phase.map(|phase| (phase, reason)),
            activity: in_range("activity", raw.activity, 0.01, 100.0, "0.01 to 100")?,
            volatility: in_range("volatility", raw.volatility, 0.01, 10.0, "0.01 to 10")?,
            depth: in_range("depth", raw.depth, 0.05, 20.0, "0.05 to 20")?,
            spread: in_range("spread", raw.spread, 0.1, 50.0, "0.1 to 50")?,
            pressure: in_range("pressure", raw.pressure, -1.0, 1.0, "-1 to 1")?,
            movement: movement.map(|by| (by, (over * NANOS_PER_SECOND) as u64)),
        })
    }
}

fn seconds_text(nanos: u64) -> String {
    (nanos as f64 / NANOS_PER_SECOND).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_scenarios_are_sound() {
        for scenario in Scenario::ALL {
            let has_books = !matches!(scenario, Scenario::Market | Scenario::Uniform);
            assert_eq!(
                Script::of(scenario).is_some_and(|script| !script.directives.is_empty()),
                has_books,
                "{scenario}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_time() {
        for (text, reason) in [
            ("at = 1", "invalid type"),
            ("[[at]]\nseconds = 1\nfoo = 2", "unknown field `foo`"),
            ("[[at]]\nphase = \"trading\"", "missing field `seconds`"),
            ("[[at]]\nseconds = 1\nphase = \"lunch\"", "unknown variant `lunch`"),
            ("[[at]]\nseconds = -1", "at -1 s: seconds is -1; it can be 0 to a year"),
            ("[[at]]\nseconds = nan", "seconds is NaN"),
            ("[[at]]\nseconds = 2\nactivity = 0", "at 2 s: activity is 0; it can be 0.01 to 100"),
            ("[[at]]\nseconds = 2\nmove = -0.9", "at 2 s: move is -0.9; it can be -0.5 to 1"),
            ("[[at]]\nseconds = 2\nreason = \"a\\nb\"", "reason is \"a\\nb\"; it can be one line"),
            ("[[at]]\nseconds = 2\n[[at]]\nseconds = 1.5", "at 1.5 s: it comes after a later one"),
            ("repeat_seconds = 2.0\n[[at]]\nseconds = 2", "repeat_seconds is 2; it can be at least 1 and more than"),
            (
                "[[at]]\nseconds = 3\nsymbols = [\"A\"]\nvolatility = 2",
                "at 3 s: volatility is of the whole market and cannot be set for single symbols",
            ),
        ] {
            let error = Script::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
