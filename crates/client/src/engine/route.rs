//! Which way to the server is taken: a WebSocket, and where something on the way refuses those, server-sent events.
//!
//! **Invariant:** a way that worked is tried first when its connection is lost; each failure of a stream of events leads
//! back to the WebSocket.

use crate::Lost;
use crate::error::Suspicion;

/// So many hand-shakes in a row that came to nothing are taken for blocked, where WebSockets have worked before.
const SUSPICIONS_MAX: u32 = 2;

/// A way to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Messages both ways
    WebSocket,
    /// Server-sent events in JSON: each wish is a request
    EventStream,
}

/// Which ways a client may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transports {
    /// A WebSocket, and server-sent events where it is blocked
    #[default]
    Both,
    /// No other
    Only(Transport),
}

#[derive(Debug)]
pub(super) struct Route {
    pub(super) transport: Transport,
    /// Why the WebSocket before this stream of events was not opened
    pub(super) blocked: Option<Lost>,
    both: bool,
    suspicions: u32,
    /// A WebSocket was open once
    worked: bool,
}

impl Route {
    pub(super) fn new(transports: Transports) -> Self {
        let (transport, both) = match transports {
            Transports::Both => (Transport::WebSocket, true),
            Transports::Only(transport) => (transport, false),
        };
        Self { transport, blocked: None, both, suspicions: 0, worked: false }
    }

    pub(super) fn is_stream(&self) -> bool {
        self.transport == Transport::EventStream
    }

    /// The session is open.
    pub(super) fn opened(&mut self) {
        self.blocked = None;
        self.suspicions = 0;
        self.worked |= self.transport == Transport::WebSocket;
    }

    /// An attempt came to nothing. Gives the reason back, unless the other way is to be tried at once.
    pub(super) fn failed(&mut self, reason: Lost) -> Option<Lost> {
        if !self.both {
            return Some(reason);
        }
        if self.is_stream() {
            self.transport = Transport::WebSocket;
            return match self.blocked.take() {
                // A stream that never will be says less than what refused the WebSocket.
                Some(blocked) if !reason.may_reconnect() => Some(blocked),
                Some(blocked) => Some(Lost::Blocked { websocket: Box::new(blocked), stream: Box::new(reason) }),
                None => Some(reason).filter(Lost::may_reconnect),
            };
        }
        let suspicion = reason.suspicion();
        self.suspicions += u32::from(suspicion != Suspicion::None);
        let enough = if self.worked { SUSPICIONS_MAX } else { 1 };
        let blocked = match suspicion {
            Suspicion::None => false,
            Suspicion::Some => self.suspicions >= enough,
            Suspicion::Certain => true,
        };
        if !blocked {
            return Some(reason);
        }
        self.transport = Transport::EventStream;
        self.blocked = Some(reason);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> Lost {
        Lost::Refused { status, body: String::new(), retry_after: None }
    }

    /// The way that is taken after failures, and whether the last of them was told.
    fn check(worked: bool, failures: &[Lost], transport: Transport, told: bool) {
        let mut route = Route::new(Transports::Both);
        if worked {
            route.opened();
        }
        let last = failures.iter().map(|failure| route.failed(failure.clone())).last();
        assert_eq!((route.transport, last.is_some_and(|told| told.is_some())), (transport, told), "{failures:?}");
    }

    #[test]
    fn refusals_and_repeated_cuts_lead_to_events_and_their_failures_back() {
        use Transport::{EventStream, WebSocket};
        for worked in [false, true] {
            check(worked, &[refused(403)], EventStream, false);
            check(worked, &[refused(403), Lost::Reset], WebSocket, true);
            check(worked, &[Lost::Network("nobody there".into())], WebSocket, true);
            for status in [401, 408, 429, 503] {
                check(worked, &[refused(status)], WebSocket, true);
            }
            for cut in [Lost::Reset, refused(502), Lost::Malformed("?".into())] {
                check(worked, std::slice::from_ref(&cut), if worked { WebSocket } else { EventStream }, worked);
                check(true, &[cut.clone(), cut], EventStream, false);
            }
        }
    }

    #[test]
    fn a_stream_that_was_open_and_never_will_be_again_may_be_a_websocket() {
        let mut route = Route::new(Transports::Both);
        assert_eq!(route.failed(refused(403)), None);
        route.opened();
        assert_eq!(route.failed(refused(404)), None);
        assert_eq!(route.transport, Transport::WebSocket);
    }

    #[test]
    fn without_the_other_way_every_failure_is_told() {
        for transport in [Transport::WebSocket, Transport::EventStream] {
            let mut route = Route::new(Transports::Only(transport));
            assert_eq!(route.failed(refused(403)), Some(refused(403)));
            assert_eq!(route.transport, transport);
        }
    }
}
