//! The recent past of each stream: the last value, and what a resuming client may have missed.
//!
//! **Invariant:** a stream that has had a tick always keeps its newest, whatever the bounds say.
//!
//! Three things bound it: the bytes of all streams, the ticks of each, and their age ([`Expiry`]).

use std::collections::VecDeque;
use std::time::Duration;

use market::{Event, Level, Timestamp};

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
    /// The newest number at the last round of [`Expiry`]
    marked: u64,
}

/// How much of the past all streams together keep.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: usize,
    bytes_max: usize,
}

/// Forgets what is older than some time, by rounds: what was there in the round before is forgotten. So nothing is kept of
/// when each tick came, a tick lives for half of the time at least, and the work is spread over many calls.
#[derive(Debug)]
pub(crate) struct Expiry {
    /// From a round to the next, half of the greatest age; zero for none
    round: Duration,
    /// When the next round begins
    due: Duration,
    /// The next stream of this round
    at: usize,
}

/// The most streams that are visited at once: some tens of microseconds.
const VISITED_AT_ONCE_MAX: usize = 2048;

impl Expiry {
    pub(crate) fn new(age_max: Duration) -> Self {
        Self { round: age_max / 2, due: Duration::ZERO, at: 0 }
    }

    /// Goes on with the round, if one is due at `now`, of any monotonic clock.
    pub(crate) fn advance(&mut self, now: Duration, streams: &mut [Stream], budget: &mut Budget) {
        if self.round.is_zero() || now < self.due {
            return;
        }
        let mut visited = 0;
        for stream in streams.iter_mut().skip(self.at).take(VISITED_AT_ONCE_MAX) {
            stream.expire(budget);
            visited += 1;
        }
        self.at += visited;
        if visited < VISITED_AT_ONCE_MAX {
            self.at = 0;
            self.due = now + self.round;
        }
    }
}

/// The most ticks that one stream keeps, so that a busy one does not starve the others of the common budget.
const KEPT_PER_STREAM_MAX: usize = 4096;

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes: 0, bytes_max }
    }
}

impl Past {
    /// The memory it takes, about: levels of a book lie outside of it. Depths that share their levels count them each.
    fn bytes(&self) -> usize {
        const LEVELS: usize = 16;
        size_of::<Self>()
            + match &self.event {
                Event::BookSnapshot(update) | Event::BookDelta(update) => LEVELS + size_of::<Level>() * update.len(),
                _ => 0,
            }
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

    /// The newest `limit` ticks, oldest first.
    pub(crate) fn newest(&self, limit: usize) -> impl Iterator<Item = &Past> {
        self.recent.iter().skip(self.recent.len().saturating_sub(limit))
    }

    /// Numbers and keeps a tick; returns its number.
    pub(crate) fn append(&mut self, time: Timestamp, event: Event, budget: &mut Budget) -> u64 {
        let seq = self.seq() + 1;
        let past = Past { seq, time, event };
        let added = past.bytes();
        self.recent.push_back(past);
        budget.bytes += added;
        let mut freed = 0;
        while self.recent.len() > 1 && (self.recent.len() > KEPT_PER_STREAM_MAX || budget.bytes > budget.bytes_max) {
            let bytes = self.recent.pop_front().map_or(0, |past| past.bytes());
            budget.bytes -= bytes;
            freed += bytes;
            // As much out as in is enough in the steady state; a stream never gives up all its past at once.
            if freed >= added && self.recent.len() <= KEPT_PER_STREAM_MAX {
                break;
            }
        }
        seq
    }

    /// The tick of that number, if it is kept.
    pub(crate) fn at(&self, seq: u64) -> Option<&Past> {
        let first = self.recent.front()?.seq;
        self.recent.get(usize::try_from(seq.checked_sub(first)?).ok()?)
    }

    /// Forgets what was there the last time.
    fn expire(&mut self, budget: &mut Budget) {
        let newest = self.seq();
        let marked = std::mem::replace(&mut self.marked, newest);
        while self.recent.len() > 1 && self.recent.front().is_some_and(|past| past.seq <= marked) {
            budget.bytes -= self.recent.pop_front().map_or(0, |past| past.bytes());
        }
        if self.recent.len() == 1 {
            self.recent.shrink_to(1);
        }
    }

    /// Forgets the past and goes on behind a value that has the number `seq`.
    pub(crate) fn restore(&mut self, seq: u64, time: Timestamp, event: Event, budget: &mut Budget) {
        for past in self.recent.drain(..) {
            budget.bytes -= past.bytes();
        }
        let past = Past { seq, time, event };
        budget.bytes += past.bytes();
        self.recent.push_back(past);
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
    fn what_is_older_than_the_greatest_age_is_forgotten_and_nothing_younger_than_half() {
        let seconds = Duration::from_secs;
        let mut budget = Budget::new(1 << 20);
        let mut streams: Vec<Stream> = std::iter::repeat_with(Stream::default).take(5000).collect();
        let mut expiry = Expiry::new(seconds(10));
        let (quiet, busy) = (0, 4999);
        streams[quiet].append(Timestamp(0), trade(1), &mut budget);
        for second in 0..60 {
            streams[busy].append(Timestamp(second), trade(1), &mut budget);
            for _ in 0..3 {
                expiry.advance(seconds(second), &mut streams, &mut budget);
            }
            let oldest = streams[busy].recent.front().unwrap().time.0;
            assert!(second - oldest <= 10, "{oldest} at {second}");
            let youngest_forgotten = oldest.checked_sub(1);
            assert!(youngest_forgotten.is_none_or(|time| second - time >= 5), "{oldest} at {second}");
        }
        assert_eq!((streams[quiet].recent.len(), streams[quiet].seq()), (1, 1), "the newest survives");
        assert!(streams[busy].after(1).is_none() && streams[busy].after(58).is_some());
        assert_eq!(streams[busy].recent.len() as u64, 60 - streams[busy].recent[0].time.0);
        let kept: usize = streams.iter().flat_map(|stream| &stream.recent).map(Past::bytes).sum();
        assert_eq!(budget.bytes, kept);

        let mut never = Expiry::new(Duration::ZERO);
        for second in 60..100 {
            streams[busy].append(Timestamp(second), trade(1), &mut budget);
            never.advance(seconds(second), &mut streams, &mut budget);
        }
        assert!(streams[busy].recent.len() >= 40);
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
