//! How long to wait before a connection is made again.
//!
//! **Invariant:** a server that asks for a pause gets at least that pause, and clients that lost their connections together
//! do not come back together.

use std::time::Duration;

/// Full jitter: a pause is drawn evenly from nothing to `first x 2^failures`, at most `longest`. Spreading the whole range
/// empties a crowd of returning clients faster than a jitter around the middle does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first pause
    pub first: Duration,
    /// The bound of every pause
    pub longest: Duration,
    /// A connection that has lasted as long as this makes the next pause a first one again
    pub forgiven_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(250),
            longest: Duration::from_secs(30),
            forgiven_after: Duration::from_secs(5),
        }
    }
}

impl Backoff {
    /// The most failures in a row that count when the connection that was lost had been ready
    pub(super) const FAILURES_AFTER_SESSION_MAX: u32 = 3;

    /// The pause after so many failures in a row (0 for the first), with `draw` from [0, 2^32).
    pub(super) fn pause(&self, failures: u32, draw: u32) -> Duration {
        let bound = self.first.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(self.longest);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(((u128::from(nanos) * u128::from(draw)) >> 32) as u64)
    }
}

/// A small generator (splitmix64): jitter needs to vary, not to be secret.
#[derive(Debug, Clone)]
pub(super) struct Lots(pub(super) u64);

impl Lots {
    pub(super) fn draw(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_are_drawn_from_all_of_it() {
        let backoff = Backoff::default();
        for (failures, bound_ms) in [(0, 250), (1, 500), (4, 4000), (7, 30_000), (31, 30_000), (99, 30_000)] {
            let bound = Duration::from_millis(bound_ms);
            assert_eq!(backoff.pause(failures, 0), Duration::ZERO);
            let (half, whole) = (backoff.pause(failures, 1 << 31), backoff.pause(failures, u32::MAX));
            assert_eq!(half, bound / 2);
            assert!(whole < bound && whole > bound.mul_f64(0.999));
        }
        let mut lots = Lots(7);
        let mean = (0..1000).map(|_| backoff.pause(2, lots.draw()).as_millis()).sum::<u128>() / 1000;
        assert!((450..550).contains(&mean), "{mean}");
    }
}
