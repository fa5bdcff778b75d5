//! Where ticks come from: one trait for every source, and the sources.
//!
//! **Invariant:** no source reads a clock or sleeps. The caller says what time it is and is told when to come back, so a
//! source can be driven by a test, by a thread or by a simulation alike.

mod playback;
mod recording;
mod simulation;
mod source;

pub use playback::{PlaybackFeed, open_replay};
pub use recording::{InvalidOption, OnBadRecord, Rebase, RecordingFeed, Repeat, ReplayOptions, Speed, open_recordings};
pub use simulation::SimulatorFeed;
pub use source::{BookTroubles, ControlError, Feed, FeedError, Progress, ReplayCommand, ReplayStatus};
