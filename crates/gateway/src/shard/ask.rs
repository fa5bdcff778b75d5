//! What operators ask of a shard and have it do.
//!
//! **Invariant:** a question is answered within a turn, and costs it no more than a bounded look: one question a turn, a
//! bounded number of sessions each. Nobody waits for the asker: an answer that nobody takes is dropped.

use std::net::IpAddr;
use std::time::Duration;

use hub::{Disconnect, Now, SessionKey, SessionReport, SessionSubscription, Shard};
use market::Timestamp;
use tokio::sync::oneshot;

use super::debugged::TooManyDebugged;
use super::sockets::Sockets;

/// See the module.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Up to `max` sessions from the index `from` on
    Page { from: u32, max: usize, which: Which, answer: oneshot::Sender<SeenPage> },
    /// Everything about one
    One { key: SessionKey, answer: oneshot::Sender<Option<(Seen, Vec<SessionSubscription>)>> },
    /// Close one. Whether there was one to close
    Close { key: SessionKey, answer: oneshot::Sender<Option<Seen>> },
    /// Log what one does for so long; zero ends that
    Debug { key: SessionKey, lasts: Duration, answer: oneshot::Sender<Option<Result<Seen, TooManyDebugged>>> },
}

/// Which sessions a page is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    /// Those for which something waits
    Behind,
}

/// A session as operators see it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) report: SessionReport,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) since: Timestamp,
    /// How much longer what it does is logged
    pub(crate) debugged: Option<Duration>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct SeenPage {
    pub(crate) sessions: Vec<Seen>,
    pub(crate) next: Option<u32>,
}

impl Ask {
    /// Does what it says. Whoever has asked may be gone.
    pub(super) fn answer(self, now: Now, hub: &mut Shard, sockets: &mut Sockets) {
        match self {
            Self::Page { from, max, which, answer } => {
                let wanted = |report: &SessionReport| which == Which::All || report.outbox_bytes > 0;
                let page = hub.page(now, from, max, wanted);
                let sessions = page.sessions.into_iter().map(|report| seen(now, report, sockets)).collect();
                let _ = answer.send(SeenPage { sessions, next: page.next });
            }
            Self::One { key, answer } => {
                let found = look(now, key, hub, sockets);
                let _ = answer.send(found.map(|found| (found, hub.subscriptions(key))));
            }
            Self::Close { key, answer } => {
                let found = look(now, key, hub, sockets);
                if found.is_some() {
                    tracing::info!(session = %hub.session_id(key), "a session is closed by an operator");
                    hub.fail(now, key, Disconnect::ClosedByOperator, sockets);
                }
                let _ = answer.send(found);
            }
            Self::Debug { key, lasts, answer } => {
                let found = look(now, key, hub, sockets).map(|_| sockets.debugged.set(now, key, lasts));
                let found = found.and_then(|set| match set {
                    Ok(()) => look(now, key, hub, sockets).map(Ok),
                    Err(error) => Some(Err(error)),
                });
                let _ = answer.send(found);
            }
        }
    }
}

fn look(now: Now, key: SessionKey, hub: &Shard, sockets: &mut Sockets) -> Option<Seen> {
    hub.inspect(now, key).map(|report| seen(now, report, sockets))
}

fn seen(now: Now, report: SessionReport, sockets: &mut Sockets) -> Seen {
    Seen {
        ip: sockets.ip(report.key),
        since: Timestamp(now.wall.nanos().saturating_sub(report.age.as_nanos() as u64)),
        debugged: sockets.debugged.left(now, report.key),
        report,
    }
}
