//! Who a client is when proxies stand in between: networks that are trusted, the PROXY protocol, and the headers that
//! proxies write.
//!
//! **Invariant:** an address is believed only of who is trusted to say it. What anybody else writes, in whatever place and
//! form, changes nothing.
//!
//! What is *not* here: sockets, and which of the ways is switched on (`gateway`).

mod forwarded;
mod network;
pub mod proxy_protocol;

pub use forwarded::{ForwardedHeader, client};
pub use network::{InvalidNetwork, Network};
