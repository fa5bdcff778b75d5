//! A fan-out server on plain axum and `tokio::sync::broadcast`, as one would write it first.
//!
//! Tick k is due at begin + k / rate. It is a quote or a trade in turns, of the instruments round robin, as in the tested
//! server's `uniform` scenario. Its time is the instant at which it was due, whenever it really goes out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::routing::get;
use clap::{Parser, ValueEnum};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::broadcast::{self, error::RecvError};

/// Messages that a slow subscriber may be behind before it loses the oldest.
const QUEUE: usize = 1024;

/// Ticks handed out in one go, so that a server that is late still reads.
const TICKS_MAX: u64 = 1000;

#[derive(Parser, Clone)]
struct Options {
    #[arg(long, default_value_t = 9004)]
    port: u16,
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    #[arg(long, default_value_t = 1000)]
    symbols: u32,
    /// 0: every tick is a message of its own; otherwise what fell due in an interval is one message
    #[arg(long, default_value_t = 0)]
    batch_us: u64,
    #[arg(long, value_enum, default_value = "msgpack")]
    format: Format,
    /// axum has none; accepted so that all peers have the same flags
    #[arg(long, default_value = "off")]
    deflate: String,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Msgpack,
    Json,
}

/// What fell due at once: the elements, and all of them as one message.
struct Batch {
    elements: Vec<(u32, Vec<u8>)>,
    message: Message,
}

#[derive(Clone)]
struct App {
    batches: broadcast::Sender<Arc<Batch>>,
    format: Format,
}

#[derive(Deserialize)]
struct Command {
    op: String,
    #[serde(default)]
    symbols: Vec<String>,
}

enum Wanted {
    Everything,
    Symbols(HashSet<u32>),
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

fn rfc3339(ns: u64) -> String {
    let seconds = OffsetDateTime::from_unix_timestamp((ns / 1_000_000_000) as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let text = seconds.format(&Rfc3339).unwrap_or_default();
    format!("{}.{:09}Z", text.trim_end_matches('Z'), ns % 1_000_000_000)
}

fn unsigned(value: u64, out: &mut Vec<u8>) {
    match value {
        0..128 => out.push(value as u8),
        128..256 => out.extend([0xCC, value as u8]),
        256..65536 => {
            out.push(0xCD);
            out.extend((value as u16).to_be_bytes());
        }
        65536..0x1_0000_0000 => {
            out.push(0xCE);
            out.extend((value as u32).to_be_bytes());
        }
        _ => {
            out.push(0xCF);
            out.extend(value.to_be_bytes());
        }
    }
}

impl Format {
    fn control(self, kind: &str) -> Message {
        match self {
            Self::Json => Message::Text(format!("{{\"type\":\"{kind}\",\"instruments\":[]}}").into()),
            Self::Msgpack => {
                let mut out = b"\x81\xA4type".to_vec();
                out.push(0xA0 | kind.len() as u8);
                out.extend(kind.as_bytes());
                Message::Binary(out.into())
            }
        }
    }

    fn element(self, trade: bool, symbol: u32, seq: u64, time_ns: u64) -> Vec<u8> {
        if self == Self::Json {
            let head = format!("\"symbol\":\"S{symbol}\",\"seq\":{seq},\"time\":\"{}\"", rfc3339(time_ns));
            let text = if trade {
                format!("{{\"type\":\"trade\",{head},\"price\":\"9682.19\",\"size\":\"150\",\"side\":\"buy\",\"trade_id\":{seq}}}")
            } else {
                format!("{{\"type\":\"quote\",{head},\"bid\":\"9682.18\",\"bid_size\":\"200\",\"ask\":\"9682.20\",\"ask_size\":\"150\"}}")
            };
            return text.into_bytes();
        }
        let mut out = vec![0x98, if trade { 1 } else { 2 }];
        unsigned(symbol.into(), &mut out);
        unsigned(seq, &mut out);
        unsigned(time_ns, &mut out);
        let values = if trade { [968_219, 150, 1, seq] } else { [968_218, 200, 968_220, 150] };
        values.into_iter().for_each(|value| unsigned(value, &mut out));
        out
    }

    fn message<'a>(self, elements: impl ExactSizeIterator<Item = &'a [u8]>) -> Message {
        if self == Self::Json {
            let texts: Vec<_> = elements.map(String::from_utf8_lossy).collect();
            let text = format!("{{\"sent_at\":\"{}\",\"data\":[{}]}}", rfc3339(now_ns()), texts.join(","));
            return Message::Text(Utf8Bytes::from(text));
        }
        let mut out = Vec::with_capacity(16 + 32 * elements.len());
        match elements.len() + 1 {
            count @ 0..16 => out.push(0x90 | count as u8),
            count => {
                out.push(0xDD);
                out.extend((count as u32).to_be_bytes());
            }
        }
        unsigned(now_ns(), &mut out);
        elements.for_each(|element| out.extend_from_slice(element));
        Message::Binary(Bytes::from(out))
    }
}

async fn upgrade(upgrade: WebSocketUpgrade, State(app): State<App>) -> axum::response::Response {
    upgrade.on_upgrade(move |socket| async move {
        session(socket, app).await;
    })
}

async fn session(mut socket: WebSocket, app: App) -> Option<()> {
    socket.send(app.format.control("welcome")).await.ok()?;
    let wanted = loop {
        let Message::Text(text) = socket.recv().await?.ok()? else { continue };
        let command: Command = serde_json::from_str(&text).ok()?;
        if command.op == "subscribe" {
            let number = |symbol: &String| symbol.get(1..).and_then(|digits| digits.parse().ok());
            break if command.symbols == ["*"] {
                Wanted::Everything
            } else {
                Wanted::Symbols(command.symbols.iter().filter_map(number).collect())
            };
        }
    };
    let mut batches = app.batches.subscribe();
    socket.send(app.format.control("subscribed")).await.ok()?;
    loop {
        tokio::select! {
            batch = batches.recv() => match batch {
                Ok(batch) => send(&mut socket, &app, &wanted, &batch).await?,
                // What was missed is missed: the channel says how many, and there is nothing to make of it.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            },
            message = socket.recv() => drop(message?.ok()?),
        }
    }
}

async fn send(socket: &mut WebSocket, app: &App, wanted: &Wanted, batch: &Batch) -> Option<()> {
    match wanted {
        Wanted::Everything => socket.send(batch.message.clone()).await.ok(),
        Wanted::Symbols(symbols) => {
            let own: Vec<&[u8]> = batch
                .elements
                .iter()
                .filter(|(symbol, _)| symbols.contains(symbol))
                .map(|(_, element)| element.as_slice())
                .collect();
            match own.len() {
                0 => Some(()),
                all if all == batch.elements.len() => socket.send(batch.message.clone()).await.ok(),
                _ => socket.send(app.format.message(own.into_iter())).await.ok(),
            }
        }
    }
}

async fn publish(options: Options, batches: broadcast::Sender<Arc<Batch>>) {
    let (begin, mut next) = (now_ns(), 0);
    let mut seqs = vec![[0u64; 2]; options.symbols as usize];
    let broadcast = |elements: Vec<(u32, Vec<u8>)>| {
        let message = options.format.message(elements.iter().map(|(_, element)| element.as_slice()));
        // Nobody listening is no failure.
        let _ = batches.send(Arc::new(Batch { elements, message }));
    };
    let every = Duration::from_micros(if options.batch_us == 0 { 1000 } else { options.batch_us });
    let mut timer = tokio::time::interval(every);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        let due = ((now_ns() - begin) as f64 * options.rate / 1e9) as u64 + 1;
        let due = due.min(next + TICKS_MAX);
        let mut ticks = Vec::new();
        while next < due {
            let symbol = (next % u64::from(options.symbols)) as u32;
            let trade = (next / u64::from(options.symbols) + u64::from(symbol)) % 2;
            let seq = &mut seqs[symbol as usize][trade as usize];
            *seq += 1;
            let time_ns = begin + (next as f64 * 1e9 / options.rate) as u64;
            let element = (symbol, options.format.element(trade == 1, symbol, *seq, time_ns));
            if options.batch_us == 0 { broadcast(vec![element]) } else { ticks.push(element) }
            next += 1;
        }
        if !ticks.is_empty() {
            broadcast(ticks);
        }
        let due = (now_ns() - begin) as f64 * options.rate / 1e9;
        if due - next as f64 > TICKS_MAX as f64 / 2.0 {
            tokio::task::yield_now().await;
        } else {
            timer.tick().await;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let options = Options::parse();
    let (batches, _) = broadcast::channel(QUEUE);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", options.port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let app = App { batches: batches.clone(), format: options.format };
    tokio::spawn(publish(options, batches));
    axum::serve(listener, Router::new().route("/ws", get(upgrade)).with_state(app)).await
}
