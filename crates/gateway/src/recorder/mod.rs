//! Records what the sequencer numbers, in a thread of its own.
//!
//! ```text
//! sequencer --Feeder--> queue (bounded) --> recorder's thread --> file
//! ```
//!
//! **Invariant:** the sequencer never waits for the disk. Where the queue is full, or the file cannot be written, elements are
//! left out; the file says which ([`recording::Loss`]), the state of all streams follows, and the recording goes on.
//!
//! What is *not* here: the format (`recording`).

mod config;
mod file;
mod queue;
mod thread;

pub use config::{RecordConfig, SyncPolicy};
pub(crate) use queue::{Feeder, RecorderQueue};
pub(crate) use thread::RecorderThread;
