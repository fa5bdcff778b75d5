//! How many ticks one core makes.
//!
//! **Invariant:** it counts the CPU time of this thread, not the time of day, so that a busy machine does not make the
//! simulator look slow. Where the system does not tell (anywhere but Linux) it is the time of day after all.

use std::time::{Duration, Instant};

use simulator::{Config, Scenario, Simulator};

const TICKS: u64 = 5_000_000;
const TICKS_AT_ONCE: usize = 1024;

fn main() {
    println!("{:<44} {:>14} {:>9}", "simulator, one core", "ticks/CPU s", "ns/tick");
    for scenario in [Scenario::Market, Scenario::Uniform, Scenario::Calm, Scenario::Busy] {
        for (symbols, rate) in [(1000, 1e3), (1000, 1e6), (10_000, 1e6), (10_000, 2e6)] {
            let config = Config { seed: 1, symbols, rate, scenario };
            let seconds = measure(config).as_secs_f64();
            let name = format!("{scenario}, {symbols} symbols, {rate} ticks/s");
            println!("{name:<44} {:>14.0} {:>9.1}", TICKS as f64 / seconds, seconds * 1e9 / TICKS as f64);
        }
    }
}

fn measure(config: Config) -> Duration {
    let mut simulator = Simulator::new(config).expect("the configurations above are sound");
    let mut ticks = Vec::with_capacity(TICKS_AT_ONCE);
    let mut made = 0;
    let clock = CpuClock::start();
    while made < TICKS {
        ticks.clear();
        simulator.advance(Duration::MAX, TICKS_AT_ONCE, &mut ticks);
        made += std::hint::black_box(&ticks).len() as u64;
    }
    clock.elapsed()
}

struct CpuClock {
    cpu: Option<Duration>,
    day: Instant,
}

impl CpuClock {
    fn start() -> Self {
        Self { cpu: cpu_time(), day: Instant::now() }
    }

    fn elapsed(&self) -> Duration {
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
