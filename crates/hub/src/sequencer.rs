//! The sequencer: the only writer. It numbers ticks, derives statistics, remembers, and encodes once per dialect in use.
//!
//! **Invariant:** within an epoch the numbers of a stream are 1, 2, 3, ... without a hole, whoever listens.
//!
//! What is *not* here: a clock, a thread or a queue. The shell feeds it ticks and requests in one order, and passes what
//! comes out to the shards in that order.

use std::sync::Arc;

use market::{ChannelSet, Event, Instrument, InstrumentId, Tick, Ticker, Timestamp, Trade};
use rustc_hash::FxHashMap;
use wire::{Dialect, Gap, GapReason, Recovered};

use crate::replay::{Budget, Past, Stream};
use crate::upstream::ResumeFrom;
use crate::{Batch, Catalog, Elements, FeedOutcome, Reply, Request, StreamKey, Upstream};

/// How a sequencer is set up.
#[derive(Debug, Clone)]
pub struct SequencerConfig {
    /// Names this run of numbers; a client that resumes tells it back
    pub epoch: String,
    /// The memory for what resuming clients may have missed, in bytes, over all streams
    pub replay_bytes_max: usize,
}

impl Default for SequencerConfig {
    fn default() -> Self {
        // 64 MiB hold about a million ticks: 50 s of a market of 20,000 ticks/s, which a reconnect needs a fraction of.
        Self { epoch: "0".to_owned(), replay_bytes_max: 64 << 20 }
    }
}

/// What a sequencer has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SequencerStats {
    /// Ticks numbered, derived ones included
    pub ticks: u64,
    /// Ticks of instruments that the feed had not announced; they are dropped
    pub ticks_refused: u64,
    /// Elements encoded, over all dialects
    pub elements_encoded: u64,
    /// Requests served
    pub requests: u64,
}

/// One last value, for callers that are not shards.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotElement {
    /// Whose
    pub key: StreamKey,
    /// Its number
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
    catalog: Arc<Catalog>,
    streams: Vec<Stream>,
    budget: Budget,
    statistics: FxHashMap<InstrumentId, Statistics>,
    dialects: [bool; Dialect::COUNT],
    wanted: ChannelSet,
    subscribed: bool,
    stats: SequencerStats,
}

/// The running statistics of an instrument.
#[derive(Debug)]
enum Statistics {
    Derived(Ticker),
    /// The feed brings its own.
    Given,
}

impl Sequencer {
    /// An empty sequencer.
    pub fn new(config: SequencerConfig) -> Self {
        Self {
            budget: Budget::new(config.replay_bytes_max),
            config,
            catalog: Arc::default(),
            streams: Vec::new(),
            statistics: FxHashMap::default(),
            dialects: [false; Dialect::COUNT],
            wanted: ChannelSet::EMPTY,
            subscribed: false,
            stats: SequencerStats::default(),
        }
    }

    /// Takes in what `instruments`, the feed's whole list, has beyond the catalog. The result goes to every shard before
    /// the next batch.
    pub fn add_instruments(&mut self, instruments: &[Instrument]) -> Upstream {
        self.catalog = Arc::new(self.catalog.grown_to(instruments));
        self.streams.resize_with(self.catalog.len() * StreamKey::PER_INSTRUMENT, Stream::default);
        Upstream::Catalog(Arc::clone(&self.catalog))
    }

    /// Numbers `ticks` and encodes those that somebody wants. The result goes to every shard; there is none when
    /// nobody wants any.
    pub fn ingest(&mut self, ticks: &[Tick]) -> Option<Upstream> {
        let mut batch = Batch::with_capacity(if self.wanted.is_empty() { 0 } else { ticks.len() });
        for tick in ticks {
            if tick.instrument.index() >= self.catalog.len() {
                self.stats.ticks_refused += 1;
                continue;
            }
            let derived = self.derive(tick);
            self.sequence(&mut batch, tick.instrument, tick.time, tick.event.clone());
            if let Some(event) = derived {
                self.sequence(&mut batch, tick.instrument, tick.time, event);
            }
        }
        (!batch.is_empty()).then(|| Upstream::Batch(Arc::new(batch)))
    }

    /// Answers a shard; the answer goes to that shard, behind every batch so far.
    pub fn serve(&mut self, request: &Request) -> Upstream {
        self.stats.requests += 1;
        self.subscribed |= request.subscribes;
        self.dialects[request.dialect.index()] = true;
        self.wanted = self.wanted.union(request.stars);
        for key in &request.keys {
            self.wanted.insert(key.channel());
        }
        let mut reply = Reply::default();
        let known = |seqs: &ResumeFrom| seqs.epoch == self.config.epoch;
        let since = request.since.as_ref().map(|from| (from, known(from)));
        if request.stars.is_empty() {
            for &key in &request.keys {
                self.state_of(key, request, since, &mut reply);
            }
        } else {
            let catalog = Arc::clone(&self.catalog);
            for instrument in catalog.iter() {
                for channel in request.stars.iter() {
                    self.state_of(StreamKey::new(instrument.id, channel), request, since, &mut reply);
                }
            }
            for &key in request.keys.iter().filter(|key| !request.stars.contains(key.channel())) {
                self.state_of(key, request, since, &mut reply);
            }
        }
        Upstream::Reply(Box::new(reply))
    }

    /// Says to the shards that the feed is over.
    pub fn ended(&mut self, outcome: FeedOutcome) -> Upstream {
        Upstream::Feed(outcome)
    }

    /// The last values of those instruments, all channels, for the REST side.
    pub fn snapshot(&self, instruments: &[InstrumentId]) -> Vec<SnapshotElement> {
        let keys = instruments
            .iter()
            .filter(|id| id.index() < self.catalog.len())
            .flat_map(|id| market::Channel::ALL.into_iter().map(|channel| StreamKey::new(*id, channel)));
        keys.filter_map(|key| {
            let Past { seq, time, event } = self.streams[key.index()].last()?.clone();
            Some(SnapshotElement { key, seq, time, event })
        })
        .collect()
    }

    /// The instruments so far.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog)
    }

    /// Whether a client's subscribe has been served.
    pub fn subscribed(&self) -> bool {
        self.subscribed
    }

    /// What has been done so far.
    pub fn stats(&self) -> SequencerStats {
        self.stats
    }

    fn sequence(&mut self, batch: &mut Batch, instrument: InstrumentId, time: Timestamp, event: Event) {
        self.stats.ticks += 1;
        let channel = event.channel();
        let key = StreamKey::new(instrument, channel);
        let stream = &mut self.streams[key.index()];
        if self.wanted.contains(channel)
            && let Some(instrument) = self.catalog.get(instrument)
        {
            let seq = stream.seq() + 1;
            batch.push_item(key, seq, time);
            for dialect in Dialect::ALL.into_iter().filter(|dialect| self.dialects[dialect.index()]) {
                self.stats.elements_encoded += 1;
                batch.encode_last(dialect, |out| wire::encode_element(dialect, instrument, seq, time, &event, out));
            }
        }
        stream.append(time, event, &mut self.budget);
    }

    /// Updates the statistics of the tick's instrument; a trade gives new ones unless the feed brings its own.
    fn derive(&mut self, tick: &Tick) -> Option<Event> {
        match &tick.event {
            Event::Ticker(_) => {
                self.statistics.insert(tick.instrument, Statistics::Given);
                None
            }
            Event::Trade(trade) => {
                let instrument = self.catalog.get(tick.instrument)?;
                let unit = 10f64.powi(i32::from(instrument.price_exponent) + i32::from(instrument.size_exponent));
                let entry = self.statistics.entry(tick.instrument);
                let statistics = entry.or_insert_with(|| Statistics::Derived(opening(trade)));
                let Statistics::Derived(ticker) = statistics else { return None };
                add_trade(ticker, trade, unit);
                Some(Event::Ticker(*ticker))
            }
            _ => None,
        }
    }

    fn state_of(&self, key: StreamKey, request: &Request, since: Option<(&ResumeFrom, bool)>, reply: &mut Reply) {
        let Some(stream) = self.streams.get(key.index()) else { return };
        let Some(instrument) = self.catalog.get(key.instrument()) else { return };
        let seq = stream.seq();
        reply.positions.push((key, seq));
        if let Some((from, epoch_matches)) = since
            && let Some(&seen) = from.seqs.get(&key)
        {
            let outcome = resume(stream, seen, epoch_matches);
            reply.recovered.push((key, outcome));
            match outcome {
                Recovered::Recovered => {
                    for past in stream.after(seen).into_iter().flatten() {
                        encode(&mut reply.replay, request.dialect, instrument, key, past);
                    }
                    return;
                }
                Recovered::Gap => {
                    let gap =
                        Gap { channel: key.channel(), from_seq: seen + 1, to_seq: seq, reason: GapReason::Evicted };
                    let time = stream.last().map_or(Timestamp(0), |past| past.time);
                    reply.gaps.push((key, gap, time));
                }
                Recovered::Snapshot => {}
            }
        }
        if request.snapshot
            && let Some(past) = stream.last()
        {
            encode(&mut reply.snapshot, request.dialect, instrument, key, past);
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

fn encode(elements: &mut Elements, dialect: Dialect, instrument: &Instrument, key: StreamKey, past: &Past) {
    elements.push_with(key, past.seq, |out| {
        wire::encode_element(dialect, instrument, past.seq, past.time, &past.event, out);
    });
}

/// Statistics before the first trade has been added.
fn opening(trade: &Trade) -> Ticker {
    Ticker {
        last: trade.price,
        open: trade.price,
        high: trade.price,
        low: trade.price,
        volume: market::Size(0),
        turnover: 0.0,
        trade_count: 0,
    }
}

fn add_trade(ticker: &mut Ticker, trade: &Trade, unit: f64) {
    ticker.last = trade.price;
    ticker.high = ticker.high.max(trade.price);
    ticker.low = ticker.low.min(trade.price);
    ticker.volume.0 = ticker.volume.0.saturating_add(trade.size.0);
    ticker.turnover += trade.price.0 as f64 * trade.size.0 as f64 * unit;
    ticker.trade_count += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::{AssetClass, Channel, Price, Side, Size, Symbol};

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
        let mut sequencer = Sequencer::new(SequencerConfig { epoch: "e".into(), replay_bytes_max });
        sequencer.add_instruments(&[instrument(0), instrument(1)]);
        sequencer
    }

    fn ask(keys: Vec<StreamKey>, since: Option<ResumeFrom>) -> Request {
        let dialect = Dialect::NativeMessagePack;
        Request { dialect, keys, stars: ChannelSet::EMPTY, snapshot: true, since, subscribes: true }
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
            Some(ResumeFrom { epoch: epoch.to_owned(), seqs })
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
        let all = sequencer.snapshot(&[InstrumentId(0), InstrumentId(9)]);
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

    #[test]
    fn unknown_instruments_are_counted_not_sequenced() {
        let mut sequencer = sequencer(1 << 20);
        assert!(sequencer.ingest(&[trade(7, 1, 100)]).is_none());
        assert_eq!(sequencer.stats().ticks_refused, 1);
    }
}
