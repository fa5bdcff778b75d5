//! What can go wrong, by who is to act on it.
//!
//! **Invariant:** a lost connection is not an error of the program: it is an event, and says whether it is made again.

use std::time::Duration;

use market::InvalidSymbol;

/// Why a connection ended or could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// Nobody listens there, the name is not known, the network failed
    #[error("{0}")]
    Network(String),
    /// The server answered, but not with an upgrade
    #[error("the server refused the connection with {status}{}{body}", if body.is_empty() { "" } else { ": " })]
    Refused {
        /// The status of HTTP
        status: u16,
        /// What the server says about it, its first line
        body: String,
        /// When to come back, if the server says
        retry_after: Option<Duration>,
    },
    /// The server closed
    #[error("the server closed the connection{}{}{reason}", code.map(|code| format!(" with {code}")).unwrap_or_default(), if reason.is_empty() { "" } else { ": " })]
    Closed {
        /// Of the close frame; none when the connection ended without one
        code: Option<u16>,
        /// In the server's words
        reason: String,
    },
    /// Nothing came for too long
    #[error("nothing came from the server for {} ms", .0.as_millis())]
    Silent(Duration),
    /// The server did not take what was sent, or did not open the session, in time
    #[error("the server did not {what} within {} ms", after.as_millis())]
    TimedOut {
        /// What it did not do
        what: &'static str,
        /// How long was waited
        after: Duration,
    },
    /// The connection was reset
    #[error("the connection was reset")]
    Reset,
    /// Neither a WebSocket nor the stream of events that takes its place could be had
    #[error("{websocket}; without it, {stream}")]
    Blocked {
        /// Why there is no WebSocket
        websocket: Box<Lost>,
        /// Why there is no stream
        stream: Box<Lost>,
    },
    /// The server does not speak the protocol
    #[error("the server sent what is not the protocol: {0}")]
    Malformed(String),
    /// The token is refused
    #[error("authentication failed: {0}")]
    Unauthenticated(String),
    /// The program closed it
    #[error("closed by this program")]
    ByCaller,
}

impl Lost {
    /// Whether it makes sense to connect again without changing anything.
    pub fn may_reconnect(&self) -> bool {
        match self {
            // 429 is a rate, 408 a time; other 4xx say that this client will never do.
            Self::Refused { status, .. } => !(400..500).contains(status) || matches!(status, 408 | 429),
            Self::Closed { code: Some(code), .. } => !matches!(code, 1002 | 1003 | 1007 | 1009 | 4401 | 4409),
            Self::Unauthenticated(_) | Self::ByCaller => false,
            Self::Blocked { stream, .. } => stream.may_reconnect(),
            _ => true,
        }
    }

    /// When a server that refused wants us back.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Blocked { stream, .. } => stream.retry_after(),
            _ => None,
        }
    }

    /// Whether something on the way refuses WebSockets, as far as the end of a hand-shake tells.
    pub(crate) fn suspicion(&self) -> Suspicion {
        match self {
            // The server's own words.
            Self::Refused { status: 401 | 408 | 429 | 503, .. } => Suspicion::None,
            // A proxy whose server is away says the same.
            Self::Refused { status: 500.., .. } => Suspicion::Some,
            Self::Refused { .. } => Suspicion::Certain,
            Self::Reset | Self::Malformed(_) | Self::TimedOut { .. } | Self::Closed { code: None, .. } => {
                Suspicion::Some
            }
            _ => Suspicion::None,
        }
    }
}

/// How sure it is that WebSockets are blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suspicion {
    None,
    Some,
    Certain,
}

/// Why [`crate::Client::connect`] failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be used
    #[error("{url:?} is not an address of a server: {reason}; it should be like ws://127.0.0.1:8080/ws")]
    Url {
        /// What was given
        url: String,
        /// What is wrong with it
        reason: String,
    },
    /// A token cannot be a header
    #[error("the token has characters that a header cannot have")]
    Token,
    /// The first attempt failed
    #[error("cannot connect to {url}: {reason}")]
    Failed {
        /// Where to
        url: String,
        /// Why
        reason: Lost,
    },
}

/// Why a request is not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No channel is named
    #[error("no channel is named; name at least one, such as trades")]
    NoChannels,
    /// No symbol is named
    #[error("no symbol is named; name at least one, or all")]
    NoSymbols,
    /// A name that no instrument can have
    #[error(transparent)]
    Symbol(#[from] InvalidSymbol),
    /// The client has ended
    #[error("the client has ended; see its last event")]
    Ended,
}
