//! Finds the ends of events that show only by what follows them.
//!
//! **Invariant:** ticks and errors come out in the order in which they were read, at most one tick later.

use std::collections::VecDeque;

use super::record::{EventEnd, RawEvent, RawTick, RecordError, Step};

/// Holds back the last tick of a group until it is known whether the group goes on.
#[derive(Default)]
pub(super) struct Groups {
    held: Option<RawTick>,
    /// What came up when the held tick had to be handed over first
    error: Option<RecordError>,
    fresh: VecDeque<RawTick>,
}

impl Groups {
    /// Reads with `read` and hands over ticks whose [`EventEnd`] is known: [`EventEnd::Open`] or [`EventEnd::Last`].
    ///
    /// # Errors
    /// [`RecordError`], as `read` had it.
    pub(super) fn read(
        &mut self,
        out: &mut VecDeque<RawTick>,
        read: impl FnOnce(&mut VecDeque<RawTick>) -> Result<Step, RecordError>,
    ) -> Result<Step, RecordError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let step = match read(&mut self.fresh) {
            Ok(step) => step,
            // Whether the group ends here, nobody knows; so it is not taken for whole.
            Err(error) => match self.release(EventEnd::Open, out) {
                Step::Record => {
                    self.error = Some(error);
                    return Ok(Step::Record);
                }
                Step::End => return Err(error),
            },
        };
        if step == Step::End {
            return Ok(self.release(EventEnd::Last, out));
        }
        while let Some(tick) = self.fresh.pop_front() {
            if let Some(held) = &self.held {
                let goes_on = group(held) == group(&tick) && held.name == tick.name;
                self.release(if goes_on { EventEnd::Open } else { EventEnd::Last }, out);
            }
            match group(&tick) {
                Some(_) => self.held = Some(tick),
                None => out.push_back(tick),
            }
        }
        Ok(Step::Record)
    }

    /// Hands over the held tick, if there is one; [`Step::End`] if not.
    fn release(&mut self, at: EventEnd, out: &mut VecDeque<RawTick>) -> Step {
        let Some(mut tick) = self.held.take() else { return Step::End };
        if let RawEvent::Book { end, .. } = &mut tick.event {
            *end = at;
        }
        out.push_back(tick);
        Step::Record
    }
}

fn group(tick: &RawTick) -> Option<u64> {
    match tick.event {
        RawEvent::Book { end: EventEnd::Within(group), .. } => Some(group),
        _ => None,
    }
}
