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
//! The README shows a whole connection, from the request to the close.
//!
//! # Compression
//!
//! [`deflate::negotiate`] settles the parameters of permessage-deflate, and a [`Reader`] that is given them inflates by
//! itself. On the way out nothing is compressed unasked: a message that is compressed by a [`deflate::Compressor`] goes out
//! behind a header that says so, and any message may go out as it is. A compressor belongs to no connection:
//!
//! ```
//! use websocket::deflate::Compressor;
//! use websocket::frame::{Compressed, OpCode, header};
//!
//! let mut compressor = Compressor::new(1, 15);
//! let mut sockets = vec![Vec::new(); 3]; // All were there at the last reset, and have missed nothing since.
//! for message in ["a quote of BTC-USD: 96885.10", "a quote of BTC-USD: 96885.20"] {
//!     let mut payload = Vec::new();
//!     compressor.compress(message.as_bytes(), &mut payload);
//!     let header = header(OpCode::Text, Compressed::Yes, payload.len());
//!     for socket in &mut sockets {
//!         socket.extend_from_slice(&header);
//!         socket.extend_from_slice(&payload);
//!     }
//! }
//! compressor.reset(); // From here on, connections that have come meanwhile can be among them.
//! ```
//!
//! # Limits
//!
//! [`ReaderConfig`] bounds a message's bytes (as sent and as inflated), its fragments and its kinds. A connection on which
//! nothing is on its way owns no heap memory; a message costs in proportion to what has come of it.
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

/// The examples of the README are tests, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use deflate::Inflater;
pub use reader::{Incoming, MessageKinds, Reader, ReaderConfig, Violation};
