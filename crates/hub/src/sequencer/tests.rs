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
    assert_eq!((ticker.open, ticker.high, ticker.low, ticker.last), (Price(100), Price(120), Price(90), Price(120)));
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
    let mut sequencer = Sequencer::new(SequencerConfig { epoch: "e".into(), brought, ..SequencerConfig::default() });
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
