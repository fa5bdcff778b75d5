//! How a gateway is set up.
//!
//! **Invariant:** every bound that protects the server is here or derived from something here; 0 switches a limit off
//! where a field says so.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use market::{Channel, ChannelSet};

use crate::RecordConfig;
use crate::auth::AuthConfig;
use crate::tls::TlsFiles;

/// When new sessions are refused with 503, so that those inside stay served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OverloadConfig {
    /// The memory of the process, in bytes; 0 = not looked at. Known on Linux only.
    pub memory_bytes_max: u64,
    /// How late data leaves a shard, or the accept loop comes to its turn; zero = not looked at
    pub lag_max: Duration,
}

/// Who may say that a connection is somebody else's, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyConfig {
    /// The networks of the proxies; of nobody else anything is believed
    pub trusted: Vec<peer::Network>,
    /// The header that they write
    pub header: peer::ForwardedHeader,
    /// Whether their connections begin with the PROXY protocol
    pub protocol: bool,
}

impl ProxyConfig {
    /// Whether an address is a proxy's.
    pub(crate) fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(ip))
    }
}

/// The default of [`Config::unsent_bytes_max`].
const UNSENT_BYTES_MAX: u32 = 64 * 1024;

/// The configuration of a gateway.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes any free one
    pub listen: SocketAddr,
    /// How many shards, at least 1; each is a thread
    pub shards: usize,
    /// The certificate with which TLS is spoken; none speaks plain HTTP and WebSocket
    pub tls: Option<TlsFiles>,
    /// The proxies in front of it
    pub proxies: ProxyConfig,
    /// The least time between two flushes of a shard; 0 sends as soon as the queue is drained
    pub flush_interval: Duration,
    /// The largest share of a shard's time that goes into flushing, in percent, as long as its rests do not get longer
    /// than `flush_rest_max`; 100 never rests
    pub flush_duty_percent: u32,
    /// The longest rest between two flushes that follows from the duty
    pub flush_rest_max: Duration,
    /// How permessage-deflate is done; none declines it. The memory is that of all shards together.
    pub deflate: Option<hub::DeflateConfig>,
    /// Whether the feed waits until a client's first subscribe has been applied
    pub start_on_first_subscriber: bool,
    /// TCP connections from one address that are no WebSocket, or not yet; 0 = no limit
    pub http_connections_per_ip: u32,
    /// TCP connections in all that are no WebSocket, or not yet; 0 = no limit
    pub http_connections_max: u32,
    /// WebSocket connections at the same time from one address; 0 = no limit
    pub connections_per_ip: u32,
    /// New WebSocket connections per second from one address; 0 = no limit
    pub new_connections_per_ip_per_s: u32,
    /// WebSocket connections in all; 0 = no limit
    pub connections_max: u32,
    /// New WebSocket connections per second in all; 0 = no limit
    pub new_connections_per_s: u32,
    /// Whether clients must authenticate, and with what
    pub auth: AuthConfig,
    /// Tokens in a minute from one address that are not good; 0 = no limit
    pub auth_failures_per_ip_per_min: u32,
    /// WebSocket connections at the same time of a key that does not say; 0 = no limit
    pub connections_per_key: u32,
    /// Subscribed pairs of channel and symbol of all connections of a key that does not say; 0 = no limit
    pub subscriptions_per_key: u32,
    /// Bytes per second sent to all connections of a key that does not say; 0 = no limit
    pub bytes_per_s_per_key: u32,
    /// When there is too much to do to let anybody else in
    pub overload: OverloadConfig,
    /// The limits of a session
    pub limits: wire::Limits,
    /// How often a session gets a heartbeat, in milliseconds
    pub heartbeat_ms: u64,
    /// How long a client may take for the head of a request
    pub handshake_timeout: Duration,
    /// How long a client may take nothing of what it is sent
    pub stall_timeout: Duration,
    /// What the kernel may hold back of what a client is sent because the line is busy, in bytes; 0 = as much as it likes.
    /// Known on Linux only.
    pub unsent_bytes_max: u32,
    /// Over how long a drain is spread
    pub drain: Duration,
    /// Origins of web pages that may connect, such as `https://desk.example`; `*` is any. When empty, pages served by this
    /// server itself, and on a loopback address all.
    pub origins: Vec<String>,
    /// The memory for what resuming clients may have missed, in bytes
    pub replay_bytes_max: usize,
    /// How long that is kept at most; zero for any time
    pub replay_age_max: Duration,
    /// How many bars are kept of each instrument and interval; 0 makes no bars and serves no bar channels
    pub bars_history_max: usize,
    /// What may wait for one shard before its clients are told that it fell behind, in bytes
    pub shard_queue_bytes_max: usize,
    /// Where and how the session is recorded, if it is
    pub record: Option<RecordConfig>,
    /// Where operators' commands are taken; none takes none
    pub admin_listen: Option<SocketAddr>,
    /// The file with the key of operators; needed where `admin_listen` is no loopback address
    pub admin_key_file: Option<std::path::PathBuf>,
    /// For everything that is drawn by lot, such as session names and jitter
    pub seed: u64,
}

impl Config {
    /// The default of [`Config::http_connections_per_ip`] on addresses other than loopback: all sessions of an address may be
    /// in the middle of their hand-shake, and as many event streams and pages go on.
    pub const HTTP_CONNECTIONS_PER_IP: u32 = 2 * Self::CONNECTIONS_PER_IP;
    /// The default of [`Config::connections_per_ip`] on addresses other than loopback.
    pub const CONNECTIONS_PER_IP: u32 = 64;
    /// The default of [`Config::new_connections_per_ip_per_s`] on addresses other than loopback.
    pub const NEW_CONNECTIONS_PER_IP_PER_S: u32 = 20;

    /// The default of [`Config::auth_failures_per_ip_per_min`] on addresses other than loopback.
    pub const AUTH_FAILURES_PER_IP_PER_MIN: u32 = 30;

    /// The channels that can be subscribed to.
    pub(crate) fn served(&self) -> ChannelSet {
        let served = |channel: &Channel| self.bars_history_max > 0 || !matches!(channel, Channel::Bars(_));
        Channel::ALL.into_iter().filter(served).collect()
    }

    /// The defaults for a server that listens on `listen`: limits per address are off on loopback, where all clients
    /// share one.
    pub fn new(listen: SocketAddr) -> Self {
        let public = |limit| if listen.ip().is_loopback() { 0 } else { limit };
        let shard = hub::ShardConfig::default();
        let sequencer = hub::SequencerConfig::default();
        Self {
            listen,
            shards: std::thread::available_parallelism().map_or(1, usize::from),
            tls: None,
            proxies: ProxyConfig::default(),
            flush_interval: shard.flush_interval,
            flush_duty_percent: shard.flush_duty_percent,
            flush_rest_max: shard.flush_rest_max,
            deflate: Some(shard.deflate),
            start_on_first_subscriber: false,
            http_connections_per_ip: public(Self::HTTP_CONNECTIONS_PER_IP),
            http_connections_max: 0,
            connections_per_ip: public(Self::CONNECTIONS_PER_IP),
            new_connections_per_ip_per_s: public(Self::NEW_CONNECTIONS_PER_IP_PER_S),
            connections_max: 0,
            new_connections_per_s: 0,
            auth: AuthConfig::Off,
            auth_failures_per_ip_per_min: public(Self::AUTH_FAILURES_PER_IP_PER_MIN),
            connections_per_key: 0,
            subscriptions_per_key: 0,
            bytes_per_s_per_key: 0,
            overload: OverloadConfig::default(),
            limits: wire::Limits::default(),
            heartbeat_ms: shard.heartbeat_ms,
            handshake_timeout: Duration::from_secs(5),
            stall_timeout: shard.write_stall_timeout,
            unsent_bytes_max: UNSENT_BYTES_MAX,
            drain: Duration::from_secs(5),
            origins: Vec::new(),
            replay_bytes_max: sequencer.replay_bytes_max,
            replay_age_max: sequencer.replay_age_max,
            bars_history_max: sequencer.bars_history_max,
            // A batch is encoded once and shared by all shards. 32 MiB are about 600,000 elements, half a minute of a busy
            // market: a shard that is that far behind will not catch up by waiting.
            shard_queue_bytes_max: 32 << 20,
            record: None,
            admin_listen: None,
            admin_key_file: None,
            seed: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080))
    }
}
