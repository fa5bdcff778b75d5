//! The server's side of WebSocket without input or output: hand-shake, frames, reading, permessage-deflate.
//!
//! Bytes come in as slices and go out as values; whoever owns the socket performs. The pieces, in the order in which a
//! connection meets them:
//!
//! 1. [`handshake::check`] judges an upgrade request (RFC 6455 section 4) and says either what to answer it with or how to
//!    refuse it; [`handshake::select_subprotocol`], [`origin::OriginList`] and [`deflate::negotiate`] settle the rest.
//! 2. [`Reader::feed`] takes whatever the socket yielded and calls back for every complete message, until the peer closes
//!    or breaks a rule; a [`Violation`] carries the close code to answer with.
//! 3. [`frame`] builds what the server sends: headers to be put before shared payloads, and whole control frames.
//!
//! ```
//! use websocket::{Incoming, Inflater, Reader, ReaderConfig, frame};
//!
//! let mut inflater = Inflater::new(); // One per thread serves all its connections.
//! let mut reader = Reader::new(ReaderConfig::default(), None);
//! let mut replies = Vec::new();
//! let masked_ping = [0x89, 0x82, 0x01, 0x02, 0x03, 0x04, b'h' ^ 0x01, b'i' ^ 0x02];
//! reader.feed(&masked_ping, &mut inflater, &mut |incoming| {
//!     if let Incoming::Ping(payload) = incoming {
//!         replies.extend_from_slice(&frame::pong_frame(payload));
//!     }
//! })?;
//! assert_eq!(replies, b"\x8a\x02hi");
//! # Ok::<(), websocket::Violation>(())
//! ```
//!
//! **Invariant:** nothing here opens a socket, spawns a task, reads a clock or answers the peer by itself, and no input
//! from a peer panics or makes more memory than the configured limits allow.
//!
//! What is *not* here: the client's side, TLS, HTTP parsing, time limits (the caller owns the clock), and what the
//! messages mean.

mod assembler;
pub mod close_code;
pub mod deflate;
mod extension;
pub mod frame;
pub mod handshake;
mod header;
pub mod origin;
mod reader;

pub use deflate::Inflater;
pub use reader::{Incoming, MessageKinds, Reader, ReaderConfig, Violation};
