//! Colours on a terminal, and none elsewhere.
//!
//! **Invariant:** without a terminal, or with `NO_COLOR` set to anything (<https://no-color.org>), not one escape is written.
//! Direction is told by a sign as well as by colour; the colours are told apart by every kind of colour vision.

use std::fmt;
use std::io::{IsTerminal as _, stdout};

/// Whether to paint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    On,
    Off,
}

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Up,
    Down,
    Quiet,
    Strong,
    Alarm,
}

impl Paint {
    /// As standard output and the environment want it.
    pub(super) fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if stdout().is_terminal() && !refused { Self::On } else { Self::Off }
    }

    /// The text in its colour; widths are to be applied before.
    pub(super) fn tone(self, tone: Tone, text: impl fmt::Display) -> String {
        let code = match (self, tone) {
            (Self::Off, _) => return text.to_string(),
            (Self::On, Tone::Up) => "36",
            (Self::On, Tone::Down) => "33",
            (Self::On, Tone::Quiet) => "2",
            (Self::On, Tone::Strong) => "1",
            (Self::On, Tone::Alarm) => "1;31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
