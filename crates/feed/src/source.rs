//! The trait of all feeds.
//!
//! **Invariant:** a feed hands over each tick exactly once, in the order in which it is to be sequenced.

use market::{ChannelSet, Instrument, Numbered, Tick, Timestamp};

use crate::{InvalidOption, Speed};

/// A source of normalised ticks.
///
/// The caller starts it once and then polls it. A feed that paces itself (the simulator, a replay at recorded pace) hands
/// over what is due at `now` and says when the next tick is due; a feed without a pace (replay at `max`) is always due.
pub trait Feed: Send {
    /// All instruments known so far; the index of each is its id. The list only ever grows, and an instrument is in it
    /// before [`Feed::poll`] hands over its first tick.
    fn instruments(&self) -> &[Instrument];

    /// Sets the instant at which the session begins. Called once, before the first poll.
    fn start(&mut self, now: Timestamp);

    /// Appends ticks that are due at `now` to `out`, at most about `ticks_max` of them. `now` never goes back.
    ///
    /// # Errors
    /// [`FeedError`] when the source is broken for good. What stands in `out` is valid; the feed is not polled again.
    fn poll(&mut self, now: Timestamp, ticks_max: usize, out: &mut Vec<Tick>) -> Result<Progress, FeedError>;

    /// The market's time at `now` where it runs on by itself, also while nothing happens: everything up to then has been
    /// handed over once [`Feed::poll`] is idle. None where only ticks tell the time, as in a recording.
    fn market_time(&self, now: Timestamp) -> Option<Timestamp> {
        let _ = now;
        None
    }

    /// Records that were refused and skipped so far.
    fn bad_records(&self) -> u64 {
        0
    }

    /// What went wrong with the books so far.
    fn book_troubles(&self) -> BookTroubles {
        BookTroubles::default()
    }

    /// The first mistake of the source since the last call that did not end it, in words: where, what, and what became of
    /// it. The others are only counted.
    fn take_report(&mut self) -> Option<String> {
        None
    }

    /// The run of numbers that the feed's elements have from where they come, if they have; see [`Feed::brought`].
    fn epoch(&self) -> Option<&str> {
        None
    }

    /// The channels whose elements come as a sequencer has made and numbered them, so that none of these is to be derived.
    /// Their numbers follow each other, except where [`Feed::take_state`] says so.
    fn brought(&self) -> ChannelSet {
        ChannelSet::EMPTY
    }

    /// The state of all streams, where the next tick does not follow on the one before. To be asked before the first poll and
    /// after each; ticks of that poll are from before it.
    fn take_state(&mut self) -> Vec<Numbered> {
        Vec::new()
    }

    /// Carries out an operator's command. The feed is to be polled again afterwards, whatever it has said before.
    ///
    /// # Errors
    /// [`ControlError`] when it cannot be done; nothing has changed then.
    fn control(&mut self, now: Timestamp, command: ReplayCommand) -> Result<ReplayStatus, ControlError> {
        let _ = (now, command);
        Err(ControlError::NotAReplay)
    }
}

/// Books that contradicted themselves. Nothing is known of such a book until its next snapshot, and everybody is told so
/// by an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BookTroubles {
    /// Changes that made no sense
    pub refused: u64,
    /// Books of which nothing is known now for that reason
    pub stale: u64,
}

/// What an operator wants of a replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReplayCommand {
    /// Nothing but to know how it stands
    Status,
    /// No more ticks
    Pause,
    /// On from where it was paused
    Resume,
    /// That many ticks and then none, paused
    Step(u64),
    /// Another speed from here on
    Speed(Speed),
}

/// How a replay stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReplayStatus {
    /// Whether it is paused
    pub paused: bool,
    /// How fast it is when it is not
    pub speed: Speed,
    /// The recording's time that it has reached; none before the first tick
    pub time: Option<Timestamp>,
}

/// A command that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Only a replay can be paused.
    #[error("the feed is not a replay of a recording")]
    NotAReplay,
    /// It is over.
    #[error("the feed is over")]
    Over,
    /// A speed that is none.
    #[error(transparent)]
    Option(#[from] InvalidOption),
}

/// What a poll came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More is due already; poll again.
    Ready,
    /// Nothing more is due before that instant.
    Idle {
        /// When the next tick is due
        until: Timestamp,
    },
    /// Nothing follows before an operator says so, see [`Feed::control`].
    Held,
    /// The feed has come to its end; nothing follows.
    Ended,
}

/// A feed that cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The source cannot be opened or read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// Which file
        path: String,
        /// Why
        reason: String,
    },
    /// The source is not of a kind that can be replayed.
    #[error("{path} is not a recording that can be replayed: {reason}")]
    Unsupported {
        /// Which file
        path: String,
        /// What it is and what would be right
        reason: String,
    },
    /// One record is broken.
    #[error("{path}, {position}: {reason}")]
    BadRecord {
        /// Which file
        path: String,
        /// `line 17` or `record 17`, counted from 1 (a CSV's header is line 1)
        position: String,
        /// What is wrong with it
        reason: String,
    },
    /// The source was asked for in a way that makes no sense.
    #[error("{0}")]
    Options(String),
}
