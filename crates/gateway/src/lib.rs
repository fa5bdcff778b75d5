//! The gateway: the shell that gives the hub its threads, sockets, clock and queues, and serves the plain HTTP side.
//!
//! ```text
//! accept (tokio, the caller's thread) --upgrade--> shard 0..n (a thread, a reactor and one task each)
//!    |  REST, dashboard, metrics                      ^ |
//!    |                                     batches,   | | requests
//!    +------------- questions ------------> sequencer (a thread, no reactor) <- feed
//! ```
//!
//! **Invariant:** nothing is decided here about market data or sessions; the gateway moves bytes, time and queues, and
//! every queue has a bound. No lock is held across an `.await` or a call into the hub.
//!
//! What is *not* here: the WebSocket rules (`websocket`), commands and elements (`wire`), subscriptions, lanes and
//! outboxes (`hub`), and where ticks come from (`feed`).

mod accept;
mod admin;
mod admission;
mod assets;
mod auth;
mod clock;
mod config;
mod connection;
mod error;
mod gateway;
mod headless;
mod history;
mod http_policy;
pub mod metrics;
mod overload;
mod recorder;
mod rest;
mod sequencer;
mod shard;
mod state;
mod stream;
mod tls;
pub mod traces;
mod tuned;
mod upgrade;
mod watched;

pub use auth::{AuthConfig, AuthFiles};
pub use config::{Config, OverloadConfig, ProxyConfig};
pub use error::{GatewayError, Outcome};
pub use gateway::{Gateway, Stop};
pub use headless::record;
pub use hub::DeflateConfig;
pub use peer::{ForwardedHeader, Network};
pub use recorder::{RecordConfig, SyncPolicy};
pub use tls::TlsFiles;
pub use tuned::{Control, Tuned};
