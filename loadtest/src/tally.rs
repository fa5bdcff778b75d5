//! What all sessions together have seen.
//!
//! **Invariant:** counters only rise; a window is the difference of two readings.
//!
//! Not here: rates and verdicts (`report`).

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::sequence::Findings;

/// Latencies beyond an hour say that times are not this clock's (a recording's own times) and are kept as an hour.
pub(crate) const LATENCY_MAX_US: u64 = 3_600_000_000;

/// The totals of a run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Bytes read, the hand-shakes included
    pub(crate) bytes: u64,
    /// WebSocket messages of any kind
    pub(crate) frames: u64,
    pub(crate) data_messages: u64,
    /// Live elements; in sessions that only count, gap elements too
    pub(crate) elements: u64,
    pub(crate) snapshot_elements: u64,
    /// Elements that the server's heartbeats say were owed and not delivered
    pub(crate) dropped_said: u64,
    pub(crate) findings: Findings,
    /// Notices by their code
    pub(crate) notices: BTreeMap<String, u64>,
    /// From the element's own time to its read
    pub(crate) latency_exchange: Latency,
    /// From the message's `sent_at` to its read
    pub(crate) latency_sent: Latency,
}

/// A histogram of microseconds.
#[derive(Debug)]
pub(crate) struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are constants that fit"))
    }
}

impl Latency {
    /// Records the way from one instant to another, both in nanoseconds; below a microsecond, and clocks that go
    /// back, count as one.
    pub(crate) fn record(&mut self, now_ns: u64, then_ns: u64) {
        self.0.saturating_record((now_ns.saturating_sub(then_ns) / 1000).max(1));
    }

    /// The histogram, for its quantiles.
    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }
}
