//! When a replayed tick is due.
//!
//! **Invariant:** a tick is never due before its recorded distance from the first one has passed, divided by the speed.

use market::Timestamp;

use super::options::{InvalidOption, Speed};

/// The speed in billionths, so that 64-bit nanoseconds are scaled exactly and a replay at recorded pace has no rounding.
const UNIT: u128 = 1_000_000_000;

#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    speed: Option<u128>,
}

impl Pace {
    pub(super) fn new(speed: Speed) -> Result<Self, InvalidOption> {
        Ok(match speed.checked()? {
            Speed::Times(times) => Self { speed: Some(((times * UNIT as f64).round() as u128).max(1)) },
            Speed::Max => Self { speed: None },
        })
    }

    /// When a tick is due that was received `elapsed_ns` after the first one of a session begun at `start`.
    pub(super) fn due(self, start: Timestamp, elapsed_ns: u64) -> Timestamp {
        let Some(speed) = self.speed else {
            return start;
        };
        let scaled = (u128::from(elapsed_ns) * UNIT).div_ceil(speed);
        Timestamp(start.nanos().saturating_add(u64::try_from(scaled).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn speeds_scale_time() {
        let due = |speed, elapsed| Pace::new(speed).unwrap().due(Timestamp(100), elapsed).nanos();
        assert_eq!(due(Speed::Times(1.0), 1_582_329_603_502_092_001), 1_582_329_603_502_092_101);
        assert_eq!(due(Speed::Times(2.0), 11), 106);
        assert_eq!(due(Speed::Times(0.5), 11), 122);
        assert_eq!(due(Speed::Max, 11), 100);
        assert_eq!(due(Speed::Times(Speed::TIMES_MIN), u64::MAX), u64::MAX);
        for speed in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
            assert!(Pace::new(Speed::Times(speed)).is_err());
        }
    }

    proptest! {
        #[test]
        fn later_ticks_are_not_due_earlier(
            speed in Speed::TIMES_MIN..Speed::TIMES_MAX, a in any::<u64>(), b in any::<u64>(), start in any::<u64>(),
        ) {
            let pace = Pace::new(Speed::Times(speed)).unwrap();
            let (a, b) = (a.min(b), a.max(b));
            prop_assert!(pace.due(Timestamp(start), a) <= pace.due(Timestamp(start), b));
            prop_assert!(pace.due(Timestamp(start), a) >= Timestamp(start));
        }
    }
}
