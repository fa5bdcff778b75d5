//! Commands wait here until the server's limit lets them pass.
//!
//! **Invariant:** no more commands go out than the welcome allows, so the server refuses none for its rate.
//!
//! The queue has no bound of its own: it holds what the program asked for and has not unsubscribed, in parts.

use std::collections::VecDeque;
use std::time::Duration;

use wire::Limits;

/// Of the server's allowance this much is left alone: its clock and ours do not run alike.
const KEPT_BACK: u32 = 2;

#[derive(Debug)]
pub(super) struct Pace {
    waiting: VecDeque<Vec<u8>>,
    /// Commands that may go at once
    tokens: u32,
    burst: u32,
    /// How long one more takes; zero without a limit
    refill: Duration,
    refilled_at: Duration,
}

impl Pace {
    pub(super) fn new(limits: &Limits, now: Duration) -> Self {
        let burst = limits.commands_burst.saturating_sub(KEPT_BACK).max(1);
        let refill = match limits.commands_per_s {
            0 => Duration::ZERO,
            // A tenth slower than allowed.
            per_s => Duration::from_secs(1).mul_f64(1.1 / f64::from(per_s)),
        };
        Self { waiting: VecDeque::new(), tokens: burst, burst, refill, refilled_at: now }
    }

    pub(super) fn push(&mut self, command: Vec<u8>) {
        self.waiting.push_back(command);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next command that may go.
    pub(super) fn pop(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.waiting.is_empty() {
            return None;
        }
        if !self.refill.is_zero() {
            let whole = now.saturating_sub(self.refilled_at).as_nanos() / self.refill.as_nanos();
            let earned = u32::try_from(whole).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(earned).min(self.burst);
            self.refilled_at = if self.tokens == self.burst { now } else { self.refilled_at + self.refill * earned };
            self.tokens = self.tokens.checked_sub(1)?;
        }
        self.waiting.pop_front()
    }

    /// When the next one may go.
    pub(super) fn due(&self) -> Option<Duration> {
        (!self.waiting.is_empty()).then(|| self.refilled_at + self.refill)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_in_time() {
        let mut pace =
            Pace::new(&Limits { commands_per_s: 10, commands_burst: 5, ..Limits::default() }, Duration::ZERO);
        (0..6).for_each(|n| pace.push(vec![n]));
        let at = |ms| Duration::from_millis(ms);
        for n in 0..3 {
            assert_eq!(pace.pop(at(1)), Some(vec![n]));
        }
        assert_eq!(pace.pop(at(1)), None);
        assert_eq!(pace.pop(pace.due().unwrap()), Some(vec![3]));
        assert_eq!(pace.pop(at(150)), None);
        assert_eq!(pace.pop(at(10_000)), Some(vec![4]));
        assert_eq!(pace.pop(at(10_000)), Some(vec![5]));
        assert!(pace.is_idle() && pace.due().is_none());
    }
}
