//! The instants of a run: the wall clock that servers stamp with, and a steady one for the series.
//!
//! **Invariant:** the boundaries of intervals are the same in all threads and processes, and a step of the wall clock does not
//! move them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Counts from the begin of the series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    began: Instant,
    /// How far into the series `began` lies
    offset_ns: u64,
}

impl Clock {
    /// A clock of the series that began at `origin_ns` since the Unix epoch.
    pub(crate) fn since(origin_ns: u64) -> Self {
        Self { began: Instant::now(), offset_ns: wall_ns().saturating_sub(origin_ns) }
    }

    /// Nanoseconds since the series began.
    pub(crate) fn elapsed_ns(&self) -> u64 {
        self.ns_at(Instant::now())
    }

    /// The same of another instant.
    pub(crate) fn ns_at(&self, instant: Instant) -> u64 {
        self.offset_ns + instant.saturating_duration_since(self.began).as_nanos() as u64
    }

    /// The instant that lies so many nanoseconds after the series began.
    pub(crate) fn instant_at(&self, ns: u64) -> Instant {
        self.began + Duration::from_nanos(ns.saturating_sub(self.offset_ns))
    }
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn wall_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
