//! What was seen, as sums: one for each interval of the series, and sums of those.
//!
//! **Invariant:** everything in here can be added up, in any order, over intervals, threads and processes, and nothing is
//! lost by it: a histogram's buckets are the same everywhere.
//!
//! Not here: rates and verdicts (`report`).

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::sequence::Findings;

/// Latencies beyond an hour say that times are not this clock's (a recording's own times) and are kept as an hour.
pub(crate) const LATENCY_MAX_US: u64 = 3_600_000_000;

/// What one thread saw in one interval, or the sum of several.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tally {
    /// Bytes read, the hand-shakes included
    pub(crate) bytes: u64,
    /// WebSocket messages of any kind
    pub(crate) frames: u64,
    /// Messages with elements
    pub(crate) data_messages: u64,
    /// Live elements of clients that read; in sessions that only count, gap elements too
    pub(crate) elements: u64,
    /// Live elements of clients that do not read all the time
    pub(crate) slow_elements: u64,
    pub(crate) snapshot_elements: u64,
    /// Compressed data messages that were counted without a look inside
    pub(crate) unread_messages: u64,
    /// Compressed data messages that were inflated, and what was in them
    pub(crate) inflated_messages: u64,
    pub(crate) inflated_elements: u64,
    /// Elements that the server's heartbeats say were owed and not delivered
    pub(crate) dropped_said: u64,
    /// Connections begun
    pub(crate) connects: u64,
    /// Of those, the ones that ended before they were subscribed
    pub(crate) connects_failed: u64,
    /// Changes of subscriptions sent
    pub(crate) changes: u64,
    /// Processor time of the threads that read
    pub(crate) busy_ns: u64,
    pub(crate) findings: Findings,
    /// Notices by their code
    pub(crate) notices: BTreeMap<String, u64>,
    /// Why sessions ended that should not have, with how many
    pub(crate) ends: BTreeMap<String, u64>,
    /// From the scheduled instant of the oldest element of sampled messages to its read
    pub(crate) latency_time: Latency,
    /// From the message's `sent_at` to its read
    pub(crate) latency_sent: Latency,
    /// From the instant for which a connection was planned until it was subscribed
    pub(crate) latency_connect: Latency,
    /// From a change of subscription to its answer
    pub(crate) latency_change: Latency,
}

impl Tally {
    /// Adds what another thread, process or interval saw.
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.bytes, other.bytes),
            (&mut self.frames, other.frames),
            (&mut self.data_messages, other.data_messages),
            (&mut self.elements, other.elements),
            (&mut self.slow_elements, other.slow_elements),
            (&mut self.snapshot_elements, other.snapshot_elements),
            (&mut self.unread_messages, other.unread_messages),
            (&mut self.inflated_messages, other.inflated_messages),
            (&mut self.inflated_elements, other.inflated_elements),
            (&mut self.dropped_said, other.dropped_said),
            (&mut self.connects, other.connects),
            (&mut self.connects_failed, other.connects_failed),
            (&mut self.changes, other.changes),
            (&mut self.busy_ns, other.busy_ns),
        ] {
            *sum += more;
        }
        self.findings.add(&other.findings);
        for (sum, more) in [(&mut self.notices, &other.notices), (&mut self.ends, &other.ends)] {
            for (name, count) in more {
                *sum.entry(name.clone()).or_default() += count;
            }
        }
        self.latency_time.add(&other.latency_time);
        self.latency_sent.add(&other.latency_sent);
        self.latency_connect.add(&other.latency_connect);
        self.latency_change.add(&other.latency_change);
    }

    /// What lies in here, and an empty tally left behind.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Live elements, with an estimate of those in messages that were not looked into: as many in each as in those that
    /// were.
    pub(crate) fn elements_estimated(&self) -> u64 {
        let unread = self.unread_messages as f64 * self.inflated_elements as f64;
        self.elements + (unread / self.inflated_messages.max(1) as f64) as u64
    }
}

/// A distribution of microseconds. It takes up no memory before something is recorded.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Latency(Option<Box<Histogram<u64>>>);

impl Latency {
    fn histogram_mut(&mut self) -> &mut Histogram<u64> {
        let new = || Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are constants that fit");
        self.0.get_or_insert_with(|| Box::new(new()))
    }

    /// Records the way from one instant to another, both in nanoseconds; below a microsecond, and clocks that go
    /// back, count as one.
    pub(crate) fn record(&mut self, now_ns: u64, then_ns: u64) {
        self.record_us(now_ns.saturating_sub(then_ns) / 1000);
    }

    /// Records a number of microseconds.
    pub(crate) fn record_us(&mut self, us: u64) {
        self.histogram_mut().saturating_record(us.max(1));
    }

    fn add(&mut self, other: &Self) {
        if let Some(other) = &other.0 {
            // Both have the same bounds.
            let _ = self.histogram_mut().add(other.as_ref());
        }
    }

    /// How many were recorded.
    pub(crate) fn samples(&self) -> u64 {
        self.0.as_ref().map_or(0, |histogram| histogram.len())
    }

    /// The value below or at which a share of all lies, in microseconds; none without samples.
    pub(crate) fn at(&self, quantile: f64) -> Option<u64> {
        self.0.as_ref().filter(|h| !h.is_empty()).map(|histogram| histogram.value_at_quantile(quantile))
    }

    /// The largest, in microseconds.
    pub(crate) fn max(&self) -> Option<u64> {
        self.0.as_ref().filter(|h| !h.is_empty()).map(|histogram| histogram.max())
    }

    /// The mean, in microseconds.
    pub(crate) fn mean(&self) -> Option<f64> {
        self.0.as_ref().filter(|h| !h.is_empty()).map(|histogram| histogram.mean())
    }
}

/// As pairs of a bucket's value and its count.
impl Serialize for Latency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let recorded = self.0.iter().flat_map(|histogram| histogram.iter_recorded());
        serializer.collect_seq(recorded.map(|step| (step.value_iterated_to(), step.count_at_value())))
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut latency = Self::default();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            latency.histogram_mut().saturating_record_n(value, count);
        }
        Ok(latency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_over_a_pipe_adds_up_like_what_did_not() {
        let mut tally = Tally { bytes: 5, elements: 2, ..Tally::default() };
        tally.ends.insert("x".to_owned(), 3);
        for us in [1, 900, 1_234_567, LATENCY_MAX_US * 2] {
            tally.latency_time.record(us * 1000, 0);
        }
        let piped: Tally = serde_json::from_str(&serde_json::to_string(&tally).unwrap()).unwrap();
        let (mut sum, mut sum_piped) = (Tally::default(), Tally::default());
        sum.add(&tally);
        sum.add(&tally);
        sum_piped.add(&piped);
        sum_piped.add(&tally);
        assert_eq!(sum.latency_time.samples(), 8);
        for quantile in [0.1, 0.5, 0.9, 1.0] {
            assert_eq!(sum.latency_time.at(quantile), sum_piped.latency_time.at(quantile));
        }
        assert_eq!((sum.bytes, sum.ends["x"]), (sum_piped.bytes, sum_piped.ends["x"]));
    }

    #[test]
    fn what_was_not_looked_into_is_estimated_from_what_was() {
        let tally = Tally {
            elements: 30,
            unread_messages: 5,
            inflated_messages: 10,
            inflated_elements: 30,
            ..Tally::default()
        };
        assert_eq!(tally.elements_estimated(), 45);
        assert_eq!(Tally::default().elements_estimated(), 0);
    }
}
