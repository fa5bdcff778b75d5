//! One client: upgrade, subscribe, count or check what comes, answer pings.
//!
//! **Invariant:** no I/O and no clock; bytes that were read come in with the instant of their reading, bytes to write are
//! appended to a buffer of the caller.
//!
//! Not here: the sockets (`swarm`), the totals' meaning (`report`).

use rustc_hash::FxHashMap;

use crate::book::{Books, Change};
use crate::frames::{Compression, Data, DataKind, FrameError, FrameReader, Incoming};
use crate::inflate::{InflateError, Inflater};
use crate::plan::{Language, Plan, Role, Scrutiny};
use crate::sequence::Sequences;
use crate::tally::Tally;
use crate::text::{self, Control, Subscribed, TextError};
use crate::upgrade::{Entropy, Upgrade, UpgradeError, masked_frame};
use wire::FrameKind as Kind;
use wire::decode::{self, DataError, What};

/// How much of a message a session sees that only counts: a data message's head and first element, and control messages
/// whole, except long `subscribed` and `instruments`, of which the type is enough.
const HEAD_BYTES: usize = 512;

/// What the sessions of one thread share while bytes are taken in.
pub(crate) struct Context<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) entropy: &'a mut Entropy,
    pub(crate) tally: &'a mut Tally,
    pub(crate) sampler: &'a mut Sampler,
    /// Numbers for the symbols of JSON elements
    pub(crate) symbols: &'a mut FxHashMap<Box<str>, u32>,
    /// Where messages are inflated
    pub(crate) inflated: &'a mut Vec<u8>,
    /// What the session says
    pub(crate) out: &'a mut Vec<u8>,
    /// When the bytes were read, in nanoseconds since the Unix epoch: the clock that servers stamp with
    pub(crate) now_ns: u64,
}

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Over {
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    #[error("broken framing: {0}")]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Inflate(#[from] InflateError),
    #[error("broken data message: {0}")]
    Data(#[from] DataError),
    #[error("broken JSON message: {0}")]
    Text(#[from] TextError),
    #[error("broken control message: {0}")]
    Control(String),
    #[error("a {0} message on a session of the other kind")]
    Kind(&'static str),
    #[error("the server refused the subscription: {0}")]
    Refused(String),
    #[error("the server closed with {}{reason}", .code.map(|code| format!("{code} ")).unwrap_or_default())]
    Closed { code: Option<u16>, reason: String },
}

/// What a session needs of whoever holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct News {
    /// It is subscribed now, as asked
    pub(crate) up: bool,
    /// A change of subscription was answered
    pub(crate) changed: bool,
    /// The server asked to come back after so many milliseconds
    pub(crate) reconnect_after_ms: Option<u64>,
}

/// Decides which messages are timed: about as many a second as wanted, drawn at random, so that no client and no phase
/// of the server's is preferred.
#[derive(Debug)]
pub(crate) struct Sampler {
    per_interval: u64,
    seen: u64,
    one_in: u64,
    state: u64,
}

impl Sampler {
    pub(crate) fn new(per_interval: u64, seed: u64) -> Self {
        Self { per_interval: per_interval.max(1), seen: 0, one_in: 1, state: seed | 1 }
    }

    fn draw(&mut self) -> bool {
        self.seen += 1;
        if self.one_in == 1 {
            return true;
        }
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.is_multiple_of(self.one_in)
    }

    /// Adapts to how many messages there were; called once an interval.
    pub(crate) fn adapt(&mut self) {
        self.one_in = (self.seen / self.per_interval).max(1);
        self.seen = 0;
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Session {
    index: u32,
    stage: Stage,
    checks: Checks,
}

#[derive(Debug)]
enum Stage {
    Upgrading(Box<Upgrade>),
    Open(FrameReader),
}

/// What the messages of one client are checked against; apart from the stage so that a reader can be fed while it runs.
#[derive(Debug)]
struct Checks {
    scrutiny: Scrutiny,
    role: Role,
    sequences: Option<Box<Sequences>>,
    books: Books,
    inflater: Option<Box<Inflater>>,
    /// Subscribe commands without an answer; none once it is up.
    unanswered: Option<u16>,
    /// What the last heartbeat said, so that only its growth is added to the totals
    dropped_said: u64,
    news: News,
}

impl Session {
    /// Begins: appends the upgrade request to `out`.
    pub(crate) fn begin(index: u32, plan: &Plan, entropy: &mut Entropy, out: &mut Vec<u8>) -> Self {
        let (upgrade, request) = Upgrade::begin(&plan.target, &plan.wishes, entropy.nonce());
        out.extend_from_slice(&request);
        let scrutiny = plan.scrutiny(index);
        let sequences = (scrutiny == Scrutiny::Verify)
            .then(|| Box::new(Sequences::new(plan.expectation, plan.start, plan.channels)));
        let checks = Checks {
            scrutiny,
            role: plan.role(index),
            sequences,
            books: Books::default(),
            inflater: None,
            unanswered: Some(0),
            dropped_said: 0,
            news: News::default(),
        };
        Self { index, stage: Stage::Upgrading(Box::new(upgrade)), checks }
    }

    /// Takes bytes as they were read; answers are appended to `cx.out`.
    ///
    /// # Errors
    /// The session is over; `cx.out` may still hold an answer that is to be written.
    pub(crate) fn feed(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Over> {
        cx.tally.bytes += bytes.len() as u64;
        self.checks.news = News::default();
        let Self { index, stage, checks } = self;
        match stage {
            Stage::Open(reader) => checks.read(reader, bytes, cx)?,
            Stage::Upgrading(upgrade) => {
                let Some(upgraded) = upgrade.feed(bytes)? else { return Ok(()) };
                if upgraded.negotiated.compression == Compression::Deflate {
                    checks.inflater = Some(Box::new(Inflater::new(upgraded.negotiated.history)));
                }
                let mut reader = FrameReader::new(upgraded.negotiated.compression);
                let commands = cx.plan.commands(*index);
                checks.unanswered = Some(commands.len() as u16);
                for command in commands {
                    masked_frame(0x1, command.as_bytes(), cx.entropy.mask(), cx.out);
                }
                // A raw server answers as it likes; a native one greets first, and that is enough without subscriptions.
                if matches!(cx.plan.language, Language::Raw(_)) {
                    checks.come_up();
                }
                checks.read(&mut reader, &upgraded.early, cx)?;
                *stage = Stage::Open(reader);
            }
        }
        Ok(())
    }

    /// What the last bytes have changed, also where they ended the session.
    pub(crate) fn news(&self) -> News {
        self.checks.news
    }
}

impl Checks {
    fn read(&mut self, reader: &mut FrameReader, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Over> {
        let (keep, mut result) = (self.keep_bytes(cx.plan), Ok(()));
        let framing = reader.feed(bytes, keep, &mut |incoming| {
            if result.is_ok() {
                result = self.incoming(incoming, cx);
            }
        });
        result?;
        Ok(framing?)
    }

    /// How much of each message has to be seen.
    fn keep_bytes(&self, plan: &Plan) -> usize {
        match &plan.language {
            _ if self.inflater.is_some() => usize::MAX,
            Language::MessagePack if self.scrutiny == Scrutiny::Count => HEAD_BYTES,
            Language::MessagePack | Language::Json => usize::MAX,
            Language::Raw(raw) => raw.keep_bytes(),
        }
    }

    fn come_up(&mut self) {
        self.unanswered = None;
        self.news.up = true;
        // From here on a session that counts does not look inside of compressed messages: an inflater is 46 kB.
        if self.scrutiny == Scrutiny::Count {
            self.inflater = None;
        }
    }

    fn incoming(&mut self, incoming: Incoming<'_>, cx: &mut Context<'_>) -> Result<(), Over> {
        cx.tally.frames += 1;
        match incoming {
            Incoming::Data(data) => self.message(data, cx),
            Incoming::Pong => Ok(()),
            Incoming::Ping(payload) => {
                masked_frame(0xA, payload, cx.entropy.mask(), cx.out);
                Ok(())
            }
            Incoming::Close { code, reason } => {
                let payload = code.map(u16::to_be_bytes);
                masked_frame(0x8, payload.as_ref().map_or(&[], |code| &code[..]), cx.entropy.mask(), cx.out);
                Err(Over::Closed { code, reason: String::from_utf8_lossy(reason).into_owned() })
            }
        }
    }

    fn message(&mut self, data: Data<'_>, cx: &mut Context<'_>) -> Result<(), Over> {
        if data.compression == Compression::None {
            return self.content(data.kind, data.payload, cx).map(drop);
        }
        let Some(inflater) = &mut self.inflater else {
            cx.tally.data_messages += 1;
            cx.tally.unread_messages += 1;
            return Ok(());
        };
        let mut inflated = std::mem::take(cx.inflated);
        let result = inflater.message(data.payload, &mut inflated).map_err(Over::from);
        let result = result.and_then(|()| self.content(data.kind, &inflated, cx));
        *cx.inflated = inflated;
        let elements = result?;
        if elements > 0 {
            cx.tally.inflated_messages += 1;
            cx.tally.inflated_elements += elements;
        }
        Ok(())
    }

    /// Takes a message's plain content; gives how many live elements were in it.
    fn content(&mut self, kind: DataKind, message: &[u8], cx: &mut Context<'_>) -> Result<u64, Over> {
        match (&cx.plan.language, kind) {
            (Language::MessagePack, DataKind::Binary) if is_array(message) => self.packed(message, cx),
            (Language::MessagePack, DataKind::Binary) => self.packed_control(message, cx).map(|()| 0),
            (Language::Json, DataKind::Text) if text::is_data(message) => self.json(message, cx),
            (Language::Json, DataKind::Text) => {
                let control = serde_json::from_slice(message).map_err(|error| Over::Control(error.to_string()))?;
                let subscribed = || serde_json::from_slice(message).map_err(|error| Over::Control(error.to_string()));
                self.control(control, subscribed, cx).map(|()| 0)
            }
            (Language::Raw(raw), _) => {
                let elements = raw.elements(message);
                self.count(Kind::Live, elements, cx.tally);
                cx.tally.data_messages += 1;
                if self.role == Role::Reader
                    && cx.sampler.draw()
                    && let Some(time) = raw.time_ns(message)
                {
                    cx.tally.latency_time.record(cx.now_ns, time);
                }
                Ok(elements)
            }
            (Language::MessagePack, DataKind::Text) => Err(Over::Kind("text")),
            (Language::Json, DataKind::Binary) => Err(Over::Kind("binary")),
        }
    }

    fn count(&self, kind: Kind, elements: u64, tally: &mut Tally) {
        match (kind, self.role) {
            (Kind::Snapshot, _) => tally.snapshot_elements += elements,
            (Kind::Live, Role::Reader) => tally.elements += elements,
            (Kind::Live, Role::Slow) => tally.slow_elements += elements,
        }
    }

    fn packed(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<u64, Over> {
        let (head, cursor) = decode::begin(message)?;
        cx.tally.data_messages += 1;
        if head.kind == Kind::Live && self.role == Role::Reader && cx.sampler.draw() {
            cx.tally.latency_sent.record(cx.now_ns, head.sent_at);
            if let Some(time) = decode::oldest_time(cursor)? {
                cx.tally.latency_time.record(cx.now_ns, time);
            }
        }
        let mut values = 0;
        match &mut self.sequences {
            None => values = u64::from(head.elements),
            Some(sequences) => decode::elements(cursor, head.elements, |element, body| {
                let findings = &mut cx.tally.findings;
                let missing = findings.missing;
                sequences.take(head.kind, element, findings);
                let book = (element.instrument, element.channel);
                match element.what {
                    What::Value => {}
                    What::Gap { .. } => {
                        self.books.lose(book.0, book.1);
                        return Ok(());
                    }
                    What::BookSnapshot => self.books.take(book, Change::Snapshot, body, findings)?,
                    // What a hole has left out is not known.
                    What::BookDelta if findings.missing > missing => self.books.lose(book.0, book.1),
                    What::BookDelta => self.books.take(book, Change::Delta, body, findings)?,
                }
                values += 1;
                Ok(())
            })?,
        }
        self.count(head.kind, values, cx.tally);
        Ok(if head.kind == Kind::Live { values } else { 0 })
    }

    fn json(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<u64, Over> {
        let scan = text::scan(message);
        cx.tally.data_messages += 1;
        if scan.kind == Kind::Live && self.role == Role::Reader && cx.sampler.draw() {
            if let Some(sent_at) = text::sent_at(message) {
                cx.tally.latency_sent.record(cx.now_ns, sent_at);
            }
            if let Some(time) = text::oldest_time(message) {
                cx.tally.latency_time.record(cx.now_ns, time);
            }
        }
        let mut values = 0;
        match &mut self.sequences {
            None => values = scan.elements,
            Some(sequences) => {
                let symbols = &mut *cx.symbols;
                let number = |symbol: &str| {
                    if let Some(number) = symbols.get(symbol) {
                        return *number;
                    }
                    let number = symbols.len() as u32;
                    symbols.insert(symbol.into(), number);
                    number
                };
                text::elements(message, number, |kind, element| {
                    sequences.take(kind, element, &mut cx.tally.findings);
                    values += u64::from(!matches!(element.what, What::Gap { .. }));
                })?;
            }
        }
        self.count(scan.kind, values, cx.tally);
        Ok(if scan.kind == Kind::Live { values } else { 0 })
    }

    fn packed_control(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), Over> {
        let broken = |error: rmp_serde::decode::Error| Over::Control(error.to_string());
        let control = match rmp_serde::from_slice(message) {
            Ok(control) => control,
            // A long message of which only the head was kept: its type says enough.
            Err(_) if message.len() >= HEAD_BYTES => {
                Control { r#type: decode::type_of_map(message).unwrap_or_default().to_owned(), ..Control::default() }
            }
            Err(error) => return Err(broken(error)),
        };
        self.control(control, || rmp_serde::from_slice(message).map_err(broken), cx)
    }

    fn control(
        &mut self,
        control: Control,
        subscribed: impl FnOnce() -> Result<Subscribed, Over>,
        cx: &mut Context<'_>,
    ) -> Result<(), Over> {
        match (control.r#type.as_str(), self.unanswered) {
            ("welcome", Some(0)) => self.come_up(),
            ("subscribed", Some(unanswered)) => match unanswered.saturating_sub(1) {
                0 => self.come_up(),
                left => self.unanswered = Some(left),
            },
            ("subscribed", None) => {
                self.news.changed = true;
                // A symbol that was dropped and comes back begins anew.
                if let Some(sequences) = &mut self.sequences {
                    for (symbol, id, ..) in subscribed()?.instruments {
                        let known = match cx.plan.language {
                            Language::Json => cx.symbols.get(symbol.as_str()).copied(),
                            _ => Some(id),
                        };
                        if let Some(instrument) = known {
                            sequences.forget(instrument);
                        }
                    }
                }
            }
            ("error", Some(_)) => {
                let (code, message) = (control.code.unwrap_or_default(), control.message.unwrap_or_default());
                return Err(Over::Refused(format!("{code}: {message}")));
            }
            ("error", None) => {
                *cx.tally.notices.entry(format!("error {}", control.code.unwrap_or_default())).or_default() += 1;
            }
            ("heartbeat", _) => {
                cx.tally.dropped_said += control.dropped.saturating_sub(self.dropped_said);
                self.dropped_said = control.dropped;
            }
            ("notice", _) => {
                self.news.reconnect_after_ms = control.reconnect_after_ms;
                *cx.tally.notices.entry(control.code.unwrap_or_default()).or_default() += 1;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Data messages are arrays, control messages are maps.
fn is_array(message: &[u8]) -> bool {
    matches!(message.first(), Some(0x90..=0x9F | 0xDC | 0xDD))
}
