//! The queue between the sequencer and the recorder's thread, and the sequencer's side of it.
//!
//! **Invariant:** elements that are left out are followed by a state of all streams, taken between two batches, before any
//! other element; so the file's numbers have holes only where it says so.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hub::Sequencer;
use market::{Event, Instrument, Level, Numbered};
use recording::LossReason;

/// What the recorder is given to write.
#[derive(Debug)]
pub(super) enum Message {
    Instruments(Vec<Instrument>),
    Elements(Vec<Numbered>),
    /// Elements before it are missing, for that reason
    State(LossReason, Vec<Numbered>),
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) messages: VecDeque<Message>,
    bytes: usize,
    /// Set while elements are left out; a state has to follow
    pub(super) lost: Option<LossReason>,
    /// Whether the thread could not write and does not want to try yet
    pub(super) resting: bool,
    pub(super) closed: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct RecorderQueue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    bytes_max: usize,
}

impl RecorderQueue {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { waiting: Mutex::default(), wake: Condvar::new(), bytes_max }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so little room is left that a feed without a pace should wait.
    pub(crate) fn above_half(&self) -> bool {
        let waiting = self.lock();
        // While nothing can be written nobody waits for that.
        waiting.bytes > self.bytes_max / 2 && waiting.lost.is_none()
    }

    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Ends the thread when it has written what waits.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// All that waits, or what there is after `timeout`.
    pub(super) fn take(&self, timeout: Duration) -> (VecDeque<Message>, bool) {
        let waiting = self.lock();
        let idle = |waiting: &mut Waiting| waiting.messages.is_empty() && !waiting.closed;
        let waited = self.wake.wait_timeout_while(waiting, timeout, idle);
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        waiting.bytes = 0;
        (std::mem::take(&mut waiting.messages), waiting.closed)
    }

    fn push(&self, waiting: &mut Waiting, message: Message, bytes: usize) {
        waiting.bytes += bytes;
        waiting.messages.push_back(message);
        self.wake.notify_one();
    }
}

/// The sequencer's side.
#[derive(Debug)]
pub(crate) struct Feeder {
    queue: Arc<RecorderQueue>,
    /// Whether the loss that goes on has been logged
    losing: bool,
}

impl Feeder {
    pub(crate) fn new(queue: Arc<RecorderQueue>) -> Self {
        Self { queue, losing: false }
    }

    /// Hands over what the sequencer has numbered since the last call. To be called between batches, also when there is
    /// nothing new: after a loss the state follows as soon as there is room.
    pub(crate) fn feed(&mut self, sequencer: &mut Sequencer) {
        self.feed_or_wait(sequencer, |waiting| waiting.messages.is_empty());
    }

    /// The same for the last time: a loss is declared whatever there is room for.
    pub(crate) fn finish(&mut self, sequencer: &mut Sequencer) {
        self.feed_or_wait(sequencer, |_| true);
    }

    /// `room` says whether a state may be put behind what waits.
    fn feed_or_wait(&mut self, sequencer: &mut Sequencer, room: impl Fn(&Waiting) -> bool) {
        let elements = sequencer.take_recorded();
        let mut waiting = self.queue.lock();
        if let Some(reason) = waiting.lost {
            // Best when everything has been written that was before: then there is room for long.
            if !waiting.resting && room(&waiting) {
                waiting.lost = None;
                drop(waiting);
                let state = sequencer.state_of_all();
                let bytes = bytes_of(&state);
                let mut waiting = self.queue.lock();
                self.queue.push(&mut waiting, Message::State(reason, state), bytes);
                self.losing = false;
            }
            return;
        }
        if elements.is_empty() {
            return;
        }
        let bytes = bytes_of(&elements);
        if waiting.bytes + bytes > self.queue.bytes_max && !waiting.messages.is_empty() {
            waiting.lost = Some(LossReason::Slow);
            if !std::mem::replace(&mut self.losing, true) {
                tracing::warn!("the recorder does not keep up; elements are left out of the recording, which says so");
            }
            return;
        }
        self.queue.push(&mut waiting, Message::Elements(elements), bytes);
    }

    /// Hands over instruments that are new.
    pub(crate) fn instruments(&self, instruments: &[Instrument]) {
        // They are few and are never left out.
        self.queue.push(&mut self.queue.lock(), Message::Instruments(instruments.to_vec()), 0);
    }

    /// Says that the feed goes on from a state of its own.
    pub(crate) fn source_lost(&self, sequencer: &mut Sequencer) {
        sequencer.take_recorded();
        let mut waiting = self.queue.lock();
        waiting.lost.get_or_insert(LossReason::Source);
    }
}

/// The memory that elements take, about.
fn bytes_of(elements: &[Numbered]) -> usize {
    let levels = |element: &Numbered| match &element.tick.event {
        Event::BookSnapshot(update) | Event::BookDelta(update) => update.len() * size_of::<Level>(),
        _ => 0,
    };
    size_of_val(elements) + elements.iter().map(levels).sum::<usize>()
}
