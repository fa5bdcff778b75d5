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
mod tests {
    use super::*;
    use crate::replay::Past;
    use market::{AssetClass, Price, Side, Size, Symbol, Trade};

    fn instrument(id: u32) -> Instrument {
        Instrument {
            id: InstrumentId(id),
            symbol: Symbol::new(&format!("S{id}")).unwrap(),
            price_exponent: -2,
            size_exponent: 0,
            tick_size: Price(1),
            lot_size: Size(1),
            class: AssetClass::Equity,
            currency: "USD".into(),
            description: String::new(),
        }
    }

    fn trade(instrument: u32, time: u64, price: i64) -> Tick {
        let event = Event::Trade(Trade { price: Price(price), size: Size(2), side: Side::Buy, trade_id: time });
        Tick { instrument: InstrumentId(instrument), time: Timestamp(time), event }
    }

    fn sequencer(replay_bytes_max: usize) -> Sequencer {
        let mut sequencer =
            Sequencer::new(SequencerConfig { epoch: "e".into(), replay_bytes_max, ..SequencerConfig::default() });
        sequencer.add_instruments(&[instrument(0), instrument(1)]);
        sequencer
    }

    fn ask(keys: Vec<StreamKey>, since: Option<ResumeFrom>) -> Request {
        let dialect = Dialect::NativeMessagePack;
        let star_symbols = crate::SymbolSet::ALL;
        Request { dialect, keys, stars: ChannelSet::EMPTY, star_symbols, snapshot: true, since, subscribes: true }
    }

    fn reply(upstream: Upstream) -> Reply {
        match upstream {
            Upstream::Reply(reply) => *reply,
            other => panic!("not a reply: {other:?}"),
        }
    }

    const TRADES_0: StreamKey = StreamKey::new(InstrumentId(0), Channel::Trades);

    #[test]
    fn numbers_go_on_whether_or_not_somebody_listens() {
        let mut sequencer = sequencer(1 << 20);
        assert!(!sequencer.subscribed());
        assert!(sequencer.ingest(&[trade(0, 1, 100), trade(1, 2, 100), trade(0, 3, 101)]).is_none());
        let state = reply(sequencer.serve(&ask(vec![TRADES_0], None)));
        assert!(sequencer.subscribed());
        assert_eq!(state.snapshot.items(), [crate::Item { key: TRADES_0, seq: 2 }]);
        let Some(Upstream::Batch(batch)) = sequencer.ingest(&[trade(0, 4, 102)]) else { panic!("no batch") };
        assert_eq!(batch.items(), [crate::Item { key: TRADES_0, seq: 3 }]);
        assert_eq!(batch.oldest(), Timestamp(4));
        assert!(!batch.all(Dialect::NativeMessagePack).is_empty());
        assert!(batch.all(Dialect::NativeJson).is_empty());
    }

    #[test]
    fn resume_says_what_it_could_do() {
        let mut sequencer = sequencer(20 * size_of::<Past>());
        for n in 1..=50 {
            sequencer.ingest(&[trade(0, n, 100)]);
        }
        let since = |epoch: &str, seq| {
            let seqs = [(TRADES_0, seq)].into_iter().collect();
            Some(ResumeFrom { epoch: epoch.to_owned(), seen: Seen::Seqs(seqs) })
        };
        for (epoch, seen, want, replayed, gap) in [
            ("e", 48, Recovered::Recovered, vec![49, 50], None),
            ("e", 50, Recovered::Recovered, vec![], None),
            ("e", 3, Recovered::Gap, vec![], Some((4, 50))),
            ("e", 51, Recovered::Snapshot, vec![], None),
            ("other", 48, Recovered::Snapshot, vec![], None),
        ] {
            let reply = reply(sequencer.serve(&ask(vec![TRADES_0], since(epoch, seen))));
            assert_eq!(reply.recovered, [(TRADES_0, want)], "{epoch} {seen}");
            assert_eq!(reply.replay.items().iter().map(|i| i.seq).collect::<Vec<_>>(), replayed);
            assert_eq!(reply.gaps.first().map(|(_, gap, _)| (gap.from_seq, gap.to_seq)), gap);
            assert_eq!(reply.snapshot.is_empty(), want == Recovered::Recovered);
        }
    }

    #[test]
    fn statistics_follow_the_trades() {
        let mut sequencer = sequencer(1 << 20);
        sequencer.ingest(&[trade(0, 1, 100), trade(0, 2, 90), trade(0, 3, 120)]);
        let all = sequencer.snapshot(&[InstrumentId(0), InstrumentId(9)], ChannelSet::from_bits(u16::MAX));
        let ticker = all.iter().find_map(|element| match element.event {
            Event::Ticker(ticker) => Some((element.seq, ticker)),
            _ => None,
        });
        let (seq, ticker) = ticker.unwrap();
        assert_eq!((seq, ticker.trade_count, ticker.volume), (3, 3, Size(6)));
        assert_eq!(
            (ticker.open, ticker.high, ticker.low, ticker.last),
            (Price(100), Price(120), Price(90), Price(120))
        );
        assert!((ticker.turnover - 6.2).abs() < 1e-9);
    }

    fn book(time: u64, event: impl Fn(market::BookUpdate) -> Event, levels: &[(i64, u64)]) -> Tick {
        let levels: Vec<_> =
            levels.iter().map(|(price, size)| market::Level { price: Price(*price), size: Size(*size) }).collect();
        let update = market::BookUpdate::new(market::BookDepth::Full, &levels, &[], 7);
        Tick { instrument: InstrumentId(0), time: Timestamp(time), event: event(update) }
    }

    fn key(channel: &str) -> StreamKey {
        StreamKey::new(InstrumentId(0), channel.parse().unwrap())
    }

    #[test]
    fn a_channel_that_nobody_has_wanted_begins_with_its_state() {
        let mut sequencer = sequencer(1 << 20);
        sequencer.ingest(&[book(1, Event::BookSnapshot, &[(9, 1), (8, 1)]), trade(0, 2, 100), trade(0, 3, 101)]);
        for name in ["book.10", "book.full", "bars.1m"] {
            let seqs = [(key(name), 0)].into_iter().collect();
            let all = Some(ResumeFrom { epoch: "e".into(), seen: Seen::Seqs(seqs) });
            let reply = reply(sequencer.serve(&ask(vec![key(name)], all)));
            assert_eq!(reply.recovered, [(key(name), Recovered::Recovered)]);
            assert_eq!(reply.replay.items(), [crate::Item { key: key(name), seq: 1 }], "0 means from the first");
        }
        let later = [book(4, Event::BookDelta, &[(8, 0)]), trade(0, 5, 102), trade(0, 6, 103)];
        let Some(Upstream::Batch(batch)) = sequencer.ingest(&later) else { panic!("no batch") };
        let seqs = |name| batch.items().iter().filter(|item| item.key == key(name)).map(|i| i.seq).collect::<Vec<_>>();
        // Two trades are one change of the bar; nobody has wanted bars of an hour.
        assert_eq!(
            [seqs("book.10"), seqs("book.full"), seqs("bars.1m"), seqs("bars.1h")],
            [vec![2], vec![2], vec![2], vec![]]
        );
    }

    #[test]
    fn a_book_that_contradicts_itself_is_unknown_until_its_next_snapshot() {
        let mut sequencer = sequencer(1 << 20);
        sequencer.serve(&ask(vec![key("book.full")], None));
        let levels = |sequencer: &mut Sequencer| {
            let state = sequencer.snapshot(&[InstrumentId(0)], [key("book.full").channel()].into_iter().collect());
            let state = state.into_iter().next().map(|element| (element.seq, element.event));
            state.map(|(seq, event)| match event {
                Event::BookSnapshot(update) => (seq, update.len()),
                other => panic!("not a snapshot: {other:?}"),
            })
        };
        assert_eq!(levels(&mut sequencer), None);
        sequencer.ingest(&[book(1, Event::BookSnapshot, &[(9, 1), (8, 1)])]);
        assert_eq!(levels(&mut sequencer), Some((1, 2)));
        sequencer.ingest(&[book(2, Event::BookSnapshot, &[(8, 1), (9, 1)]), book(3, Event::BookDelta, &[(7, 1)])]);
        assert_eq!((levels(&mut sequencer), sequencer.stats().books_refused), (Some((2, 0)), 1));
        assert_eq!(sequencer.stats().books_stale, 1);
        let (symbol, error) = sequencer.take_refused().unwrap();
        assert_eq!((symbol.as_str(), error), ("S0", market::BookError::Disordered { price: Price(8) }));
        assert_eq!(sequencer.take_refused(), None);
        sequencer.ingest(&[book(4, Event::BookSnapshot, &[(9, 1)])]);
        assert_eq!((levels(&mut sequencer), sequencer.stats().books_stale), (Some((3, 1)), 0));
    }

    #[test]
    fn bars_close_when_the_time_is_told() {
        let mut sequencer = sequencer(1 << 20);
        sequencer.serve(&ask(vec![key("bars.1s")], None));
        sequencer.ingest(&[trade(0, 1_500_000_000, 100)]);
        assert_eq!(sequencer.deadline(), Timestamp(2_000_000_000));
        assert!(sequencer.advance(Timestamp(1_999_999_999)).is_none());
        let Some(Upstream::Batch(batch)) = sequencer.advance(Timestamp(2_000_000_000)) else { panic!("no batch") };
        assert_eq!(batch.items(), [crate::Item { key: key("bars.1s"), seq: 2 }]);
        let bars = sequencer.bars(InstrumentId(0), BarInterval::S1, 10);
        assert!(matches!(&bars[..], [SnapshotElement { event: Event::Bar(bar), .. }] if bar.closed));
    }

    /// All that a sequencer numbers of some ticks while somebody wants `channels`, and the bytes of the elements.
    fn taped(brought: ChannelSet, wanted: &[&str], ticks: &[Vec<Tick>]) -> (Vec<Numbered>, Vec<u8>) {
        let mut sequencer =
            Sequencer::new(SequencerConfig { epoch: "e".into(), brought, ..SequencerConfig::default() });
        sequencer.add_instruments(&[instrument(0), instrument(1)]);
        sequencer.record(ChannelSet::EMPTY);
        sequencer.serve(&ask(wanted.iter().map(|name| key(name)).collect(), None));
        let (mut numbered, mut bytes) = (Vec::new(), Vec::new());
        for ticks in ticks {
            if let Some(Upstream::Batch(batch)) = sequencer.ingest(ticks) {
                bytes.extend_from_slice(batch.all(Dialect::NativeMessagePack));
            }
            numbered.extend(sequencer.take_recorded());
        }
        (numbered, bytes)
    }

    #[test]
    fn what_was_recorded_is_sequenced_again_as_it_was() {
        let wanted = ["trades", "ticker", "bars.1s", "bars.1m", "book.10", "book.full"];
        let second = 1_000_000_000;
        let live = [
            vec![book(1, Event::BookSnapshot, &[(9, 1), (8, 1)]), trade(0, 2, 100), trade(0, 3, 101)],
            vec![trade(0, second, 102), book(second, Event::BookDelta, &[(9, 0)]), trade(0, 3 * second, 90)],
            vec![book(3 * second, Event::BookDelta, &[(7, 4), (6, 2)]), trade(0, 90_000 * second, 91)],
        ];
        let (numbered, bytes) = taped(ChannelSet::EMPTY, &wanted, &live);
        let brought: ChannelSet = numbered.iter().map(|element| element.tick.channel()).collect();
        assert_eq!(brought.iter().count(), wanted.len());
        // The batches of a replay are others.
        let replayed: Vec<Vec<Tick>> = numbered.iter().map(|element| vec![element.tick.clone()]).collect();
        assert_eq!(taped(brought, &wanted, &replayed), (numbered, bytes));
    }

    #[test]
    fn a_restored_state_goes_on_with_its_numbers() {
        let mut first = sequencer(1 << 20);
        first.record(ChannelSet::EMPTY);
        first.ingest(&[trade(0, 1, 100), book(1, Event::BookSnapshot, &[(9, 1), (8, 1)]), trade(0, 2, 101)]);
        let mut second = sequencer(1 << 20);
        second.record(ChannelSet::EMPTY);
        second.restore(&first.state_of_all());
        assert_eq!(second.state_of_all(), first.state_of_all());
        first.take_recorded();
        let more = [book(4, Event::BookDelta, &[(8, 0)]), trade(0, 5, 102)];
        first.ingest(&more);
        second.ingest(&more);
        let numbered = |sequencer: &mut Sequencer| {
            let tape = sequencer.take_recorded().into_iter();
            tape.map(|element| (element.tick.channel(), element.seq)).collect::<Vec<_>>()
        };
        assert_eq!(numbered(&mut second), numbered(&mut first));
    }

    #[test]
    fn unknown_instruments_are_counted_not_sequenced() {
        let mut sequencer = sequencer(1 << 20);
        assert!(sequencer.ingest(&[trade(7, 1, 100)]).is_none());
        assert_eq!(sequencer.stats().ticks_refused, 1);
    }
}
