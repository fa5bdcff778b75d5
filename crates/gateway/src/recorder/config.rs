//! How a session is recorded.
//!
//! **Invariant:** what is on disk after a crash is bounded by what is set here: a block's length in time and how it is synced.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use market::ChannelSet;

/// The configuration of a recorder.
#[derive(Debug, Clone)]
pub struct RecordConfig {
    /// A file that does not exist yet, or a folder in which files are named by the time and their number
    pub path: PathBuf,
    /// How long elements wait for their block to be closed and written; a crash of the process loses at most these
    pub block: Duration,
    /// When what was written is forced to the disk; a loss of power loses what was not
    pub sync: SyncPolicy,
    /// A new file is begun when one is that long; 0 = never. Only in a folder.
    pub rotate_bytes: u64,
    /// A new file is begun when one is that old; zero = never. Only in a folder.
    pub rotate_after: Duration,
    /// What may wait for the recorder's thread, in bytes, before elements are left out
    pub queue_bytes_max: usize,
    /// Channels that are recorded even while nobody has wanted them, beside the full books
    pub channels: ChannelSet,
}

impl Default for RecordConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            block: Duration::from_secs(1),
            sync: SyncPolicy::default(),
            rotate_bytes: 0,
            rotate_after: Duration::ZERO,
            // 600,000 elements: half a minute of a busy market, longer than disks pause.
            queue_bytes_max: 64 << 20,
            channels: ChannelSet::EMPTY,
        }
    }
}

/// When what was written is forced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// When the system does it by itself
    Never,
    /// After every write
    Always,
    /// At most so often
    Every(Duration),
}

impl Default for SyncPolicy {
    fn default() -> Self {
        Self::Every(Duration::from_secs(1))
    }
}

/// The text names no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not when to sync: never, always, or a number of milliseconds from 1 to 3600000")]
pub struct InvalidSyncPolicy(String);

impl fmt::Display for SyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Always => f.write_str("always"),
            Self::Every(interval) => write!(f, "{}", interval.as_millis()),
        }
    }
}

impl FromStr for SyncPolicy {
    type Err = InvalidSyncPolicy;
    fn from_str(text: &str) -> Result<Self, InvalidSyncPolicy> {
        match (text, text.parse()) {
            ("never", _) => Ok(Self::Never),
            ("always", _) => Ok(Self::Always),
            (_, Ok(ms @ 1..=3_600_000)) => Ok(Self::Every(Duration::from_millis(ms))),
            _ => Err(InvalidSyncPolicy(text.chars().take(64).collect())),
        }
    }
}
