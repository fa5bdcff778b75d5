//! The recorder's thread: takes from the queue, writes, syncs, rotates, and gets over a disk that does not take it.
//!
//! **Invariant:** an episode of failures is logged when it begins and when it is over, and not in between; what is lost in
//! it is counted.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use market::{Channel, Instrument, InstrumentId, Numbered, Timestamp};
use metrics::{Counter, Gauge};
use recording::{Encoder, EncoderOptions, Loss, LossReason, Lost, Session, State};
use rustc_hash::FxHashMap;

use super::file::RecordingFile;
use super::queue::{Message, RecorderQueue};
use super::{RecordConfig, SyncPolicy};
use crate::GatewayError;
use crate::clock::Clock;
use crate::metrics::{self as names, Metrics};
use crate::state::Shared;

/// How long to wait after a failure before it is tried again: at first, and at most.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(30);

/// What is written between two states at least. A state as long as an eighth of what came since the last one is worth
/// having, as it bounds how much a reader has to read that begins in between.
const STATE_EVERY_BYTES: u64 = 4 << 20;
const STATE_SHARE: u64 = 8;

/// How long to wait for elements when none are there and nothing is due.
const IDLE: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct RecorderThread {
    config: RecordConfig,
    queue: Arc<RecorderQueue>,
    clock: Clock,
    session: Session,
    instruments: Vec<Instrument>,
    encoder: Encoder,
    /// None while one could not be created
    file: Option<RecordingFile>,
    state: State,
    /// The last number in the file of each stream that has elements which are not in it yet
    unwritten: FxHashMap<(InstrumentId, Channel), u64>,
    out: Vec<u8>,
    /// When the open block is to be closed
    close_at: Option<Duration>,
    sync_at: Option<Duration>,
    rotate_at: Option<Duration>,
    failure: Option<Failure>,
    /// Where the last state in the file ended, and how long it was
    state_end: u64,
    state_bytes: u64,
    exporter: Exporter,
}

/// An episode in which nothing can be written.
#[derive(Debug)]
struct Failure {
    retry_at: Duration,
    rest: Duration,
}

struct Exporter {
    elements: Counter,
    bytes: Counter,
    lost: Counter,
    failures: Counter,
    waiting: Gauge,
}

impl Exporter {
    fn new(metrics: &Metrics) -> Self {
        Self {
            elements: metrics.counter(names::RECORDED_ELEMENTS),
            bytes: metrics.counter(names::RECORDED_BYTES),
            lost: metrics.counter(names::RECORD_LOST),
            failures: metrics.counter(names::RECORD_FAILURES),
            waiting: metrics.gauge(names::RECORD_QUEUE_BYTES),
        }
    }
}

impl RecorderThread {
    /// Creates the file and writes its beginning.
    ///
    /// # Errors
    /// [`GatewayError::Record`] when that cannot be done: better now than never.
    pub(crate) fn begin(
        config: RecordConfig,
        epoch: String,
        clock: Clock,
        instruments: &[Instrument],
        metrics: &Metrics,
    ) -> Result<Self, GatewayError> {
        let begun_at = clock.now().wall;
        let writer = concat!("tickerplant ", env!("CARGO_PKG_VERSION")).to_owned();
        let mut this = Self {
            queue: Arc::new(RecorderQueue::new(config.queue_bytes_max)),
            session: Session { epoch, part: 0, begun_at, writer },
            instruments: instruments.to_vec(),
            encoder: Encoder::new(EncoderOptions::default()),
            file: None,
            state: State::default(),
            unwritten: FxHashMap::default(),
            out: Vec::new(),
            close_at: None,
            sync_at: None,
            rotate_at: None,
            failure: None,
            state_end: 0,
            state_bytes: 0,
            exporter: Exporter::new(metrics),
            clock,
            config,
        };
        let path = this.config.path.clone();
        this.next_file().map_err(|source| GatewayError::Record { path, source })?;
        if let Some(file) = &this.file {
            tracing::info!(path = %file.path.display(), "recording");
        }
        Ok(this)
    }

    pub(crate) fn queue(&self) -> Arc<RecorderQueue> {
        Arc::clone(&self.queue)
    }

    /// Runs until the queue is closed, and ends the file.
    pub(crate) fn run(mut self, shared: &Shared) {
        loop {
            let (messages, closed) = self.queue.take(self.pause());
            self.turn(messages);
            self.exporter.waiting.set(self.queue.bytes() as f64);
            // A feed without a pace may wait for room.
            shared.sequencer.room();
            if closed && self.queue.lock().messages.is_empty() {
                break;
            }
        }
        self.end();
    }

    /// How long there is nothing to do without elements.
    fn pause(&self) -> Duration {
        let now = self.clock.now().monotonic;
        let due = [self.close_at, self.sync_at, self.failure.as_ref().map(|failure| failure.retry_at)];
        due.into_iter().flatten().min().map_or(IDLE, |due| due.saturating_sub(now)).min(IDLE)
    }

    fn turn(&mut self, messages: VecDeque<Message>) {
        let clock = self.clock.now();
        if let Some(failure) = &self.failure
            && clock.monotonic >= failure.retry_at
        {
            self.queue.lock().resting = false;
        }
        for message in messages {
            self.take(message, clock.wall);
            // Written as it comes, so that a long queue does not become a long buffer.
            self.write();
        }
        if self.failure.is_some() {
            return;
        }
        if !self.encoder.is_flushed() {
            let close_at = *self.close_at.get_or_insert(clock.monotonic + self.config.block);
            if clock.monotonic >= close_at {
                self.encoder.flush(clock.wall, &mut self.out);
                self.keep_state(clock.wall);
                self.write();
            }
        }
        if self.encoder.is_flushed() {
            self.close_at = None;
        }
        if self.sync_at.is_some_and(|at| clock.monotonic >= at) {
            self.sync();
        }
        self.rotate_if_due(clock.monotonic);
    }

    fn take(&mut self, message: Message, now: Timestamp) {
        match message {
            Message::Instruments(instruments) => {
                let new = &instruments[self.instruments.len().min(instruments.len())..];
                if !new.is_empty() && self.failure.is_none() {
                    self.encoder.instruments(&self.session, new, now, &mut self.out);
                }
                self.instruments.extend_from_slice(new);
            }
            Message::Elements(elements) if self.failure.is_some() => drop(elements),
            Message::Elements(elements) => {
                for element in &elements {
                    let key = (element.tick.instrument, element.tick.channel());
                    self.unwritten.entry(key).or_insert(element.seq - 1);
                    self.encoder.push(element, now, &mut self.out);
                    self.state.apply(element);
                }
                self.exporter.elements.increment(elements.len() as u64);
            }
            Message::State(reason, state) => self.go_on(reason, &state, now),
        }
    }

    /// Goes on behind a hole.
    fn go_on(&mut self, reason: LossReason, state: &[Numbered], now: Timestamp) {
        if self.file.is_none() && self.next_file().map_err(|error| self.fail(&error)).is_err() {
            return;
        }
        self.encoder.flush(now, &mut self.out);
        let mut lost = Vec::new();
        for element in state {
            let (instrument, channel) = (element.tick.instrument, element.tick.channel());
            let known = self.unwritten.get(&(instrument, channel)).filter(|_| self.failure.is_some());
            let last = known.copied().unwrap_or_else(|| self.state.seq(instrument, channel));
            if element.seq > last {
                lost.push(Lost { instrument, channel, from_seq: last + 1, to_seq: element.seq });
            }
        }
        // A session that goes on from elsewhere begins with a state and has lost nothing.
        let begins = reason == LossReason::Source && self.state.is_empty();
        if !begins && !lost.is_empty() {
            self.exporter.lost.increment(lost.iter().map(Lost::count).sum());
            self.encoder.loss(&Loss { reason, lost }, now, &mut self.out);
        }
        self.state.clear();
        for element in state {
            self.state.apply(element);
        }
        self.encoder.state(state, now, &mut self.out);
        if self.flush_out().map_err(|error| self.fail(&error)).is_ok() && self.failure.take().is_some() {
            tracing::info!("recording goes on; the recording says what is missing");
        }
    }

    /// Writes the state now and then, for readers that begin in the middle.
    fn keep_state(&mut self, now: Timestamp) {
        let since = self.encoder.offset().saturating_sub(self.state_end);
        if since >= STATE_EVERY_BYTES.max(STATE_SHARE * self.state_bytes) {
            let begin = self.encoder.offset();
            self.encoder.state(&self.state.elements(), now, &mut self.out);
            self.state_end = self.encoder.offset();
            self.state_bytes = self.state_end - begin;
        }
    }

    fn write(&mut self) {
        if self.failure.is_none() {
            if let Err(error) = self.flush_out() {
                self.fail(&error);
            }
        } else {
            self.out.clear();
        }
    }

    fn flush_out(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let result = file.write(&self.out);
        if result.is_ok() {
            self.exporter.bytes.increment(self.out.len() as u64);
            if self.encoder.is_flushed() {
                self.unwritten.clear();
            }
            match self.config.sync {
                SyncPolicy::Never => {}
                SyncPolicy::Always => self.sync(),
                SyncPolicy::Every(interval) => {
                    self.sync_at.get_or_insert(self.clock.now().monotonic + interval);
                }
            }
        }
        self.out.clear();
        result
    }

    /// Something cannot be written. All that is not in the file is left out, until it is tried again with a state.
    fn fail(&mut self, error: &io::Error) {
        self.exporter.failures.increment(1);
        let rest = self.failure.as_ref().map_or(REST, |failure| (failure.rest * 2).min(REST_MAX));
        if self.failure.is_none() {
            let path = self.file.as_ref().map_or(&self.config.path, |file| &file.path);
            tracing::error!(path = %path.display(), %error, "cannot record; it is tried again, and the recording will say what is missing");
        }
        self.failure = Some(Failure { retry_at: self.clock.now().monotonic + rest, rest });
        self.out.clear();
        self.encoder.rewind(self.file.as_ref().map_or(0, RecordingFile::length));
        self.close_at = None;
        let mut waiting = self.queue.lock();
        waiting.lost = Some(LossReason::Failed);
        waiting.resting = true;
    }

    fn sync(&mut self) {
        self.sync_at = None;
        if let Some(Err(error)) = self.file.as_ref().map(RecordingFile::sync) {
            self.exporter.failures.increment(1);
            tracing::error!(%error, "the recording cannot be forced to the disk");
        }
    }

    fn rotate_if_due(&mut self, now: Duration) {
        let long = self.config.rotate_bytes > 0 && self.encoder.offset() >= self.config.rotate_bytes;
        if long || self.rotate_at.is_some_and(|at| now >= at) {
            self.end();
            match self.next_file() {
                Ok(()) => {
                    self.encoder.state(&self.state.elements(), self.clock.now().wall, &mut self.out);
                    self.write();
                }
                Err(error) => self.fail(&error),
            }
        }
    }

    /// Begins the next file of the session.
    fn next_file(&mut self) -> io::Result<()> {
        self.file = None;
        let part = self.session.part + 1;
        let mut file = RecordingFile::create(&self.config.path, self.session.begun_at, part)?;
        self.session.part = part;
        let mut begin = Vec::new();
        self.encoder.begin(&self.session, &self.instruments, &mut begin);
        if let Err(error) = file.write(&begin) {
            // Nothing is in it, and the next attempt makes it again.
            self.session.part -= 1;
            let _ = std::fs::remove_file(&file.path);
            return Err(error);
        }
        self.file = Some(file);
        (self.state_end, self.state_bytes) = (self.encoder.offset(), 0);
        let rotate = self.config.rotate_after;
        self.rotate_at = (!rotate.is_zero()).then(|| self.clock.now().monotonic + rotate);
        Ok(())
    }

    /// Ends the file with its index.
    fn end(&mut self) {
        if self.failure.is_none() {
            self.encoder.finish(self.clock.now().wall, &mut self.out);
            self.write();
            self.sync();
        }
    }
}
