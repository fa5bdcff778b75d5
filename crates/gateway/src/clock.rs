//! The one place that reads clocks.
//!
//! **Invariant:** neither of the two times ever goes back. The wall clock is read once, at the start, and goes on with the
//! monotonic one, so a clock that is set back or smeared cannot reorder what the server writes.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hub::Now;
use market::Timestamp;

/// The calendar's time since the Unix epoch, for what others have dated, such as tokens. It may go back.
pub(crate) fn calendar() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A clock that all threads of a gateway share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    wall_at_start: Timestamp,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        Self { started: Instant::now(), wall_at_start: Timestamp(nanos) }
    }

    /// The time.
    pub(crate) fn now(&self) -> Now {
        let monotonic = self.started.elapsed();
        Now { monotonic, wall: self.wall_at_start + monotonic }
    }

    /// The instant at which [`Now::monotonic`] is `monotonic`.
    pub(crate) fn instant(&self, monotonic: Duration) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.started + monotonic)
    }
}
