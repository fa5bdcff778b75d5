//! Resuming from one point in everything, instead of from a number of each stream.
//!
//! **Invariant:** what is replayed comes in the order in which it was sequenced, over all streams, so a client that is cut
//! while it is being given that can go on from the last element it got.

use wire::Recovered;

use super::{Sequencer, encode, evicted, resume};
use crate::replay::Stream;
use crate::{Elements, Missed, Reply, Request, StreamKey};

/// The longest replay, in bytes as it is sent: half of what may wait for a session before it is closed as too slow. Who has
/// missed more gets gaps and the state.
const REPLAY_BYTES_MAX: usize = 8 << 20;

/// A stream that is not where the client left it.
struct Moved {
    key: StreamKey,
    /// The last number that the client has seen
    seen: u64,
    outcome: Recovered,
}

impl Sequencer {
    /// Answers a client that has seen everything up to `ordinal`.
    pub(super) fn go_on_from(
        &self,
        ordinal: u64,
        missed: Missed,
        epoch_matches: bool,
        request: &Request,
        reply: &mut Reply,
    ) {
        let counts = if epoch_matches { self.counts_after(ordinal) } else { None };
        let Some(counts) = counts else {
            self.for_each(request, |key| {
                self.state_of(key, request, None, reply);
                if self.journal.stream(key).is_some_and(|stream| stream.seq() > 0) {
                    reply.recovered.push((key, Recovered::Snapshot));
                }
            });
            return;
        };
        let mut moved = Vec::new();
        self.for_each(request, |key| {
            let Some(stream) = self.journal.stream(key) else { return };
            reply.positions.push((key, stream.seq()));
            let count = counts.get(key.index()).copied().unwrap_or(0);
            if count > 0 {
                let seen = stream.seq() - u64::from(count);
                let outcome = match missed {
                    Missed::Events => resume(stream, seen, true),
                    Missed::State => Recovered::Snapshot,
                };
                moved.push(Moved { key, seen, outcome });
            }
        });
        if !self.replay(ordinal, &moved, request, reply) {
            reply.replay = Elements::default();
            reply.replay_ordinals = Vec::new();
            for moved in &mut moved {
                moved.outcome = Recovered::Gap;
            }
        }
        for Moved { key, seen, outcome } in moved {
            reply.recovered.push((key, outcome));
            let (Some(stream), Some(instrument)) =
                (self.journal.stream(key), self.journal.catalog.get(key.instrument()))
            else {
                continue;
            };
            if outcome == Recovered::Gap {
                reply.gaps.push(evicted(key, stream, seen));
            }
            if outcome != Recovered::Recovered
                && request.snapshot
                && let Some((time, event)) = self.state(key)
            {
                encode(&mut reply.snapshot, request.dialect, instrument, (key, stream.seq()), time, &event);
            }
        }
    }

    /// How many elements each stream has had since; none when that is not remembered.
    fn counts_after(&self, ordinal: u64) -> Option<Vec<u32>> {
        let since = self.journal.order.after(ordinal)?;
        let mut counts = vec![0; self.journal.streams.len()];
        for (_, key) in since {
            counts[key.index()] += 1;
        }
        Some(counts)
    }

    /// Writes what was missed of the streams that can be recovered. Whether it is not too much.
    fn replay(&self, ordinal: u64, moved: &[Moved], request: &Request, reply: &mut Reply) -> bool {
        // The next number of each stream that is replayed; no stream has a number 0.
        let mut next = vec![0; self.journal.streams.len()];
        for moved in moved.iter().filter(|moved| moved.outcome == Recovered::Recovered) {
            next[moved.key.index()] = moved.seen + 1;
        }
        for (ordinal, key) in self.journal.order.after(ordinal).into_iter().flatten() {
            let seq = next[key.index()];
            let past =
                if seq == 0 { None } else { self.journal.stream(key).and_then(|stream: &Stream| stream.at(seq)) };
            let Some((past, instrument)) = past.zip(self.journal.catalog.get(key.instrument())) else { continue };
            encode(&mut reply.replay, request.dialect, instrument, (key, seq), past.time, &past.event);
            reply.replay_ordinals.push(ordinal);
            next[key.index()] += 1;
            if reply.replay.bytes() > REPLAY_BYTES_MAX {
                return false;
            }
        }
        true
    }
}
