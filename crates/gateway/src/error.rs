//! How a run of the gateway ends.
//!
//! **Invariant:** what a client does is never an error here; these are faults of the set-up, the machine or the feed.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use feed::FeedError;

/// The gateway cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {}", explain(.source))]
    Bind {
        /// Which address
        address: SocketAddr,
        /// Why
        source: io::Error,
    },
    /// The file to record to cannot be created.
    #[error("cannot record to {}: {}", path.display(), explain_file(.source))]
    Record {
        /// Which file or folder
        path: PathBuf,
        /// Why
        source: io::Error,
    },
    /// An entry of the configured origins is none.
    #[error(transparent)]
    Origin(#[from] websocket::origin::InvalidOrigin),
    /// A file of keys cannot be used.
    #[error("the keys in {}: {reason}", .path.display())]
    Auth {
        /// Which file
        path: std::path::PathBuf,
        /// What is wrong
        reason: String,
    },
    /// The certificate or its key cannot be used.
    #[error("TLS, {}: {reason}", .path.display())]
    Tls {
        /// Which file
        path: PathBuf,
        /// What is wrong
        reason: String,
    },
    /// The metrics could not be set up.
    #[error("cannot set up the metrics")]
    Metrics(#[source] metrics_exporter_prometheus::BuildError),
    /// A thread or its reactor could not be started.
    #[error("cannot start {what}")]
    Start {
        /// Which part
        what: &'static str,
        /// Why
        source: io::Error,
    },
    /// A thread ended that should not have; what it said is on the standard error output.
    #[error("a thread of the gateway died, which is a fault of this program")]
    ThreadDied,
}

/// How a run came to its end.
#[derive(Debug)]
pub enum Outcome {
    /// It was stopped.
    Stopped,
    /// The feed broke; the clients were told and drained.
    FeedFailed(FeedError),
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use by another process".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted; ports below 1024 need a privilege".to_owned(),
        _ => error.to_string(),
    }
}

fn explain_file(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            "it exists already; name another file, or a folder in which each session gets a file of its own".to_owned()
        }
        _ => error.to_string(),
    }
}
