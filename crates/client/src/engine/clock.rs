//! How far the server's clock is from ours.
//!
//! **Invariant:** the estimate is off by at most half of the round trip of the sample that it is from.

use std::collections::VecDeque;
use std::time::Duration;

use market::Timestamp;

/// The best of so many samples counts; older ones say less, as clocks drift.
const SAMPLES: usize = 8;

/// The server's clock, seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// What is to be added to our clock to get the server's, in nanoseconds
    pub offset_ns: i64,
    /// How long the ping took there and back that says so; the offset is off by at most half of it
    pub round_trip: Duration,
}

impl Clock {
    /// A time of the server's clock by ours.
    pub fn to_local(self, server: Timestamp) -> Timestamp {
        Timestamp(server.0.saturating_add_signed(self.offset_ns.saturating_neg()))
    }
}

#[derive(Debug, Default)]
pub(super) struct Estimate(VecDeque<Clock>);

impl Estimate {
    /// Takes in a ping, sent and answered at these times of our clock, and the server's clock in between.
    pub(super) fn sample(&mut self, sent: Timestamp, answered: Timestamp, round_trip: Duration, server: Timestamp) {
        let middle = i128::midpoint(sent.0.into(), answered.0.into());
        let offset = i64::try_from(i128::from(server.0) - middle).unwrap_or_default();
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(Clock { offset_ns: offset, round_trip });
    }

    /// The sample with the shortest way.
    pub(super) fn best(&self) -> Option<Clock> {
        self.0.iter().min_by_key(|clock| clock.round_trip).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_way_counts() {
        let mut estimate = Estimate::default();
        assert_eq!(estimate.best(), None);
        estimate.sample(Timestamp(1000), Timestamp(3000), Duration::from_micros(2), Timestamp(12_500));
        estimate.sample(Timestamp(5000), Timestamp(5200), Duration::from_nanos(200), Timestamp(15_110));
        let clock = estimate.best().unwrap();
        assert_eq!(clock, Clock { offset_ns: 10_010, round_trip: Duration::from_nanos(200) });
        assert_eq!(clock.to_local(Timestamp(15_110)), Timestamp(5100));
        for _ in 0..SAMPLES {
            estimate.sample(Timestamp(0), Timestamp(400), Duration::from_nanos(400), Timestamp(150));
        }
        assert_eq!(estimate.best().unwrap().offset_ns, -50);
    }
}
