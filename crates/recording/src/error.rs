//! Why a recording cannot be read.
//!
//! **Invariant:** every error says where in the file it is; the shell adds which file.

use std::io;

/// A recording, or a part of one, that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The source itself fails.
    #[error("byte {offset}: {source}")]
    Io {
        /// Where
        offset: u64,
        /// Why
        source: io::Error,
    },
    /// It does not begin as a recording does.
    #[error("it does not begin with the bytes of a recording")]
    NotARecording,
    /// It was written by a newer program.
    #[error("it is of version {0} of the format; this program reads version {max}", max = crate::VERSION)]
    Version(u16),
    /// There is not one whole block that names the session and its instruments.
    #[error("it has no whole block with a session: it broke off before anything was recorded")]
    Empty,
    /// A block is not what it was when it was written.
    #[error("the block at byte {offset} is damaged: {reason}")]
    Damaged {
        /// Where the block begins
        offset: u64,
        /// What is wrong
        reason: &'static str,
    },
}

/// Content that cannot have been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);
