//! The session over server-sent events, where something on the way refuses WebSockets.
//!
//! **Invariant:** what is wanted stands in the request, so every other wish is another request; nothing is sent beside it.
//!
//! What is *not* here: HTTP (`event_stream`), and which numbers are missing when a request goes on without an id (`tape`).

use std::time::Duration;

use market::{Channel, ChannelSet};
use wire::decode::{ControlMessage, InstrumentTerms, decode_control};
use wire::{Command, Encoding, ErrorCode, Mode, Recovered, Symbols};

use super::messages::client_symbols;
use super::requests::Asked;
use super::server_events::ServerEvent;
use super::{Action, Engine, Now};
use crate::subscription::SymbolList;
use crate::{Connection, Event, Lost};

/// Wishes that come in quick succession are asked for together.
const REQUEST_INTERVAL: Duration = Duration::from_millis(400);

/// What a stream of events is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamRequest {
    /// None when nothing is wanted: it is only found out whether the server can be reached
    pub query: Option<String>,
    /// Where to go on
    pub last_event_id: Option<String>,
}

/// The request that is open.
#[derive(Debug, Default)]
pub(super) struct Stream {
    request: StreamRequest,
    /// Requests of the program with a number below stand in it
    covers: i64,
    opened_at: Duration,
    /// When what has changed since is asked for
    due: Option<Duration>,
    /// It takes the place of one that worked
    pub(super) changing: bool,
    /// The last id, and what it is of
    last: Option<(String, String)>,
}

impl Engine {
    /// An event of a stream came.
    pub fn event(&mut self, event: ServerEvent, now: Now) {
        if let Some(retry) = event.retry {
            self.asked_back = Some(retry);
        }
        if !event.data.is_empty() {
            let asked_back = self.asked_back;
            self.message(&event.data, now);
            // A welcome forgets what the last session asked for; this is the new one's.
            self.asked_back = self.asked_back.or(asked_back);
        }
        if let (Some(id), Some(query)) = (event.id, &self.stream.request.query) {
            self.stream.last = Some((query.clone(), id));
        }
    }

    /// A request for a stream was answered with an error; `reason` is what it means if it is not about what was wanted.
    pub fn stream_refused(&mut self, body: &[u8], reason: Lost, now: Now) {
        let error = match decode_control(Encoding::Json, body) {
            Ok(ControlMessage::Error { code, message, symbols, .. }) if !self.is_ended() => (code, message, symbols),
            _ => return self.lost(reason, now),
        };
        self.refuse_covered(error);
        if self.wishes.query() == self.stream.request.query {
            self.lost(reason, now);
        } else {
            // The rest of it is asked for at once.
            self.connect(now);
        }
    }

    /// The list of instruments that was asked for over plain HTTP, or why it could not be had.
    pub fn fetched(&mut self, number: i64, list: Result<&[u8], String>) {
        let Some(Asked::Instruments { ticket, prefix }) = self.asked.remove(&number) else { return };
        let prefix = prefix.unwrap_or_default();
        let read = list.and_then(|body| decode_control(Encoding::Json, body).map_err(|error| error.to_string()));
        let (code, message) = match read {
            Ok(ControlMessage::Instruments { mut instruments, .. }) => {
                instruments.retain(|one| one.terms.symbol.as_str().starts_with(&prefix));
                return self.events.push(Event::Instruments { ticket: Some(ticket), instruments });
            }
            Ok(ControlMessage::Error { code, message, .. }) => (code, message),
            Ok(_) => (None, "the answer is no list of instruments".into()),
            Err(why) => (None, why),
        };
        self.events.push(Event::Refused { ticket: Some(ticket), code, message, symbols: Vec::new() });
    }

    /// The next request.
    pub(super) fn open_stream(&mut self, now: Now) -> StreamRequest {
        let query = self.wishes.query();
        // Whoever joins is owed the state, which no resumed stream begins with.
        let joins = self.asked.values().any(|asked| matches!(asked, Asked::Subscribe { .. } | Asked::Repair { .. }));
        let last = self.stream.last.as_ref().filter(|(of, _)| !joins && query.as_ref() == Some(of));
        self.stream.request = StreamRequest { last_event_id: last.map(|(_, id)| id.clone()), query };
        (self.stream.covers, self.stream.opened_at, self.stream.due) = (self.next_id, now.monotonic, None);
        self.stream.request.clone()
    }

    /// The server has answered.
    pub(super) fn stream_opened(&mut self, now: Now) {
        if self.stream.request.query.is_some() {
            return;
        }
        // There is nothing to be told of: it is enough that the server is there.
        if !self.stream.changing {
            let epoch = self.epoch.clone().unwrap_or_default();
            let (session, transport) = (String::new(), self.route.transport);
            self.opened = Some(Connection::Connected { session, epoch, epoch_changed: false, transport });
        }
        self.ready(now);
        self.answer_covered(&[], &[]);
    }

    pub(super) fn stream_ready(&mut self) {
        self.stream.changing = false;
        let waiting: Vec<_> = self.asked.iter().map(|(id, asked)| (*id, asked.clone())).collect();
        for (id, asked) in waiting {
            self.ask_beside(id, &asked);
        }
    }

    pub(super) fn stream_due(&self) -> Option<Duration> {
        let silence = self.stream.request.query.is_some().then_some(self.heard_at + self.silence_max);
        silence.into_iter().chain(self.stream.due).min()
    }

    pub(super) fn stream_timeout(&mut self, now: Now) {
        if self.stream.due.is_some_and(|due| now.monotonic >= due) {
            self.stream.changing = true;
            self.connect(now);
        } else if self.stream.request.query.is_some() && now.monotonic >= self.heard_at + self.silence_max {
            self.drop_connection(Lost::Silent(self.silence_max), now);
        }
    }

    /// A request of the program where no command can be sent.
    pub(super) fn ask_beside(&mut self, id: i64, asked: &Asked) {
        match asked {
            Asked::Instruments { .. } => self.actions.push_back(Action::FetchInstruments(id)),
            _ if id >= self.stream.covers => self.stream.due = Some(self.stream.opened_at + REQUEST_INTERVAL),
            _ => {}
        }
    }

    /// Which streams the request brings; each is delivered as it was wanted.
    pub(super) fn stream_began(
        &mut self,
        instruments: &[InstrumentTerms],
        channels: ChannelSet,
        recovered: &[(String, Channel, Recovered)],
    ) {
        let anew = self.stream.request.last_event_id.is_none();
        for terms in instruments.iter().filter(|terms| self.tape.learn(terms).is_some()).collect::<Vec<_>>() {
            for channel in channels.iter() {
                if let Some(mode) = self.wishes.mode(channel, terms.symbol.as_str()) {
                    self.tape.subscribed(terms.id, [channel].into_iter().collect(), mode, anew);
                }
            }
        }
        self.answer_covered(instruments, recovered);
    }

    /// The stream has begun, and so has everything that stands in its request.
    fn answer_covered(&mut self, instruments: &[InstrumentTerms], recovered: &[(String, Channel, Recovered)]) {
        let later = self.asked.split_off(&self.stream.covers);
        let mut told = false;
        for (id, asked) in std::mem::replace(&mut self.asked, later) {
            let (ticket, command) = match asked {
                Asked::Subscribe { ticket: Some(ticket), command } | Asked::Update { ticket, command } => {
                    (ticket, command)
                }
                Asked::Unsubscribe { ticket, command } => {
                    if let Command::Unsubscribe { channels, symbols } = &command {
                        let named = match symbols {
                            Some(Symbols::Named(names)) => Some(&names[..]),
                            None | Some(Symbols::All) => None,
                        };
                        self.tape.unsubscribed(channels.unwrap_or_else(|| Channel::ALL.into_iter().collect()), named);
                    }
                    self.events.push(Event::Unsubscribed { ticket: Some(ticket) });
                    continue;
                }
                waiting @ Asked::Instruments { .. } => {
                    self.asked.insert(id, waiting);
                    continue;
                }
                _ => continue,
            };
            told = true;
            let mine = |terms: &&InstrumentTerms| match &command.symbols {
                Symbols::All => true,
                Symbols::Named(names) => names.iter().any(|name| *name == terms.symbol.as_str()),
            };
            let known = instruments.iter().filter(mine).filter_map(|terms| self.tape.learn(terms)).collect();
            let channels = command.channels.iter().collect();
            let (ticket, recovered) = (Some(ticket), recovered.to_vec());
            self.events.push(Event::Subscribed { ticket, instruments: known, channels, mode: command.mode, recovered });
        }
        if !told && !instruments.is_empty() {
            let known = instruments.iter().filter_map(|terms| self.tape.learn(terms)).collect();
            let (channels, mode) = (self.wishes.channels().collect(), Mode::Every);
            let recovered = recovered.to_vec();
            self.events.push(Event::Subscribed { ticket: None, instruments: known, channels, mode, recovered });
        }
    }

    /// What the server does not serve is left out; an error that names no symbols is about all that is new.
    fn refuse_covered(&mut self, (code, message, symbols): (Option<ErrorCode>, String, Vec<String>)) {
        let mut told = false;
        let covered: Vec<_> = self.asked.range(..self.stream.covers).map(|(id, asked)| (*id, asked.clone())).collect();
        for (id, asked) in covered {
            let ticket = asked.ticket();
            let (Asked::Subscribe { command, .. } | Asked::Update { command, .. } | Asked::Repair { command }) = asked
            else {
                continue;
            };
            let (refused, whole) = match &command.symbols {
                _ if symbols.is_empty() => (client_symbols(&command.symbols), true),
                Symbols::All => continue,
                Symbols::Named(names) => {
                    let refused: Vec<_> = names.iter().filter(|name| symbols.contains(name)).cloned().collect();
                    let whole = refused.len() == names.len();
                    if refused.is_empty() {
                        continue;
                    }
                    (SymbolList::Named(refused), whole)
                }
            };
            self.wishes.remove(Some(command.channels), Some(&refused));
            if whole {
                self.asked.remove(&id);
            }
            told = true;
            self.events.push(Event::Refused { ticket, code, message: message.clone(), symbols: symbols.clone() });
        }
        if symbols.is_empty() && !told {
            self.wishes.remove(None, None);
        } else if !symbols.is_empty() {
            self.wishes.remove(None, Some(&SymbolList::Named(symbols.clone())));
        }
        if !told {
            self.events.push(Event::Refused { ticket: None, code, message, symbols });
        }
    }
}
