//! All settings: their flags, types, defaults and descriptions.
//!
//! **Invariant:** this is the only list of them. The environment's variables and the file's keys are derived from the
//! flags (`--sim-seed`, `TICKERPLANT_SIM_SEED`, `sim_seed`), and their values are read by the same parsers.
//!
//! What is *not* here: which of several places a value is taken from (`layers`), and what it means (`plan`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use gateway::{DeflateConfig, RecordConfig, SyncPolicy};
use market::{Channel, Timestamp};
use wire::Limits;

/// What `serve` and `check-config` can be told.
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub(crate) config: Option<PathBuf>,

    /// Address to listen on; port 0 takes any free one and prints it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", help_heading = "Server")]
    pub(crate) listen: SocketAddr,
    /// Speak TLS (https and wss) with this certificate: PEM, the chain behind it. Read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "Server")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of that certificate: PEM, unencrypted
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Server")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Network of proxies in front, such as 10.0.0.0/8, whose word for the address of a client is taken. Repeatable
    #[arg(long, value_name = "CIDR", help_heading = "Proxies")]
    pub(crate) trusted_proxy: Vec<gateway::Network>,
    /// The header in which they say it; the other one is passed on as clients send it and is not looked at
    #[arg(long, value_name = "HEADER", value_enum, default_value = "x-forwarded-for", help_heading = "Proxies")]
    pub(crate) forwarded_header: HeaderSetting,
    /// Whether their connections begin with the PROXY protocol, version 1 or 2
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set, help_heading = "Proxies")]
    pub(crate) proxy_protocol: bool,
    /// Threads that serve clients [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Server")]
    pub(crate) shards: Option<u16>,
    /// The least time between two flushes, in microseconds: longer takes less processor time, shorter less latency
    #[arg(long, value_name = "US", default_value_t = gateway::Config::default().flush_interval.as_micros() as u64, value_parser = clap::value_parser!(u64).range(..=10_000_000), help_heading = "Server")]
    pub(crate) flush_interval_us: u64,
    /// The largest share of a thread's time that goes into flushing, in percent: under load frames get fuller instead;
    /// 100 = all
    #[arg(long, value_name = "PERCENT", default_value_t = gateway::Config::default().flush_duty_percent, value_parser = clap::value_parser!(u32).range(1..=100), help_heading = "Server")]
    pub(crate) flush_duty_percent: u32,
    /// The longest that ticks wait because of it, in microseconds
    #[arg(long, value_name = "US", default_value_t = gateway::Config::default().flush_rest_max.as_micros() as u64, value_parser = clap::value_parser!(u64).range(..=1_000_000), help_heading = "Server")]
    pub(crate) flush_rest_us_max: u64,
    /// Whether clients that offer permessage-deflate get it
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set, help_heading = "Compression")]
    pub(crate) deflate: bool,
    /// How hard to compress: 1 is fast, 9 is small
    #[arg(long, value_name = "LEVEL", default_value_t = DeflateConfig::default().level, value_parser = clap::value_parser!(u32).range(1..=9), help_heading = "Compression")]
    pub(crate) deflate_level: u32,
    /// Messages shorter than this are not compressed, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = DeflateConfig::default().threshold_bytes, help_heading = "Compression")]
    pub(crate) deflate_threshold_bytes: usize,
    /// Memory for compressors that remember what they have sent, in bytes, at about 380 kB each
    #[arg(long, value_name = "BYTES", default_value_t = DeflateConfig::default().memory_bytes_max, help_heading = "Compression")]
    pub(crate) deflate_memory_bytes_max: usize,
    /// The least time between two beginnings of such a compressor, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = DeflateConfig::default().epoch_interval.as_millis() as u64, value_parser = clap::value_parser!(u64).range(..=3_600_000), help_heading = "Compression")]
    pub(crate) deflate_epoch_interval_ms: u64,
    /// Origins of web pages that may connect, such as https://desk.example; * is any. Repeatable [default: pages served
    /// by this server, and on a loopback address all]
    #[arg(long, value_name = "ORIGIN", help_heading = "Server")]
    pub(crate) allow_origin: Vec<String>,
    /// Over how long clients are disconnected when the server is stopped, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5000, help_heading = "Server")]
    pub(crate) drain_ms: u32,
    /// Memory for what resuming clients may have missed, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = gateway::Config::default().replay_bytes_max, help_heading = "Server")]
    pub(crate) replay_bytes_max: usize,
    /// How long that is kept at most, in seconds; 0 = any time
    #[arg(long, value_name = "S", default_value_t = gateway::Config::default().replay_age_max.as_secs() as u32, help_heading = "Server")]
    pub(crate) replay_age_max_s: u32,
    /// Bars kept of each instrument and interval; 0 = no bars
    #[arg(long, value_name = "N", default_value_t = gateway::Config::default().bars_history_max, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(..=100_000), help_heading = "Server")]
    pub(crate) bars_history: usize,
    /// What may wait for one shard before its clients are told that it fell behind, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = gateway::Config::default().shard_queue_bytes_max, help_heading = "Server")]
    pub(crate) shard_queue_bytes_max: usize,

    /// Where ticks come from: sim, or recording:PATH (a recording of this program or a folder of its parts; Databento .dbn or
    /// .dbn.zst, Tardis .csv or .csv.gz, which are merged by time). Repeatable
    #[arg(long, value_name = "FEED", default_value = "sim", help_heading = "Feed")]
    pub(crate) feed: Vec<FeedSpec>,
    /// Start the feed when the first subscribe has been applied: that session gets everything from sequence number 1
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set, help_heading = "Feed")]
    pub(crate) start_on_first_subscriber: bool,
    /// Seed of the simulated market; the same seed gives the same ticks
    #[arg(long, value_name = "SEED", default_value_t = simulator::Config::default().seed, help_heading = "Feed")]
    pub(crate) sim_seed: u64,
    /// Instruments of the simulated market, 1 to 10000
    #[arg(long, value_name = "N", default_value_t = simulator::Config::default().symbols, help_heading = "Feed")]
    pub(crate) sim_symbols: usize,
    /// Ticks per second of the simulated market, trades and quotes of all instruments together, 1 to 2000000
    #[arg(long, value_name = "RATE", default_value_t = simulator::Config::default().rate, help_heading = "Feed")]
    pub(crate) sim_rate: f64,
    /// Kind of simulated market: market and uniform have no books (uniform is a metronome with equal instruments, for
    /// benchmarks); calm, busy, open, flash-crash, halt and thin have books that agents trade in
    #[arg(long, value_name = "SCENARIO", default_value_t = simulator::Config::default().scenario, help_heading = "Feed")]
    pub(crate) sim_scenario: simulator::Scenario,
    /// A file that scripts the simulated market instead of a scenario
    #[arg(long, value_name = "FILE", help_heading = "Feed")]
    pub(crate) sim_script: Option<PathBuf>,
    /// Pace of a recording: 1.0 as recorded, N times as fast, or max
    #[arg(long, value_name = "SPEED", default_value = "1.0", help_heading = "Feed")]
    pub(crate) replay_speed: feed::Speed,
    /// Replay recordings again and again; sequence numbers go on and times never go back
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set, help_heading = "Feed")]
    pub(crate) replay_loop: bool,
    /// Shift all times of recordings so that the session begins now
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set, help_heading = "Feed")]
    pub(crate) replay_rebase: bool,
    /// What a bad record of a recording leads to: stop (exit code 5), or skip (it is counted)
    #[arg(long, value_name = "ACTION", default_value_t = feed::OnBadRecord::default(), help_heading = "Feed")]
    pub(crate) on_bad_record: feed::OnBadRecord,

    /// Where in a recording to begin: a time such as 2024-07-01T13:30:00Z, or nanoseconds since 1970 [default: its begin]
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Feed")]
    pub(crate) replay_from: Option<Timestamp>,
    /// Where in a recording to end, likewise [default: its end]
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Feed")]
    pub(crate) replay_to: Option<Timestamp>,

    /// Record what is sequenced: a file that does not exist yet, or a folder in which each session gets its files
    #[arg(long, visible_alias = "out", value_name = "PATH", help_heading = "Recording")]
    pub(crate) record: Option<PathBuf>,
    /// How long elements may wait before their block is written, in milliseconds: a crash loses at most these
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=3_600_000), help_heading = "Recording")]
    pub(crate) record_block_ms: u64,
    /// When what was written is forced to the disk: never, always, or at most every so many milliseconds
    #[arg(long, value_name = "WHEN", default_value_t = SyncPolicy::default(), help_heading = "Recording")]
    pub(crate) record_sync: SyncPolicy,
    /// Begin a new file in the folder when one is that long, in bytes; 0 = never
    #[arg(long, value_name = "BYTES", default_value_t = 0, help_heading = "Recording")]
    pub(crate) record_rotate_bytes: u64,
    /// Begin a new file in the folder when one is that old, in seconds; 0 = never
    #[arg(long, value_name = "S", default_value_t = 0, help_heading = "Recording")]
    pub(crate) record_rotate_s: u64,
    /// What may wait for the recorder, in bytes, before elements are left out of the recording, which says so
    #[arg(long, value_name = "BYTES", default_value_t = RecordConfig::default().queue_bytes_max, help_heading = "Recording")]
    pub(crate) record_queue_bytes_max: usize,
    /// Bars and cut books are recorded from when a client has wanted them; these from the begin. Repeatable
    #[arg(long, value_name = "CHANNEL", help_heading = "Recording")]
    pub(crate) record_channels: Vec<Channel>,

    /// Where to take operators' commands, such as 127.0.0.1:8081; another address than loopback needs a key [default: nowhere]
    #[arg(long, value_name = "ADDRESS", help_heading = "Server")]
    pub(crate) admin_listen: Option<SocketAddr>,
    /// File with the key that operators present there, 32 characters or more [default: on loopback none is needed]
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub(crate) admin_key_file: Option<PathBuf>,

    /// Whether clients must authenticate: off, required, or auto: required where there are keys, and off on a loopback
    /// address without; on another address without keys the server does not start
    #[arg(long, value_name = "WHETHER", value_enum, default_value = "auto", help_heading = "Authentication")]
    pub(crate) auth: AuthSetting,
    /// File of API keys; tickerplant keys makes them
    #[arg(long, value_name = "FILE", help_heading = "Authentication")]
    pub(crate) api_keys_file: Option<PathBuf>,
    /// File with the secret of JWTs signed with HS256
    #[arg(long, value_name = "FILE", help_heading = "Authentication")]
    pub(crate) jwt_secret_file: Option<PathBuf>,
    /// File with the public key, in PEM, of JWTs signed with RS256 or EdDSA
    #[arg(long, value_name = "FILE", help_heading = "Authentication")]
    pub(crate) jwt_public_key_file: Option<PathBuf>,
    /// File with a JSON Web Key Set
    #[arg(long, value_name = "FILE", help_heading = "Authentication")]
    pub(crate) jwt_jwks_file: Option<PathBuf>,
    /// The issuer (iss) that JWTs must have [default: any]
    #[arg(long, value_name = "ISSUER", help_heading = "Authentication")]
    pub(crate) jwt_issuer: Option<String>,
    /// The audience (aud) that JWTs must be for [default: any]
    #[arg(long, value_name = "AUDIENCE", help_heading = "Authentication")]
    pub(crate) jwt_audience: Option<String>,
    /// How far the clocks of the issuer of JWTs and of this machine may be apart, in seconds
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=3600), help_heading = "Authentication")]
    pub(crate) jwt_leeway_s: u32,
    /// How long a client may take to authenticate, in milliseconds; 0 = no limit
    #[arg(long, value_name = "MS", default_value_t = Limits::default().auth_timeout_ms, help_heading = "Authentication")]
    pub(crate) auth_timeout_ms: u32,
    /// Tokens that are not good from one address in a minute, after which none is looked at; 0 = no limit [default: 30, on
    /// a loopback address 0]
    #[arg(long, value_name = "N", help_heading = "Authentication")]
    pub(crate) auth_failures_per_ip_per_min: Option<u32>,
    /// Connections of a key that does not say; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Authentication")]
    pub(crate) connections_per_key: u32,
    /// Subscribed pairs of channel and symbol of all connections of a key that does not say; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Authentication")]
    pub(crate) subscriptions_per_key: u32,
    /// Bytes per second sent to all connections of a key that does not say; 0 = no limit
    #[arg(long, value_name = "BYTES", default_value_t = 0, help_heading = "Authentication")]
    pub(crate) bytes_per_s_per_key: u32,

    /// Connections in all; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Limits")]
    pub(crate) connections_max: u32,
    /// New connections per second in all; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Limits")]
    pub(crate) new_connections_per_s: u32,
    /// TCP connections in all that are no WebSocket, or not yet; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Limits")]
    pub(crate) http_connections_max: u32,
    /// TCP connections from one address that are no WebSocket, or not yet; 0 = no limit [default: 128, on a loopback address 0]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) http_connections_per_ip: Option<u32>,
    /// Memory of the process above which new clients are refused, in bytes; 0 = not looked at
    #[arg(long, value_name = "BYTES", default_value_t = 0, help_heading = "Limits")]
    pub(crate) overload_memory_bytes_max: u64,
    /// How late data may leave before new clients are refused, in milliseconds; 0 = not looked at
    #[arg(long, value_name = "MS", default_value_t = 0, help_heading = "Limits")]
    pub(crate) overload_lag_ms_max: u32,
    /// Connections from one address; 0 = no limit [default: 64, on a loopback address 0]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) connections_per_ip: Option<u32>,
    /// New connections per second from one address; 0 = no limit [default: 20, on a loopback address 0]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) new_connections_per_ip_per_s: Option<u32>,
    /// How long a client may take to connect, in milliseconds; 0 = no limit
    #[arg(long, value_name = "MS", default_value_t = 5000, help_heading = "Limits")]
    pub(crate) handshake_timeout_ms: u32,
    /// How long a client may take nothing of what it is sent, in milliseconds; 0 = no limit
    #[arg(long, value_name = "MS", default_value_t = 30_000, help_heading = "Limits")]
    pub(crate) stall_timeout_ms: u32,
    /// Largest message of a client, in bytes; 0 = no limit
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().message_bytes_max, help_heading = "Limits")]
    pub(crate) message_bytes_max: u32,
    /// Commands per second of a client, sustained; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = Limits::default().commands_per_s, help_heading = "Limits")]
    pub(crate) commands_per_s: u32,
    /// Commands of a client at once, after a pause
    #[arg(long, value_name = "N", default_value_t = Limits::default().commands_burst, help_heading = "Limits")]
    pub(crate) commands_burst: u32,
    /// Commands refused for their rate within 10 s before the client is disconnected; 0 = never
    #[arg(long, value_name = "N", default_value_t = Limits::default().commands_rejected_max, help_heading = "Limits")]
    pub(crate) commands_rejected_max: u32,
    /// Subscribed pairs of channel and symbol of a client; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = Limits::default().subscriptions_max, help_heading = "Limits")]
    pub(crate) subscriptions_max: u32,
    /// What may wait for a client that does not keep up, in bytes; 0 = no limit for one client
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().outbox_bytes_max, help_heading = "Limits")]
    pub(crate) outbox_bytes_max: u32,
    /// What of it may wait in the kernel because the line is busy, in bytes (on Linux); 0 = as much as the kernel likes
    #[arg(long, value_name = "BYTES", default_value_t = gateway::Config::default().unsent_bytes_max, help_heading = "Limits")]
    pub(crate) unsent_bytes_max: u32,
    /// How often a client is sent a heartbeat message, in milliseconds; 0 = never
    #[arg(long, value_name = "MS", default_value_t = gateway::Config::default().heartbeat_ms, help_heading = "Limits")]
    pub(crate) heartbeat_ms: u64,
    /// How often a client is pinged, in milliseconds; 0 = never
    #[arg(long, value_name = "MS", default_value_t = Limits::default().ping_interval_ms, help_heading = "Limits")]
    pub(crate) ping_interval_ms: u32,
    /// Pings a client may leave unanswered before it is disconnected
    #[arg(long, value_name = "N", default_value_t = Limits::default().pings_unanswered_max, help_heading = "Limits")]
    pub(crate) pings_unanswered_max: u32,

    /// What to log to standard error: error, warn, info, debug, trace, or a filter such as gateway=debug,info
    #[arg(long, value_name = "FILTER", default_value = "info", help_heading = "Logs")]
    pub(crate) log: String,
    /// How to write logs
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text", help_heading = "Logs")]
    pub(crate) log_format: LogFormat,
    /// Where to send traces of requests and commands: a collector of OpenTelemetry (OTLP over HTTP), such as
    /// <http://127.0.0.1:4318>; they are not made when this is not given
    #[arg(long, value_name = "URL", help_heading = "Logs")]
    pub(crate) otlp_endpoint: Option<String>,
}

/// `--forwarded-header`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HeaderSetting {
    XForwardedFor,
    Forwarded,
}

impl From<HeaderSetting> for gateway::ForwardedHeader {
    fn from(setting: HeaderSetting) -> Self {
        match setting {
            HeaderSetting::XForwardedFor => Self::XForwardedFor,
            HeaderSetting::Forwarded => Self::Forwarded,
        }
    }
}

/// A time as RFC 3339 or as nanoseconds.
fn time(text: &str) -> Result<Timestamp, String> {
    let nanos = text.parse().map(Timestamp).ok();
    nanos.map_or_else(
        || Timestamp::parse_rfc3339(text).map_err(|error| format!("{error}, nor nanoseconds since 1970")),
        Ok,
    )
}

/// One place where ticks come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FeedSpec {
    /// `sim`
    Simulator,
    /// `recording:PATH`
    Recording(PathBuf),
}

/// The text names no feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a feed is sim or recording:PATH")]
pub(crate) struct UnknownFeed;

/// Whether clients must authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuthSetting {
    /// Where there are keys
    Auto,
    /// Never
    Off,
    /// Always
    Required,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

impl FromStr for FeedSpec {
    type Err = UnknownFeed;
    fn from_str(text: &str) -> Result<Self, UnknownFeed> {
        match text.split_once(':') {
            None if text == "sim" => Ok(Self::Simulator),
            Some(("recording", path)) if !path.is_empty() => Ok(Self::Recording(path.into())),
            _ => Err(UnknownFeed),
        }
    }
}
