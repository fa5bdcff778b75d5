//! `tail`: one line for each event.
//!
//! **Invariant:** events are in the order of the server; gaps and lost connections stand between them, where they happened.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _, stdout};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use tickerplant_client::{
    BookUpdate, Channel, Client, Connection, Decimal, Event, GapEvent, InstrumentTerms, Level, Origin, Side,
    Subscription, SymbolList, Timestamp, Update,
};

use super::paint::{Paint, Tone};
use super::{Server, refused};
use crate::exit::Failure;

/// What `tail` can be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct TailArgs {
    /// Symbols, or * for all
    #[arg(required = true, value_name = "SYMBOL")]
    symbols: Vec<String>,
    /// Channels: trades, quotes, ticker, status, bars.1m, book.10 and so on
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "trades,quotes")]
    channels: Vec<Channel>,
    /// A JSON object for each event, one a line
    #[arg(long)]
    json: bool,
    /// Only the newest value of each stream, this often in milliseconds
    #[arg(long, value_name = "MS")]
    latest: Option<u32>,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn show(args: TailArgs) -> Result<(), Failure> {
    let all = args.symbols.iter().any(|symbol| symbol == "*");
    let symbols = if all { SymbolList::All } else { SymbolList::from(args.symbols.clone()) };
    let mut subscription = Subscription::to(args.channels.clone(), symbols);
    if let Some(interval_ms) = args.latest {
        subscription = subscription.latest_every_ms(interval_ms);
    }
    let mut client = args.server.connect().await?;
    client.subscribe(subscription).map_err(|error| Failure::Setting(error.to_string()))?;
    let writer = Writer {
        json: args.json,
        paint: Paint::of_stdout(),
        width: args.symbols.iter().map(String::len).max().unwrap_or(0).max(8),
    };
    let mut summary = Summary::new();
    let ended = follow(&args, &mut client, writer, &mut summary).await;
    if matches!(ended, Ok(())) {
        eprintln!("{}", summary.text());
    }
    ended
}

async fn follow(args: &TailArgs, client: &mut Client, writer: Writer, summary: &mut Summary) -> Result<(), Failure> {
    let mut out = BufWriter::new(stdout().lock());
    loop {
        // Both may be dropped unfinished: no event is lost, and the signal is heard by the next turn.
        let event = tokio::select! {
            event = client.next() => event,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(event) = event else { break };
        if let Event::Refused { .. } = event {
            out.flush().context("cannot write")?;
            refused(client, &event, &args.symbols).await?;
        }
        summary.take(&event);
        if let Event::Connection(Connection::Ended { reason }) = &event {
            return Err(Failure::Refused(reason.to_string()));
        }
        // That it is connected at first goes without saying.
        let first = summary.lost == 0 && matches!(event, Event::Connection(Connection::Connected { .. }));
        if let Some(line) = writer.line(&event).filter(|_| !first) {
            writeln!(out, "{line}").context("cannot write")?;
        }
        if args.count.is_some_and(|count| summary.events() >= count) {
            break;
        }
        // What comes together is written together; a person waits for the rest.
        if client.is_idle() {
            out.flush().context("cannot write")?;
        }
    }
    out.flush().context("cannot write")?;
    Ok(())
}

/// Puts events into lines.
#[derive(Debug, Clone, Copy)]
struct Writer {
    json: bool,
    paint: Paint,
    width: usize,
}

impl Writer {
    fn line(self, event: &Event) -> Option<String> {
        if self.json { object(event).map(|object| object.to_string()) } else { self.text(event) }
    }

    fn text(self, event: &Event) -> Option<String> {
        Some(match event {
            Event::Trade(update) => {
                let (tone, sign) = match update.value.side {
                    Side::Buy => (Tone::Up, "▲ buy"),
                    Side::Sell => (Tone::Down, "▼ sell"),
                    Side::Unknown => (Tone::Quiet, "·"),
                };
                let body = format!("{:>14} x {:<12} {sign}", update.price(), update.size());
                self.of(update, "trade", &self.paint.tone(tone, body))
            }
            Event::Quote(update) => {
                let side = |side: Option<(Decimal, Decimal)>| {
                    side.map_or_else(
                        || format!("{:>14}   {:<12}", "-", ""),
                        |(price, size)| format!("{price:>14} x {size:<12}"),
                    )
                };
                let (bid, ask) = (side(update.bid()), side(update.ask()));
                let body =
                    format!("{} / {}", self.paint.tone(Tone::Up, bid), self.paint.tone(Tone::Down, ask.trim_end()));
                self.of(update, "quote", &body)
            }
            Event::Bar(update) => {
                let [open, high, low, close] =
                    [update.value.open, update.value.high, update.value.low, update.value.close]
                        .map(|price| update.decimal_price(price));
                let (volume, trades) = (update.decimal_size(update.value.volume), update.value.trade_count);
                let closed = if update.value.closed { "closed" } else { "open" };
                let seconds = update.value.interval.seconds();
                self.of(
                    update,
                    "bar",
                    &format!("{seconds}s o {open} h {high} l {low} c {close} v {volume} n {trades} {closed}"),
                )
            }
            Event::Ticker(update) => {
                let [last, open, high, low] =
                    [update.value.last, update.value.open, update.value.high, update.value.low]
                        .map(|price| update.decimal_price(price));
                let (volume, trades) = (update.decimal_size(update.value.volume), update.value.trade_count);
                self.of(update, "ticker", &format!("{last:>14}   24h: o {open} h {high} l {low} v {volume} n {trades}"))
            }
            Event::Status(update) => {
                let body = format!("{} {}", update.value.code.name(), update.value.reason);
                self.of(update, "status", &self.paint.tone(Tone::Strong, body.trim_end()))
            }
            Event::BookSnapshot(update) => self.book(update, "book"),
            Event::BookDelta(update) => self.book(update, "delta"),
            Event::Gap(gap) => {
                let GapEvent { instrument, channel, from_seq, to_seq, cause } = gap;
                let body = format!("{} missing: {channel} {from_seq} to {to_seq} ({})", gap.count(), cause.name());
                let symbol = format!("{:width$}", instrument.symbol.as_str(), width = self.width);
                format!(
                    "{:15}  {}  {symbol}  {}",
                    "",
                    self.paint.tone(Tone::Alarm, format!("{:6}", "GAP")),
                    self.paint.tone(Tone::Alarm, body)
                )
            }
            Event::Connection(connection) => self.remark(&match connection {
                Connection::Connected { epoch_changed: true, .. } => {
                    "connected; the server was started anew, numbers begin anew".to_owned()
                }
                Connection::Connected { .. } => "connected".to_owned(),
                Connection::Lost { reason, retry_in } => {
                    format!("{reason}; trying again in {:.1} s", retry_in.as_secs_f64())
                }
                Connection::Ended { reason } => reason.to_string(),
            }),
            Event::Notice { message, .. } => self.remark(message),
            Event::BookProblem(problem) => self.remark(&format!(
                "the book of {} was wrong after {} and is asked for anew",
                problem.instrument.symbol, problem.seq
            )),
            _ => return None,
        })
    }

    fn remark(self, text: &str) -> String {
        self.paint.tone(Tone::Quiet, format!("-- {text}"))
    }

    fn of<T>(self, update: &Update<T>, kind: &str, body: &str) -> String {
        let time = self.paint.tone(Tone::Quiet, clock(update.time));
        let symbol = self.paint.tone(Tone::Strong, format!("{:width$}", update.symbol(), width = self.width));
        let state =
            if update.origin == Origin::Snapshot { self.paint.tone(Tone::Quiet, "  (state)") } else { String::new() };
        format!("{time}  {kind:6}  {symbol}  {body}{state}")
    }

    fn book(self, update: &Update<BookUpdate>, kind: &str) -> String {
        let side = |levels: &[Level]| {
            let shown: Vec<_> = levels
                .iter()
                .take(3)
                .map(|l| format!("{} x {}", update.decimal_price(l.price), update.decimal_size(l.size)))
                .collect();
            let more = if levels.len() > 3 { format!(" +{}", levels.len() - 3) } else { String::new() };
            if shown.is_empty() { "-".to_owned() } else { shown.join(", ") + &more }
        };
        let (bids, asks) = (side(update.value.bids()), side(update.value.asks()));
        self.of(
            update,
            kind,
            &format!("bids {} / asks {}", self.paint.tone(Tone::Up, bids), self.paint.tone(Tone::Down, asks)),
        )
    }
}

/// The time of day, in microseconds.
fn clock(time: Timestamp) -> String {
    let text = time.to_string();
    text.get(11..26).unwrap_or(&text).to_owned()
}

/// An event as the protocol's JSON has its elements.
fn object(event: &Event) -> Option<Value> {
    let gap = |gap: &GapEvent| {
        json!({"type": "gap", "symbol": gap.instrument.symbol.as_str(), "channel": gap.channel.name(),
               "from_seq": gap.from_seq, "to_seq": gap.to_seq, "reason": gap.cause.name()})
    };
    Some(match event {
        Event::Trade(u) => {
            let side = ["unknown", "buy", "sell"][u.value.side as usize];
            head(
                "trade",
                u,
                json!({"price": u.price().to_string(), "size": u.size().to_string(), "side": side, "trade_id": u.value.trade_id}),
            )
        }
        Event::Quote(u) => {
            let price = |side: Option<(Decimal, Decimal)>| side.map(|(price, _)| price.to_string());
            let size = |side: Option<(Decimal, Decimal)>| side.map(|(_, size)| size.to_string());
            head(
                "quote",
                u,
                json!({"bid": price(u.bid()), "bid_size": size(u.bid()), "ask": price(u.ask()), "ask_size": size(u.ask())}),
            )
        }
        Event::Bar(u) => {
            let price = |price| u.decimal_price(price).to_string();
            head(
                "bar",
                u,
                json!({"interval_s": u.value.interval.seconds(), "open": price(u.value.open), "high": price(u.value.high),
                "low": price(u.value.low), "close": price(u.value.close), "volume": u.decimal_size(u.value.volume).to_string(),
                "trade_count": u.value.trade_count, "closed": u.value.closed}),
            )
        }
        Event::Ticker(u) => {
            let price = |price| u.decimal_price(price).to_string();
            head(
                "ticker",
                u,
                json!({"last": price(u.value.last), "open": price(u.value.open), "high": price(u.value.high),
                "low": price(u.value.low), "volume": u.decimal_size(u.value.volume).to_string(), "turnover": u.value.turnover,
                "trade_count": u.value.trade_count}),
            )
        }
        Event::Status(u) => head("status", u, json!({"code": u.value.code.name(), "reason": &*u.value.reason})),
        Event::BookSnapshot(u) => head("book_snapshot", u, levels(&u.value, &u.instrument)),
        Event::BookDelta(u) => head("book_delta", u, levels(&u.value, &u.instrument)),
        Event::Gap(missing) => gap(missing),
        Event::Connection(Connection::Connected { epoch, .. }) => json!({"type": "connected", "epoch": epoch}),
        Event::Connection(Connection::Lost { reason, .. }) => json!({"type": "lost", "reason": reason.to_string()}),
        _ => return None,
    })
}

fn head<T>(kind: &str, update: &Update<T>, mut body: Value) -> Value {
    if let Some(body) = body.as_object_mut() {
        body.insert("type".into(), kind.into());
        body.insert("symbol".into(), update.symbol().into());
        body.insert("seq".into(), update.seq.into());
        body.insert("time".into(), update.time.to_string().into());
        if update.origin == Origin::Snapshot {
            body.insert("snapshot".into(), true.into());
        }
    }
    body
}

fn levels(update: &BookUpdate, terms: &InstrumentTerms) -> Value {
    let side = |levels: &[Level]| -> Vec<[String; 2]> {
        levels
            .iter()
            .map(|l| [Decimal::price(l.price, terms).to_string(), Decimal::size(l.size, terms).to_string()])
            .collect()
    };
    json!({"depth": update.depth().wire_depth(), "bids": side(update.bids()), "asks": side(update.asks()), "checksum": update.checksum()})
}

/// What is said at the end.
#[derive(Debug)]
struct Summary {
    began: Instant,
    events: BTreeMap<&'static str, u64>,
    gaps: u64,
    missing: u64,
    lost: u64,
}

impl Summary {
    fn new() -> Self {
        Self { began: Instant::now(), events: BTreeMap::new(), gaps: 0, missing: 0, lost: 0 }
    }

    fn take(&mut self, event: &Event) {
        let kind = match event {
            Event::Trade(_) => "trades",
            Event::Quote(_) => "quotes",
            Event::Bar(_) => "bars",
            Event::Ticker(_) => "ticker",
            Event::Status(_) => "status",
            Event::BookSnapshot(_) | Event::BookDelta(_) => "book",
            Event::Gap(gap) => {
                self.gaps += 1;
                self.missing += gap.count();
                return;
            }
            Event::Connection(Connection::Lost { .. }) => {
                self.lost += 1;
                return;
            }
            _ => return,
        };
        *self.events.entry(kind).or_default() += 1;
    }

    fn events(&self) -> u64 {
        self.events.values().sum()
    }

    fn text(&self) -> String {
        self.text_after(self.began.elapsed())
    }

    fn text_after(&self, time: Duration) -> String {
        let kinds: Vec<_> = self.events.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
        let Self { gaps, missing, lost, .. } = self;
        format!(
            "{} events{kinds} in {:.1} s; {gaps} gaps, {missing} missing; connection lost {lost} times",
            self.events(),
            time.as_secs_f64()
        )
    }
}
