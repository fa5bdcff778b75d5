//! Where streams left off, for the commands that subscribe them again.
//!
//! **Invariant:** a position is named only of a stream in mode `every`, and is the last number that was handed on.
//!
//! What is *not* here: the numbers themselves (`tape`), and what is subscribed (`wishes`).

use market::Channel;

use super::tape::Tape;

/// Where streams left off.
pub(super) trait Positions {
    /// The epoch; none when nothing can be resumed.
    fn epoch(&self) -> Option<&str>;
    /// The last number of a stream that can be resumed.
    fn of(&self, symbol: &str, channel: Channel) -> Option<u64>;
    /// All that can be resumed of a channel, those with a number above 0 first.
    fn of_channel(&self, channel: Channel) -> Vec<(String, u64)>;
}

/// What the tape has, of the epoch that it is of.
pub(super) struct Resumable<'a> {
    pub(super) epoch: Option<&'a str>,
    pub(super) tape: &'a Tape,
}

impl Positions for Resumable<'_> {
    fn epoch(&self) -> Option<&str> {
        self.epoch
    }

    fn of(&self, symbol: &str, channel: Channel) -> Option<u64> {
        self.tape.position(symbol, channel)
    }

    fn of_channel(&self, channel: Channel) -> Vec<(String, u64)> {
        let mut all: Vec<_> = self.tape.positions(channel).map(|(symbol, seq)| (symbol.to_owned(), seq)).collect();
        all.sort_by_key(|(_, seq)| *seq == 0);
        all
    }
}

/// Nothing is resumed: a new wish begins with the state.
pub(super) struct Anew;

impl Positions for Anew {
    fn epoch(&self) -> Option<&str> {
        None
    }

    fn of(&self, _: &str, _: Channel) -> Option<u64> {
        None
    }

    fn of_channel(&self, _: Channel) -> Vec<(String, u64)> {
        Vec::new()
    }
}
