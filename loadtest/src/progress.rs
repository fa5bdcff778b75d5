//! What goes on while a run goes on, on standard error.
//!
//! **Invariant:** nothing here is on the way of a measurement: it is told once an interval.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::options;
use crate::swarm::Standing;
use crate::table::{count, micros};
use crate::tally::Tally;

/// Where it is shown.
pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines,
    Never,
}

impl Progress {
    pub(crate) fn new(wish: options::Progress) -> Self {
        match wish {
            options::Progress::Auto if std::io::stderr().is_terminal() => {
                let bar = ProgressBar::new_spinner();
                // The template is a constant that is right; without it the bar has its own.
                if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {wide_msg}") {
                    bar.set_style(style);
                }
                bar.enable_steady_tick(Duration::from_millis(200));
                Self::Bar(bar)
            }
            options::Progress::Auto | options::Progress::Never => Self::Never,
            options::Progress::Lines => Self::Lines,
        }
    }

    /// Says what the run is doing.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.set_message(text.to_owned()),
            Self::Lines => eprintln!("{text}"),
            Self::Never => {}
        }
    }

    /// Shows an interval.
    pub(crate) fn interval(&self, phase: &str, series: Duration, standing: Standing, tally: &Tally) {
        let rate = tally.elements_estimated() as f64 / series.as_secs_f64();
        let at = |quantile| tally.latency_time.at(quantile).map_or_else(|| "-".to_owned(), micros);
        self.say(&format!(
            "{phase}: {} up, {}/s elements, p50 {}, p99 {}, {} lost",
            standing.up,
            count(rate.round()),
            at(0.5),
            at(0.99),
            tally.findings.lost() + tally.dropped_said
        ));
    }

    /// Clears what was shown.
    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
