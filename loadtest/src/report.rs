//! What a run came to: the figures and the verdict, as they are written to a file.
//!
//! **Invariant:** the verdict follows from the figures that are shown, so a reader can check it; rates are of the window alone,
//! what was lost or ended is of the whole run.
//!
//! Not here: measuring (`run`), how it is shown (`table`, `html`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::exit::Verdict;
use crate::process::Machine;
use crate::sequence::Findings;
use crate::slo::{Figure, Objectives, Of, Outcome, Point};
use crate::tally::{LATENCY_MAX_US, Latency};

/// Beyond this share of a processor the tool itself may be what limits the figures.
pub(crate) const BOTTLENECK_SHARE: f64 = 0.9;

/// The quantiles that are written, for plots; dense where it matters.
const CURVE: [f64; 23] = [
    0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999,
    0.9995, 0.9999, 0.99999,
];

/// The result of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    pub(crate) name: String,
    /// Of the tool
    pub(crate) version: String,
    /// RFC 3339
    pub(crate) began: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) command: Vec<String>,
    pub(crate) machine: Machine,
    pub(crate) setting: Setting,
    pub(crate) window_s: f64,
    pub(crate) connections: Connections,
    pub(crate) traffic: Traffic,
    pub(crate) latency: Latencies,
    pub(crate) own: Own,
    pub(crate) server: Option<ServerUse>,
    /// The server's own metrics before the first and after the last connection
    pub(crate) metrics: BTreeMap<String, Change>,
    pub(crate) findings: Findings,
    pub(crate) dropped_said_by_server: u64,
    pub(crate) notices: BTreeMap<String, u64>,
    pub(crate) ends: BTreeMap<String, u64>,
    /// From the order to restart the server until all connections were up again
    pub(crate) recovery_s: Option<f64>,
    /// From the instant at which the new process listened
    pub(crate) recovery_listening_s: Option<f64>,
    /// Processor time of the new process from its begin to the end of the interval in which all were up again
    pub(crate) recovery_server_cpu_s: Option<f64>,
    pub(crate) series: Vec<Moment>,
    pub(crate) objectives: Vec<Outcome>,
    /// What a search for the capacity has tried
    pub(crate) steps: Vec<Step>,
    pub(crate) warnings: Vec<String>,
    pub(crate) verdict: Option<Verdict>,
}

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Setting {
    pub(crate) url: String,
    pub(crate) protocol: String,
    pub(crate) deflate: String,
    pub(crate) channels: String,
    pub(crate) symbols: String,
    pub(crate) mode: String,
    pub(crate) warmup_s: f64,
    pub(crate) threads: u32,
    pub(crate) processes: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Connections {
    pub(crate) wanted: u32,
    /// Ever subscribed
    pub(crate) up: u32,
    pub(crate) at_end: u32,
    /// On which every element was checked
    pub(crate) verified: u32,
    /// Which stop to read
    pub(crate) stalled: u32,
    /// Connections begun in the window, and those that failed
    pub(crate) begun_per_s: f64,
    pub(crate) failed: u64,
    pub(crate) changes_per_s: f64,
}

/// What came in the window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Traffic {
    /// Live elements
    pub(crate) elements: u64,
    /// Whether some of them are estimated, because compressed messages were only counted
    pub(crate) estimated: bool,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) elements_per_s: f64,
    pub(crate) frames_per_s: f64,
    pub(crate) bytes_per_s: f64,
    pub(crate) frames_per_element: f64,
    pub(crate) bytes_per_element: f64,
    pub(crate) bytes_per_frame: f64,
    pub(crate) snapshot_elements: u64,
    /// Of clients that do not read all the time, in the whole run
    pub(crate) slow_elements: u64,
    /// Live elements of all clients in the whole run
    pub(crate) elements_in_all: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Latencies {
    /// From the scheduled instant of the oldest element; none when the elements' times are not of this clock
    pub(crate) time: Option<Quantiles>,
    /// From the message's `sent_at`
    pub(crate) sent: Option<Quantiles>,
    /// From the planned instant of a connection until it was subscribed; of the whole run
    pub(crate) connect: Option<Quantiles>,
    /// From a change of subscription to its answer
    pub(crate) change: Option<Quantiles>,
}

/// Points of a distribution, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Quantiles {
    pub(crate) samples: u64,
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
    /// Pairs of a quantile and its value
    pub(crate) curve: Vec<(f64, u64)>,
}

/// What the tool used in the window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Own {
    pub(crate) cpu_s: f64,
    /// Of one processor, all processes together
    pub(crate) cpu_share: f64,
    /// Of one processor, the busiest thread
    pub(crate) busiest_thread_share: f64,
    pub(crate) bottleneck: bool,
}

/// What the server used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ServerUse {
    /// In the window
    pub(crate) cpu_s: f64,
    pub(crate) cpu_share: f64,
    pub(crate) elements_per_cpu_s: Option<f64>,
    pub(crate) frames_per_cpu_s: Option<f64>,
    /// Anonymous memory before the first connection, and at the end of the window
    pub(crate) memory_before_bytes: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) resident_bytes: u64,
    /// The growth since before the first connection
    pub(crate) memory_per_connection_bytes: Option<f64>,
    pub(crate) switches_voluntary_per_s: f64,
    pub(crate) switches_involuntary_per_s: f64,
    pub(crate) threads: u64,
}

/// A metric before and after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) before: Option<f64>,
    pub(crate) after: f64,
}

/// One interval of the series.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Moment {
    /// Its begin, in seconds since the window began; negative before it
    pub(crate) t_s: f64,
    pub(crate) up: u32,
    pub(crate) elements_per_s: f64,
    pub(crate) frames_per_s: f64,
    pub(crate) bytes_per_s: f64,
    pub(crate) connects_per_s: f64,
    pub(crate) p50_us: Option<u64>,
    pub(crate) p99_us: Option<u64>,
    pub(crate) max_us: Option<u64>,
    pub(crate) lost: u64,
    pub(crate) own_cpu_share: Option<f64>,
    pub(crate) server_cpu_share: Option<f64>,
    pub(crate) server_memory_bytes: Option<u64>,
}

/// One rate that a search for the capacity has tried.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Step {
    pub(crate) rate: f64,
    pub(crate) met: bool,
    pub(crate) elements_per_s: f64,
    pub(crate) p99_us: Option<u64>,
    pub(crate) server_cpu_share: Option<f64>,
    pub(crate) why: String,
}

impl Quantiles {
    /// The points of a distribution; none without samples, or when its values are not latencies: times of another clock.
    pub(crate) fn of(latency: &Latency) -> Option<Self> {
        let at = |quantile| latency.at(quantile).unwrap_or_default();
        let foreign = at(0.5) >= LATENCY_MAX_US / 2;
        let mut curve: Vec<_> = CURVE.iter().map(|quantile| (*quantile, at(*quantile))).collect();
        curve.push((1.0, latency.max()?));
        (!foreign).then(|| Self {
            samples: latency.samples(),
            mean: latency.mean().unwrap_or_default(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: latency.max().unwrap_or_default(),
            curve,
        })
    }

    fn point(&self, point: Point) -> u64 {
        match point {
            Point::P50 => self.p50,
            Point::P90 => self.p90,
            Point::P99 => self.p99,
            Point::P999 => self.p999,
            Point::Max => self.max,
        }
    }
}

impl Report {
    /// The figure that an objective is about.
    fn figure(&self, figure: Figure) -> Option<f64> {
        match figure {
            Figure::Latency { of, point } => {
                let quantiles = match of {
                    Of::Time => &self.latency.time,
                    Of::Sent => &self.latency.sent,
                    Of::Connect => &self.latency.connect,
                    Of::Change => &self.latency.change,
                };
                quantiles.as_ref().map(|quantiles| quantiles.point(point) as f64)
            }
            // What the heartbeats say was dropped is lost as well on clients that are not checked themselves.
            Figure::Loss => Some(self.findings.lost().max(self.dropped_said_by_server) as f64),
            Figure::ServerCpu => self.server.as_ref().map(|server| server.cpu_share),
            Figure::Rate => Some(self.traffic.elements_per_s),
            Figure::Memory => self.server.as_ref().and_then(|server| server.memory_per_connection_bytes),
        }
    }

    /// Compares the figures with the objectives.
    pub(crate) fn judge(&mut self, objectives: Option<&Objectives>, expected: Expected) {
        let outcomes = objectives.into_iter().flat_map(|objectives| &objectives.0);
        self.objectives = outcomes.map(|objective| objective.outcome(self.figure(objective.figure))).collect();
        let missed = self.objectives.iter().any(|outcome| !outcome.met);
        let few = self.connections.at_end < self.connections.wanted;
        let silent = self.traffic.elements == 0 && expected == Expected::Data;
        self.verdict = Some(match (self.findings.is_violation(), few, silent, missed) {
            (true, ..) => Verdict::Violated,
            (_, true, ..) => Verdict::TooFewConnections,
            (_, _, true, _) => Verdict::Silent,
            (.., true) => Verdict::Missed,
            _ => Verdict::Complete,
        });
    }
}

/// Whether elements have to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Data,
    Anything,
}
