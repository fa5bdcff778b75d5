//! What the program asks of the server: each request a command, kept until it is answered.
//!
//! **Invariant:** a request with a ticket is answered or refused once, on whatever connection, or the connection ends for
//! good before.
//!
//! What is *not* here: what the server answers (`messages`), and what is subscribed again without being asked (`wishes`).

use market::Channel;
use wire::{Command, CommandId, Envelope, Subscribe, Symbols, encode_command};

use super::positions::Anew;
use super::{Action, Engine, Now, wishes};
use crate::subscription::{Subscription, SymbolList};
use crate::{Event, RequestError, Ticket};

/// A command is at most so long when the server has no limit.
const COMMAND_BYTES_MAX: usize = 1 << 20;

/// What a command without an answer yet is about.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Subscribe {
        ticket: Option<Ticket>,
        command: Subscribe,
    },
    /// The state of a book that is wrong
    Repair {
        command: Subscribe,
    },
    Update {
        ticket: Ticket,
        command: Subscribe,
    },
    Unsubscribe {
        ticket: Ticket,
        command: Command,
    },
    Instruments {
        ticket: Ticket,
        prefix: Option<String>,
    },
    Ping {
        sent: Now,
    },
    Auth,
}

impl Asked {
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Subscribe { ticket, .. } => *ticket,
            Self::Update { ticket, .. } | Self::Unsubscribe { ticket, .. } | Self::Instruments { ticket, .. } => {
                Some(*ticket)
            }
            Self::Repair { .. } | Self::Ping { .. } | Self::Auth => None,
        }
    }
}

impl Engine {
    /// Wants something to be subscribed, with a ticket of its own; for who drives the engine without a [`crate::Client`].
    ///
    /// # Errors
    /// It names nothing, or what no instrument can be called.
    pub fn request(&mut self, subscription: Subscription) -> Result<Ticket, RequestError> {
        let ticket = Ticket(u64::MAX - self.next_id as u64);
        self.subscribe(ticket, &subscription.checked()?);
        Ok(ticket)
    }

    /// Wants something to be subscribed; the subscription has been checked.
    pub(crate) fn subscribe(&mut self, ticket: Ticket, subscription: &Subscription) {
        self.wishes.add(subscription);
        let Subscription { channels, symbols, setting } = subscription;
        let commands = match symbols {
            SymbolList::All => {
                let (mode, snapshot, slow) = (setting.mode, setting.snapshot, setting.slow);
                let symbols = Symbols::All;
                vec![Subscribe { channels: *channels, symbols, mode, snapshot, slow, since: None }]
            }
            SymbolList::Named(names) => {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                wishes::parts(*channels, &names, *setting, self.command_bytes_max(), &Anew)
            }
        };
        for command in commands {
            self.ask(Asked::Subscribe { ticket: Some(ticket), command });
        }
    }

    /// Changes the mode of what is subscribed.
    pub(crate) fn update(&mut self, ticket: Ticket, subscription: &Subscription) {
        let Subscription { channels, symbols, setting } = subscription;
        self.wishes.update(*channels, symbols, setting.mode);
        let symbols = wire_symbols(symbols);
        let (mode, snapshot, slow) = (setting.mode, setting.snapshot, setting.slow);
        let command = Subscribe { channels: *channels, symbols, mode, snapshot, slow, since: None };
        self.ask(Asked::Update { ticket, command });
    }

    /// Ends subscriptions; nothing named is everything.
    pub(crate) fn unsubscribe(&mut self, ticket: Ticket, channels: &[Channel], symbols: Option<&SymbolList>) {
        let channels = (!channels.is_empty()).then(|| channels.iter().copied().collect());
        self.wishes.remove(channels, symbols);
        let command = Command::Unsubscribe { channels, symbols: symbols.map(wire_symbols) };
        self.ask(Asked::Unsubscribe { ticket, command });
    }

    /// Asks for what there is.
    pub(crate) fn request_instruments(&mut self, ticket: Ticket, prefix: Option<String>) {
        self.ask(Asked::Instruments { ticket, prefix });
    }

    /// Asks for the state of a book that is wrong.
    pub(crate) fn repair(&mut self, symbol: &str, channel: Channel) {
        // A connection that is being made brings it anyway, or resumes: then it is asked for behind that.
        if let Some(setting) = self.wishes.setting(channel, symbol) {
            let channels = [channel].into_iter().collect();
            for command in wishes::parts(channels, &[symbol], setting, self.command_bytes_max(), &Anew) {
                let command = Subscribe { snapshot: true, ..command };
                self.ask(Asked::Repair { command });
            }
        }
    }

    /// A request of the program.
    pub(super) fn ask(&mut self, asked: Asked) {
        if self.is_ended() {
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        if self.is_ready() && self.route.is_stream() {
            self.ask_beside(id, &asked);
        } else if self.is_ready() {
            self.say(id, &asked);
        }
        self.asked.insert(id, asked);
    }

    pub(super) fn say(&mut self, id: i64, asked: &Asked) {
        let command = match asked {
            Asked::Subscribe { command, .. } | Asked::Repair { command } => Command::Subscribe(command.clone()),
            Asked::Update { command, .. } => Command::Update(command.clone()),
            Asked::Unsubscribe { command, .. } => command.clone(),
            Asked::Instruments { prefix, .. } => Command::Instruments { prefix: prefix.clone() },
            Asked::Ping { .. } => Command::Ping,
            Asked::Auth => Command::Auth { token: self.config.auth_command.clone().unwrap_or_default() },
        };
        let mut bytes = Vec::new();
        encode_command(self.config.encoding, &Envelope { id: Some(CommandId::Integer(id)), command }, &mut bytes);
        match asked {
            // Before anything else, and before the limit is of interest.
            Asked::Auth => self.actions.push_back(Action::Send(bytes)),
            _ => self.pace.push(bytes),
        }
    }

    /// The server refused commands without looking at them: everything without an answer is said once more.
    pub(super) fn ask_again(&mut self) {
        self.asked.retain(|_, asked| !matches!(asked, Asked::Ping { .. }));
        let all: Vec<_> = self.asked.iter().map(|(id, asked)| (*id, asked.clone())).collect();
        for (id, asked) in all {
            self.say(id, &asked);
        }
    }

    /// The command that was answered.
    pub(super) fn answered(&mut self, id: Option<&CommandId>) -> Option<Asked> {
        let Some(CommandId::Integer(id)) = id else { return None };
        let asked = self.asked.remove(id)?;
        if let Asked::Subscribe { .. } = asked {
            // Its unknown symbols are told behind its answer.
            self.last_subscribed = Some((*id, asked.clone()));
        }
        Some(asked)
    }

    /// What was asked of the server is said again on the next connection, or has come true by the end of this one.
    pub(super) fn forget_session(&mut self) {
        self.again_due = None;
        let asked = std::mem::take(&mut self.asked);
        for (id, asked) in asked {
            match asked {
                // A book that is wrong stays so when its deltas are resumed.
                Asked::Instruments { .. } | Asked::Repair { .. } | Asked::Subscribe { ticket: Some(_), .. } => {
                    self.asked.insert(id, asked);
                }
                Asked::Unsubscribe { ticket, .. } => {
                    self.events.push(Event::Unsubscribed { ticket: Some(ticket) });
                }
                // Wishes hold them.
                Asked::Update { .. } | Asked::Subscribe { ticket: None, .. } | Asked::Ping { .. } | Asked::Auth => {}
            }
        }
    }

    pub(super) fn command_bytes_max(&self) -> usize {
        match self.limits.message_bytes_max {
            0 => COMMAND_BYTES_MAX,
            bytes => bytes as usize,
        }
    }
}

fn wire_symbols(symbols: &SymbolList) -> Symbols {
    match symbols {
        SymbolList::All => Symbols::All,
        SymbolList::Named(names) => Symbols::Named(names.clone()),
    }
}
