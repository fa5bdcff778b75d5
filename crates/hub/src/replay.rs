//! The recent past of each stream: the last value, and what a resuming client may have missed.
//!
//! **Invariant:** a stream that has had a tick always keeps its newest, whatever the bounds say.

use std::collections::VecDeque;

use market::{Event, Timestamp};

/// A sequenced tick of a stream that is known from the place it is kept in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Past {
    pub(crate) seq: u64,
    pub(crate) time: Timestamp,
    pub(crate) event: Event,
}

/// One stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    recent: VecDeque<Past>,
}

/// How much of the past all streams together keep.
#[derive(Debug)]
pub(crate) struct Budget {
    kept: usize,
    kept_max: usize,
}

/// The most ticks that one stream keeps, so that a busy one does not starve the others of the common budget.
const KEPT_PER_STREAM_MAX: usize = 4096;

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { kept: 0, kept_max: bytes_max / size_of::<Past>() }
    }
}

impl Stream {
    /// The number of the newest tick; 0 before the first.
    pub(crate) fn seq(&self) -> u64 {
        self.recent.back().map_or(0, |past| past.seq)
    }

    /// The newest tick.
    pub(crate) fn last(&self) -> Option<&Past> {
        self.recent.back()
    }

    /// Numbers and keeps a tick; returns its number.
    pub(crate) fn append(&mut self, time: Timestamp, event: Event, budget: &mut Budget) -> u64 {
        let seq = self.seq() + 1;
        self.recent.push_back(Past { seq, time, event });
        budget.kept += 1;
        while self.recent.len() > 1 && (self.recent.len() > KEPT_PER_STREAM_MAX || budget.kept > budget.kept_max) {
            self.recent.pop_front();
            budget.kept -= 1;
            // One out for one in is enough in the steady state; a stream never gives up all its past at once.
            if self.recent.len() <= KEPT_PER_STREAM_MAX {
                break;
            }
        }
        seq
    }

    /// Everything after number `seq`, or none when some of it is not kept any more.
    pub(crate) fn after(&self, seq: u64) -> Option<impl Iterator<Item = &Past>> {
        let first = self.recent.front()?.seq;
        let skip = (seq + 1).checked_sub(first)?;
        Some(self.recent.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::{Price, Side, Size, Trade};

    fn trade(price: i64) -> Event {
        Event::Trade(Trade { price: Price(price), size: Size(1), side: Side::Buy, trade_id: 0 })
    }

    #[test]
    fn resumes_only_without_a_hole() {
        let mut budget = Budget::new(10 * size_of::<Past>());
        let mut stream = Stream::default();
        assert!(stream.after(0).is_none());
        for n in 1..=25 {
            assert_eq!(stream.append(Timestamp(n), trade(n as i64), &mut budget), n);
        }
        assert!(stream.after(14).is_none());
        let seqs: Vec<u64> = stream.after(15).unwrap().map(|p| p.seq).collect();
        assert_eq!(seqs, (16..=25).collect::<Vec<_>>());
        assert_eq!(stream.after(25).unwrap().count(), 0);
    }

    #[test]
    fn the_newest_survives_an_empty_budget() {
        let mut budget = Budget::new(0);
        let (mut a, mut b) = (Stream::default(), Stream::default());
        for n in 1..=5 {
            a.append(Timestamp(n), trade(1), &mut budget);
            b.append(Timestamp(n), trade(2), &mut budget);
        }
        assert_eq!((a.recent.len(), b.recent.len(), a.seq(), b.seq()), (1, 1, 5, 5));
    }
}
