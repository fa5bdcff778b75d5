//! A client that believes nothing: it keeps its own account of what it subscribed and checks each element against it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use flate2::{Decompress, FlushDecompress};
use hub::{Catalog, Compression, SessionKey, StreamKey, Written};
use market::{BarInterval, BookDepth, Channel, Event};
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use serde_json::{Value, json};
use wire::Dialect;

use super::book::ClientBook;
use super::decode::{self, Element, Message, RawFrame};
use super::{Log, Truth};

/// A socket with a small buffer that the client empties at its own pace.
pub(crate) struct Socket {
    buffer: Vec<u8>,
    room: usize,
    blocked: bool,
    /// Bytes the client reads in a step; 0 for one that has ceased to read.
    pace: usize,
    /// Out of how many steps one changes the pace.
    moody: u32,
}

impl Socket {
    pub(crate) fn random(rng: &mut impl Rng) -> Self {
        let pace = *[usize::MAX, usize::MAX, 20_000, 2_000, 300].choose(rng).unwrap();
        Self { buffer: Vec::new(), room: rng.random_range(200..30_000), blocked: false, pace, moody: 150 }
    }

    pub(crate) fn open_wide(&mut self) {
        self.pace = usize::MAX;
        self.moody = u32::MAX;
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Written {
        let taken = bytes.len().min(self.room - self.buffer.len().min(self.room));
        self.buffer.extend_from_slice(&bytes[..taken]);
        self.blocked |= taken < bytes.len();
        Written::Bytes(taken)
    }
}

/// Says which frame it was when a decoder that knows nothing of it panics.
struct SaysWhere<'a>(&'a str);

impl Drop for SaysWhere<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("at {}", self.0);
        }
    }
}

/// How the client has a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Every,
    /// With its interval in milliseconds.
    Latest(u64),
}

pub(crate) struct Client {
    pub(crate) key: SessionKey,
    pub(crate) socket: Socket,
    pub(crate) commands_sent: u64,
    /// Pings received and not answered yet.
    pub(crate) pings: u32,
    pub(crate) answer_close: bool,
    /// Does not answer pings.
    pub(crate) silent: bool,
    dialect: Dialect,
    compression: Compression,
    /// The window of everything that was deflated so far.
    inflater: Option<Decompress>,
    /// Frames that came deflated.
    pub(crate) deflated: u64,
    received: Vec<u8>,
    frames: u64,
    closed: bool,
    /// What each command asked for, by id.
    asked: BTreeMap<u64, Value>,
    stars: BTreeMap<Channel, Mode>,
    pairs: BTreeMap<StreamKey, Mode>,
    /// Streams that left `*` for a mode of their own and were unsubscribed there.
    excepted: BTreeSet<StreamKey>,
    last: BTreeMap<StreamKey, u64>,
    /// Streams that were in mode `latest` when their last value came: whatever their mode is now, the next may skip.
    skipping: BTreeSet<StreamKey>,
    books: BTreeMap<StreamKey, ClientBook>,
    /// A declared gap whose value has not come yet: the number that must come.
    expected: BTreeMap<StreamKey, u64>,
    delivered: u64,
    missed: u64,
}

const CHANNELS: [Channel; 8] = [
    Channel::Trades,
    Channel::Quotes,
    Channel::Ticker,
    Channel::Trades,
    Channel::Bars(BarInterval::S1),
    Channel::Book(BookDepth::Top10),
    Channel::Book(BookDepth::Top50),
    Channel::Book(BookDepth::Full),
];

impl Client {
    pub(crate) fn new(key: SessionKey, dialect: Dialect, compression: Compression, socket: Socket) -> Self {
        Self {
            key,
            socket,
            commands_sent: 0,
            pings: 0,
            answer_close: false,
            silent: key.index % 17 == 3,
            dialect,
            compression,
            inflater: None,
            deflated: 0,
            received: Vec::new(),
            frames: 0,
            closed: false,
            asked: BTreeMap::new(),
            stars: BTreeMap::new(),
            pairs: BTreeMap::new(),
            excepted: BTreeSet::new(),
            last: BTreeMap::new(),
            skipping: BTreeSet::new(),
            books: BTreeMap::new(),
            expected: BTreeMap::new(),
            delivered: 0,
            missed: 0,
        }
    }

    /// Something a client might want, as JSON text; remembered for when it is answered.
    pub(crate) fn random_command(&mut self, rng: &mut impl Rng, instruments: u32) -> String {
        self.commands_sent += 1;
        let id = self.commands_sent;
        let op = *["subscribe", "subscribe", "subscribe", "update", "unsubscribe", "subscriptions", "ping"]
            .choose(rng)
            .unwrap();
        let channels: BTreeSet<_> = (0..rng.random_range(1..3)).map(|_| CHANNELS.choose(rng).unwrap().name()).collect();
        let symbols: BTreeSet<String> = if rng.random_ratio(1, 4) {
            ["*".to_owned()].into()
        } else {
            (0..rng.random_range(1..5)).map(|_| format!("S{}", rng.random_range(0..instruments + 1))).collect()
        };
        let mut command = json!({"op": op, "id": id, "channels": channels, "symbols": symbols});
        if op == "subscribe" || op == "update" {
            if rng.random_bool(0.5) {
                command["mode"] = "latest".into();
                command["interval_ms"] = (*[0, 20, 100].choose(rng).unwrap()).into();
            } else {
                command["mode"] = "every".into();
            }
        }
        if op == "subscribe" && !self.last.is_empty() && rng.random_bool(0.3) {
            // Resuming within a session is allowed too; the numbers are those seen so far, or from far back.
            let back = if rng.random_bool(0.5) { 3 } else { 100_000 };
            let mut seqs = serde_json::Map::new();
            for (key, seq) in &self.last {
                let symbol = format!("S{}", key.instrument().0);
                let channels = seqs.entry(symbol).or_insert_with(|| json!({}));
                channels[key.channel().name()] = seq.saturating_sub(back).into();
            }
            command["since"] = json!({"epoch": "sim", "seqs": seqs});
        }
        if op == "subscribe" && rng.random_ratio(1, 20) {
            command["slow"] = "disconnect".into();
        }
        self.asked.insert(id, command.clone());
        command.to_string()
    }

    /// Reads some bytes and checks every whole frame. Whether the socket takes bytes again.
    pub(crate) fn read(&mut self, rng: &mut impl Rng, log: &Log, seed: u64, digest: &mut u64) -> bool {
        if self.socket.moody != u32::MAX && rng.random_ratio(1, self.socket.moody) {
            self.socket.pace = *[0, 100, 2_000, usize::MAX].choose(rng).unwrap();
        }
        let count = self.socket.buffer.len().min(self.socket.pace);
        self.received.extend(self.socket.buffer.drain(..count));
        while let Some(mut frame) = decode::take_frame(&mut self.received) {
            let mut hasher = DefaultHasher::new();
            (*digest, self.key.index, frame.opcode, &frame.payload).hash(&mut hasher);
            *digest = hasher.finish();
            let context = format!("seed {seed}, client {:?}, frame {}", self.key, self.frames);
            assert!(!self.closed, "{context}: a frame after the close frame");
            if frame.deflated {
                assert!(frame.opcode < 8, "{context}: a control frame is deflated");
                frame.payload = self.inflate(&frame.payload, &context);
            }
            self.frame(&frame, log, &context);
            self.frames += 1;
        }
        count > 0 && std::mem::take(&mut self.socket.blocked)
    }

    /// What a deflated payload stands for (RFC 7692 section 7.2.2), with no larger window than was agreed.
    fn inflate(&mut self, payload: &[u8], context: &str) -> Vec<u8> {
        self.deflated += 1;
        let bits = match self.compression {
            Compression::Off => panic!("{context}: deflated unasked"),
            Compression::Stateless { window_bits } => {
                self.inflater = None;
                window_bits
            }
            Compression::Shared { window_bits } => window_bits,
        };
        let inflater = self.inflater.get_or_insert_with(|| Decompress::new_with_window_bits(false, bits));
        let input = [payload, &[0, 0, 0xff, 0xff]].concat();
        let begin = inflater.total_in();
        let mut out = Vec::new();
        // All input can be in before all output is out: then there is no room left.
        while ((inflater.total_in() - begin) as usize) < input.len() || out.len() == out.capacity() {
            out.reserve(4096);
            let rest = &input[(inflater.total_in() - begin) as usize..];
            let result = inflater.decompress_vec(rest, &mut out, FlushDecompress::Sync);
            result.unwrap_or_else(|error| panic!("{context}: {:?}: {error}", self.compression));
        }
        out
    }

    fn frame(&mut self, frame: &RawFrame, log: &Log, context: &str) {
        let _guard = SaysWhere(context);
        match frame.opcode {
            8 => {
                self.closed = true;
                self.answer_close = true;
            }
            9 => self.pings += 1,
            10 => assert_eq!(frame.payload, b"hello", "{context}"),
            _ => {
                let message = match self.dialect {
                    Dialect::NativeMessagePack => decode::message_pack(&frame.payload),
                    Dialect::NativeJson => decode::json(&frame.payload),
                };
                match message {
                    Message::Control(value) => self.control(&value, context),
                    Message::Data { snapshot, elements } => {
                        assert!(!elements.is_empty(), "{context}: an empty frame");
                        for element in elements {
                            self.element(&element, snapshot, log, context);
                        }
                    }
                }
            }
        }
    }

    fn control(&mut self, value: &Value, context: &str) {
        let kind = value["type"].as_str().unwrap();
        assert_eq!(self.frames == 0, kind == "welcome", "{context}: {value}");
        match kind {
            "subscribed" => self.subscribed(value),
            "unsubscribed" => self.unsubscribed(value),
            "subscriptions" => self.compare_subscriptions(value, context),
            "heartbeat" => {
                let counts = (value["delivered"].as_u64().unwrap(), value["dropped"].as_u64().unwrap());
                assert_eq!(counts, (self.delivered, self.missed), "{context}: delivered and dropped");
            }
            _ => {}
        }
    }

    /// The command that an answer is about.
    fn command_of(&self, answer: &Value) -> Value {
        self.asked[&answer["id"].as_u64().unwrap()].clone()
    }

    fn subscribed(&mut self, answer: &Value) {
        let command = self.command_of(answer);
        let mode = mode_of(answer);
        let update = command["op"] == "update";
        let all = command["symbols"].as_array().unwrap().iter().any(|symbol| symbol == "*");
        for channel in channels(&command) {
            if all {
                let had_star = self.stars.contains_key(&channel);
                if !update || had_star {
                    self.stars.insert(channel, mode);
                    self.pairs.retain(|key, _| key.channel() != channel);
                    self.excepted.retain(|key| key.channel() != channel);
                } else {
                    self.pairs.iter_mut().filter(|(key, _)| key.channel() == channel).for_each(|(_, m)| *m = mode);
                }
                continue;
            }
            for row in answer["instruments"].as_array().unwrap() {
                let key = super::decode::channel_key(row[0].as_str().unwrap(), channel);
                self.pairs.insert(key, mode);
            }
        }
    }

    fn unsubscribed(&mut self, answer: &Value) {
        let command = self.command_of(answer);
        let all = command["symbols"].as_array().unwrap().iter().any(|symbol| symbol == "*");
        for channel in channels(&command) {
            if all {
                self.stars.remove(&channel);
                self.pairs.retain(|key, _| key.channel() != channel);
                self.excepted.retain(|key| key.channel() != channel);
                self.forget(|key| key.channel() == channel);
                continue;
            }
            for symbol in command["symbols"].as_array().unwrap() {
                let key = super::decode::channel_key(symbol.as_str().unwrap(), channel);
                let Some(mode) = self.pairs.remove(&key) else { continue };
                match self.stars.get(&channel) {
                    // It was subscribed by its name in the mode of `*`: the server did not even note it.
                    Some(star) if *star == mode && !self.excepted.contains(&key) => {}
                    Some(_) => {
                        self.excepted.insert(key);
                        self.forget(|other| *other == key);
                    }
                    None => self.forget(|other| *other == key),
                }
            }
        }
    }

    fn forget(&mut self, mut which: impl FnMut(&StreamKey) -> bool) {
        self.last.retain(|key, _| !which(key));
        self.expected.retain(|key, _| !which(key));
        self.books.retain(|key, _| !which(key));
    }

    fn mode(&self, key: StreamKey) -> Option<Mode> {
        self.pairs
            .get(&key)
            .or_else(|| {
                let star = self.stars.get(&key.channel())?;
                (!self.excepted.contains(&key)).then_some(star)
            })
            .copied()
    }

    fn compare_subscriptions(&self, answer: &Value, context: &str) {
        for entry in answer["subscriptions"].as_array().unwrap() {
            let channel: Channel = entry["channel"].as_str().unwrap().parse().unwrap();
            let mode = mode_of(entry);
            for symbol in entry["symbols"].as_array().unwrap() {
                let symbol = symbol.as_str().unwrap();
                let mine = if symbol == "*" {
                    self.stars.get(&channel).copied()
                } else {
                    self.mode(super::decode::channel_key(symbol, channel))
                };
                assert_eq!(mine, Some(mode), "{context}: {channel} {symbol}");
            }
        }
    }

    fn element(&mut self, element: &Element, snapshot: bool, log: &Log, context: &str) {
        match *element {
            Element::Gap { key, from, to } => {
                assert!(!snapshot, "{context}: a gap in a snapshot");
                assert!(from <= to, "{context}: {element:?}");
                self.missed += to + 1 - from;
                self.expected.insert(key, to);
            }
            Element::Value { key, seq, time, price, id } => {
                Self::check_value(key, seq, time, price, id, log, context);
                self.numbered(key, seq, snapshot, context);
            }
            Element::Book { key, seq, whole, ref sides, checksum } => {
                assert!(whole || !snapshot, "{context}: {key:?}: a delta in a snapshot");
                self.numbered(key, seq, snapshot, context);
                self.books.entry(key).or_default().apply(seq, whole, sides, checksum, &format!("{context}: {key:?}"));
            }
        }
    }

    /// Checks that an element of a subscribed stream may have that number now.
    fn numbered(&mut self, key: StreamKey, seq: u64, snapshot: bool, context: &str) {
        let mode = self.mode(key).unwrap_or_else(|| panic!("{context}: not subscribed: {key:?} {seq}"));
        if snapshot {
            // The state is as new as anything seen before it.
            let last = self.last.get(&key).copied().unwrap_or(0);
            assert!(seq >= last, "{context}: snapshot {key:?} {seq} after {last}");
            if let Some(to) = self.expected.remove(&key) {
                let right = if mode == Mode::Every { to == seq } else { to <= seq };
                assert!(right, "{context}: {key:?}: a gap to {to} before the snapshot {seq}");
            }
        } else {
            self.delivered += 1;
            self.check_order(key, seq, mode, context);
        }
        self.last.insert(key, seq);
        if mode == Mode::Every {
            self.skipping.remove(&key);
        } else {
            self.skipping.insert(key);
        }
    }

    fn check_order(&mut self, key: StreamKey, seq: u64, mode: Mode, context: &str) {
        let gap = self.expected.remove(&key);
        let Some(&last) = self.last.get(&key) else { return };
        if let Some(to) = gap {
            let right = if mode == Mode::Every { seq == to + 1 } else { seq > to };
            assert!(right, "{context}: {key:?} {seq} after a gap to {to}");
        } else if mode == Mode::Every && !self.skipping.contains(&key) {
            // A resume repeats what the client says that it has not seen.
            let resumed = seq <= last && self.resumes_to(key, seq);
            assert!(seq == last + 1 || resumed, "{context}: {key:?} {seq} after {last}");
        } else {
            assert!(seq > last || self.resumes_to(key, seq), "{context}: {key:?} {seq} after {last}");
        }
    }

    /// Whether some command asked to resume right before `seq`.
    fn resumes_to(&self, key: StreamKey, seq: u64) -> bool {
        let symbol = format!("S{}", key.instrument().0);
        self.asked.values().any(|command| command["since"]["seqs"][&symbol][key.channel().name()] == seq - 1)
    }

    #[allow(clippy::too_many_arguments)]
    fn check_value(key: StreamKey, seq: u64, time: u64, price: i64, id: u64, log: &Log, context: &str) {
        if !matches!(key.channel(), Channel::Trades | Channel::Quotes) {
            return;
        }
        let (at, event) = &log[&key][seq as usize - 1];
        let want = match event {
            Event::Trade(trade) => (trade.price.0, trade.trade_id),
            Event::Quote(quote) => (quote.bid.map_or(0, |level| level.price.0), 0),
            other => panic!("not fed: {other:?}"),
        };
        assert_eq!((time, price, id), (at.0, want.0, want.1), "{context}: {key:?} {seq}");
    }

    /// After everything has come to rest: the newest value of each subscribed stream is here. How many books were right.
    pub(crate) fn check_complete(&self, truth: &Truth, catalog: &Catalog, seed: u64) -> usize {
        let waits = !self.socket.buffer.is_empty() || !self.received.is_empty();
        assert!(!waits, "seed {seed}, client {:?}: bytes of no whole frame", self.key);
        if self.closed {
            return 0;
        }
        let mut books = 0;
        for instrument in catalog.iter() {
            for channel in CHANNELS {
                let key = StreamKey::new(instrument.id, channel);
                let newest = truth.newest.get(&key).copied().unwrap_or(0);
                if self.mode(key).is_none() || newest == 0 {
                    continue;
                }
                let context = format!("seed {seed}, client {:?}: the end of {key:?}", self.key);
                assert_eq!(self.last.get(&key).copied(), Some(newest), "{context}");
                if let (Channel::Book(depth), Some(book)) = (channel, self.books.get(&key).filter(|b| b.is_known())) {
                    book.check(&truth.books[&instrument.id].0, depth, &context);
                    books += 1;
                }
            }
        }
        assert!(self.expected.is_empty(), "seed {seed}, client {:?}: a gap without a value", self.key);
        books
    }
}

fn mode_of(answer: &Value) -> Mode {
    if answer["mode"] == "every" { Mode::Every } else { Mode::Latest(answer["interval_ms"].as_u64().unwrap()) }
}

fn channels(command: &Value) -> Vec<Channel> {
    command["channels"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().parse().unwrap()).collect()
}
