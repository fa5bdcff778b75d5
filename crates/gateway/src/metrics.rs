//! The names of all metrics, what they mean, and the handles through which they are written.
//!
//! **Invariant:** no label has values that grow with clients or symbols; each label's values are a closed list.
//!
//! A gateway owns its recorder instead of the process-wide one, so several can run in one process.

use std::collections::HashMap;
use std::sync::Mutex;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows
    Counter,
    /// Only grows, one for each of these values of the label `reason`
    CounterBy(&'static [&'static str]),
    /// What is there now
    Gauge,
    /// A distribution with these upper bounds
    Histogram(&'static [f64]),
}

/// A metric, as it is documented.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name
    pub name: &'static str,
    /// What kind of number it is
    pub kind: Kind,
    /// What it means
    pub description: &'static str,
}

macro_rules! catalogue {
    ($($constant:ident = $name:literal, $kind:expr, $description:literal;)*) => {
        $(
            #[doc = $description]
            pub const $constant: &str = $name;
        )*
        /// All metrics.
        pub const ALL: &[Metric] = &[$(Metric { name: $name, kind: $kind, description: $description }),*];
    };
}

const SECONDS: Kind = Kind::Histogram(&[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
]);
const COUNTS: Kind = Kind::Histogram(&[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 1e5]);
const BYTES: Kind = Kind::Histogram(&[64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0]);

/// Why an upgrade or a stream is refused.
const UPGRADE_REASONS: Kind = Kind::CounterBy(&[
    "method",
    "http_version",
    "host",
    "upgrade",
    "connection",
    "body",
    "version",
    "key",
    "origin",
    "subprotocol",
    "token_in_url",
    "auth",
    "draining",
    "overload_memory",
    "overload_lag",
    "connections_max",
    "new_connections",
    "connections_per_ip",
    "new_connections_per_ip",
]);
const AUTH_REASONS: Kind =
    Kind::CounterBy(&["missing", "token", "in_url", "auth_failures_per_ip_per_min", "connections_per_key", "admin"]);
/// Why a hand-shake of TLS fails.
const TLS_REASONS: Kind =
    Kind::CounterBy(&["plain_http", "not_tls", "refused_by_client", "incompatible", "malformed", "lost", "timeout"]);
/// Why a connection is closed as soon as it was accepted.
const CONNECTION_REASONS: Kind = Kind::CounterBy(&["http_connections_max", "http_connections_per_ip"]);
const PROXY_REASONS: Kind = Kind::CounterBy(&["malformed", "lost", "timeout"]);
/// What ends a connection on the HTTP side that does not end by itself.
const CUT_REASONS: Kind =
    Kind::CounterBy(&["handshake_timeout", "pause_timeout", "head_too_large", "malformed", "stalled", "lost"]);
const SUBSCRIPTION_REASONS: Kind = Kind::CounterBy(&["subscriptions_max", "subscriptions_per_key"]);
const DROP_REASONS: Kind = Kind::CounterBy(&["slow", "conflated", "evicted"]);
/// As `hub::Disconnect` labels them; a test holds the two together.
const DISCONNECT_REASONS: Kind = Kind::CounterBy(&[
    "peer_closed",
    "lost",
    "ping_timeout",
    "protocol",
    "message_too_big",
    "rate_limit",
    "slow_consumer",
    "auth_failed",
    "auth_timeout",
    "token_expired",
    "token_revoked",
    "draining",
    "shutting_down",
    "replaced",
    "too_many_connections",
    "closed_by_operator",
    "over_capacity",
    "internal",
]);

catalogue! {
    CONNECTIONS_ACCEPTED = "tickerplant_connections_accepted_total", Kind::Counter, "TCP connections accepted";
    CONNECTIONS_REFUSED = "tickerplant_connections_refused_total", CONNECTION_REASONS, "TCP connections closed because there were too many without a session, by `reason`";
    CONNECTIONS_CUT = "tickerplant_connections_cut_total", CUT_REASONS, "TCP connections on the HTTP side that ended by a limit or an error, by `reason`";
    CONNECTIONS = "tickerplant_connections", Kind::Gauge, "TCP connections open on the HTTP side, before or without an upgrade";
    ACCEPT_ERRORS = "tickerplant_accept_errors_total", Kind::Counter, "Failures to accept, such as running out of descriptors";
    TLS_HANDSHAKES = "tickerplant_tls_handshakes_total", Kind::Counter, "Hand-shakes of TLS completed";
    TLS_HANDSHAKE_FAILURES = "tickerplant_tls_handshake_failures_total", TLS_REASONS, "Hand-shakes of TLS that failed, by `reason`";
    TLS_RELOAD_ERRORS = "tickerplant_tls_reload_errors_total", Kind::Counter, "Times that the certificate or its key had changed and could not be used";
    PROXY_HEADERS_REFUSED = "tickerplant_proxy_headers_refused_total", PROXY_REASONS, "Connections of trusted proxies that did not begin with a good header of the PROXY protocol, by `reason`";
    UPGRADES_REFUSED = "tickerplant_upgrades_refused_total", UPGRADE_REASONS, "WebSocket upgrades and streams refused, by `reason`";
    AUTH_REFUSED = "tickerplant_auth_refused_total", AUTH_REASONS, "Requests refused for what they present or do not present, by `reason`";
    AUTH_RELOAD_ERRORS = "tickerplant_auth_reload_errors_total", Kind::Counter, "Times that the files of keys had changed and could not be read";
    AUTH_SUCCESSES = "tickerplant_auth_successes_total", Kind::Counter, "Commands `auth` that were good";
    AUTH_FAILURES = "tickerplant_auth_failures_total", Kind::Counter, "Commands `auth` that were refused";
    NOT_ENTITLED = "tickerplant_not_entitled_total", Kind::Counter, "Answers `not_entitled` to sessions";
    THROTTLED = "tickerplant_throttled_total", Kind::Counter, "Writes put off because a key was sent more than its bytes per second";
    CONFIG_RELOADS = "tickerplant_config_reloads_total", Kind::Counter, "Times that the configuration was read again";
    CONFIG_RELOAD_ERRORS = "tickerplant_config_reload_errors_total", Kind::Counter, "Times that it could not be, so that the one from before stayed in force";
    RESIDENT_BYTES = "tickerplant_resident_bytes", Kind::Gauge, "Memory of the process that is in use, on Linux";
    BUILD = "tickerplant_build_info", Kind::Gauge, "1; `version` says which";
    OVERLOADED = "tickerplant_overloaded", Kind::Gauge, "1 while new sessions are refused because of the load";
    SESSIONS = "tickerplant_sessions", Kind::Gauge, "Sessions open";
    SESSIONS_OPENED = "tickerplant_sessions_opened_total", Kind::Counter, "Sessions opened";
    DISCONNECTS = "tickerplant_disconnects_total", DISCONNECT_REASONS, "Sessions ended, by `reason`";
    DELIVERIES = "tickerplant_deliveries_total", Kind::Counter, "Elements given to sessions, without snapshots and gaps";
    SNAPSHOT_ELEMENTS = "tickerplant_snapshot_elements_total", Kind::Counter, "Elements of snapshots given to sessions";
    GAPS = "tickerplant_gaps_total", Kind::Counter, "Gap elements given to sessions";
    DROPS = "tickerplant_drops_total", DROP_REASONS, "Elements owed in mode `every` and not delivered, by `reason`";
    WITHDRAWN = "tickerplant_withdrawn_total", Kind::Counter, "Elements withdrawn from outboxes; gaps or newer values followed";
    STALLS = "tickerplant_stalls_total", Kind::Counter, "Times that a session's outbox went past its bound";
    FRAMES = "tickerplant_frames_total", Kind::Counter, "WebSocket frames and events begun, control messages included";
    BYTES_SENT = "tickerplant_sent_bytes_total", Kind::Counter, "Bytes of those frames";
    BYTES_SAVED = "tickerplant_saved_bytes_total", Kind::Counter, "Bytes that compression has saved of those";
    DEFLATED_MESSAGES = "tickerplant_deflated_messages_total", Kind::Counter, "Messages deflated for lanes, once for all their sessions";
    DEFLATED_BYTES_IN = "tickerplant_deflate_in_bytes_total", Kind::Counter, "Bytes of those messages";
    DEFLATED_BYTES_OUT = "tickerplant_deflate_out_bytes_total", Kind::Counter, "Bytes that they were deflated to";
    DEFLATE_EPOCHS = "tickerplant_deflate_epochs_total", Kind::Counter, "Times that a compressor began anew, to take in sessions that waited";
    COMPRESSORS = "tickerplant_compressors", Kind::Gauge, "Compressors with history that lanes hold, at about 380 kB each";
    COMPRESSOR_BYTES = "tickerplant_compressor_bytes", Kind::Gauge, "Memory of those compressors";
    BYTES_RECEIVED = "tickerplant_received_bytes_total", Kind::Counter, "Bytes read from sessions";
    COMMANDS = "tickerplant_commands_total", Kind::Counter, "Commands received, refused ones included";
    COMMAND_ERRORS = "tickerplant_command_errors_total", Kind::Counter, "Commands answered with an error";
    COMMANDS_RATE_LIMITED = "tickerplant_commands_rate_limited_total", Kind::Counter, "Commands refused by the rate limit";
    SUBSCRIPTIONS_REFUSED = "tickerplant_subscriptions_refused_total", SUBSCRIPTION_REASONS, "Commands answered with `too_many_subscriptions`, by `reason`";
    LANES = "tickerplant_lanes", Kind::Gauge, "Lanes: groups of sessions that are sent the same";
    OUTBOX_BYTES = "tickerplant_outbox_bytes", Kind::Gauge, "Bytes waiting for slow sessions, shared ones counted for each";
    LANE_MEMBERS = "tickerplant_lane_members", COUNTS, "Sessions that one frame went to (one frame in 16 is observed)";
    FLUSH_ELEMENTS = "tickerplant_flush_elements", COUNTS, "Elements in one frame (one frame in 16 is observed)";
    FLUSH_BYTES = "tickerplant_flush_bytes", BYTES, "Bytes of one frame (one frame in 16 is observed)";
    FEED_TICKS = "tickerplant_feed_ticks_total", Kind::Counter, "Ticks sequenced, derived ones included";
    FEED_TICKS_REFUSED = "tickerplant_feed_ticks_refused_total", Kind::Counter, "Ticks of instruments that the feed had not announced";
    FEED_BOOKS_REFUSED = "tickerplant_feed_books_refused_total", Kind::Counter, "Book updates that made no sense; the book is unknown until its next snapshot";
    FEED_BOOKS_STALE = "tickerplant_feed_books_stale", Kind::Gauge, "Books of which nothing is known until their next snapshot, because the feed contradicted itself";
    FEED_BAD_RECORDS = "tickerplant_feed_bad_records_total", Kind::Counter, "Records of a recording that were skipped as bad";
    FEED_ERRORS = "tickerplant_feed_errors_total", Kind::Counter, "Feeds that broke";
    FEED_LATENESS = "tickerplant_feed_lateness_seconds", SECONDS, "From the instant at which the feed's next tick was due to the poll that took it";
    FEED_TO_FLUSH = "tickerplant_feed_to_flush_seconds", SECONDS, "From the poll that took a batch's oldest tick until a shard had flushed it";
    RECORDED_ELEMENTS = "tickerplant_recorded_elements_total", Kind::Counter, "Elements taken in by the recorder";
    RECORDED_BYTES = "tickerplant_recorded_bytes_total", Kind::Counter, "Bytes written to the recording";
    RECORD_LOST = "tickerplant_record_lost_total", Kind::Counter, "Elements missing in the recording, which says which; counted when it goes on";
    RECORD_FAILURES = "tickerplant_record_failures_total", Kind::Counter, "Failures to write the recording, such as a full disk";
    RECORD_QUEUE_BYTES = "tickerplant_record_queue_bytes", Kind::Gauge, "Bytes waiting for the recorder";
    SHARD_LAGS = "tickerplant_shard_lags_total", Kind::Counter, "Times that the queue to a shard overflowed";
}

/// The recorder of one gateway.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// Handles of counters with a label, by name and value; the values are closed lists, which bounds it.
    labelled: Mutex<HashMap<(&'static str, &'static str), Counter>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

const METADATA: Metadata<'static> = Metadata::new("gateway", Level::INFO, Some("gateway"));

impl Metrics {
    /// A recorder that knows all metrics.
    ///
    /// # Errors
    /// [`BuildError`] when a histogram of [`ALL`] has no bounds.
    pub(crate) fn new() -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for metric in ALL {
            if let Kind::Histogram(bounds) = metric.kind {
                builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds)?;
            }
        }
        let recorder = builder.build_recorder();
        for Metric { name, kind, description } in ALL.iter().copied() {
            let (name, description) = (KeyName::from_const_str(name), SharedString::const_str(description));
            let unit: Option<Unit> = None;
            match kind {
                Kind::Counter | Kind::CounterBy(_) => recorder.describe_counter(name, unit, description),
                Kind::Gauge => recorder.describe_gauge(name, unit, description),
                Kind::Histogram(_) => recorder.describe_histogram(name, unit, description),
            }
        }
        let metrics = Self { handle: recorder.handle(), recorder, labelled: Mutex::default() };
        metrics.begin();
        Ok(metrics)
    }

    /// Has all of them say 0 from the start: a rate over a counter that appears with its first event misses that event.
    fn begin(&self) {
        for metric in ALL {
            match metric.kind {
                Kind::Counter => drop(self.counter(metric.name)),
                Kind::CounterBy(reasons) => reasons.iter().for_each(|reason| drop(self.reason(metric.name, reason))),
                Kind::Gauge if metric.name == BUILD => {
                    let version = Label::from_static_parts("version", env!("CARGO_PKG_VERSION"));
                    self.recorder.register_gauge(&Key::from_parts(BUILD, vec![version]), &METADATA).set(1.0);
                }
                Kind::Gauge => drop(self.gauge(metric.name)),
                Kind::Histogram(_) => drop(self.histogram(metric.name)),
            }
        }
    }

    pub(crate) fn counter(&self, name: &'static str) -> Counter {
        self.recorder.register_counter(&Key::from_static_name(name), &METADATA)
    }

    pub(crate) fn gauge(&self, name: &'static str) -> Gauge {
        self.recorder.register_gauge(&Key::from_static_name(name), &METADATA)
    }

    pub(crate) fn histogram(&self, name: &'static str) -> Histogram {
        self.recorder.register_histogram(&Key::from_static_name(name), &METADATA)
    }

    /// The counter `name` with the label `reason`.
    pub(crate) fn reason(&self, name: &'static str, reason: &'static str) -> Counter {
        debug_assert!(is_listed(name, reason), "{reason} is not in the list of {name}");
        let mut labelled = self.labelled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let register = || {
            let label = Label::from_static_parts("reason", reason);
            self.recorder.register_counter(&Key::from_parts(name, vec![label]), &METADATA)
        };
        labelled.entry((name, reason)).or_insert_with(register).clone()
    }

    /// The text that a scrape gets.
    pub(crate) fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds what histograms have gathered; without it they would grow between scrapes. To be called about once a second.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

fn is_listed(name: &str, reason: &str) -> bool {
    let of_name = |metric: &&Metric| metric.name == name;
    let kind = ALL.iter().find(of_name).map(|metric| metric.kind);
    matches!(kind, Some(Kind::CounterBy(reasons)) if reasons.contains(&reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_metric_is_described() {
        for (index, metric) in ALL.iter().enumerate() {
            assert!(!metric.description.is_empty());
            assert!(ALL[..index].iter().all(|other| other.name != metric.name), "{}", metric.name);
            let counts = matches!(metric.kind, Kind::Counter | Kind::CounterBy(_));
            assert_eq!(metric.name.ends_with("_total"), counts, "{}", metric.name);
        }
    }

    #[test]
    fn every_metric_is_in_the_table_of_the_documents() {
        const OPERATIONS: &str = include_str!("../../../docs/operations.md");
        let (_, table) = OPERATIONS.split_once("| metric | type | meaning |\n| --- | --- | --- |\n").unwrap();
        let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
        let row = |metric: &Metric| {
            let kind = match metric.kind {
                Kind::Counter | Kind::CounterBy(_) => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            format!("| `{}` | {kind} | {} |", metric.name, metric.description)
        };
        let right: Vec<String> = ALL.iter().map(row).collect();
        assert!(rows == right, "the table should be:\n{}", right.join("\n"));
        for metric in ALL {
            let Kind::CounterBy(reasons) = metric.kind else { continue };
            let reasons: Vec<String> = reasons.iter().map(|reason| format!("`{reason}`")).collect();
            let row = format!("| `{}` | {} |", metric.name, reasons.join(", "));
            assert!(OPERATIONS.contains(&row), "there should be the row\n{row}");
        }
    }

    #[test]
    fn every_reason_to_disconnect_is_counted() {
        // The hub holds the document to its own table.
        const PROTOCOL: &str = include_str!("../../../docs/protocol.md");
        let (_, table) = PROTOCOL.split_once("| reason (metric label) |").unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let documented: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
        let Kind::CounterBy(reasons) = DISCONNECT_REASONS else { panic!("they are counted by reason") };
        assert_eq!(reasons, documented);
    }

    #[test]
    fn rendering_has_help_and_buckets() {
        let metrics = Metrics::new().unwrap();
        metrics.reason(DISCONNECTS, "lost").increment(2);
        metrics.histogram(FEED_TO_FLUSH).record(0.003);
        let text = metrics.render();
        assert!(text.contains("# HELP tickerplant_disconnects_total Sessions ended"), "{text}");
        assert!(text.contains("tickerplant_disconnects_total{reason=\"lost\"} 2"), "{text}");
        assert!(text.contains("tickerplant_feed_to_flush_seconds_bucket{le=\"0.005\"} 1"), "{text}");
    }
}
