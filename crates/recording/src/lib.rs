//! The format of recorded sessions: what the hub sequenced, as a file that survives a crash.
//!
//! ```text
//! file header | block | block | ... | block | index block | trailer
//! ```
//!
//! A block says itself what it is, how long it is, of which times and channels, and has checksums over its header and its
//! content; it can be read with nothing but the instruments, which the first block has. `docs/recording.md` has it byte for
//! byte.
//!
//! **Invariant:** a file that breaks off anywhere has lost the block in which it breaks off and nothing else; whatever the
//! bytes are, reading them ends in elements or an error, never in a panic or in memory without bound.
//!
//! What is *not* here: files, threads and clocks. The [`Encoder`] appends bytes to a vector and is told the time; the
//! [`Reader`] takes anything that can be read and sought.

mod block;
mod bytes;
mod content;
mod elements;
mod encoder;
mod error;
mod layout;
mod reader;
mod scan;
mod state;

pub use block::{BlockInfo, BlockKind};
pub use content::{Loss, LossReason, Lost, Session};
pub use encoder::{Encoder, EncoderOptions};
pub use error::ReadError;
pub use reader::{Item, Reader};
pub use scan::Tail;
pub use state::State;

/// What every recording begins with. The first byte is no text, the line ends show what a transfer as text has done.
pub const MAGIC: [u8; 8] = *b"\x89TKR\r\n\x1a\n";

/// The version of the format that is written, and the newest that can be read.
pub const VERSION: u16 = 1;
