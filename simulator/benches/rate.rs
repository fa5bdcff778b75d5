//! How many ticks one core makes.
//!
//! **Invariant:** it counts the CPU time of this thread, see `cpu_clock`.

#[path = "../../crates/market/benches/cpu_clock/mod.rs"]
mod cpu_clock;

use std::time::Duration;

use cpu_clock::CpuClock;
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
