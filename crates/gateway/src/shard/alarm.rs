//! An alarm clock for a shard: rings at an instant, to the precision of the kernel.
//!
//! **Invariant:** an alarm that was set rings at or after its time, until it is set anew.
//!
//! tokio's own timers round up to the next millisecond, which would make a rest of 100 us between two flushes ten times
//! as long. On Linux a timer descriptor rings on time; elsewhere tokio's timers do.

use std::time::Duration;

use crate::clock::Clock;

#[cfg(target_os = "linux")]
pub(super) use linux::Alarm;
#[cfg(not(target_os = "linux"))]
pub(super) use portable::Alarm;

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::OwnedFd;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    use super::{Clock, Duration, portable};

    /// See the module.
    pub(in super::super) enum Alarm {
        Kernel {
            timer: AsyncFd<OwnedFd>,
            due: Option<Duration>,
        },
        /// The kernel had no descriptor left.
        Tokio(portable::Alarm),
    }

    impl Alarm {
        #[allow(
            deprecated,
            reason = "the replacement is unsafe: it has the caller promise what an `OwnedFd` keeps by itself"
        )]
        pub(in super::super) fn new() -> Self {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(std::io::Error::from);
            match timer.and_then(|timer| AsyncFd::with_interest(timer, Interest::READABLE)) {
                Ok(timer) => Self::Kernel { timer, due: None },
                Err(error) => {
                    tracing::warn!(%error, "no timer of the kernel: rests are rounded up to milliseconds");
                    Self::Tokio(portable::Alarm::new())
                }
            }
        }

        /// Has the alarm ring when the clock shows `due`.
        pub(in super::super) fn set(&mut self, due: Duration, clock: &Clock) {
            match self {
                Self::Kernel { due: set, .. } if *set == Some(due) => {}
                Self::Kernel { timer, due: set } => {
                    // Zero would switch the timer off.
                    let wait = due.saturating_sub(clock.now().monotonic).max(Duration::from_nanos(1));
                    let it_value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
                    let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
                    let armed = timerfd_settime(
                        timer.get_ref(),
                        TimerfdTimerFlags::empty(),
                        &Itimerspec { it_interval, it_value },
                    );
                    // It cannot fail: descriptor, flags and times are valid. If it did, the next turn would try again.
                    *set = armed.is_ok().then_some(due);
                }
                Self::Tokio(alarm) => alarm.set(due, clock),
            }
        }

        /// Waits until the alarm rings.
        ///
        /// # Cancel safety
        /// Nothing is lost when the wait is given up: the timer stays rung until it is set anew.
        pub(in super::super) async fn rings(&mut self) {
            match self {
                Self::Kernel { timer, due } => {
                    let Ok(mut guard) = timer.readable().await else { return };
                    // Reading says that it was heard; without it the descriptor would stay readable.
                    let mut count = [0; 8];
                    let _ = guard.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut count)?));
                    *due = None;
                }
                Self::Tokio(alarm) => alarm.rings().await,
            }
        }
    }
}

mod portable {
    use std::pin::Pin;

    use tokio::time::Sleep;

    use super::{Clock, Duration};

    /// An alarm to the millisecond.
    pub(in super::super) struct Alarm(Pin<Box<Sleep>>);

    impl Alarm {
        pub(in super::super) fn new() -> Self {
            Self(Box::pin(tokio::time::sleep(Duration::ZERO)))
        }

        pub(in super::super) fn set(&mut self, due: Duration, clock: &Clock) {
            let at = clock.instant(due);
            if self.0.deadline() != at || self.0.is_elapsed() {
                self.0.as_mut().reset(at);
            }
        }

        pub(in super::super) async fn rings(&mut self) {
            self.0.as_mut().await;
        }
    }
}
