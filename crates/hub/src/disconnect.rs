//! Why a session ends, what the client is told, and whether it may come back: the one table.
//!
//! **Invariant:** every end of a session has exactly one reason, and that reason is its metric label.

use std::borrow::Cow;

/// The reason for which a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnect {
    /// The client closed with a close frame.
    PeerClosed,
    /// The connection ended or was reset without a close frame.
    Lost,
    /// Several pings in a row were not answered.
    PingTimeout,
    /// The client broke RFC 6455 or RFC 7692.
    Protocol {
        /// 1002, 1003 or 1007
        code: u16,
        /// What it did
        reason: String,
    },
    /// A message was longer than the limit.
    MessageTooBig,
    /// The client went on sending commands after it was told that it was rate limited.
    Flood,
    /// The client did not read what it had subscribed to.
    SlowConsumer,
    /// The client went on trying tokens that are not good.
    AuthFailed,
    /// The client did not authenticate in time.
    AuthTimeout,
    /// The token with which it authenticated has expired.
    TokenExpired,
    /// The key with which it authenticated was revoked.
    TokenRevoked,
    /// The server is being drained.
    Draining,
    /// The server stops at once.
    ShuttingDown,
    /// Another connection took the session's place.
    Replaced,
    /// The key that it presented has all the connections it may have.
    TooManyConnections,
    /// An operator has closed it.
    ClosedByOperator,
    /// The server has no room.
    OverCapacity,
    /// A fault of the server.
    Internal,
}

impl Disconnect {
    /// The close code that the client is sent; none where no close frame can reach it or its own is answered.
    pub fn close_code(&self) -> Option<u16> {
        Some(match self {
            Self::PeerClosed | Self::Lost => return None,
            Self::Protocol { code, .. } => *code,
            Self::MessageTooBig => 1009,
            Self::PingTimeout | Self::ClosedByOperator => 1008,
            Self::Flood => 4429,
            Self::SlowConsumer => 4408,
            Self::AuthFailed | Self::AuthTimeout | Self::TokenExpired | Self::TokenRevoked => 4401,
            Self::Draining => 1012,
            Self::ShuttingDown => 1001,
            Self::Replaced | Self::TooManyConnections => 4409,
            Self::OverCapacity => 1013,
            Self::Internal => 1011,
        })
    }

    /// The text beside the close code.
    pub fn text(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::PeerClosed | Self::Lost => "",
            Self::PingTimeout => "pings were not answered (pings_unanswered_max)",
            Self::Protocol { reason, .. } => return Cow::Owned(reason.clone()),
            Self::MessageTooBig => "the message is longer than message_bytes_max",
            Self::Flood => "went on after rate_limited",
            Self::SlowConsumer => "the client reads too slowly (outbox_bytes_max, stall_timeout_ms)",
            Self::AuthFailed => "authentication failed",
            Self::AuthTimeout => "no authentication in time (auth_timeout_ms)",
            Self::TokenExpired => "the token has expired",
            Self::TokenRevoked => "the key was revoked",
            Self::Draining => "the server is draining, reconnect",
            Self::ShuttingDown => "the server is shutting down",
            Self::Replaced => "replaced by another connection",
            Self::TooManyConnections => "too many connections of this key (connections_per_key)",
            Self::ClosedByOperator => "closed by an operator",
            Self::OverCapacity => "over capacity, try later",
            Self::Internal => "internal error",
        })
    }

    /// Whether a client does right to reconnect by itself.
    pub fn may_reconnect(&self) -> bool {
        match self {
            Self::Protocol { .. }
            | Self::MessageTooBig
            | Self::AuthFailed
            | Self::AuthTimeout
            | Self::TokenExpired
            | Self::TokenRevoked
            | Self::Replaced
            | Self::ClosedByOperator => false,
            Self::PeerClosed
            | Self::Lost
            | Self::PingTimeout
            | Self::Flood
            | Self::SlowConsumer
            | Self::Draining
            | Self::ShuttingDown
            | Self::TooManyConnections
            | Self::OverCapacity
            | Self::Internal => true,
        }
    }

    /// The value of the metric label `reason`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::Lost => "lost",
            Self::PingTimeout => "ping_timeout",
            Self::Protocol { .. } => "protocol",
            Self::MessageTooBig => "message_too_big",
            Self::Flood => "rate_limit",
            Self::SlowConsumer => "slow_consumer",
            Self::AuthFailed => "auth_failed",
            Self::AuthTimeout => "auth_timeout",
            Self::TokenExpired => "token_expired",
            Self::TokenRevoked => "token_revoked",
            Self::Draining => "draining",
            Self::ShuttingDown => "shutting_down",
            Self::Replaced => "replaced",
            Self::TooManyConnections => "too_many_connections",
            Self::ClosedByOperator => "closed_by_operator",
            Self::OverCapacity => "over_capacity",
            Self::Internal => "internal",
        }
    }
}
