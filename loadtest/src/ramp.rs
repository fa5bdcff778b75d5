//! The search for the highest rate that meets the objectives.
//!
//! **Invariant:** every rate is tried on a server of its own, started for it; the report is that of the highest rate that met
//! all objectives, or of the lowest one tried if none did.

use anyhow::bail;

use crate::exit::Verdict;
use crate::options::Options;
use crate::report::{Report, Step};

/// Rates from `from` upwards, doubled while they are met and halved in between once one is missed.
#[derive(Debug)]
pub(crate) struct Search {
    low: Option<f64>,
    high: Option<f64>,
    next: f64,
    to: f64,
    precision: f64,
}

impl Search {
    pub(crate) fn new(from: f64, to: f64, precision: f64) -> Self {
        Self { low: None, high: None, next: from.min(to), to, precision }
    }

    /// Takes the outcome of the last rate; gives the next one, none when the search is over.
    pub(crate) fn take(&mut self, met: bool) -> Option<f64> {
        if met {
            self.low = Some(self.next);
        } else {
            self.high = Some(self.next);
        }
        self.next = match (self.low, self.high) {
            (Some(low), _) if low >= self.to => return None,
            (Some(low), None) => (low * 2.0).min(self.to),
            (Some(low), Some(high)) if high <= low * (1.0 + self.precision) => return None,
            // Halfway on a scale of ratios.
            (Some(low), Some(high)) => (low * high).sqrt(),
            // Not even the first: look below it, four times and no further.
            (None, Some(high)) if high > self.to / 1e6 && high > 1.0 => high / 4.0,
            (None, _) => return None,
        };
        Some(self.next)
    }
}

/// Searches; `make` makes a run at a rate.
///
/// # Errors
/// The options do not suffice for a search, or a run cannot be made.
pub(crate) fn search(options: &Options, mut make: impl FnMut(f64) -> anyhow::Result<Report>) -> anyhow::Result<Report> {
    if options.slo.is_none() {
        bail!("a search for the capacity needs objectives: --slo p99=10ms,loss=0");
    }
    if !options.server_command.as_ref().is_some_and(|command| command.contains("{rate}")) {
        bail!("a search for the capacity needs --server-command with {{rate}} in it");
    }
    let mut search = Search::new(options.ramp_from, options.ramp_to, options.ramp_precision);
    let (mut rate, mut steps, mut best, mut worst) = (Some(search.next), Vec::new(), None, None);
    while let Some(now) = rate {
        let mut report = make(now)?;
        report.labels.insert("rate".to_owned(), format!("{now:.0}"));
        let interrupted = report.verdict == Some(Verdict::Interrupted);
        let met = report.verdict == Some(Verdict::Complete) && !report.own.bottleneck;
        steps.push(step(now, met, &report));
        if met {
            best = Some(report);
        } else if best.is_none() {
            worst = Some(report);
        }
        if interrupted || steps.len() > 40 {
            break;
        }
        rate = search.take(met);
    }
    let Some(mut report) = best.or(worst) else { bail!("no rate was tried") };
    steps.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    report.steps = steps;
    Ok(report)
}

fn step(rate: f64, met: bool, report: &Report) -> Step {
    let missed: Vec<_> =
        report.objectives.iter().filter(|outcome| !outcome.met).map(|outcome| outcome.objective.as_str()).collect();
    let why = match report.verdict {
        Some(Verdict::Complete) if report.own.bottleneck => "loadtest itself was the bottleneck".to_owned(),
        Some(Verdict::Missed) => format!("missed {}", missed.join(", ")),
        Some(verdict) => verdict.words().to_owned(),
        None => String::new(),
    };
    Step {
        rate,
        met,
        elements_per_s: report.traffic.elements_per_s,
        p99_us: report.latency.time.as_ref().map(|quantiles| quantiles.p99),
        server_cpu_share: report.server.as_ref().map(|server| server.cpu_share),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(capacity: f64, from: f64, to: f64) -> (f64, usize) {
        let mut search = Search::new(from, to, 0.1);
        let (mut rate, mut best, mut tries) = (Some(search.next), 0.0, 0);
        while let Some(now) = rate {
            tries += 1;
            assert!(tries < 40, "the search has an end");
            if now <= capacity {
                best = f64::max(best, now);
            }
            rate = search.take(now <= capacity);
        }
        (best, tries)
    }

    #[test]
    fn the_capacity_is_found_to_the_precision() {
        for capacity in [1000.0, 1500.0, 77_777.0, 199_000.0] {
            let (best, tries) = check(capacity, 1000.0, 200_000.0);
            assert!(best <= capacity && best * 1.1 >= capacity, "{best} of {capacity}");
            assert!(tries <= 14, "{tries}");
        }
        assert!(check(1e9, 1000.0, 200_000.0).0 >= 200_000.0);
        let (best, _) = check(30.0, 1000.0, 200_000.0);
        assert!(best <= 30.0 && best * 1.1 >= 30.0);
        assert!(check(0.0, 1000.0, 200_000.0).0 <= 0.0);
    }
}
