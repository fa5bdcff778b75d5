//! The CPU time of the thread that measures.
//!
//! **Invariant:** it is not the time of day, so that a busy machine does not make things look slow. Where the system does
//! not tell (anywhere but Linux) it is the time of day after all.
//!
//! The benchmarks of the simulator share it.

use std::time::{Duration, Instant};

pub(crate) struct CpuClock {
    cpu: Option<Duration>,
    day: Instant,
}

impl CpuClock {
    pub(crate) fn start() -> Self {
        Self { cpu: cpu_time(), day: Instant::now() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        match (self.cpu, cpu_time()) {
            (Some(start), Some(end)) => end.saturating_sub(start),
            _ => self.day.elapsed(),
        }
    }
}

/// The first field of `schedstat` is the time on a CPU in nanoseconds.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
