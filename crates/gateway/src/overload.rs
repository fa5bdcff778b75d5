//! Whether there is too much to do to let anybody else in.
//!
//! **Invariant:** who is inside is not touched; only new sessions are refused, with 503 and `Retry-After`. A state that was
//! entered lasts for [`HOLD`], so that it does not flicker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::OverloadConfig;
use crate::metrics as names;
use crate::state::Shared;

/// How often the load is looked at.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long new sessions are refused after the last time that there was too much.
const HOLD: Duration = Duration::from_secs(1);

/// What is too much, if something is.
#[derive(Debug, Default)]
pub(crate) struct Overload(AtomicU8);

/// Why a new session is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Overloaded {
    #[error("the server is short of memory (overload_memory_bytes_max); try again later")]
    Memory,
    #[error("the server is behind (overload_lag_ms_max); try again later")]
    Lag,
}

impl Overloaded {
    /// The value of the metric label `reason`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Memory => "overload_memory",
            Self::Lag => "overload_lag",
        }
    }
}

impl Overload {
    /// What is too much now.
    pub(crate) fn now(&self) -> Option<Overloaded> {
        match self.0.load(Ordering::Relaxed) {
            1 => Some(Overloaded::Memory),
            2 => Some(Overloaded::Lag),
            _ => None,
        }
    }

    fn set(&self, overloaded: Option<Overloaded>) {
        let value = match overloaded {
            None => 0,
            Some(Overloaded::Memory) => 1,
            Some(Overloaded::Lag) => 2,
        };
        self.0.store(value, Ordering::Relaxed);
    }
}

/// Looks at the load for as long as it is polled.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let gauge = shared.metrics.gauge(names::OVERLOADED);
    let mut until = Duration::ZERO;
    loop {
        let config = shared.tuned().overload;
        if config == OverloadConfig::default() {
            shared.overload.set(None);
            gauge.set(0.0);
            tokio::time::sleep(HOLD).await;
            continue;
        }
        let slept = shared.clock.now().monotonic;
        tokio::time::sleep(INTERVAL).await;
        let now = shared.clock.now().monotonic;
        // This task shares its thread with the accept loop, so it is as late as that.
        let late = now.saturating_sub(slept + INTERVAL);
        let lag = shared.shards.iter().map(|shard| shard.lag(now)).fold(late, Duration::max);
        let found = judge(config, lag, memory_bytes());
        if found.is_some() {
            until = now + HOLD;
        }
        let before = shared.overload.now();
        let overloaded = if now < until { found.or(before) } else { None };
        if overloaded.is_some() != before.is_some() {
            tracing::warn!(?overloaded, lag_ms = lag.as_millis(), "new sessions are refused, or not any more");
            gauge.set(if overloaded.is_some() { 1.0 } else { 0.0 });
        }
        shared.overload.set(overloaded);
    }
}

fn judge(config: OverloadConfig, lag: Duration, memory_bytes: Option<u64>) -> Option<Overloaded> {
    let memory_max = config.memory_bytes_max;
    if memory_max > 0 && memory_bytes.is_some_and(|bytes| bytes > memory_max) {
        return Some(Overloaded::Memory);
    }
    (config.lag_max > Duration::ZERO && lag > config.lag_max).then_some(Overloaded::Lag)
}

/// What of the process is in memory, where the system tells.
#[cfg(target_os = "linux")]
pub(crate) fn memory_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn memory_bytes() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_is_looked_at_when_it_is_set() {
        let ms = Duration::from_millis;
        let config = OverloadConfig { memory_bytes_max: 100, lag_max: ms(10) };
        assert_eq!(judge(config, ms(10), Some(100)), None);
        assert_eq!(judge(config, ms(11), Some(100)), Some(Overloaded::Lag));
        assert_eq!(judge(config, ms(11), Some(101)), Some(Overloaded::Memory));
        assert_eq!(judge(config, ms(0), None), None);
        assert_eq!(judge(OverloadConfig::default(), ms(99_999), Some(u64::MAX)), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_memory_of_this_process_is_known() {
        assert!(memory_bytes().is_some_and(|bytes| bytes > 100_000));
    }
}
