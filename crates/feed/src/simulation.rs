//! The simulator as a feed.
//!
//! **Invariant:** a tick's time is the instant at which the market scheduled it, not the one at which it was fetched, so a
//! consumer that falls behind sees latency and not a slower market.

use market::{Instrument, Tick, Timestamp};
use simulator::{Config, ConfigError, Next, Script, Simulator};

use crate::{Feed, FeedError, Progress};

/// A simulated market, live: its virtual time runs with the caller's.
#[derive(Debug)]
pub struct SimulatorFeed {
    simulator: Simulator,
    start: Option<Timestamp>,
}

impl SimulatorFeed {
    /// A market that opens when the feed is started.
    ///
    /// # Errors
    /// [`ConfigError`] when the simulator does not take the configuration.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { simulator: Simulator::new(config)?, start: None })
    }

    /// A market with order books, in which happens what the script says; the configuration's scenario does not matter.
    ///
    /// # Errors
    /// [`ConfigError`] when the simulator does not take the configuration.
    pub fn scripted(config: Config, script: Script) -> Result<Self, ConfigError> {
        Ok(Self { simulator: Simulator::scripted(config, script)?, start: None })
    }
}

impl Feed for SimulatorFeed {
    fn instruments(&self) -> &[Instrument] {
        self.simulator.instruments()
    }

    fn start(&mut self, now: Timestamp) {
        self.simulator.begin_at(now);
        self.start = Some(now);
    }

    fn poll(&mut self, now: Timestamp, ticks_max: usize, out: &mut Vec<Tick>) -> Result<Progress, FeedError> {
        let Some(start) = self.start else {
            self.start(now);
            return Ok(Progress::Ready);
        };
        Ok(match self.simulator.advance(now.since(start), ticks_max.max(1), out) {
            Next::Ready => Progress::Ready,
            Next::At(virtual_time) => Progress::Idle { until: start + virtual_time },
        })
    }

    fn market_time(&self, now: Timestamp) -> Option<Timestamp> {
        self.start.map(|_| now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// All ticks up to `length`, fetched with the clock standing at every `step`.
    fn run(ticks_max: usize, length: Duration, step: Duration) -> Vec<Tick> {
        let start = Timestamp(1_700_000_000_000_000_000);
        let config = Config { seed: 7, symbols: 20, rate: 2000.0, ..Config::default() };
        let mut feed = SimulatorFeed::new(config).unwrap();
        feed.start(start);
        let (mut out, mut now) = (Vec::new(), start);
        while now <= start + length {
            let before = out.len();
            match feed.poll(now, ticks_max, &mut out).unwrap() {
                Progress::Ready => {}
                Progress::Idle { until } => {
                    assert!(until > now, "the next tick is still to come");
                    now = now + step;
                }
                Progress::Held | Progress::Ended => panic!("a simulated market does not end"),
            }
            assert!(out[before..].iter().all(|tick| tick.time <= now && tick.time >= start));
        }
        out
    }

    #[test]
    fn a_late_consumer_gets_the_same_ticks_with_the_same_times() {
        let length = Duration::from_millis(500);
        let prompt = run(10_000, length, Duration::from_millis(1));
        assert!(prompt.len() > 500, "{}", prompt.len());
        assert!(prompt.is_sorted_by_key(|tick| tick.time));
        assert_eq!(run(3, length, Duration::from_millis(250)), prompt);
    }
}
