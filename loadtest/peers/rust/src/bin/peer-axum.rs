//! A fan-out server on plain axum and `tokio::sync::broadcast`, as one would write it first.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::routing::get;
use clap::Parser;
use peers::{Format, Metronome, Options};
use serde::Deserialize;
use tokio::sync::broadcast::{self, error::RecvError};

/// Messages that a slow subscriber may be behind before it loses the oldest.
const QUEUE: usize = 1024;

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

/// As a message of the format's kind.
fn framed(format: Format, payload: Vec<u8>) -> Message {
    match format {
        Format::Msgpack => Message::Binary(Bytes::from(payload)),
        Format::Json => Message::Text(Utf8Bytes::try_from(payload).unwrap_or_default()),
    }
}

async fn upgrade(upgrade: WebSocketUpgrade, State(app): State<App>) -> axum::response::Response {
    upgrade.on_upgrade(move |socket| async move {
        session(socket, app).await;
    })
}

async fn session(mut socket: WebSocket, app: App) -> Option<()> {
    socket.send(framed(app.format, app.format.control("welcome"))).await.ok()?;
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
    socket.send(framed(app.format, app.format.control("subscribed"))).await.ok()?;
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
                _ => socket.send(framed(app.format, app.format.message(own.into_iter()))).await.ok(),
            }
        }
    }
}

async fn publish(options: Options, batches: broadcast::Sender<Arc<Batch>>) {
    let mut metronome = Metronome::new(options.clone());
    let broadcast = |elements: Vec<(u32, Vec<u8>)>| {
        let payload = options.format.message(elements.iter().map(|(_, element)| element.as_slice()));
        // Nobody listening is no failure.
        let _ = batches.send(Arc::new(Batch { message: framed(options.format, payload), elements }));
    };
    let mut timer = tokio::time::interval(metronome.interval());
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        let ticks = metronome.due();
        if options.batch_us == 0 {
            ticks.into_iter().for_each(|tick| broadcast(vec![tick]));
        } else if !ticks.is_empty() {
            broadcast(ticks);
        }
        if metronome.is_late() {
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
