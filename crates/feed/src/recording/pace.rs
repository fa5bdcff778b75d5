//! When a replayed tick is due, and what an operator does to that: pause, resume, steps, another speed.
//!
//! **Invariant:** a tick is never due before its recorded distance from the one at which the pace was set has passed, divided
//! by the speed; a pause takes no time of the recording.

use market::Timestamp;

use super::options::{InvalidOption, Speed};
use crate::ReplayCommand;

/// The speed in billionths, so that 64-bit nanoseconds are scaled exactly and a replay at recorded pace has no rounding.
const UNIT: u128 = 1_000_000_000;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    speed: Speed,
    /// In billionths; none for no pace
    rate: Option<u128>,
    /// When the session, the pause or the speed began
    anchor: Timestamp,
    /// How far the recording was then, in nanoseconds since its beginning
    anchor_ns: u64,
    /// How far the last tick was that has been handed over
    reached_ns: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// With the ticks that may pass all the same
    Paused(u64),
}

/// Whether a tick may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    /// From then on
    At(Timestamp),
    /// Not before an operator says so
    Held,
}

impl Pace {
    pub(crate) fn new(speed: Speed) -> Result<Self, InvalidOption> {
        let rate = rate(speed.checked()?);
        Ok(Self { speed, rate, anchor: Timestamp(0), anchor_ns: 0, reached_ns: 0, state: State::Running })
    }

    /// Sets the instant at which the recording begins.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.anchor = now;
    }

    /// Whether a tick may pass that came `elapsed_ns` after the first one.
    pub(crate) fn gate(&self, now: Timestamp, elapsed_ns: u64) -> Gate {
        match self.state {
            State::Paused(0) => Gate::Held,
            State::Paused(_) => Gate::Open,
            State::Running => {
                let due = self.due(elapsed_ns);
                if due > now { Gate::At(due) } else { Gate::Open }
            }
        }
    }

    /// Notes that a tick has passed.
    pub(crate) fn passed(&mut self, elapsed_ns: u64) {
        self.reached_ns = self.reached_ns.max(elapsed_ns);
        if let State::Paused(steps) = &mut self.state {
            *steps = steps.saturating_sub(1);
            self.anchor_ns = self.anchor_ns.max(elapsed_ns);
        }
    }

    /// Carries out an operator's command.
    ///
    /// # Errors
    /// [`InvalidOption`] for a speed that is none.
    pub(crate) fn control(&mut self, now: Timestamp, command: ReplayCommand) -> Result<(), InvalidOption> {
        match command {
            ReplayCommand::Status => {}
            ReplayCommand::Pause if self.is_paused() => self.state = State::Paused(0),
            ReplayCommand::Pause => {
                self.anchor_ns = self.position(now);
                self.state = State::Paused(0);
            }
            ReplayCommand::Resume => {
                if self.is_paused() {
                    self.anchor = now;
                    self.state = State::Running;
                }
            }
            ReplayCommand::Step(ticks) => {
                self.control(now, ReplayCommand::Pause)?;
                self.state = State::Paused(ticks);
            }
            ReplayCommand::Speed(speed) => {
                let rate = rate(speed.checked()?);
                self.anchor_ns = self.position(now);
                (self.anchor, self.speed, self.rate) = (now, speed, rate);
            }
        }
        Ok(())
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.state != State::Running
    }

    pub(crate) fn speed(&self) -> Speed {
        self.speed
    }

    fn due(&self, elapsed_ns: u64) -> Timestamp {
        let Some(rate) = self.rate else {
            return self.anchor;
        };
        let scaled = (u128::from(elapsed_ns.saturating_sub(self.anchor_ns)) * UNIT).div_ceil(rate);
        Timestamp(self.anchor.nanos().saturating_add(u64::try_from(scaled).unwrap_or(u64::MAX)))
    }

    /// How far the recording is at `now`.
    fn position(&self, now: Timestamp) -> u64 {
        match (self.state, self.rate) {
            (State::Paused(_), _) => self.anchor_ns,
            (State::Running, None) => self.reached_ns,
            (State::Running, Some(rate)) => {
                let passed = now.since(self.anchor).as_nanos() * rate / UNIT;
                self.anchor_ns.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
            }
        }
    }
}

/// Of a speed that has been checked.
fn rate(speed: Speed) -> Option<u128> {
    match speed {
        Speed::Times(times) => Some(((times * UNIT as f64).round() as u128).max(1)),
        Speed::Max => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pace(speed: Speed, start: u64) -> Pace {
        let mut pace = Pace::new(speed).unwrap();
        pace.begin(Timestamp(start));
        pace
    }

    #[test]
    fn speeds_scale_time() {
        let due = |speed, elapsed| pace(speed, 100).due(elapsed).nanos();
        assert_eq!(due(Speed::Times(1.0), 1_582_329_603_502_092_001), 1_582_329_603_502_092_101);
        assert_eq!(due(Speed::Times(2.0), 11), 106);
        assert_eq!(due(Speed::Times(0.5), 11), 122);
        assert_eq!(due(Speed::Max, 11), 100);
        assert_eq!(due(Speed::Times(Speed::TIMES_MIN), u64::MAX), u64::MAX);
        for speed in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
            assert!(Pace::new(Speed::Times(speed)).is_err());
        }
    }

    #[test]
    fn a_pause_takes_no_time_and_a_step_lets_as_many_pass() {
        let mut pace = pace(Speed::Times(1.0), 1000);
        assert_eq!(pace.gate(Timestamp(1000), 50), Gate::At(Timestamp(1050)));
        pace.control(Timestamp(1030), ReplayCommand::Pause).unwrap();
        assert_eq!(pace.gate(Timestamp(9000), 50), Gate::Held);
        pace.control(Timestamp(9000), ReplayCommand::Step(2)).unwrap();
        for elapsed in [50, 60] {
            assert_eq!(pace.gate(Timestamp(9000), elapsed), Gate::Open);
            pace.passed(elapsed);
        }
        assert_eq!(pace.gate(Timestamp(9000), 60), Gate::Held);
        pace.control(Timestamp(20_000), ReplayCommand::Resume).unwrap();
        assert_eq!(pace.gate(Timestamp(20_000), 75), Gate::At(Timestamp(20_015)));
        pace.control(Timestamp(20_005), ReplayCommand::Speed(Speed::Times(2.0))).unwrap();
        assert_eq!(pace.gate(Timestamp(20_005), 75), Gate::At(Timestamp(20_010)));
        pace.control(Timestamp(20_005), ReplayCommand::Speed(Speed::Max)).unwrap();
        assert_eq!(pace.gate(Timestamp(20_005), 75), Gate::Open);
        assert!(pace.control(Timestamp(20_005), ReplayCommand::Speed(Speed::Times(0.0))).is_err());
    }

    proptest! {
        #[test]
        fn later_ticks_are_not_due_earlier(
            speed in Speed::TIMES_MIN..Speed::TIMES_MAX, a in any::<u64>(), b in any::<u64>(), start in any::<u64>(),
        ) {
            let pace = pace(Speed::Times(speed), start);
            let (a, b) = (a.min(b), a.max(b));
            prop_assert!(pace.due(a) <= pace.due(b));
            prop_assert!(pace.due(a) >= Timestamp(start));
        }
    }
}
