//! Whether a session got what it was owed: one number per (instrument, channel), and what its course reveals.
//!
//! **Invariant:** every number between two elements of a session is accounted for exactly once: received, declared as
//! a gap, skipped by the choice of mode `latest`, or missing.
//!
//! Not here: parsing (`data`); what the sum of it means for the exit code (`report`).

use market::{Channel, ChannelSet};

use wire::FrameKind as Kind;
use wire::decode::{ElementHead as Element, What};

/// The most (instrument, channel) numbers that one session keeps, 8 bytes each: 10,000 instruments x 15 channels is
/// 150,000. An instrument id beyond it is counted as a violation instead of allocating for it.
const NUMBERS_MAX: usize = 1 << 20;

/// What a session asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// Every number, or a declared gap
    Every,
    /// Rising numbers
    Latest,
}

/// Where a sequence may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// At 1, or behind a snapshot
    Snapshot,
    /// Anywhere: no snapshot was asked for
    Anywhere,
}

/// What was found, over all sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Findings {
    /// Numbers that never came and that no gap declared
    pub(crate) missing: u64,
    /// Elements whose number is the one of the element before
    pub(crate) duplicates: u64,
    /// Elements whose number is smaller than the one before
    pub(crate) out_of_order: u64,
    /// Elements of a channel that was not asked for, or of an impossible instrument
    pub(crate) unasked: u64,
    /// Gap elements
    pub(crate) gaps: u64,
    /// Numbers that gap elements declared
    pub(crate) declared: u64,
    /// Gap elements that begin before or end after what is really missing
    pub(crate) gaps_wrong: u64,
    /// Numbers that mode `latest` passed over
    pub(crate) skipped: u64,
    /// Book checksums that were computed again, and those that differed
    pub(crate) checksums: u64,
    pub(crate) checksums_wrong: u64,
}

impl Findings {
    /// Adds what was found elsewhere.
    pub(crate) fn add(&mut self, other: &Self) {
        self.missing += other.missing;
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        self.unasked += other.unasked;
        self.gaps += other.gaps;
        self.declared += other.declared;
        self.gaps_wrong += other.gaps_wrong;
        self.skipped += other.skipped;
        self.checksums += other.checksums;
        self.checksums_wrong += other.checksums_wrong;
    }

    /// How many elements were lost, whether or not that was declared.
    pub(crate) fn lost(&self) -> u64 {
        self.missing + self.declared
    }

    /// Whether something happened that the protocol does not allow.
    pub(crate) fn is_violation(&self) -> bool {
        self.missing + self.duplicates + self.out_of_order + self.unasked + self.gaps_wrong + self.checksums_wrong > 0
    }
}

/// The last number of each (instrument, channel) of one session.
#[derive(Debug)]
pub(crate) struct Sequences {
    expectation: Expectation,
    start: Start,
    channels: ChannelSet,
    /// `instrument x channels + place of the channel`; 0 before the first
    last: Vec<u64>,
}

impl Sequences {
    pub(crate) fn new(expectation: Expectation, start: Start, channels: ChannelSet) -> Self {
        Self { expectation, start, channels, last: Vec::new() }
    }

    /// Takes the next element of the session.
    pub(crate) fn take(&mut self, kind: Kind, element: Element, findings: &mut Findings) {
        let (expectation, start) = (self.expectation, self.start);
        let Some(last) = self.last_mut(element.instrument, element.channel) else {
            findings.unasked += 1;
            return;
        };
        match (element.what, kind) {
            (What::Gap { from_seq, to_seq }, _) => {
                findings.gaps += 1;
                if *last == 0 && start == Start::Anywhere {
                    *last = from_seq.saturating_sub(1);
                }
                if expectation == Expectation::Latest
                    || from_seq != *last + 1
                    || to_seq < from_seq
                    || element.seq != to_seq
                {
                    findings.gaps_wrong += 1;
                }
                findings.declared += (to_seq + 1).saturating_sub(from_seq.max(*last + 1));
                findings.missing += from_seq.saturating_sub(*last + 1);
                *last = (*last).max(to_seq);
            }
            // State repeats a number by its nature. The first state of all says nothing about earlier numbers.
            (_, Kind::Snapshot) => {
                if element.seq < *last {
                    findings.out_of_order += 1;
                } else if *last != 0 {
                    match expectation {
                        Expectation::Every => findings.missing += element.seq - *last,
                        Expectation::Latest => findings.skipped += element.seq - *last,
                    }
                }
                *last = element.seq;
            }
            (_, Kind::Live) => match element.seq.checked_sub(*last) {
                None => findings.out_of_order += 1,
                Some(0) => findings.duplicates += 1,
                Some(_) if *last == 0 && start == Start::Anywhere => *last = element.seq,
                Some(step) => {
                    match expectation {
                        Expectation::Every => findings.missing += step - 1,
                        Expectation::Latest => findings.skipped += step - 1,
                    }
                    *last = element.seq;
                }
            },
        }
    }

    /// Forgets an instrument's numbers: the next one may be any, as after a new subscription.
    pub(crate) fn forget(&mut self, instrument: u32) {
        for channel in self.channels.iter() {
            if let Some(last) = self.last_mut(instrument, channel) {
                *last = 0;
            }
        }
    }

    fn last_mut(&mut self, instrument: u32, channel: Channel) -> Option<&mut u64> {
        if !self.channels.contains(channel) {
            return None;
        }
        let below = self.channels.bits() & ((1 << channel.index()) - 1);
        let width = self.channels.bits().count_ones() as usize;
        let index = instrument as usize * width + below.count_ones() as usize;
        if index >= self.last.len() {
            if index >= NUMBERS_MAX {
                return None;
            }
            self.last.resize((index + 1).next_power_of_two().max(64), 0);
        }
        Some(&mut self.last[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(seq: u64) -> Element {
        Element { channel: Channel::Trades, instrument: 3, seq, time: 0, what: What::Value }
    }

    fn gap(from_seq: u64, to_seq: u64) -> Element {
        Element { what: What::Gap { from_seq, to_seq }, ..value(to_seq) }
    }

    fn check(expectation: Expectation, course: &[(Kind, Element)], want: Findings) {
        let mut sequences =
            Sequences::new(expectation, Start::Snapshot, [Channel::Trades, Channel::Quotes].into_iter().collect());
        let mut findings = Findings::default();
        for (kind, element) in course {
            sequences.take(*kind, *element, &mut findings);
        }
        assert_eq!(findings, want, "{course:?}");
    }

    #[test]
    fn mode_every_accounts_for_each_number() {
        use Kind::{Live, Snapshot};
        let every = |course: &[_], want| check(Expectation::Every, course, want);
        let none = Findings::default();
        every(&[(Live, value(1)), (Live, value(2))], none);
        every(&[(Snapshot, value(7)), (Live, value(8))], none);
        every(&[(Live, value(3))], Findings { missing: 2, ..none });
        every(&[(Snapshot, value(7)), (Live, value(9))], Findings { missing: 1, ..none });
        every(&[(Snapshot, value(7)), (Live, value(7))], Findings { duplicates: 1, ..none });
        every(&[(Snapshot, value(7)), (Live, value(6)), (Live, value(8))], Findings { out_of_order: 1, ..none });
        every(&[(Snapshot, value(7)), (Snapshot, value(9))], Findings { missing: 2, ..none });
        every(
            &[(Snapshot, value(7)), (Live, gap(8, 11)), (Live, value(12))],
            Findings { gaps: 1, declared: 4, ..none },
        );
        every(
            &[(Snapshot, value(7)), (Live, gap(9, 11)), (Live, value(12))],
            Findings { gaps: 1, declared: 3, missing: 1, gaps_wrong: 1, ..none },
        );
        every(
            &[(Snapshot, value(7)), (Live, gap(8, 9)), (Snapshot, value(9)), (Live, value(10))],
            Findings { gaps: 1, declared: 2, ..none },
        );
    }

    #[test]
    fn mode_latest_skips_but_never_goes_back() {
        let none = Findings::default();
        let latest = |course: &[_], want| check(Expectation::Latest, course, want);
        latest(&[(Kind::Snapshot, value(7)), (Kind::Live, value(12))], Findings { skipped: 4, ..none });
        latest(&[(Kind::Live, value(1)), (Kind::Live, value(1))], Findings { duplicates: 1, ..none });
        latest(
            &[(Kind::Live, value(1)), (Kind::Live, gap(2, 2))],
            Findings { gaps: 1, declared: 1, gaps_wrong: 1, ..none },
        );
    }

    #[test]
    fn what_was_not_asked_for_is_found() {
        let status = Element { channel: Channel::Status, ..value(1) };
        let far = Element { instrument: u32::MAX, ..value(1) };
        check(
            Expectation::Every,
            &[(Kind::Live, status), (Kind::Live, far)],
            Findings { unasked: 2, ..Findings::default() },
        );
    }
}
