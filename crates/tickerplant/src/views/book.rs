//! `book`: a ladder that moves.
//!
//! **Invariant:** the terminal is given back as it was, however the view ends; the screen is drawn at most so often as an
//! eye can follow, however fast the book moves.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;
use crossterm::event::{Event as TerminalEvent, KeyCode, KeyEventKind, KeyModifiers};
use tickerplant_client::{
    BookDepth, Channel, Client, Connection, Event, InstrumentTerms, Origin, Subscription, Timestamp, Update,
};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::ladder::{self, Model};
use super::{Server, refused};
use crate::exit::Failure;

/// Between two drawings.
const DRAW_INTERVAL: Duration = Duration::from_millis(50);
/// How long a snapshot is waited for before the best bid and offer does.
const BOOK_PATIENCE: Duration = Duration::from_secs(2);
/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `book` can be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct BookArgs {
    /// Which instrument
    #[arg(value_name = "SYMBOL")]
    symbol: String,
    /// Levels of each side
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    depth: u16,
    /// Print the book once, as text, and end; so it is also when standard output is no terminal
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn show(args: BookArgs) -> Result<(), Failure> {
    let depth = match args.depth {
        ..=10 => BookDepth::Top10,
        11..=50 => BookDepth::Top50,
        _ => BookDepth::Full,
    };
    let mut client = args.server.connect().await?;
    let channels = [Channel::Book(depth), Channel::Quotes, Channel::Trades, Channel::Status];
    client
        .subscribe(Subscription::to(channels, [args.symbol.as_str()]))
        .map_err(|error| Failure::Setting(error.to_string()))?;
    let model = Model {
        symbol: args.symbol.clone(),
        depth: args.depth.into(),
        connection: args.server.url.clone(),
        connected: true,
        ..Model::default()
    };
    let mut view = View { model, depth, url: args.server.url.clone() };
    if args.once || !stdout().is_terminal() {
        return view.once(&mut client).await;
    }
    // An unknown symbol is told before the screen is taken.
    view.until_subscribed(&mut client).await?;
    let mut terminal = ratatui::try_init().context("cannot take the terminal")?;
    let ended = view.moving(&mut client, &mut terminal).await;
    ratatui::restore();
    ended
}

fn connection_ended() -> Failure {
    Failure::Refused("the connection ended".into())
}

struct View {
    model: Model,
    depth: BookDepth,
    url: String,
}

impl View {
    async fn until_subscribed(&mut self, client: &mut Client) -> Result<(), Failure> {
        loop {
            let event = client.next().await.ok_or_else(connection_ended)?;
            self.check(client, &event).await?;
            self.take(client, event.clone());
            if matches!(event, Event::Subscribed { .. }) {
                return Ok(());
            }
        }
    }

    async fn check(&self, client: &mut Client, event: &Event) -> Result<(), Failure> {
        refused(client, event, std::slice::from_ref(&self.model.symbol)).await?;
        match event {
            Event::Connection(Connection::Ended { reason }) => Err(Failure::Refused(reason.to_string())),
            _ => Ok(()),
        }
    }

    async fn once(&mut self, client: &mut Client) -> Result<(), Failure> {
        self.until_subscribed(client).await?;
        let booked = timeout(BOOK_PATIENCE, self.until(client, |model| model.book.is_some())).await;
        if let Ok(booked) = booked {
            booked?;
        } else {
            let quoted = self.until(client, |model| model.quote.is_some() || model.book.is_some());
            let Ok(quoted) = timeout(PATIENCE, quoted).await else {
                let symbol = &self.model.symbol;
                return Err(Failure::Other(anyhow::anyhow!("neither a book nor a quote of {symbol} has come")));
            };
            quoted?;
            eprintln!("note: the feed brings no book of it; this is its best bid and offer");
        }
        stdout().lock().write_all(ladder::text(&self.model).as_bytes()).context("cannot write")?;
        Ok(())
    }

    async fn until(&mut self, client: &mut Client, enough: impl Fn(&Model) -> bool) -> Result<(), Failure> {
        while !enough(&self.model) {
            let event = client.next().await.ok_or_else(connection_ended)?;
            self.check(client, &event).await?;
            self.take(client, event);
        }
        Ok(())
    }

    async fn moving(&mut self, client: &mut Client, terminal: &mut ratatui::DefaultTerminal) -> Result<(), Failure> {
        let mut keys = keys();
        let mut drawing = interval(DRAW_INTERVAL);
        drawing.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changed = true;
        loop {
            // Each may be dropped unfinished without losing anything. Biased, so that a fast book stops neither keys nor
            // drawing.
            tokio::select! {
                biased;
                key = keys.recv() => match key {
                    Some(Pressed::Quit) | None => return Ok(()),
                    Some(Pressed::Redraw) => changed = true,
                },
                _ = drawing.tick() => if std::mem::take(&mut changed) {
                    terminal.draw(|frame| ladder::draw(&self.model, frame)).context("cannot draw")?;
                },
                event = client.next() => {
                    let Some(event) = event else { return Ok(()) };
                    self.check(client, &event).await?;
                    self.take(client, event);
                    changed = true;
                }
            }
        }
    }

    fn take(&mut self, client: &Client, event: Event) {
        let model = &mut self.model;
        match event {
            Event::Trade(trade) => {
                Self::seen(model, client, &trade);
                model.trade(trade);
            }
            Event::Quote(quote) => {
                Self::seen(model, client, &quote);
                model.quote = Some(quote.value);
            }
            Event::BookSnapshot(update) | Event::BookDelta(update) => {
                Self::seen(model, client, &update);
                model.seq = update.seq;
            }
            Event::Status(status) => model.status = Some(status.value.code),
            Event::Gap(_) => model.gaps += 1,
            Event::Connection(connection) => match connection {
                Connection::Connected { .. } => (model.connected, model.connection) = (true, self.url.clone()),
                Connection::Lost { reason, retry_in } => {
                    model.lost += 1;
                    model.connected = false;
                    model.connection = format!("{reason}; trying again in {:.1} s", retry_in.as_secs_f64());
                }
                Connection::Ended { reason } => (model.connected, model.connection) = (false, reason.to_string()),
            },
            Event::Subscribed { instruments, .. } => {
                model.terms = instruments.first().map(|terms| InstrumentTerms::clone(terms)).or(model.terms.take());
            }
            _ => return,
        }
        // An empty book says that nothing is known.
        let state = client.book(&model.symbol, self.depth).filter(|state| !state.book.is_empty());
        model.book = state.map(|state| state.book.clone());
    }

    fn seen<T>(model: &mut Model, client: &Client, update: &Update<T>) {
        model.events += 1;
        if update.origin == Origin::Live
            && let Some(clock) = client.clock()
        {
            let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let now = Timestamp(u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX));
            let delay = now.since(clock.to_local(update.sent_at));
            model.delay_us = u64::try_from(delay.as_micros()).ok();
        }
    }
}

enum Pressed {
    Quit,
    Redraw,
}

/// Reads keys in a thread of its own, which ends with the process. Unbounded because a person fills it.
fn keys() -> mpsc::UnboundedReceiver<Pressed> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(event) = crossterm::event::read() {
            let pressed = match event {
                TerminalEvent::Key(key) if key.kind == KeyEventKind::Press => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => Pressed::Quit,
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Pressed::Quit,
                    _ => continue,
                },
                TerminalEvent::Resize(..) => Pressed::Redraw,
                _ => continue,
            };
            if sender.send(pressed).is_err() {
                return;
            }
        }
    });
    receiver
}
