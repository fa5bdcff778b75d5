//! The sequencer: the only writer. It numbers ticks, derives statistics, remembers, and encodes once per dialect in use.
//!
//! **Invariant:** within an epoch the numbers of a stream are 1, 2, 3, ... without a hole, whoever listens.
//!
//! What is *not* here: a clock, a thread or a queue. The shell feeds it ticks and requests in one order, and passes what
//! comes out to the shards in that order.

mod position;

use std::sync::Arc;
use std::time::Duration;

use market::{
    BarInterval, BookDepth, BookError, Channel, ChannelSet, Event, Instrument, InstrumentId, Numbered, Symbol, Tick,
    Timestamp,
};
use rustc_hash::FxHashMap;
use wire::{Dialect, Gap, GapReason, Recovered};

use crate::derived::{Derived, unknown_book};
use crate::order::Order;
use crate::replay::{Budget, Expiry, Stream};
use crate::{Batch, Catalog, Elements, FeedOutcome, Reply, Request, ResumeFrom, Seen, StreamKey, Upstream};

/// How a sequencer is set up.
#[derive(Debug, Clone)]
pub struct SequencerConfig {
    /// Names this run of numbers; a client that resumes tells it back
    pub epoch: String,
    /// The memory for what resuming clients may have missed, in bytes, over all streams
    pub replay_bytes_max: usize,
    /// How long that is kept at most; half of it at least, as far as the memory goes; zero for any time
    pub replay_age_max: Duration,
    /// How many bars are kept of each instrument and interval; 0 makes no bars
    pub bars_history_max: usize,
    /// Channels whose elements the feed brings as a sequencer made them: none of these is derived, and the epoch is theirs
    pub brought: ChannelSet,
    /// Where ordinals begin; where runs may share an epoch, each needs its own
    pub ordinals_behind: u64,
}

impl Default for SequencerConfig {
    fn default() -> Self {
        Self {
            epoch: "0".to_owned(),
            // 64 MiB hold about 700,000 ticks: 35 s of a market of 20,000 ticks/s, which a reconnect needs a fraction of.
            replay_bytes_max: 64 << 20,
            // Who was away for longer than a day wants to know how things stand, not what it missed.
            replay_age_max: Duration::from_hours(24),
            // What a chart shows: four minutes by the second, four hours by the minute. A bar takes 64 bytes, so they are
            // 103 kB for an instrument that trades in every second, 1 kB for one that has traded once, and 1 GB if
            // 10,000 trade so fast for days.
            bars_history_max: 250,
            brought: ChannelSet::EMPTY,
            ordinals_behind: 0,
        }
    }
}

/// What a sequencer has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SequencerStats {
    /// Ticks numbered, derived ones included
    pub ticks: u64,
    /// Ticks of instruments that the feed had not announced; they are dropped
    pub ticks_refused: u64,
    /// Book updates that made no sense; the book is unknown until its next snapshot
    pub books_refused: u64,
    /// Books that are unknown now for that reason
    pub books_stale: u64,
    /// Elements encoded, over all dialects
    pub elements_encoded: u64,
    /// Requests served
    pub requests: u64,
}

/// One value, for callers that are not shards.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotElement {
    /// Whose
    pub key: StreamKey,
    /// Its number, or for state the number up to which it is true; 0 where none has been given
    pub seq: u64,
    /// The exchange's time
    pub time: Timestamp,
    /// The value
    pub event: Event,
}

/// See the module.
#[derive(Debug)]
pub struct Sequencer {
    config: SequencerConfig,
    journal: Journal,
    derived: Derived,
    /// See [`Sequencer::take_refused`]
    refused: Option<(Symbol, BookError)>,
    subscribed: bool,
}

/// The numbers, the past, and who wants what of it.
#[derive(Debug)]
struct Journal {
    catalog: Arc<Catalog>,
    streams: Vec<Stream>,
    budget: Budget,
    order: Order,
    expiry: Expiry,
    dialects: [bool; Dialect::COUNT],
    wanted: ChannelSet,
    brought: ChannelSet,
    /// Of the dormant channels those that are numbered although nobody may have wanted them
    awake: ChannelSet,
    /// What has been numbered since it was last taken, if somebody records it
    tape: Option<Vec<Numbered>>,
    stats: SequencerStats,
}

/// Channels of which nothing is numbered before somebody has wanted them: their changes are many, and their state can be
/// had at any time. The first who wants one makes the state of each instrument its first element, so that number 0 means
/// "nothing seen" there as anywhere.
const DORMANT: ChannelSet = {
    let mut set = BARS;
    set.insert(Channel::Book(market::BookDepth::Top10));
    set.insert(Channel::Book(market::BookDepth::Top50));
    set.insert(Channel::Book(market::BookDepth::Full));
    set
};

/// The order of the elements is remembered further back than they are kept themselves, at 4 bytes each, so that what is lost
/// can be named: at about 96 bytes an element three times as far, in an eighth of their memory besides.
const REPLAY_BYTES_PER_ORDINAL: usize = 32;

const BARS: ChannelSet = {
    let mut set = ChannelSet::EMPTY;
    let mut at = 0;
    while at < BarInterval::ALL.len() {
        set.insert(Channel::Bars(BarInterval::ALL[at]));
        at += 1;
    }
    set
};

impl Sequencer {
    /// An empty sequencer.
    pub fn new(config: SequencerConfig) -> Self {
        let journal = Journal {
            catalog: Arc::default(),
            streams: Vec::new(),
            budget: Budget::new(config.replay_bytes_max),
            order: Order::behind(config.ordinals_behind, config.replay_bytes_max / REPLAY_BYTES_PER_ORDINAL),
            expiry: Expiry::new(config.replay_age_max),
            dialects: [false; Dialect::COUNT],
            wanted: ChannelSet::EMPTY,
            brought: config.brought,
            awake: config.brought,
            tape: None,
            stats: SequencerStats::default(),
        };
        Self { journal, derived: Derived::new(config.bars_history_max), config, refused: None, subscribed: false }
    }

    /// Keeps what is numbered from now on for [`Sequencer::take_recorded`]: the full books and `channels` too, whether or
    /// not somebody wants them. To be called before the first tick.
    pub fn record(&mut self, channels: ChannelSet) {
        self.journal.tape = Some(Vec::new());
        self.journal.awake = self.journal.awake.union(channels);
        self.journal.awake.insert(Channel::Book(BookDepth::Full));
    }

    /// What has been numbered since the last call, in order; nothing unless [`Sequencer::record`] was called. To be called
    /// after each call that may number something, which bounds it.
    pub fn take_recorded(&mut self) -> Vec<Numbered> {
        self.journal.tape.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The state of every stream that has had an element.
    pub fn state_of_all(&self) -> Vec<Numbered> {
        let ids: Vec<InstrumentId> = self.journal.catalog.iter().map(|instrument| instrument.id).collect();
        let all = self.snapshot(&ids, Channel::ALL.into_iter().collect()).into_iter();
        let numbered = all.filter(|element| element.seq > 0).map(|element| {
            let tick = Tick { instrument: element.key.instrument(), time: element.time, event: element.event };
            Numbered { seq: element.seq, tick }
        });
        numbered.collect()
    }

    /// Goes on behind that state, which a feed has from elsewhere: the next element of a stream has the next number. Who has
    /// subscribed has to be told that it missed something.
    pub fn restore(&mut self, state: &[Numbered]) {
        self.journal.order.forget();
        for Numbered { seq, tick } in state {
            let key = StreamKey::new(tick.instrument, tick.channel());
            let journal = &mut self.journal;
            if let Some(stream) = journal.streams.get_mut(key.index()) {
                stream.restore(*seq, tick.time, tick.event.clone(), &mut journal.budget);
                if key.channel() == Channel::Book(BookDepth::Full) && self.derived.book(tick, |_| {}).is_err() {
                    journal.stats.books_refused += 1;
                }
            }
        }
    }

    /// Takes in what `instruments`, the feed's whole list, has beyond the catalog. The result goes to every shard before
    /// the next batch.
    pub fn add_instruments(&mut self, instruments: &[Instrument]) -> Upstream {
        let journal = &mut self.journal;
        journal.catalog = Arc::new(journal.catalog.grown_to(instruments));
        journal.streams.resize_with(journal.catalog.len() * StreamKey::PER_INSTRUMENT, Stream::default);
        Upstream::Catalog(Arc::clone(&journal.catalog))
    }

    /// Numbers `ticks` and what is derived from them, and encodes what somebody wants. The result goes to every shard;
    /// there is none when nobody wants any.
    pub fn ingest(&mut self, ticks: &[Tick]) -> Option<Upstream> {
        let wanted = self.journal.wanted;
        let mut batch = Batch::with_capacity(if wanted.is_empty() { 0 } else { ticks.len() });
        let catalog = Arc::clone(&self.journal.catalog);
        let (journal, derived) = (&mut self.journal, &mut self.derived);
        for tick in ticks {
            let Some(instrument) = catalog.get(tick.instrument) else {
                journal.stats.ticks_refused += 1;
                continue;
            };
            if tick.time >= derived.deadline() {
                derived.advance(tick.time, |tick| journal.derive(&mut batch, tick));
            }
            match &tick.event {
                Event::Trade(trade) => {
                    let ticker = derived.trade(instrument, tick.time, trade);
                    journal.sequence(&mut batch, instrument.id, tick.time, tick.event.clone());
                    if let Some(event) = ticker {
                        journal.derive(&mut batch, Tick { instrument: instrument.id, time: tick.time, event });
                    }
                }
                Event::BookSnapshot(update) | Event::BookDelta(update)
                    if update.depth() != BookDepth::Full && journal.brought.contains(tick.channel()) =>
                {
                    journal.sequence(&mut batch, instrument.id, tick.time, tick.event.clone());
                }
                Event::BookSnapshot(_) | Event::BookDelta(_) => {
                    let emit = |event: Event| {
                        // The full book is the feed's, whether or not it is numbered already.
                        if event.channel() == tick.channel() || !journal.brought.contains(event.channel()) {
                            journal.sequence(&mut batch, instrument.id, tick.time, event);
                        }
                    };
                    if let Err(error) = derived.book(tick, emit) {
                        journal.stats.books_refused += 1;
                        self.refused.get_or_insert((instrument.symbol.clone(), error));
                    }
                }
                Event::Ticker(_) | Event::Bar(_) => {
                    if !journal.brought.contains(tick.channel()) {
                        derived.bring(instrument.id, tick.channel());
                    }
                    journal.sequence(&mut batch, instrument.id, tick.time, tick.event.clone());
                }
                Event::Quote(_) | Event::Status(_) => {
                    journal.sequence(&mut batch, instrument.id, tick.time, tick.event.clone());
                }
            }
        }
        if wanted.union(journal.awake).bits() & BARS.bits() != 0 {
            derived.bar_changes(|tick| journal.derive(&mut batch, tick));
        }
        batch.finish()
    }

    /// Tells the market's time where no tick tells it: bars close, and trades leave the statistics.
    pub fn advance(&mut self, now: Timestamp) -> Option<Upstream> {
        let mut batch = Batch::with_capacity(0);
        let (journal, derived) = (&mut self.journal, &mut self.derived);
        derived.advance(now, |tick| journal.derive(&mut batch, tick));
        batch.finish()
    }

    /// Forgets what is too old for clients that resume. `now` is of any monotonic clock and goes on while the feed is silent;
    /// the market's time would not do, because a replay passes a day in a moment.
    pub fn expire(&mut self, now: Duration) {
        let Journal { expiry, streams, budget, .. } = &mut self.journal;
        expiry.advance(now, streams, budget);
    }

    /// The market's time at which [`Sequencer::advance`] has something to do.
    pub fn deadline(&self) -> Timestamp {
        self.derived.deadline()
    }

    /// Answers a shard; the answer goes to that shard, behind every batch so far.
    pub fn serve(&mut self, request: &Request) -> Upstream {
        self.journal.stats.requests += 1;
        self.subscribed |= request.subscribes;
        self.journal.dialects[request.dialect.index()] = true;
        let mut wanted = request.stars;
        for key in &request.keys {
            wanted.insert(key.channel());
        }
        self.want(wanted);
        let mut reply = Reply { ordinal: self.journal.order.last(), ..Reply::default() };
        match request.since.as_ref().map(|from| (from, from.epoch == self.config.epoch)) {
            Some((ResumeFrom { seen: Seen::Ordinal(ordinal, missed), .. }, epoch_matches)) => {
                self.go_on_from(*ordinal, *missed, epoch_matches, request, &mut reply);
            }
            Some((ResumeFrom { seen: Seen::Seqs(seqs), .. }, epoch_matches)) => {
                self.for_each(request, |key| self.state_of(key, request, Some((seqs, epoch_matches)), &mut reply));
            }
            None => self.for_each(request, |key| self.state_of(key, request, None, &mut reply)),
        }
        Upstream::Reply(Box::new(reply))
    }

    /// Calls `on` for each stream that a request is about.
    fn for_each(&self, request: &Request, mut on: impl FnMut(StreamKey)) {
        if !request.stars.is_empty() {
            let allows = |symbol: &str| request.star_symbols.allows(symbol);
            for instrument in self.journal.catalog.iter().filter(|i| allows(i.symbol.as_str())) {
                request.stars.iter().for_each(|channel| on(StreamKey::new(instrument.id, channel)));
            }
        }
        request.keys.iter().filter(|key| !request.stars.contains(key.channel())).for_each(|key| on(*key));
    }

    /// Says to the shards that the feed is over.
    pub fn ended(&mut self, outcome: FeedOutcome) -> Upstream {
        Upstream::Feed(outcome)
    }

    /// The state of those instruments in those channels, for the REST side.
    pub fn snapshot(&self, instruments: &[InstrumentId], channels: ChannelSet) -> Vec<SnapshotElement> {
        let known = instruments.iter().filter(|id| id.index() < self.journal.catalog.len());
        let keys = known.flat_map(|id| channels.iter().map(|channel| StreamKey::new(*id, channel)));
        keys.filter_map(|key| {
            let (time, event) = self.state(key)?;
            Some(SnapshotElement { key, seq: self.journal.stream(key)?.seq(), time, event })
        })
        .collect()
    }

    /// The newest `limit` bars of that interval, oldest first; the last ones may be open.
    pub fn bars(&self, instrument: InstrumentId, interval: BarInterval, limit: usize) -> Vec<SnapshotElement> {
        let key = StreamKey::new(instrument, Channel::Bars(interval));
        let seq = self.journal.stream(key).map_or(0, Stream::seq);
        let bars = self.derived.history(instrument, interval, limit);
        bars.map(|(time, event)| SnapshotElement { key, seq, time, event }).collect()
    }

    /// The newest `limit` elements of a stream that are kept, oldest first.
    pub fn recent(&self, key: StreamKey, limit: usize) -> Vec<SnapshotElement> {
        let past = self.journal.stream(key).into_iter().flat_map(|stream| stream.newest(limit));
        past.map(|past| SnapshotElement { key, seq: past.seq, time: past.time, event: past.event.clone() }).collect()
    }

    /// The instruments so far.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.journal.catalog)
    }

    /// Whether a client's subscribe has been served.
    pub fn subscribed(&self) -> bool {
        self.subscribed
    }

    /// What has been done so far.
    pub fn stats(&self) -> SequencerStats {
        SequencerStats { books_stale: self.derived.books_stale(), ..self.journal.stats }
    }

    /// The first book update since the last call that made no sense: of which instrument, and why.
    pub fn take_refused(&mut self) -> Option<(Symbol, BookError)> {
        self.refused.take()
    }

    /// Notes that somebody wants these channels; see [`DORMANT`].
    fn want(&mut self, channels: ChannelSet) {
        let known = self.journal.wanted.union(self.journal.awake);
        let woken = ChannelSet::from_bits(channels.bits() & !known.bits() & DORMANT.bits());
        self.journal.wanted = self.journal.wanted.union(channels);
        if woken.is_empty() {
            return;
        }
        // The state has it all. Changes of bars that were wanted before have been handed over with their batch.
        self.derived.bar_changes(|_| {});
        // Nobody can have wanted these before, so no shard waits for them: they go into the past alone.
        for instrument in self.catalog().iter() {
            for channel in woken.iter() {
                if let Some((time, event)) = self.derived.state(instrument.id, channel) {
                    self.journal.append(StreamKey::new(instrument.id, channel), time, event);
                }
            }
        }
    }

    /// What is true of a stream now.
    fn state(&self, key: StreamKey) -> Option<(Timestamp, Event)> {
        let last = self.journal.stream(key)?.last();
        match key.channel() {
            Channel::Book(depth) => self.derived.state(key.instrument(), key.channel()).or_else(|| {
                // It was known once: who has it from then must learn that it is not any more.
                Some((last?.time, unknown_book(depth)))
            }),
            Channel::Bars(_) if !self.config.brought.contains(key.channel()) => self
                .derived
                .state(key.instrument(), key.channel())
                .or_else(|| last.map(|past| (past.time, past.event.clone()))),
            _ => last.map(|past| (past.time, past.event.clone())),
        }
    }

    fn state_of(
        &self,
        key: StreamKey,
        request: &Request,
        since: Option<(&FxHashMap<StreamKey, u64>, bool)>,
        reply: &mut Reply,
    ) {
        let Some(stream) = self.journal.stream(key) else { return };
        let Some(instrument) = self.journal.catalog.get(key.instrument()) else { return };
        let seq = stream.seq();
        reply.positions.push((key, seq));
        if let Some((seqs, epoch_matches)) = since
            && let Some(&seen) = seqs.get(&key)
        {
            // Where the epoch is a recording's, what is derived anew is not what was derived then.
            let brought = self.config.brought;
            let epoch_matches = epoch_matches && (brought.is_empty() || brought.contains(key.channel()));
            let outcome = resume(stream, seen, epoch_matches);
            reply.recovered.push((key, outcome));
            match outcome {
                Recovered::Recovered => {
                    for past in stream.after(seen).into_iter().flatten() {
                        encode(&mut reply.replay, request.dialect, instrument, (key, past.seq), past.time, &past.event);
                    }
                    return;
                }
                Recovered::Gap => reply.gaps.push(evicted(key, stream, seen)),
                Recovered::Snapshot => {}
            }
        }
        if request.snapshot
            && let Some((time, event)) = self.state(key)
        {
            encode(&mut reply.snapshot, request.dialect, instrument, (key, seq), time, &event);
        }
    }
}

impl Journal {
    fn stream(&self, key: StreamKey) -> Option<&Stream> {
        self.streams.get(key.index())
    }

    /// Numbers what was derived, unless the feed brings it.
    fn derive(&mut self, batch: &mut Batch, tick: Tick) {
        if !self.brought.contains(tick.channel()) {
            self.sequence(batch, tick.instrument, tick.time, tick.event);
        }
    }

    fn sequence(&mut self, batch: &mut Batch, instrument: InstrumentId, time: Timestamp, event: Event) {
        let channel = event.channel();
        let key = StreamKey::new(instrument, channel);
        if self.wanted.contains(channel) {
            let stream = &self.streams[key.index()];
            if let Some(instrument) = self.catalog.get(instrument) {
                let seq = stream.seq() + 1;
                batch.push_item(key, seq, self.order.last() + 1, time, &event);
                for dialect in Dialect::ALL.into_iter().filter(|dialect| self.dialects[dialect.index()]) {
                    self.stats.elements_encoded += 1;
                    batch.encode_last(dialect, |out| wire::encode_element(dialect, instrument, seq, time, &event, out));
                }
            }
        } else if DORMANT.contains(channel) && !self.awake.contains(channel) {
            return;
        }
        self.append(key, time, event);
    }

    fn append(&mut self, key: StreamKey, time: Timestamp, event: Event) {
        self.stats.ticks += 1;
        self.order.push(key);
        let taped = self.tape.is_some().then(|| event.clone());
        let seq = self.streams[key.index()].append(time, event, &mut self.budget);
        if let (Some(tape), Some(event)) = (&mut self.tape, taped) {
            tape.push(Numbered { seq, tick: Tick { instrument: key.instrument(), time, event } });
        }
    }
}

/// What a client that has seen `seen` of a stream can be given.
fn resume(stream: &Stream, seen: u64, epoch_matches: bool) -> Recovered {
    if !epoch_matches || seen > stream.seq() {
        Recovered::Snapshot
    } else if seen == stream.seq() || stream.after(seen).is_some() {
        Recovered::Recovered
    } else {
        Recovered::Gap
    }
}

/// The loss of everything after `seen`.
fn evicted(key: StreamKey, stream: &Stream, seen: u64) -> (StreamKey, Gap, Timestamp) {
    let gap = Gap { channel: key.channel(), from_seq: seen + 1, to_seq: stream.seq(), reason: GapReason::Evicted };
    (key, gap, stream.last().map_or(Timestamp(0), |past| past.time))
}

fn encode(
    elements: &mut Elements,
    dialect: Dialect,
    instrument: &Instrument,
    (key, seq): (StreamKey, u64),
    time: Timestamp,
    event: &Event,
) {
    elements.push_with(key, seq, |out| wire::encode_element(dialect, instrument, seq, time, event, out));
}

#[cfg(test)]
mod tests;
