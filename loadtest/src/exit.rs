//! How the command ends: one table of exit codes.
//!
//! **Invariant:** the codes are an interface; scripts act on them. `--help` prints [`EXIT_CODES`].

use serde::{Deserialize, Serialize};

/// The table for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  every connection came up and stayed, elements came, nothing undeclared happened, all objectives were met
  1  could not run: no such server, no connection came up, too few open files allowed
  2  the command line or the workload is wrong
  3  something undeclared was lost, repeated or out of order
  4  fewer connections than asked came up or stayed
  5  not one element came in the window
  6  an objective of --slo was missed
  7  interrupted; the figures are of a part of the run";

/// Could not run.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage.
pub(crate) const USAGE: u8 = 2;

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Everything asked for came
    Complete,
    /// Something undeclared was lost, repeated or out of order
    Violated,
    /// Fewer connections than asked came up or stayed
    TooFewConnections,
    /// Not one element came in the window
    Silent,
    /// An objective was missed
    Missed,
    /// Somebody ended it early
    Interrupted,
}

impl Verdict {
    /// As listed in [`EXIT_CODES`].
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Violated => 3,
            Self::TooFewConnections => 4,
            Self::Silent => 5,
            Self::Missed => 6,
            Self::Interrupted => 7,
        }
    }

    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Violated => "violated: something undeclared was lost, repeated or out of order",
            Self::TooFewConnections => "too few connections",
            Self::Silent => "silent: no element came",
            Self::Missed => "an objective was missed",
            Self::Interrupted => "interrupted",
        }
    }
}
