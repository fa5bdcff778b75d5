//! What a run came to: figures, verdict, and how they are shown.
//!
//! **Invariant:** the verdict follows from the figures that are shown, so a reader can check it.
//!
//! Not here: measuring.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::process::Usage;
use crate::sequence::Findings;
use crate::tally::{LATENCY_MAX_US, Latency, Tally};

/// Beyond this share of one processor the tool itself may be what limits the figures.
const BOTTLENECK_SHARE: f64 = 0.9;

/// The counters at one instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) bytes: u64,
    pub(crate) frames: u64,
    pub(crate) elements: u64,
    pub(crate) own: Option<Usage>,
    pub(crate) server: Option<Usage>,
}

/// The result of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) url: String,
    pub(crate) connections_wanted: usize,
    pub(crate) connections_up: usize,
    pub(crate) connections_at_end: usize,
    pub(crate) connections_verified: usize,
    pub(crate) window_s: f64,
    pub(crate) elements: u64,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) elements_per_s: f64,
    pub(crate) frames_per_s: f64,
    pub(crate) bytes_per_s: f64,
    pub(crate) elements_per_frame: f64,
    /// None when the elements' times are not of this clock
    pub(crate) latency_exchange_us: Option<Quantiles>,
    pub(crate) latency_sent_us: Option<Quantiles>,
    pub(crate) own_cpu_s: Option<f64>,
    pub(crate) own_cpu_share: Option<f64>,
    pub(crate) server_cpu_s: Option<f64>,
    pub(crate) server_cpu_share: Option<f64>,
    pub(crate) server_resident_bytes: Option<u64>,
    pub(crate) elements_per_server_cpu_s: Option<f64>,
    pub(crate) snapshot_elements: u64,
    pub(crate) dropped_said_by_server: u64,
    pub(crate) findings: Findings,
    pub(crate) notices: BTreeMap<String, u64>,
    pub(crate) ends: BTreeMap<String, u64>,
    pub(crate) verdict: Verdict,
}

/// Points of a distribution, in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Quantiles {
    samples: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
}

impl Verdict {
    /// As listed in the help and in the README of the tool.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Violated => 3,
            Self::TooFewConnections => 4,
            Self::Silent => 5,
        }
    }
}

/// What is known beside the counters.
pub(crate) struct Setting {
    pub(crate) url: String,
    pub(crate) connections_wanted: usize,
    pub(crate) connections_up: usize,
    pub(crate) connections_at_end: usize,
    pub(crate) connections_verified: usize,
    pub(crate) window: Duration,
}

impl Report {
    pub(crate) fn new(
        setting: Setting,
        begin: Reading,
        end: Reading,
        tally: &Tally,
        ends: BTreeMap<String, u64>,
    ) -> Self {
        let window_s = setting.window.as_secs_f64();
        let [elements, frames, bytes] =
            [end.elements - begin.elements, end.frames - begin.frames, end.bytes - begin.bytes];
        let cpu_s =
            |begin: Option<Usage>, end: Option<Usage>| Some((end?.cpu.saturating_sub(begin?.cpu)).as_secs_f64());
        let own_cpu_s = cpu_s(begin.own, end.own);
        let server_cpu_s = cpu_s(begin.server, end.server);
        let few = setting.connections_at_end < setting.connections_wanted;
        let verdict = match (tally.findings.is_violation(), few, elements) {
            (true, ..) => Verdict::Violated,
            (_, true, _) => Verdict::TooFewConnections,
            (_, _, 0) => Verdict::Silent,
            _ => Verdict::Complete,
        };
        Self {
            url: setting.url,
            connections_wanted: setting.connections_wanted,
            connections_up: setting.connections_up,
            connections_at_end: setting.connections_at_end,
            connections_verified: setting.connections_verified,
            window_s,
            elements,
            frames,
            bytes,
            elements_per_s: elements as f64 / window_s,
            frames_per_s: frames as f64 / window_s,
            bytes_per_s: bytes as f64 / window_s,
            elements_per_frame: elements as f64 / frames.max(1) as f64,
            latency_exchange_us: Quantiles::of(&tally.latency_exchange),
            latency_sent_us: Quantiles::of(&tally.latency_sent),
            own_cpu_s,
            own_cpu_share: own_cpu_s.map(|cpu| cpu / window_s),
            server_cpu_s,
            server_cpu_share: server_cpu_s.map(|cpu| cpu / window_s),
            server_resident_bytes: end.server.map(|usage| usage.resident_bytes),
            elements_per_server_cpu_s: server_cpu_s.filter(|cpu| *cpu > 0.0).map(|cpu| elements as f64 / cpu),
            snapshot_elements: tally.snapshot_elements,
            dropped_said_by_server: tally.dropped_said,
            findings: tally.findings,
            notices: tally.notices.clone(),
            ends,
            verdict,
        }
    }

    /// Whether the tool may have been slower than the server.
    pub(crate) fn is_bottleneck(&self) -> bool {
        self.own_cpu_share.is_some_and(|share| share > BOTTLENECK_SHARE)
    }
}

impl Quantiles {
    fn of(latency: &Latency) -> Option<Self> {
        let histogram = latency.histogram();
        let at = |quantile| histogram.value_at_quantile(quantile);
        let foreign = at(0.5) >= LATENCY_MAX_US / 2;
        (!histogram.is_empty() && !foreign).then(|| Self {
            samples: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections_wanted, connections_up, connections_at_end, .. } = self;
        writeln!(f, "{}, window {:.1} s", self.url, self.window_s)?;
        let verified = self.connections_verified;
        writeln!(
            f,
            "connections   {connections_up} of {connections_wanted} came up, {connections_at_end} stayed; \
             every element checked on {verified}"
        )?;
        writeln!(f, "elements      {:>12}  {:>12.0}/s", self.elements, self.elements_per_s)?;
        writeln!(f, "frames        {:>12}  {:>12.0}/s", self.frames, self.frames_per_s)?;
        writeln!(f, "bytes         {:>12}  {:>12.0}/s", self.bytes, self.bytes_per_s)?;
        writeln!(f, "per frame     {:>12.2} elements", self.elements_per_frame)?;
        for (name, quantiles) in [("from time", &self.latency_exchange_us), ("from sent_at", &self.latency_sent_us)] {
            match quantiles {
                None => writeln!(f, "{name:<13} not measured (no samples, or times of another clock)")?,
                Some(Quantiles { samples, p50, p90, p99, p999, max }) => writeln!(
                    f,
                    "{name:<13} p50 {p50} us, p90 {p90} us, p99 {p99} us, p99.9 {p999} us, max {max} us \
                     ({samples} samples)"
                )?,
            }
        }
        if let (Some(cpu), Some(share)) = (self.own_cpu_s, self.own_cpu_share) {
            writeln!(f, "loadtest CPU  {cpu:.2} s, {:.0} % of one processor", share * 100.0)?;
        }
        if let (Some(cpu), Some(share), Some(bytes)) =
            (self.server_cpu_s, self.server_cpu_share, self.server_resident_bytes)
        {
            let rate = self.elements_per_server_cpu_s.unwrap_or(0.0);
            let (percent, mib) = (share * 100.0, bytes >> 20);
            writeln!(
                f,
                "server CPU    {cpu:.2} s, {percent:.0} % of one processor, {rate:.0} elements per CPU second, \
                 {mib} MiB resident"
            )?;
        }
        let Findings { missing, duplicates, out_of_order, unasked, gaps, declared, gaps_wrong, skipped } =
            self.findings;
        writeln!(
            f,
            "undeclared    {missing} missing, {duplicates} duplicates, {out_of_order} out of order, {unasked} unasked, \
             {gaps_wrong} wrong gaps"
        )?;
        writeln!(
            f,
            "declared      {gaps} gaps of {declared} elements, {skipped} skipped by mode latest; \
             the server says {} dropped",
            self.dropped_said_by_server
        )?;
        for (code, count) in &self.notices {
            writeln!(f, "notice        {code} x {count}")?;
        }
        for (why, count) in &self.ends {
            writeln!(f, "ended         {count} x {why}")?;
        }
        if self.is_bottleneck() {
            writeln!(f, "warning       loadtest itself was busy nearly all the time: the server may be faster")?;
        }
        write!(f, "verdict       {:?}", self.verdict)
    }
}
