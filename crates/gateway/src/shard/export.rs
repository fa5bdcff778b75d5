//! Writes a shard's counters to the metrics.
//!
//! **Invariant:** the hot path counts in plain integers of its own; the shared ones are touched once a second.

use hub::Stats;
use metrics::{Counter, Gauge};

use crate::metrics::{self as names, Metrics};

/// What one with history takes, in bytes.
const COMPRESSOR_BYTES: u64 = websocket::deflate::Compressor::BYTES as u64;

type Field = fn(&Stats) -> u64;

/// Remembers what was written last, since several shards add to the same metrics.
pub(super) struct Exporter {
    last: Stats,
    bytes_received: u64,
    counters: Vec<(Counter, Field)>,
    gauges: Vec<(Gauge, Field)>,
    received: Counter,
}

impl Exporter {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let counter = |name, field: Field| (metrics.counter(name), field);
        let drops = |reason, field: Field| (metrics.reason(names::DROPS, reason), field);
        let subscriptions = |reason, field: Field| (metrics.reason(names::SUBSCRIPTIONS_REFUSED, reason), field);
        let gauge = |name, field: Field| (metrics.gauge(name), field);
        Self {
            last: Stats::default(),
            bytes_received: 0,
            counters: vec![
                counter(names::SESSIONS_OPENED, |s| s.sessions_opened),
                counter(names::DELIVERIES, |s| s.deliveries),
                counter(names::SNAPSHOT_ELEMENTS, |s| s.snapshot_elements),
                counter(names::FRAMES, |s| s.frames),
                counter(names::BYTES_SENT, |s| s.bytes),
                counter(names::BYTES_SAVED, |s| s.bytes_saved),
                counter(names::DEFLATED_MESSAGES, |s| s.deflated_messages),
                counter(names::DEFLATED_BYTES_IN, |s| s.deflated_bytes_in),
                counter(names::DEFLATED_BYTES_OUT, |s| s.deflated_bytes_out),
                counter(names::DEFLATE_EPOCHS, |s| s.deflate_epochs),
                counter(names::GAPS, |s| s.gaps),
                counter(names::WITHDRAWN, |s| s.withdrawn),
                counter(names::STALLS, |s| s.stalls),
                counter(names::COMMANDS, |s| s.commands),
                counter(names::COMMAND_ERRORS, |s| s.command_errors),
                counter(names::COMMANDS_RATE_LIMITED, |s| s.commands_rate_limited),
                counter(names::AUTH_SUCCESSES, |s| s.auth_successes),
                counter(names::AUTH_FAILURES, |s| s.auth_failures),
                counter(names::NOT_ENTITLED, |s| s.not_entitled),
                counter(names::SHARD_LAGS, |s| s.lags),
                subscriptions("subscriptions_max", |s| s.over_subscriptions),
                subscriptions("subscriptions_per_key", |s| s.over_key_subscriptions),
                drops("slow", |s| s.dropped_slow),
                drops("conflated", |s| s.dropped_conflated),
                drops("evicted", |s| s.dropped_evicted),
            ],
            gauges: vec![
                gauge(names::SESSIONS, |s| s.sessions),
                gauge(names::LANES, |s| s.lanes),
                gauge(names::COMPRESSORS, |s| s.compressors),
                gauge(names::COMPRESSOR_BYTES, |s| s.compressors * COMPRESSOR_BYTES),
                gauge(names::OUTBOX_BYTES, |s| s.outbox_bytes),
            ],
            received: metrics.counter(names::BYTES_RECEIVED),
        }
    }

    /// Adds what has changed since the last call.
    pub(super) fn export(&mut self, stats: &Stats, bytes_received: u64) {
        for (counter, field) in &self.counters {
            counter.increment(field(stats).saturating_sub(field(&self.last)));
        }
        for (gauge, field) in &self.gauges {
            gauge.increment(field(stats) as f64 - field(&self.last) as f64);
        }
        self.received.increment(bytes_received - self.bytes_received);
        self.bytes_received = bytes_received;
        self.last = stats.clone();
    }
}
