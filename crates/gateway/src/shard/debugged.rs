//! Sessions that operators look at closely: what each does is logged for a while.
//!
//! **Invariant:** it costs nothing while nobody looks. At most [`DEBUGGED_MAX`] sessions of a shard are looked at, each for a
//! bounded time and with at most [`LINES_PER_S`] lines a second; of a command what is logged is what its `Debug` text has,
//! which leaves secrets out.

use std::fmt::{self, Write as _};
use std::time::Duration;

use hub::{Disconnect, Now, SessionId, SessionKey, Shard};
use wire::Encoding;

/// Sessions of a shard that are looked at at a time.
const DEBUGGED_MAX: usize = 8;
/// Lines about one session in a second; what is left out is counted in the line that comes each second anyway.
const LINES_PER_S: u32 = 50;
/// Of a command, in bytes.
const COMMAND_BYTES_MAX: usize = 300;

/// So many are looked at already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{DEBUGGED_MAX} sessions beside it are debugged already; end one with seconds=0")]
pub(crate) struct TooManyDebugged;

/// See the module.
#[derive(Debug)]
pub(super) struct Debugged {
    shard: usize,
    looked_at: Vec<LookedAt>,
}

#[derive(Debug)]
struct LookedAt {
    key: SessionKey,
    until: Duration,
    /// Lines that may still be written in this second
    lines: u32,
    left_out: u32,
    bytes_received: u64,
}

impl Debugged {
    pub(super) fn new(shard: usize) -> Self {
        Self { shard, looked_at: Vec::new() }
    }

    /// Looks at a session for so long from now on; zero ends it.
    pub(super) fn set(&mut self, now: Now, key: SessionKey, lasts: Duration) -> Result<(), TooManyDebugged> {
        let until = now.monotonic + lasts;
        let session = self.id(key);
        if lasts.is_zero() {
            self.looked_at.retain(|other| other.key != key);
            tracing::info!(target: "session", %session, "what the session does is not logged any more");
            return Ok(());
        }
        if let Some(known) = self.looked_at.iter_mut().find(|other| other.key == key) {
            known.until = until;
            return Ok(());
        }
        if self.looked_at.len() >= DEBUGGED_MAX {
            return Err(TooManyDebugged);
        }
        let looked_at = LookedAt { key, until, lines: LINES_PER_S, left_out: 0, bytes_received: 0 };
        self.looked_at.push(looked_at);
        tracing::info!(target: "session", %session, seconds = lasts.as_secs(), "what the session does is logged");
        Ok(())
    }

    /// How much longer the session is looked at, if it is.
    pub(super) fn left(&self, now: Now, key: SessionKey) -> Option<Duration> {
        let found = self.looked_at.iter().find(|other| other.key == key)?;
        Some(found.until.saturating_sub(now.monotonic))
    }

    /// A client has sent that many bytes.
    pub(super) fn received(&mut self, key: SessionKey, bytes: usize) {
        if let Some(found) = self.looked_at.iter_mut().find(|other| other.key == key) {
            found.bytes_received += bytes as u64;
        }
    }

    /// A client has sent a command.
    pub(super) fn command(&mut self, key: SessionKey, encoding: Encoding, payload: &[u8]) {
        let session = self.id(key);
        let Some(found) = self.looked_at.iter_mut().find(|other| other.key == key) else { return };
        if found.lines == 0 {
            found.left_out += 1;
            return;
        }
        found.lines -= 1;
        let bytes = payload.len();
        match wire::parse_command(encoding, payload) {
            Ok(envelope) => {
                let command = Cut::of(&envelope.command);
                tracing::info!(target: "session", %session, ?encoding, bytes, %command, "a command");
            }
            // The message repeats what the client wrote, which may be a secret at the wrong place.
            Err(error) => {
                tracing::info!(target: "session", %session, ?encoding, bytes, code = error.code.name(), "a bad command");
            }
        }
    }

    /// A session has come to its end.
    pub(super) fn ended(&mut self, key: SessionKey, reason: &Disconnect) {
        let session = self.id(key);
        tracing::debug!(%session, reason = reason.label(), "a session has ended");
        let before = self.looked_at.len();
        self.looked_at.retain(|other| other.key != key);
        if self.looked_at.len() < before {
            tracing::info!(target: "session", %session, reason = reason.label(), "the session has ended");
        }
    }

    /// Says how each one is doing; to be called once a second.
    pub(super) fn report(&mut self, now: Now, hub: &Shard) {
        for LookedAt { key, lines, left_out, bytes_received, .. } in &mut self.looked_at {
            *lines = LINES_PER_S;
            let Some(report) = hub.inspect(now, *key) else { continue };
            tracing::info!(
                target: "session",
                session = %hub.session_id(*key),
                delivered = report.delivered,
                dropped = report.dropped,
                gaps = report.gaps,
                bytes_sent = report.bytes,
                bytes_received = *bytes_received,
                outbox_bytes = report.outbox_bytes,
                lag_ms = report.lag.as_millis() as u64,
                stalled = report.stalled,
                subscriptions = report.subscriptions,
                left_out = std::mem::take(left_out),
                "the session"
            );
        }
        self.looked_at.retain(|looked_at| {
            let goes_on = looked_at.until > now.monotonic;
            if !goes_on {
                let session = hub.session_id(looked_at.key);
                tracing::info!(target: "session", %session, "what the session does is not logged any more");
            }
            goes_on
        });
    }

    pub(super) fn id(&self, key: SessionKey) -> SessionId {
        SessionId { shard: self.shard, key }
    }
}

/// The beginning of a text; the rest is not even made.
struct Cut(String);

impl Cut {
    fn of(value: &impl fmt::Debug) -> Self {
        let mut cut = Self(String::new());
        if write!(cut, "{value:?}").is_err() {
            cut.0.push_str("...");
        }
        cut
    }
}

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > COMMAND_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::Timestamp;

    fn at(seconds: u64) -> Now {
        Now { monotonic: Duration::from_secs(seconds), wall: Timestamp(0) }
    }

    fn key(index: u32) -> SessionKey {
        SessionKey { index, generation: 0 }
    }

    #[test]
    fn few_are_looked_at_and_not_for_ever() {
        let mut debugged = Debugged::new(0);
        for index in 0..DEBUGGED_MAX as u32 {
            assert_eq!(debugged.set(at(0), key(index), Duration::from_secs(10)), Ok(()));
        }
        assert_eq!(debugged.set(at(0), key(99), Duration::from_secs(10)), Err(TooManyDebugged));
        assert_eq!(debugged.set(at(1), key(0), Duration::from_secs(10)), Ok(()));
        assert_eq!(debugged.left(at(1), key(0)), Some(Duration::from_secs(10)));
        assert_eq!(debugged.set(at(1), key(3), Duration::ZERO), Ok(()));
        assert_eq!(debugged.set(at(1), key(99), Duration::from_secs(1)), Ok(()));
        let hub = Shard::new(hub::ShardConfig::default());
        debugged.report(at(10), &hub);
        let left: Vec<u32> = debugged.looked_at.iter().map(|looked_at| looked_at.key.index).collect();
        assert_eq!(left, [0]);
    }

    #[test]
    fn a_flood_of_commands_is_cut_short() {
        let mut debugged = Debugged::new(0);
        debugged.set(at(0), key(0), Duration::from_secs(10)).unwrap();
        for _ in 0..LINES_PER_S + 7 {
            debugged.command(key(0), Encoding::Json, br#"{"op":"ping"}"#);
        }
        assert_eq!((debugged.looked_at[0].lines, debugged.looked_at[0].left_out), (0, 7));
        let cut = Cut::of(&vec!["AAAAAAAAA"; 10_000]).0;
        assert!(cut.len() <= COMMAND_BYTES_MAX + 3 && cut.ends_with("..."));
    }
}
