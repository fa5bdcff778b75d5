//! Commands of clients, up to the point where the subscriptions change.
//!
//! **Invariant:** whatever a client sends, it gets an answer (or is told that it sends too much), and its session lives
//! on unless it floods. Commands that touch subscriptions take effect in the order in which they came, each at one point
//! of the stream: they travel to the sequencer and back, see [`crate::Reply`].

use std::sync::Arc;

use market::{ChannelSet, InstrumentId};
use wire::{
    Command, CommandError, CommandId, Encoding, ErrorCode, Limits, Mode, NoticeCode, ServerMessage, Since, SlowPolicy,
    Subscribe, Symbols,
};

use super::Shard;
use super::outbox::Class;
use super::session::{State, Verdict};
use crate::{Disconnect, Entitlements, Io, Now, Request, ResumeFrom, Seen, SessionKey, StreamKey, SymbolSet};

/// What a reply of the sequencer is for.
#[derive(Debug)]
pub(super) enum Operation {
    Subscribe(Box<Subscription>),
    Unsubscribe { id: Option<CommandId>, channels: ChannelSet, targets: Targets },
    List { id: Option<CommandId> },
    Recover,
}

/// A subscribe or an update, with its symbols looked up.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) id: Option<CommandId>,
    pub(super) verb: Verb,
    pub(super) channels: ChannelSet,
    pub(super) targets: Targets,
    pub(super) mode: Mode,
    pub(super) slow: SlowPolicy,
    pub(super) unknown: Vec<String>,
    /// Symbols that the client is not entitled to.
    pub(super) denied: Vec<String>,
    /// What was looked at to find those.
    pub(super) covered: Option<Arc<Entitlements>>,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Subscribe,
    Update,
    /// Not a client's: what its stars stand for has changed.
    Rescope,
}

/// Symbols, looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// All there are and will be
    All,
    /// These
    Named(Vec<InstrumentId>),
}

impl Targets {
    /// The streams that are named, sorted.
    pub(super) fn keys(&self, channels: ChannelSet) -> Vec<StreamKey> {
        match self {
            Self::All => Vec::new(),
            Self::Named(ids) => {
                let mut keys: Vec<StreamKey> =
                    ids.iter().flat_map(|id| channels.iter().map(|channel| StreamKey::new(*id, channel))).collect();
                keys.sort_unstable();
                keys.dedup();
                keys
            }
        }
    }

    fn stars(&self, channels: ChannelSet) -> ChannelSet {
        match self {
            Self::All => channels,
            Self::Named(_) => ChannelSet::EMPTY,
        }
    }
}

/// Error messages name at most so many symbols; a client that sends thousands of wrong ones learns the first of them.
const SYMBOLS_NAMED_MAX: usize = 1000;

impl Shard {
    /// Takes in a message of the client.
    pub fn message(&mut self, now: Now, key: SessionKey, encoding: Encoding, payload: &[u8], io: &mut impl Io) {
        let limits = self.limits_of(key);
        let Some(session) = self.sessions.by_key(key) else { return };
        if session.state != State::Open {
            return;
        }
        session.pings_unanswered = 0;
        self.stats.commands += 1;
        match session.bucket.take(&limits, now.monotonic) {
            Verdict::Allowed => match wire::parse_command(encoding, payload) {
                Ok(envelope) => self.command(now, key, envelope.id, envelope.command, io),
                Err(error) => self.refuse_with(now, key, &error, io),
            },
            verdict => self.rate_limited(now, key, verdict, io),
        }
        self.settle(now, io);
    }

    /// The limits of a session: its key may have others than the server's.
    fn limits_of(&mut self, key: SessionKey) -> Limits {
        let limits = self.config.limits;
        let covered = self.sessions.by_key(key).and_then(|session| session.auth.entitlements());
        covered.map_or(limits, |covered| covered.limits(&limits))
    }

    fn rate_limited(&mut self, now: Now, key: SessionKey, verdict: Verdict, io: &mut impl Io) {
        self.stats.commands_rate_limited += 1;
        let limits = self.limits_of(key);
        let text = format!(
            "more than {} commands/s (commands_per_s) after a burst of {} (commands_burst); the command was not applied",
            limits.commands_per_s, limits.commands_burst
        );
        if verdict == Verdict::Notice {
            let code = NoticeCode::RateLimited;
            let text = match limits.commands_rejected_max {
                0 => text.clone(),
                max => format!("{text}; {max} such within 10 s close the connection (commands_rejected_max)"),
            };
            self.say(
                now,
                key,
                &ServerMessage::Notice { code, reconnect_after_ms: None, message: &text },
                Class::Urgent,
                io,
            );
        }
        if matches!(verdict, Verdict::Notice | Verdict::Error) {
            self.refuse(now, key, None, ErrorCode::RateLimited, text, Vec::new(), io);
        }
        if verdict == Verdict::Flood {
            self.begin_close(now, key, Disconnect::Flood, io);
        }
    }

    fn command(&mut self, now: Now, key: SessionKey, id: Option<CommandId>, command: Command, io: &mut impl Io) {
        let awaited = self.sessions.by_key(key).is_some_and(|session| session.auth.is_awaited());
        if awaited && !matches!(command, Command::Auth { .. } | Command::Ping) {
            let text =
                "authenticate first: {\"op\":\"auth\",\"token\":...}, or the header Authorization while connecting";
            return self.refuse(now, key, id, ErrorCode::AuthRequired, text.to_owned(), Vec::new(), io);
        }
        match command {
            Command::Auth { token } => self.auth(now, key, id, token, io),
            Command::Ping => {
                let sent_bytes = self.sessions.by_key(key).map_or(0, |session| session.bytes);
                let message = ServerMessage::Pong { id: id.as_ref(), time: now.wall, sent_bytes };
                self.say(now, key, &message, Class::Urgent, io);
            }
            Command::Instruments { prefix } => {
                let catalog = Arc::clone(&self.catalog);
                let prefix = prefix.unwrap_or_default();
                let symbols = self.symbols_of(key);
                let wanted = |symbol: &str| symbol.starts_with(&prefix) && symbols.allows(symbol);
                let matching: Vec<_> = catalog.iter().filter(|i| wanted(i.symbol.as_str())).collect();
                let message = ServerMessage::Instruments { id: id.as_ref(), instruments: &matching };
                self.say(now, key, &message, Class::Kept, io);
            }
            Command::Subscriptions => self.ask(key, Operation::List { id }, None, io),
            Command::Unsubscribe { channels, symbols } => {
                let (targets, unknown, _) = self.look_up(symbols.unwrap_or(Symbols::All), None);
                if !unknown.is_empty() {
                    self.refuse_unknown(now, key, id.clone(), unknown, io);
                }
                if !matches!(&targets, Targets::Named(ids) if ids.is_empty()) {
                    let channels = channels.unwrap_or(ChannelSet::from_bits(u16::MAX));
                    self.ask(key, Operation::Unsubscribe { id, channels, targets }, None, io);
                }
            }
            Command::Subscribe(subscribe) => self.subscribe(now, key, id, subscribe, Verb::Subscribe, io),
            Command::Update(subscribe) => self.subscribe(now, key, id, subscribe, Verb::Update, io),
        }
    }

    fn subscribe(
        &mut self,
        now: Now,
        key: SessionKey,
        id: Option<CommandId>,
        subscribe: Subscribe,
        verb: Verb,
        io: &mut impl Io,
    ) {
        let Subscribe { channels, symbols, mode, snapshot, slow, since } = subscribe;
        if let Some(channel) = channels.iter().find(|channel| !self.config.served.contains(*channel)) {
            let served: Vec<_> = self.config.served.iter().map(market::Channel::name).collect();
            let text = format!("{channel} is not served here; served are {}", served.join(", "));
            return self.refuse(now, key, id, ErrorCode::UnknownChannel, text, Vec::new(), io);
        }
        let covered = self.sessions.by_key(key).and_then(|session| session.auth.entitlements().cloned());
        if let Some(refusal) = covered.as_ref().and_then(|covered| covered.refusal(channels, mode)) {
            let text = format!("not entitled: {refusal}; nothing was applied");
            return self.refuse_not_entitled(now, key, id, text, Vec::new(), io);
        }
        let (targets, unknown, denied) = self.look_up(symbols, covered.as_ref().map(|covered| &covered.symbols));
        if matches!(&targets, Targets::Named(ids) if ids.is_empty()) {
            return self.refuse_symbols(now, key, id.as_ref(), unknown, denied, io);
        }
        let since = since.map(|since| self.resume_from(&since));
        let subscription = Subscription { id, verb, channels, targets, mode, slow, unknown, denied, covered };
        self.ask_to_subscribe(now, key, subscription, snapshot, since, io);
    }

    /// Asks for what a subscription begins with.
    pub(super) fn ask_to_subscribe(
        &mut self,
        now: Now,
        key: SessionKey,
        subscription: Subscription,
        snapshot: bool,
        since: Option<ResumeFrom>,
        io: &mut impl Io,
    ) {
        let Subscription { verb, channels, ref targets, .. } = subscription;
        let (keys, stars) = (targets.keys(channels), targets.stars(channels));
        let max = self.config.limits.subscriptions_max as usize;
        // Whether it fits together with what is there is known when the reply comes; this spares the sequencer the work
        // for what cannot fit by itself.
        if max > 0 && keys.len() > max {
            return self.refuse_too_many(now, key, subscription.id, keys.len(), io);
        }
        let request = Some((snapshot && verb == Verb::Subscribe, since, verb));
        self.ask_for(key, Operation::Subscribe(Box::new(subscription)), keys, stars, request, io);
    }

    /// Queues an operation that needs no state, only its turn.
    fn ask(&mut self, key: SessionKey, operation: Operation, request: Option<Wanted>, io: &mut impl Io) {
        self.ask_for(key, operation, Vec::new(), ChannelSet::EMPTY, request, io);
    }

    pub(super) fn ask_for(
        &mut self,
        key: SessionKey,
        operation: Operation,
        keys: Vec<StreamKey>,
        stars: ChannelSet,
        wanted: Option<Wanted>,
        io: &mut impl Io,
    ) {
        let Some(session) = self.sessions.by_key(key) else { return };
        let dialect = session.dialect;
        let star_symbols = session.auth.entitlements().map_or(SymbolSet::ALL, |covered| covered.symbols.clone());
        let (snapshot, since, verb) = wanted.unwrap_or((false, None, Verb::Update));
        self.in_flight.push_back((key, operation));
        let subscribes = verb == Verb::Subscribe;
        io.request(Request { dialect, keys, stars, star_symbols, snapshot, since, subscribes });
    }

    /// The symbols that a session may know of.
    pub(super) fn symbols_of(&mut self, key: SessionKey) -> SymbolSet {
        let covered = self.sessions.by_key(key).and_then(|session| session.auth.entitlements());
        covered.map_or(SymbolSet::ALL, |covered| covered.symbols.clone())
    }

    /// Splits symbols into those that exist, those that do not, and those that the client is not entitled to, of which it
    /// does not learn whether they exist.
    fn look_up(&self, symbols: Symbols, covered: Option<&SymbolSet>) -> (Targets, Vec<String>, Vec<String>) {
        let (mut unknown, mut denied) = (Vec::new(), Vec::new());
        let Symbols::Named(names) = symbols else { return (Targets::All, unknown, denied) };
        let mut ids = Vec::with_capacity(names.len());
        for name in names {
            if covered.is_some_and(|covered| !covered.allows(&name)) {
                denied.push(name);
                continue;
            }
            match self.catalog.by_symbol(&name) {
                Some(instrument) => ids.push(instrument.id),
                None => unknown.push(name),
            }
        }
        ids.sort_unstable();
        ids.dedup();
        (Targets::Named(ids), unknown, denied)
    }

    fn resume_from(&self, since: &Since) -> ResumeFrom {
        let known = |(symbol, channel, seq): &(String, market::Channel, u64)| {
            let instrument = self.catalog.by_symbol(symbol)?;
            Some((StreamKey::new(instrument.id, *channel), *seq))
        };
        let seqs = since.seqs.iter().filter_map(known).collect();
        ResumeFrom { epoch: since.epoch.clone(), seen: Seen::Seqs(seqs) }
    }

    /// Says which symbols of a command were left out, and why.
    pub(super) fn refuse_symbols(
        &mut self,
        now: Now,
        key: SessionKey,
        id: Option<&CommandId>,
        unknown: Vec<String>,
        denied: Vec<String>,
        io: &mut impl Io,
    ) {
        if !denied.is_empty() {
            let text = format!("{} of the symbols: not entitled; entitled are {}", denied.len(), self.symbols_of(key));
            self.refuse_not_entitled(now, key, id.cloned(), text, denied, io);
        }
        if !unknown.is_empty() {
            self.refuse_unknown(now, key, id.cloned(), unknown, io);
        }
    }

    pub(super) fn refuse_not_entitled(
        &mut self,
        now: Now,
        key: SessionKey,
        id: Option<CommandId>,
        text: String,
        mut symbols: Vec<String>,
        io: &mut impl Io,
    ) {
        symbols.truncate(SYMBOLS_NAMED_MAX);
        self.stats.not_entitled += 1;
        self.refuse(now, key, id, ErrorCode::NotEntitled, text, symbols, io);
    }

    pub(super) fn refuse_unknown(
        &mut self,
        now: Now,
        key: SessionKey,
        id: Option<CommandId>,
        mut unknown: Vec<String>,
        io: &mut impl Io,
    ) {
        let text = format!("{} of the symbols do not exist; see the command instruments", unknown.len());
        unknown.truncate(SYMBOLS_NAMED_MAX);
        self.refuse(now, key, id, ErrorCode::UnknownSymbol, text, unknown, io);
    }

    pub(super) fn refuse_too_many(
        &mut self,
        now: Now,
        key: SessionKey,
        id: Option<CommandId>,
        count: usize,
        io: &mut impl Io,
    ) {
        self.stats.over_subscriptions += 1;
        let max = self.config.limits.subscriptions_max;
        let text = format!(
            "{count} (channel, symbol) pairs would be subscribed, {max} are allowed (subscriptions_max); nothing was applied"
        );
        self.refuse(now, key, id, ErrorCode::TooManySubscriptions, text, Vec::new(), io);
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn refuse(
        &mut self,
        now: Now,
        key: SessionKey,
        id: Option<CommandId>,
        code: ErrorCode,
        message: String,
        symbols: Vec<String>,
        io: &mut impl Io,
    ) {
        self.refuse_with(now, key, &CommandError { id, code, message, symbols }, io);
    }

    pub(super) fn refuse_with(&mut self, now: Now, key: SessionKey, error: &CommandError, io: &mut impl Io) {
        self.stats.command_errors += 1;
        self.say(now, key, &ServerMessage::Error(error), Class::Urgent, io);
    }
}

/// What the sequencer is to send along: the snapshot, what was missed, and whether it is a subscribe.
type Wanted = (bool, Option<ResumeFrom>, Verb);
