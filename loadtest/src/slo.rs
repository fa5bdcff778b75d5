//! Objectives: what a run has to meet.
//!
//! **Invariant:** an objective that cannot be measured is missed, not met.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Several objectives, all of which have to be met.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Objectives(pub(crate) Vec<Objective>);

/// A figure and its bound, in the figure's own unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Objective {
    pub(crate) figure: Figure,
    pub(crate) bound: f64,
    /// As it was written
    pub(crate) text: String,
}

/// What can be an objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// A quantile in microseconds, at most
    Latency { of: Of, point: Point },
    /// Elements lost, declared or not, at most
    Loss,
    /// Share of one processor that the server used, at most
    ServerCpu,
    /// Elements per second, at least
    Rate,
    /// Bytes of the server's own memory for each connection, at most
    Memory,
}

/// Which latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Time,
    Sent,
    Connect,
    Change,
}

/// Which point of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    P50,
    P90,
    P99,
    P999,
    Max,
}

/// What came of an objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) objective: String,
    /// None when it could not be measured
    pub(crate) actual: Option<f64>,
    pub(crate) met: bool,
}

/// The text is no objective.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ObjectiveError {
    #[error("{0:?} is not of the form FIGURE=BOUND")]
    Form(String),
    #[error(
        "{0:?} cannot be an objective; p50, p90, p99, p999, max (also with sent_, connect_, change_ before), loss, server_cpu, rate \
         and memory can"
    )]
    Figure(String),
    #[error("{0:?} is no bound; times need a unit (10ms, 500us, 1s), shares may be written as 75%")]
    Bound(String),
}

impl FromStr for Objectives {
    type Err = ObjectiveError;
    fn from_str(text: &str) -> Result<Self, ObjectiveError> {
        text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Objective {
    type Err = ObjectiveError;
    fn from_str(text: &str) -> Result<Self, ObjectiveError> {
        let (name, bound) = text.split_once('=').ok_or_else(|| ObjectiveError::Form(text.to_owned()))?;
        let (name, bound) = (name.trim(), bound.trim());
        let figure = figure(name).ok_or_else(|| ObjectiveError::Figure(name.to_owned()))?;
        let parsed = match figure {
            Figure::Latency { .. } => microseconds(bound),
            Figure::ServerCpu => match bound.strip_suffix('%') {
                Some(percent) => number(percent).map(|percent| percent / 100.0),
                None => number(bound),
            },
            Figure::Loss | Figure::Rate | Figure::Memory => number(bound),
        };
        let bound = parsed.ok_or_else(|| ObjectiveError::Bound(bound.to_owned()))?;
        Ok(Self { figure, bound, text: text.to_owned() })
    }
}

impl Objective {
    /// Compares it with what was measured.
    pub(crate) fn outcome(&self, actual: Option<f64>) -> Outcome {
        let met = actual.is_some_and(|actual| match self.figure {
            Figure::Rate => actual >= self.bound,
            _ => actual <= self.bound,
        });
        Outcome { objective: self.text.clone(), actual, met }
    }
}

fn figure(name: &str) -> Option<Figure> {
    match name {
        "loss" => return Some(Figure::Loss),
        "server_cpu" => return Some(Figure::ServerCpu),
        "rate" => return Some(Figure::Rate),
        "memory" => return Some(Figure::Memory),
        _ => {}
    }
    let (of, point) = match name.split_once('_') {
        None => (Of::Time, name),
        Some(("sent", point)) => (Of::Sent, point),
        Some(("connect", point)) => (Of::Connect, point),
        Some(("change", point)) => (Of::Change, point),
        Some(_) => return None,
    };
    let point = match point {
        "p50" => Point::P50,
        "p90" => Point::P90,
        "p99" => Point::P99,
        "p999" | "p99.9" => Point::P999,
        "max" => Point::Max,
        _ => return None,
    };
    Some(Figure::Latency { of, point })
}

fn microseconds(text: &str) -> Option<f64> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let value = number(&text[..text.len() - unit.len()])?;
    match unit {
        "us" => Some(value),
        "ms" => Some(value * 1e3),
        "s" => Some(value * 1e6),
        _ => None,
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_are_read() {
        let Objectives(all) = "p99=10ms, loss=0,server_cpu=75%,connect_max=1.5s,rate=1e6".parse().unwrap();
        let bounds: Vec<_> = all.iter().map(|objective| objective.bound).collect();
        assert_eq!(bounds, [10_000.0, 0.0, 0.75, 1_500_000.0, 1e6]);
        assert_eq!(all[3].figure, Figure::Latency { of: Of::Connect, point: Point::Max });
        let error = |text: &str| text.parse::<Objectives>().unwrap_err();
        assert_eq!(error("p99"), ObjectiveError::Form("p99".into()));
        assert_eq!(error("p98=1ms"), ObjectiveError::Figure("p98".into()));
        assert_eq!(error("p99=10"), ObjectiveError::Bound("10".into()));
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        let objective: Objective = "p99=10ms".parse().unwrap();
        assert!(objective.outcome(Some(10_000.0)).met);
        assert!(!objective.outcome(Some(10_001.0)).met);
        assert!(!objective.outcome(None).met);
        let rate: Objective = "rate=5".parse().unwrap();
        assert!(rate.outcome(Some(6.0)).met && !rate.outcome(Some(4.0)).met);
    }
}
