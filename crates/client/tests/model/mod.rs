//! A server as the protocol's document has it, a network that cuts, and a client that checks what it is told.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use market::{
    AssetClass, Book, BookDepth, BookSide, BookUpdate, Channel, Event as MarketEvent, Instrument, InstrumentId, Level,
    Price, Side, Size, Symbol, Timestamp, Trade,
};
use tickerplant_client::engine::{Action, Config, Engine, Now};
use tickerplant_client::{Backoff, Books, Connection, Event, Lost, Origin, Subscription};
use wire::{
    Command, Dialect, Encoding, FrameKind, Gap, GapReason, Limits, Mode, Recovered, ServerMessage, Since, Symbols,
    begin_data, encode_element, encode_gap, encode_message, end_data, parse_command,
};

const SYMBOLS: [&str; 3] = ["AAA", "BBB", "CCC"];
const BOOK: Channel = Channel::Book(BookDepth::Full);
/// So many elements of a stream can be resumed.
const KEPT: u64 = 12;

/// A stream to be subscribed, and how it is resumed from which number.
type Planned = ((usize, Channel), Option<(Recovered, u64)>);

/// A small generator (xorshift64*), so that a seed says all.
pub(crate) struct Lots(u64);

impl Lots {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The server: a log per stream, a book per instrument, and one session.
pub(crate) struct Server {
    pub(crate) epoch: u64,
    log: BTreeMap<(usize, Channel), Vec<MarketEvent>>,
    books: Vec<Book>,
    session: Option<Session>,
}

#[derive(Default)]
struct Session {
    modes: BTreeMap<(usize, Channel), Mode>,
    delivered: u64,
    dropped: u64,
}

fn instrument(index: usize) -> Instrument {
    Instrument {
        id: InstrumentId(index as u32),
        symbol: Symbol::new(SYMBOLS[index]).unwrap(),
        price_exponent: -2,
        size_exponent: 0,
        tick_size: Price(1),
        lot_size: Size(1),
        class: AssetClass::Equity,
        currency: "USD".into(),
        description: String::new(),
    }
}

impl Server {
    pub(crate) fn new() -> Self {
        Self { epoch: 0, log: BTreeMap::new(), books: vec![Book::new(); SYMBOLS.len()], session: None }
    }

    fn restart(&mut self) {
        *self = Self { epoch: self.epoch + 1, ..Self::new() };
    }

    fn epoch_name(&self) -> String {
        format!("epoch-{}", self.epoch)
    }

    fn open(&mut self, dialect: Dialect, out: &mut VecDeque<Vec<u8>>) {
        self.session = Some(Session::default());
        let welcome = ServerMessage::Welcome {
            version: "1",
            session: "s",
            epoch: &self.epoch_name(),
            time: Timestamp(1),
            heartbeat_ms: 1000,
            limits: &Limits::default(),
        };
        push(dialect, &welcome, out);
    }

    /// Something happens in a stream; it is live for who is subscribed.
    fn tick(&mut self, dialect: Dialect, lots: &mut Lots, out: &mut VecDeque<Vec<u8>>) {
        let index = lots.below(SYMBOLS.len() as u64) as usize;
        let (channel, event) = if lots.one_in(3) {
            let side = BookSide::ALL[lots.below(2) as usize];
            let level = Level { price: Price(100 + lots.below(20) as i64), size: Size(lots.below(4)) };
            self.books[index].set(side, level.price, level.size);
            let (bids, asks) = if side == BookSide::Bid { (vec![level], vec![]) } else { (vec![], vec![level]) };
            let update = BookUpdate::new(BookDepth::Full, &bids, &asks, self.books[index].checksum());
            (BOOK, MarketEvent::BookDelta(update))
        } else {
            let number = self.log.get(&(index, Channel::Trades)).map_or(0, Vec::len) as u64 + 1;
            let price = Price(lots.below(1000) as i64);
            let trade = Trade { price, size: Size(number), side: Side::Buy, trade_id: number };
            (Channel::Trades, MarketEvent::Trade(trade))
        };
        let log = self.log.entry((index, channel)).or_default();
        log.push(event.clone());
        let seq = log.len() as u64;
        let Some(session) = &mut self.session else { return };
        if session.modes.get(&(index, channel)) == Some(&Mode::Every) {
            session.delivered += 1;
            out.push_back(frame(dialect, FrameKind::Live, &[(index, seq, event)]));
        }
    }

    fn heartbeat(&self, dialect: Dialect, out: &mut VecDeque<Vec<u8>>) {
        if let Some(Session { delivered, dropped, .. }) = self.session {
            push(dialect, &ServerMessage::Heartbeat { time: Timestamp(1), delivered, dropped }, out);
        }
    }

    /// A stall: the newest values with a gap in front, as a client that read too slowly gets them.
    fn stall(&mut self, dialect: Dialect, lots: &mut Lots, out: &mut VecDeque<Vec<u8>>) {
        let before: Vec<_> = SYMBOLS.iter().enumerate().map(|(i, _)| self.len(i, Channel::Trades)).collect();
        let mut unseen = VecDeque::new();
        let delivered = self.session.as_ref().map_or(0, |session| session.delivered);
        for _ in 0..lots.below(20) {
            self.tick(dialect, lots, &mut unseen);
        }
        let Some(session) = &mut self.session else { return };
        session.delivered = delivered;
        for (index, before) in before.into_iter().enumerate() {
            let now = self.log.get(&(index, Channel::Trades)).map_or(0, Vec::len) as u64;
            if !session.modes.contains_key(&(index, Channel::Trades)) || now == before {
                continue;
            }
            let mut elements = Vec::new();
            if now - before > 1 {
                let gap =
                    Gap { channel: Channel::Trades, from_seq: before + 1, to_seq: now - 1, reason: GapReason::Slow };
                encode_gap(dialect, &instrument(index), Timestamp(5), gap, &mut elements);
                session.dropped += now - 1 - before;
            }
            let event = &self.log[&(index, Channel::Trades)][now as usize - 1];
            encode_element(dialect, &instrument(index), now, Timestamp(now), event, &mut elements);
            session.delivered += 1;
            out.push_back(wrapped(dialect, FrameKind::Live, if now - before > 1 { 2 } else { 1 }, &elements));
        }
        // Books are let through.
        for message in unseen {
            if is_book(dialect, &message) {
                session.delivered += 1;
                out.push_back(message);
            }
        }
    }

    fn len(&self, index: usize, channel: Channel) -> u64 {
        self.log.get(&(index, channel)).map_or(0, Vec::len) as u64
    }

    fn command(&mut self, dialect: Dialect, encoding: Encoding, bytes: &[u8], out: &mut VecDeque<Vec<u8>>) {
        let envelope = parse_command(encoding, bytes).unwrap();
        let id = envelope.id.as_ref();
        match envelope.command {
            Command::Ping => push(dialect, &ServerMessage::Pong { id, time: Timestamp(7), sent_bytes: 0 }, out),
            Command::Subscribe(command) => {
                let indices: Vec<usize> = match &command.symbols {
                    Symbols::All => (0..SYMBOLS.len()).collect(),
                    Symbols::Named(names) => {
                        names.iter().map(|name| SYMBOLS.iter().position(|symbol| symbol == name).unwrap()).collect()
                    }
                };
                let streams: Vec<_> = indices.iter().flat_map(|i| command.channels.iter().map(|c| (*i, c))).collect();
                let plan: Vec<_> =
                    streams.iter().map(|(i, c)| ((*i, *c), self.recover(command.since.as_ref(), *i, *c))).collect();
                let recovered: Vec<_> =
                    plan.iter().filter_map(|((i, c), how)| how.map(|(how, _)| (SYMBOLS[*i], *c, how))).collect();
                let instruments: Vec<_> = indices.iter().map(|index| instrument(*index)).collect();
                let instruments: Vec<_> = instruments.iter().collect();
                let (channels, mode) = (command.channels, command.mode);
                push(
                    dialect,
                    &ServerMessage::Subscribed { id, instruments: &instruments, channels, mode, recovered: &recovered },
                    out,
                );
                self.state(dialect, &plan, command.snapshot, out);
                let session = self.session.as_mut().unwrap();
                for stream in streams {
                    session.modes.insert(stream, command.mode);
                }
            }
            other => panic!("not expected: {other:?}"),
        }
    }

    fn recover(&self, since: Option<&Since>, index: usize, channel: Channel) -> Option<(Recovered, u64)> {
        let since = since?;
        let (.., seq) = since.seqs.iter().find(|(symbol, c, _)| symbol == SYMBOLS[index] && *c == channel)?;
        let newest = self.len(index, channel);
        Some(if since.epoch != self.epoch_name() || *seq > newest {
            (Recovered::Snapshot, *seq)
        } else if newest - seq > KEPT {
            (Recovered::Gap, *seq)
        } else {
            (Recovered::Recovered, *seq)
        })
    }

    /// Gaps, then the snapshot, then what was missed.
    fn state(&mut self, dialect: Dialect, plan: &[Planned], snapshot: bool, out: &mut VecDeque<Vec<u8>>) {
        let mut state = Vec::new();
        let (mut missed, mut gaps) = (Vec::new(), (0, Vec::new()));
        for ((index, channel), how) in plan {
            let newest = self.len(*index, *channel);
            match how {
                Some((Recovered::Recovered, since)) => {
                    for seq in since + 1..=newest {
                        missed.push((*index, seq, self.log[&(*index, *channel)][seq as usize - 1].clone()));
                    }
                    continue;
                }
                Some((Recovered::Gap, since)) => {
                    let (from_seq, to_seq) = (since + 1, newest);
                    let gap = Gap { channel: *channel, from_seq, to_seq, reason: GapReason::Evicted };
                    encode_gap(dialect, &instrument(*index), Timestamp(5), gap, &mut gaps.1);
                    gaps.0 += 1;
                    self.session.as_mut().unwrap().dropped += newest - since;
                }
                _ => {}
            }
            if newest > 0 && snapshot {
                state.push((*index, newest, self.current(*index, *channel)));
            }
        }
        if gaps.0 > 0 {
            out.push_back(wrapped(dialect, FrameKind::Live, gaps.0, &gaps.1));
        }
        // Each piece in a frame of its own, so that cuts fall between them.
        for piece in state {
            out.push_back(frame(dialect, FrameKind::Snapshot, &[piece]));
        }
        for piece in missed {
            self.session.as_mut().unwrap().delivered += 1;
            out.push_back(frame(dialect, FrameKind::Live, &[piece]));
        }
    }

    fn current(&self, index: usize, channel: Channel) -> MarketEvent {
        if channel != BOOK {
            return self.log[&(index, channel)].last().unwrap().clone();
        }
        let book = &self.books[index];
        let side = |side| book.levels(side).collect::<Vec<_>>();
        let (bids, asks) = (side(BookSide::Bid), side(BookSide::Ask));
        MarketEvent::BookSnapshot(BookUpdate::new(BookDepth::Full, &bids, &asks, book.checksum()))
    }
}

fn push(dialect: Dialect, message: &ServerMessage<'_>, out: &mut VecDeque<Vec<u8>>) {
    let mut bytes = Vec::new();
    encode_message(dialect, message, &mut bytes);
    out.push_back(bytes);
}

fn frame(dialect: Dialect, kind: FrameKind, elements: &[(usize, u64, MarketEvent)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, seq, event) in elements {
        encode_element(dialect, &instrument(*index), *seq, Timestamp(*seq), event, &mut bytes);
    }
    wrapped(dialect, kind, elements.len(), &bytes)
}

fn wrapped(dialect: Dialect, kind: FrameKind, count: usize, elements: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    begin_data(dialect, kind, Timestamp(9), count, &mut bytes);
    bytes.extend_from_slice(elements);
    end_data(dialect, &mut bytes);
    bytes
}

fn is_book(dialect: Dialect, message: &[u8]) -> bool {
    match dialect {
        Dialect::NativeJson => String::from_utf8_lossy(message).contains("book_delta"),
        // `[sent_at 9, [5, ...]]`
        Dialect::NativeMessagePack => message.get(3) == Some(&5),
    }
}

/// A server, a network and a client.
pub(crate) struct World {
    seed: u64,
    lots: Lots,
    dialect: Dialect,
    encoding: Encoding,
    pub(crate) server: Server,
    engine: Engine,
    books: Books,
    time: Duration,
    down: VecDeque<Vec<u8>>,
    up: VecDeque<Vec<u8>>,
    connecting: bool,
    /// The last number shown of each stream in this epoch; the first may be any.
    shown: BTreeMap<(usize, Channel), u64>,
    /// The epoch of what is shown
    epoch: u64,
    pub(crate) cuts: u64,
    pub(crate) gaps: u64,
    pub(crate) delivered: u64,
    pub(crate) books_compared: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let lots = Lots(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let (dialect, encoding) = if seed.is_multiple_of(2) {
            (Dialect::NativeMessagePack, Encoding::MessagePack)
        } else {
            (Dialect::NativeJson, Encoding::Json)
        };
        let config = Config { encoding, seed, reconnect: Some(Backoff::default()), ..Config::default() };
        let engine = Engine::new(config, now(Duration::ZERO));
        Self {
            seed,
            lots,
            dialect,
            encoding,
            server: Server::new(),
            engine,
            books: Books::default(),
            time: Duration::ZERO,
            down: VecDeque::new(),
            up: VecDeque::new(),
            connecting: false,
            shown: BTreeMap::new(),
            epoch: 0,
            cuts: 0,
            gaps: 0,
            delivered: 0,
            books_compared: 0,
        }
    }

    pub(crate) fn run(&mut self) {
        let all = self.lots.one_in(2);
        let subscription = if all {
            Subscription::to([Channel::Trades, BOOK], tickerplant_client::SymbolList::All)
        } else {
            Subscription::to([Channel::Trades, BOOK], SYMBOLS)
        };
        self.engine.request(subscription).unwrap();
        for _ in 0..400 {
            self.step();
        }
        // The network holds from here on.
        for _ in 0..400 {
            self.settle_step();
        }
        while !self.down.is_empty() || !self.up.is_empty() {
            self.carry();
        }
        self.check_end();
    }

    fn step(&mut self) {
        match self.lots.below(40) {
            0 => self.cut(),
            1 if self.lots.one_in(12) => {
                self.cut();
                self.server.restart();
            }
            2 => self.server.heartbeat(self.dialect, &mut self.down),
            3 if self.lots.one_in(3) => self.server.stall(self.dialect, &mut self.lots, &mut self.down),
            4..=14 => self.server.tick(self.dialect, &mut self.lots, &mut self.down),
            _ => self.carry(),
        }
    }

    fn settle_step(&mut self) {
        self.carry();
        if self.down.is_empty() && self.up.is_empty() && self.lots.one_in(8) {
            self.server.heartbeat(self.dialect, &mut self.down);
        }
    }

    /// The connection is gone, with a part of what was on its way; the server goes on alone for a while.
    fn cut(&mut self) {
        if self.server.session.take().is_none() {
            return;
        }
        let arrives = self.lots.below(self.down.len() as u64 + 1) as usize;
        for _ in 0..arrives {
            self.deliver();
        }
        self.down.clear();
        self.up.clear();
        self.cuts += 1;
        self.engine.lost(Lost::Network("cut".into()), now(self.time));
        self.drain();
        for _ in 0..self.lots.below(30) {
            self.server.tick(self.dialect, &mut self.lots, &mut VecDeque::new());
        }
    }

    /// Something moves: a message in either direction, or time.
    fn carry(&mut self) {
        while let Some(action) = self.engine.action(now(self.time)) {
            match action {
                Action::Connect => self.connecting = true,
                Action::Send(bytes) => self.up.push_back(bytes),
                Action::Open(_) | Action::FetchInstruments(_) => {
                    panic!("seed {}: nothing blocks a WebSocket", self.seed)
                }
                Action::Close => panic!("seed {}: the engine gave up: {:?}", self.seed, self.engine.take_events()),
            }
        }
        if std::mem::take(&mut self.connecting) {
            self.engine.connected(now(self.time));
            self.server.open(self.dialect, &mut self.down);
        } else if let Some(bytes) = self.up.pop_front() {
            self.server.command(self.dialect, self.encoding, &bytes, &mut self.down);
        } else if !self.down.is_empty() {
            self.deliver();
        } else if let Some(due) = self.engine.due() {
            // Silence is not of interest here: no further than to the next heartbeat.
            self.time =
                if self.server.session.is_some() { self.time + Duration::from_millis(10) } else { due.max(self.time) };
            self.engine.heard(now(self.time));
            self.engine.timeout(now(self.time));
        }
        self.drain();
    }

    fn deliver(&mut self) {
        if let Some(message) = self.down.pop_front() {
            self.engine.message(&message, now(self.time));
            self.drain();
        }
    }

    fn drain(&mut self) {
        for event in self.engine.take_events() {
            if let Some(problem) = self.books.apply(&event) {
                panic!("seed {}: {problem:?}", self.seed);
            }
            self.check(&event);
        }
    }

    fn check(&mut self, event: &Event) {
        let seed = self.seed;
        match event {
            Event::Trade(update) => {
                let index = update.instrument.id.index();
                if self.epoch == self.server.epoch {
                    let truth = &self.server.log[&(index, Channel::Trades)][update.seq as usize - 1];
                    assert_eq!(&MarketEvent::Trade(update.value), truth, "seed {seed}");
                }
                self.number((index, Channel::Trades), update.seq, update.origin);
            }
            Event::BookSnapshot(update) | Event::BookDelta(update) => {
                self.number((update.instrument.id.index(), BOOK), update.seq, update.origin);
            }
            Event::Gap(gap) => {
                let last = self.shown.insert((gap.instrument.id.index(), gap.channel), gap.to_seq);
                // A gap before anything else is one of a stream that was known to be at its begin.
                assert_eq!(gap.from_seq, last.unwrap_or(0) + 1, "seed {seed}: {gap:?} after {last:?}");
                assert!(gap.to_seq >= gap.from_seq, "seed {seed}: {gap:?}");
                self.gaps += 1;
            }
            Event::Connection(Connection::Connected { epoch, epoch_changed, .. }) => {
                if *epoch_changed {
                    self.shown.clear();
                }
                self.epoch = epoch.trim_start_matches("epoch-").parse().unwrap();
            }
            Event::Refused { .. } | Event::BookProblem(_) => panic!("seed {seed}: {event:?}"),
            _ => {}
        }
    }

    fn number(&mut self, stream: (usize, Channel), seq: u64, origin: Origin) {
        let seed = self.seed;
        let last = self.shown.insert(stream, seq);
        match (origin, last) {
            (Origin::Live, Some(last)) => assert_eq!(seq, last + 1, "seed {seed}: {stream:?}"),
            (Origin::Snapshot, Some(last)) => assert_eq!(seq, last, "seed {seed}: state of {stream:?}"),
            // The first that is seen of a stream without state is its first of all.
            (Origin::Live, None) => assert_eq!(seq, 1, "seed {seed}: {stream:?}"),
            (Origin::Snapshot, None) => {}
        }
        self.delivered += u64::from(origin == Origin::Live);
    }

    fn check_end(&mut self) {
        let seed = self.seed;
        assert!(self.server.session.is_some() && self.down.is_empty(), "seed {seed}: it has not come to rest");
        for index in 0..SYMBOLS.len() {
            for channel in [Channel::Trades, BOOK] {
                let newest = self.server.len(index, channel);
                assert_eq!(self.shown.get(&(index, channel)).copied().unwrap_or(0), newest, "seed {seed}: {channel}");
            }
            if let Some(state) = self.books.get(InstrumentId(index as u32), BookDepth::Full) {
                assert_eq!(state.book, self.server.books[index], "seed {seed}");
                self.books_compared += 1;
            }
        }
        let counters = self.engine.counters();
        assert_eq!((counters.heartbeats_wrong, counters.unknown), (0, 0), "seed {seed}");
    }
}

fn now(monotonic: Duration) -> Now {
    Now { monotonic, wall: Timestamp(1_000_000_000 + monotonic.as_nanos() as u64) }
}
