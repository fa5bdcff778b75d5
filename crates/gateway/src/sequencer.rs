//! The sequencer's thread: polls the feed, answers shards and the REST side, and hands everything on.
//!
//! **Invariant:** it never waits for a shard or a client. A feed that paces itself is polled when it is due; only a feed
//! without a pace is made to wait for room in the shards' queues.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use feed::{ControlError, Feed, FeedError, Progress, ReplayCommand, ReplayStatus};
use hub::{FeedOutcome, Request, Sequencer, Upstream};
use market::{Tick, Timestamp};
use metrics::{Counter, Gauge, Histogram};
use tokio::sync::oneshot;

use crate::metrics as names;
use crate::recorder::{Feeder, RecorderQueue};
use crate::shard::Pushed;
use crate::state::Shared;

/// Ticks per poll. Large enough that a full poll costs far more than what is done once per poll, small enough that a
/// request waits no longer than the few milliseconds which these take.
const TICKS_PER_POLL: usize = 4096;

/// The least time between two polls that found ticks. A tick that comes alone is handed over when it is due; of many, each
/// poll takes those of this time, so that neither this thread nor the shards wake for each.
const POLL_INTERVAL_MIN: Duration = Duration::from_micros(250);

/// Requests that may wait before shards stop reading from their sockets, see [`SequencerHandle::busy`].
const REQUESTS_WAITING_MAX: usize = 4096;

/// How long to sleep when there is nothing to wait for but to be woken; only a bound, to be safe.
const IDLE: Duration = Duration::from_secs(1);

/// What others ask of the sequencer.
enum Question {
    Request {
        shard: usize,
        request: Request,
    },
    /// Something is read between two batches
    Read(Box<dyn FnOnce(&Sequencer) + Send>),
    /// An operator's command for the replay
    Control(ReplayCommand, oneshot::Sender<Result<ReplayStatus, ControlError>>),
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { shard, request } => write!(f, "Request({shard}, {request:?})"),
            Self::Read(_) => f.write_str("Read"),
            Self::Control(command, _) => write!(f, "Control({command:?})"),
        }
    }
}

/// How others reach the sequencer.
#[derive(Debug, Default)]
pub(crate) struct SequencerHandle {
    questions: Mutex<VecDeque<Question>>,
    waiting: AtomicUsize,
    stopped: AtomicBool,
    throttled: AtomicBool,
    thread: OnceLock<Thread>,
}

impl SequencerHandle {
    /// Hands over a request of a shard; the reply comes through the shard's queue.
    pub(crate) fn request(&self, shard: usize, request: Request) {
        self.ask(Question::Request { shard, request });
    }

    /// What `read` sees between two batches; none when the sequencer has stopped. It runs on the sequencer's thread, so it
    /// is to copy what it needs and no more.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Sequencer) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.ask(Question::Read(Box::new(move |sequencer| {
            // The asker may have gone.
            let _ = answer.send(read(sequencer));
        })));
        answered.await.ok()
    }

    /// Has the feed carry out an operator's command; none when the sequencer has stopped.
    pub(crate) async fn control(&self, command: ReplayCommand) -> Option<Result<ReplayStatus, ControlError>> {
        let (answer, answered) = oneshot::channel();
        self.ask(Question::Control(command, answer));
        answered.await.ok()
    }

    /// Whether so many requests wait that no more should be read from sockets. That bounds the queue: what is past it are
    /// the commands of one turn of each shard.
    pub(crate) fn busy(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > REQUESTS_WAITING_MAX
    }

    /// Says that a shard has worked something off, in case the feed waits for that.
    pub(crate) fn room(&self) {
        if self.throttled.swap(false, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }

    fn ask(&self, question: Question) {
        if self.stopped.load(Ordering::Acquire) {
            return;
        }
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).push_back(question);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        // Before the thread is there it cannot sleep either.
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Where the feed stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first subscribe has not been applied.
    Waiting,
    /// It is polled at that instant.
    Due(Timestamp),
    /// It is polled as soon as there is room.
    AlwaysDue,
    /// It is polled when an operator has said something.
    Held,
    Over,
}

/// The thread's own state.
pub(crate) struct SequencerLoop {
    shared: Arc<Shared>,
    sequencer: Sequencer,
    feed: Box<dyn Feed>,
    state: State,
    /// Whether the feed has ever said when its next tick is due.
    paced: bool,
    /// A paced feed is not polled before.
    not_before: Duration,
    instruments: usize,
    ticks: Vec<Tick>,
    questions: VecDeque<Question>,
    ended: Option<oneshot::Sender<Result<(), FeedError>>>,
    recorder: Option<(Arc<RecorderQueue>, Feeder)>,
    exporter: Exporter,
}

impl SequencerLoop {
    /// Takes in the feed's instruments, so that the shards' queues begin with the catalog. A feed that ends or breaks is
    /// reported through `ended`.
    pub(crate) fn new(
        shared: Arc<Shared>,
        feed: Box<dyn Feed>,
        ended: oneshot::Sender<Result<(), FeedError>>,
        recorder: Option<Arc<RecorderQueue>>,
    ) -> Self {
        let mut sequencer = Sequencer::new(hub::SequencerConfig {
            epoch: shared.epoch.clone(),
            replay_bytes_max: shared.config.replay_bytes_max,
            replay_age_max: shared.config.replay_age_max,
            bars_history_max: shared.config.bars_history_max,
            brought: feed.brought(),
            // The epoch of a recording may have had other runs; no two begin in the same nanosecond.
            ordinals_behind: feed.epoch().map_or(0, |_| shared.clock.now().wall.nanos()),
        });
        if let Some(config) = &shared.config.record {
            sequencer.record(config.channels);
        }
        let mut this = Self {
            exporter: Exporter::new(&shared),
            shared,
            sequencer,
            feed,
            state: State::Waiting,
            paced: false,
            not_before: Duration::ZERO,
            instruments: 0,
            ticks: Vec::new(),
            questions: VecDeque::new(),
            ended: Some(ended),
            recorder: recorder.map(|queue| (Arc::clone(&queue), Feeder::new(queue))),
        };
        this.add_instruments();
        this.restore();
        this
    }

    /// Runs until [`SequencerHandle::stop`].
    pub(crate) fn run(mut self) {
        let handle = &Arc::clone(&self.shared).sequencer;
        let _ = handle.thread.set(std::thread::current());
        while !handle.stopped.load(Ordering::Acquire) {
            self.answer(handle);
            self.poll_if_due();
            self.tell_time();
            self.feed_recorder();
            self.sequencer.expire(self.shared.clock.now().monotonic);
            self.exporter.export(self.shared.clock.now().monotonic, &mut self.sequencer, self.feed.as_mut());
            let pause = self.pause(handle);
            if !pause.is_zero() {
                // An `unpark` since the checks above makes this return at once, so no wake-up is lost.
                std::thread::park_timeout(pause);
            }
        }
        if let Some((_, feeder)) = &mut self.recorder {
            feeder.finish(&mut self.sequencer);
        }
        // Whoever still waits for an answer learns that there will be none.
        handle.questions.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn answer(&mut self, handle: &SequencerHandle) {
        std::mem::swap(&mut self.questions, &mut handle.questions.lock().unwrap_or_else(PoisonError::into_inner));
        for question in self.questions.drain(..) {
            handle.waiting.fetch_sub(1, Ordering::Relaxed);
            match question {
                Question::Request { shard, request } => {
                    let reply = self.sequencer.serve(&request);
                    let taken = self.shared.clock.now().monotonic;
                    if let Some(shard) = self.shared.shards.get(shard) {
                        shard.push(reply, taken);
                    }
                }
                Question::Read(read) => read(&self.sequencer),
                Question::Control(command, answer) => {
                    let result = control(&mut self.state, self.feed.as_mut(), self.shared.clock.now().wall, command);
                    // Whether it has a pace from here on shows when it is polled.
                    self.paced &= result.is_err() || command == ReplayCommand::Status;
                    // The asker may have gone.
                    let _ = answer.send(result);
                }
            }
        }
    }

    /// Hands over what was numbered to the recorder, if there is one.
    fn feed_recorder(&mut self) {
        if let Some((_, feeder)) = &mut self.recorder {
            feeder.feed(&mut self.sequencer);
        }
    }

    /// Goes on from the feed's state, where it has one. Who listens is told as after any other loss.
    fn restore(&mut self) {
        let state = self.feed.take_state();
        if state.is_empty() {
            return;
        }
        self.feed_recorder();
        self.sequencer.restore(&state);
        if let Some((_, feeder)) = &mut self.recorder {
            feeder.source_lost(&mut self.sequencer);
        }
        if self.sequencer.subscribed() {
            tracing::warn!("the feed goes on behind a hole; clients are told");
            self.broadcast(&Upstream::Lagged, self.shared.clock.now().monotonic);
        }
    }

    fn poll_if_due(&mut self) {
        let now = self.shared.clock.now();
        let due = match self.state {
            State::Waiting => {
                if self.shared.config.start_on_first_subscriber && !self.sequencer.subscribed() {
                    return;
                }
                self.feed.start(now.wall);
                now.wall
            }
            State::Due(due) if due <= now.wall && now.monotonic >= self.not_before => due,
            State::AlwaysDue if self.paced || self.has_room() => now.wall,
            State::Due(_) | State::AlwaysDue | State::Held | State::Over => return,
        };
        let progress = self.feed.poll(now.wall, TICKS_PER_POLL, &mut self.ticks);
        self.add_instruments();
        if !self.ticks.is_empty() {
            self.not_before = now.monotonic + POLL_INTERVAL_MIN;
            if self.paced {
                self.exporter.lateness.record(now.wall.since(due));
            }
            let batch = self.sequencer.ingest(&self.ticks);
            self.ticks.clear();
            if let Some(batch) = batch {
                self.broadcast(&batch, now.monotonic);
            }
        }
        self.restore();
        self.state = match progress {
            Ok(Progress::Ready) => State::AlwaysDue,
            Ok(Progress::Idle { until }) => {
                self.paced = true;
                State::Due(until)
            }
            Ok(Progress::Held) => State::Held,
            Ok(Progress::Ended) => {
                tracing::info!("the feed has ended; its last values are still served");
                let state = self.end(FeedOutcome::Ended);
                if let Some(ended) = self.ended.take() {
                    let _ = ended.send(Ok(()));
                }
                state
            }
            Err(error) => {
                tracing::error!(%error, "the feed failed");
                self.exporter.errors.increment(1);
                let state = self.end(FeedOutcome::Failed);
                if let Some(ended) = self.ended.take() {
                    let _ = ended.send(Err(error));
                }
                state
            }
        };
    }

    /// Lets the market's time go on where the feed is silent and all caught up.
    fn tell_time(&mut self) {
        let now = self.shared.clock.now();
        if let State::Due(due) = self.state
            && due > now.wall
            && let Some(time) = self.feed.market_time(now.wall)
            && time >= self.sequencer.deadline()
            && let Some(batch) = self.sequencer.advance(time)
        {
            self.broadcast(&batch, now.monotonic);
        }
    }

    fn end(&mut self, outcome: FeedOutcome) -> State {
        let upstream = self.sequencer.ended(outcome);
        self.broadcast(&upstream, self.shared.clock.now().monotonic);
        State::Over
    }

    /// How long there is nothing to do, if nobody asks anything.
    fn pause(&self, handle: &SequencerHandle) -> Duration {
        if !handle.questions.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return Duration::ZERO;
        }
        match self.state {
            State::Waiting | State::Held | State::Over => IDLE,
            State::Due(due) => {
                let now = self.shared.clock.now();
                let told = self.feed.market_time(now.wall).map_or(IDLE, |time| self.sequencer.deadline().since(time));
                let due = due.since(now.wall).max(self.not_before.saturating_sub(now.monotonic));
                due.min(told).min(IDLE)
            }
            State::AlwaysDue if self.paced => Duration::ZERO,
            State::AlwaysDue => {
                handle.throttled.store(true, Ordering::Release);
                // Asked after the flag was raised: a shard that makes room from here on sees the flag.
                if self.has_room() { Duration::ZERO } else { IDLE }
            }
        }
    }

    fn has_room(&self) -> bool {
        let recorder_has_room = self.recorder.as_ref().is_none_or(|(queue, _)| !queue.above_half());
        recorder_has_room && self.shared.shards.iter().all(|shard| !shard.queue.above_half())
    }

    /// Tells the shards of instruments that the feed has come to know.
    fn add_instruments(&mut self) {
        let known = self.feed.instruments();
        if known.len() > self.instruments {
            self.instruments = known.len();
            let catalog = self.sequencer.add_instruments(known);
            if let Some((_, feeder)) = &self.recorder {
                feeder.instruments(known);
            }
            self.shared.set_catalog(self.sequencer.catalog());
            self.broadcast(&catalog, self.shared.clock.now().monotonic);
        }
    }

    fn broadcast(&self, upstream: &Upstream, taken: Duration) {
        for (index, shard) in self.shared.shards.iter().enumerate() {
            if shard.push(upstream.clone(), taken) == Pushed::LagBegins {
                tracing::warn!(
                    shard = index,
                    "the shard does not keep up; ticks are left out and its clients are told"
                );
            }
        }
    }
}

/// Has the feed carry out a command; it is polled again then.
fn control(
    state: &mut State,
    feed: &mut dyn Feed,
    now: Timestamp,
    command: ReplayCommand,
) -> Result<ReplayStatus, ControlError> {
    if *state == State::Over {
        return Err(ControlError::Over);
    }
    let status = feed.control(now, command)?;
    if !matches!(state, State::Waiting) {
        *state = State::AlwaysDue;
    }
    Ok(status)
}

/// Writes the sequencer's counters to the metrics once a second.
struct Exporter {
    ticks: Counter,
    refused: Counter,
    books_refused: Counter,
    books_stale: Gauge,
    bad_records: Counter,
    errors: Counter,
    lateness: Histogram,
    due: Duration,
}

impl Exporter {
    fn new(shared: &Shared) -> Self {
        let metrics = &shared.metrics;
        Self {
            ticks: metrics.counter(names::FEED_TICKS),
            refused: metrics.counter(names::FEED_TICKS_REFUSED),
            books_refused: metrics.counter(names::FEED_BOOKS_REFUSED),
            books_stale: metrics.gauge(names::FEED_BOOKS_STALE),
            bad_records: metrics.counter(names::FEED_BAD_RECORDS),
            errors: metrics.counter(names::FEED_ERRORS),
            lateness: metrics.histogram(names::FEED_LATENESS),
            due: Duration::ZERO,
        }
    }

    /// Also says in the log what was wrong with the feed's input, the first mistake of each second; all are counted.
    fn export(&mut self, now: Duration, sequencer: &mut Sequencer, feed: &mut dyn Feed) {
        if now < self.due {
            return;
        }
        self.due = now + Duration::from_secs(1);
        let (stats, troubles, bad_records) = (sequencer.stats(), feed.book_troubles(), feed.bad_records());
        let books_refused = stats.books_refused + troubles.refused;
        self.ticks.absolute(stats.ticks);
        self.refused.absolute(stats.ticks_refused);
        self.books_refused.absolute(books_refused);
        self.books_stale.set((stats.books_stale + troubles.stale) as f64);
        self.bad_records.absolute(bad_records);
        if let Some(first) = feed.take_report() {
            tracing::warn!(bad_records, books_refused, "the feed: {first}");
        }
        if let Some((symbol, error)) = sequencer.take_refused() {
            tracing::warn!(
                books_refused,
                "the feed: {error}; nothing is known of the book of {symbol} until its next snapshot"
            );
        }
    }
}
