//! How the command ends: one table of failures and exit codes.
//!
//! **Invariant:** the codes are an interface; a supervisor may act on them. `--help` prints [`EXIT_CODES`].

use std::io::Write as _;
use std::process::ExitCode;

use feed::FeedError;
use gateway::GatewayError;

use crate::layers::LayerError;

/// The table for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  stopped as asked (Ctrl-C, SIGTERM), or the command has done its work
  1  anything that has no code of its own
  2  the command line, the environment or the configuration file is wrong
  3  the feed cannot be opened: a recording is missing, corrupt or of an unknown kind
  4  the address cannot be listened on, for example because the port is in use, or the file to record to cannot be created
  5  the feed failed while it was running; clients were told and disconnected
  6  a view cannot connect to the server, or the server refused what it wants
  7  a view is of a symbol that the server does not have";

/// Why the command ends without having done its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A usage error, or a request for help, which clap words and answers.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// The configuration is wrong.
    #[error(transparent)]
    Configuration(#[from] LayerError),
    /// A setting has a value that makes no sense together with others or by itself.
    #[error("{0}")]
    Setting(String),
    /// The feed cannot be opened.
    #[error("cannot open the feed: {0}")]
    FeedOpen(#[source] FeedError),
    /// The address cannot be listened on.
    #[error("{0}")]
    Listen(#[source] GatewayError),
    /// The feed failed while it was running.
    #[error("the feed failed: {0}")]
    FeedFailed(#[source] FeedError),
    /// There is no server.
    #[error("{0}")]
    Connect(#[from] tickerplant_client::ConnectError),
    /// The server does not want to.
    #[error("the server: {0}")]
    Refused(String),
    /// The server has no such instrument.
    #[error("{0}")]
    UnknownSymbol(String),
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Failure {
    /// The exit code of the table.
    pub(crate) fn code(&self) -> u8 {
        match self {
            // 0 when it was `--help` or `--version`.
            Self::Usage(error) => u8::try_from(error.exit_code()).unwrap_or(2),
            Self::Configuration(_) | Self::Setting(_) | Self::Connect(tickerplant_client::ConnectError::Url { .. }) => {
                2
            }
            Self::FeedOpen(_) => 3,
            Self::Listen(_) => 4,
            Self::FeedFailed(_) => 5,
            Self::Connect(_) | Self::Refused(_) => 6,
            Self::UnknownSymbol(_) => 7,
            Self::Other(_) => 1,
        }
    }

    /// Says what is wrong, in one line, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        // A failure to write it leaves nobody to tell.
        let _ = match self {
            Self::Usage(error) => error.print(),
            other => writeln!(std::io::stderr(), "error: {other}"),
        };
        ExitCode::from(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_table() {
        let unreadable = || FeedError::Unreadable { path: "a".into(), reason: "b".into() };
        let bind = GatewayError::Bind {
            address: std::net::SocketAddr::from(([127, 0, 0, 1], 1)),
            source: std::io::ErrorKind::AddrInUse.into(),
        };
        for (failure, code) in [
            (Failure::Other(anyhow::anyhow!("x")), 1),
            (Failure::Setting(String::new()), 2),
            (Failure::FeedOpen(unreadable()), 3),
            (Failure::Listen(bind), 4),
            (Failure::FeedFailed(unreadable()), 5),
            (Failure::Refused(String::new()), 6),
            (Failure::UnknownSymbol(String::new()), 7),
        ] {
            assert_eq!(failure.code(), code);
            assert!(EXIT_CODES.contains(&format!("\n  {code}  ")));
            assert!(!failure.to_string().contains('\n'));
        }
    }
}
