//! What a session still has to be sent after its socket would have blocked.
//!
//! **Invariant:** a frame that has been begun is always finished; an urgent frame goes before every frame that has not
//! been begun. Answers are never withdrawn from a session that lives.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::Item;

/// Bound on what waits of mode `latest` where nothing else does, beside a frame that has been begun: what is newer is better,
/// and on a line of 100 kbit/s this much takes 2.6 s. Past it the session is sent the newest values instead.
const LATEST_BYTES_MAX: usize = 32 * 1024;

/// How a frame may be treated while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A pong: first of what has not been begun, and only the newest waits (RFC 6455 section 5.5.3). Somebody who pings on
    /// and on without reading has one of them, not millions.
    Pong,
    /// Acks, errors, close: goes before what has not been begun.
    Urgent,
    /// What must keep its place among data, such as answers and declared gaps; never withdrawn.
    Kept,
    /// A snapshot. Withdrawn together with the data before it, as it would otherwise pass over a loss that is declared
    /// later; but it does not count towards the bound, or a client on a slow line could never get a large one.
    State,
    /// What a resuming client had missed: as a snapshot, but its elements count as delivered.
    Missed,
    /// Live elements of mode `every`; withdrawn when the session falls behind, and then owed.
    Owed,
    /// Live elements of mode `latest`, and heartbeats; withdrawn without a debt.
    Passing,
}

/// What is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Withdraw {
    /// What the newest values will make up for: the session has fallen behind.
    Data,
    /// Everything that a close frame must not wait for and that must not follow it.
    AllButUrgent,
}

/// A frame that one or many outboxes hold.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Box<[u8]>,
    /// What elements it has; empty for anything but live data.
    pub(crate) items: Box<[Item]>,
}

#[derive(Debug)]
struct Waiting {
    frame: Arc<Frame>,
    class: Class,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Waiting>,
    /// How much of the first frame is out already.
    begun: usize,
    /// How many urgent frames there are that have not been begun; they stand together, so that nobody has to count them.
    urgent: usize,
    bytes: usize,
    /// Of these, bytes of data frames: those that can be withdrawn.
    data_bytes: usize,
    /// Of these, bytes of [`Class::Passing`].
    passing_bytes: usize,
    /// The last instant at which it got shorter, or was empty.
    pub(crate) progress_at: Duration,
    /// Since when something has been waiting in it without a pause.
    pub(crate) since: Duration,
}

impl Class {
    /// Whether it counts towards the bound of the outbox.
    const fn is_data(self) -> bool {
        matches!(self, Self::Owed | Self::Passing)
    }

    const fn is_urgent(self) -> bool {
        matches!(self, Self::Pong | Self::Urgent)
    }

    const fn is_withdrawn_when_slow(self) -> bool {
        !matches!(self, Self::Pong | Self::Urgent | Self::Kept)
    }

    /// Whether its elements count as delivered.
    pub(crate) const fn is_delivery(self) -> bool {
        !matches!(self, Self::State)
    }
}

impl Outbox {
    /// An empty one for the session whose socket has taken all until `now`.
    pub(crate) fn new(now: Duration) -> Self {
        Self { progress_at: now, since: now, ..Self::default() }
    }

    /// Bytes still to go.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of live data still to go.
    pub(crate) fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    /// Whether newer values would be better than those that wait, and no loss would have to be declared.
    pub(crate) fn is_outdated(&self) -> bool {
        let begun = match self.queue.front() {
            Some(head) if self.begun > 0 && head.class == Class::Passing => head.frame.bytes.len() - self.begun,
            _ => 0,
        };
        self.passing_bytes == self.data_bytes && self.passing_bytes - begun > LATEST_BYTES_MAX
    }

    /// Bytes of everything else.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.bytes - self.data_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Appends a frame of which `written` bytes are out. Only the first frame of an outbox can be begun. How many bytes of a
    /// frame whose place it took do not have to be sent any more.
    pub(crate) fn push(&mut self, frame: Arc<Frame>, class: Class, written: usize) -> usize {
        debug_assert!(written == 0 || self.queue.is_empty());
        self.bytes += frame.bytes.len() - written;
        if class.is_data() {
            self.data_bytes += frame.bytes.len() - written;
        }
        if class == Class::Passing {
            self.passing_bytes += frame.bytes.len() - written;
        }
        if self.queue.is_empty() {
            self.begun = written;
        }
        let waiting = Waiting { frame, class };
        let begun = usize::from(self.begun > 0);
        if written > 0 || !class.is_urgent() {
            self.queue.push_back(waiting);
            return 0;
        }
        if class == Class::Pong {
            if let Some(older) = self.queue.get_mut(begun).filter(|first| first.class == Class::Pong) {
                let replaced = older.frame.bytes.len();
                *older = waiting;
                self.bytes -= replaced;
                return replaced;
            }
            self.queue.insert(begun, waiting);
        } else {
            self.queue.insert(begun + self.urgent, waiting);
        }
        self.urgent += 1;
        0
    }

    /// The bytes to write next.
    pub(crate) fn head(&self) -> Option<&[u8]> {
        self.queue.front().map(|waiting| &waiting.frame.bytes[self.begun..])
    }

    /// Says that `written` of the head's bytes are out.
    pub(crate) fn advance(&mut self, written: usize) {
        let Some(head) = self.queue.front() else { return };
        if self.begun == 0 && written > 0 && head.class.is_urgent() {
            self.urgent -= 1;
        }
        self.bytes -= written;
        self.begun += written;
        if head.class.is_data() {
            self.data_bytes -= written;
        }
        if head.class == Class::Passing {
            self.passing_bytes -= written;
        }
        if head.frame.bytes.len() == self.begun {
            self.queue.pop_front();
            self.begun = 0;
        }
    }

    /// Takes out frames that have not been begun, calling `on` for each.
    pub(crate) fn withdraw(&mut self, what: Withdraw, mut on: impl FnMut(Class, &[Item])) {
        let mut position = 0;
        let begun = usize::from(self.begun > 0);
        let (bytes, data_bytes, passing_bytes) = (&mut self.bytes, &mut self.data_bytes, &mut self.passing_bytes);
        self.queue.retain(|waiting| {
            let goes = waiting.class.is_withdrawn_when_slow()
                || (what == Withdraw::AllButUrgent && !waiting.class.is_urgent());
            let stays = position < begun || !goes;
            position += 1;
            if !stays {
                *bytes -= waiting.frame.bytes.len();
                if waiting.class.is_data() {
                    *data_bytes -= waiting.frame.bytes.len();
                }
                if waiting.class == Class::Passing {
                    *passing_bytes -= waiting.frame.bytes.len();
                }
                on(waiting.class, &waiting.frame.items);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StreamKey;
    use market::{Channel, InstrumentId};

    fn frame(text: &str) -> Arc<Frame> {
        let item = Item { key: StreamKey::new(InstrumentId(0), Channel::Trades), seq: 1 };
        Arc::new(Frame { bytes: text.as_bytes().into(), items: [item].into() })
    }

    fn drain(outbox: &mut Outbox) -> String {
        let mut text = String::new();
        while let Some(head) = outbox.head() {
            text.push_str(std::str::from_utf8(head).unwrap());
            let len = head.len();
            outbox.advance(len);
        }
        text
    }

    #[test]
    fn urgent_frames_pass_data_but_never_split_a_frame() {
        let mut outbox = Outbox::default();
        outbox.push(frame("abcd"), Class::Owed, 2);
        outbox.push(frame("EFGH"), Class::Owed, 0);
        outbox.push(frame("1"), Class::Urgent, 0);
        outbox.push(frame("k"), Class::Kept, 0);
        outbox.push(frame("2"), Class::Urgent, 0);
        assert_eq!(outbox.bytes(), 2 + 4 + 3);
        assert_eq!(drain(&mut outbox), "cd12EFGHk");
        assert_eq!((outbox.bytes(), outbox.is_empty()), (0, true));
    }

    #[test]
    fn of_pongs_only_the_newest_waits() {
        let mut outbox = Outbox::default();
        outbox.push(frame("pong"), Class::Pong, 1);
        assert_eq!(outbox.push(frame("error"), Class::Urgent, 0), 0);
        assert_eq!(outbox.push(frame("1"), Class::Pong, 0), 0, "the one that was begun is finished");
        assert_eq!(outbox.push(frame("22"), Class::Pong, 0), 1);
        outbox.push(frame("!"), Class::Urgent, 0);
        assert_eq!(outbox.bytes(), 3 + 2 + 5 + 1);
        outbox.advance(3);
        outbox.advance(1);
        outbox.push(frame("3"), Class::Pong, 0);
        outbox.push(frame("."), Class::Urgent, 0);
        assert_eq!(drain(&mut outbox), "23error!.");
        assert_eq!((outbox.bytes(), outbox.is_empty()), (0, true));
    }

    #[test]
    fn values_of_mode_latest_are_outdated_when_many_wait_and_nothing_is_owed() {
        let half = "x".repeat(LATEST_BYTES_MAX / 2);
        let mut outbox = Outbox::default();
        outbox.push(frame(&"x".repeat(3 * LATEST_BYTES_MAX)), Class::Passing, 1);
        outbox.push(frame(&half), Class::Passing, 0);
        outbox.push(frame(&half), Class::Passing, 0);
        assert!(!outbox.is_outdated(), "one frame has begun and is finished");
        outbox.push(frame("y"), Class::Passing, 0);
        assert!(outbox.is_outdated());
        outbox.push(frame("z"), Class::Owed, 0);
        assert!(!outbox.is_outdated(), "what is owed would be lost with them");
        outbox.withdraw(Withdraw::Data, |_, _| ());
        assert!(!outbox.is_outdated());
        assert_eq!(outbox.bytes(), 3 * LATEST_BYTES_MAX - 1);
        drain(&mut outbox);
        assert_eq!((outbox.passing_bytes, outbox.data_bytes), (0, 0));
    }

    #[test]
    fn only_data_that_has_not_begun_is_withdrawn() {
        let mut outbox = Outbox::default();
        outbox.push(frame("abcd"), Class::Owed, 1);
        outbox.push(frame("EF"), Class::Owed, 0);
        outbox.push(frame("h"), Class::Passing, 0);
        outbox.push(frame("s"), Class::Kept, 0);
        let mut classes = Vec::new();
        outbox.withdraw(Withdraw::Data, |class, items| classes.push((class, items.len())));
        assert_eq!(classes, [(Class::Owed, 1), (Class::Passing, 1)]);
        assert_eq!(outbox.bytes(), 4);
        assert_eq!(drain(&mut outbox), "bcds");
    }
}
