//! The Rust SDK in the conformance scenario: prints what it was shown, as the drivers of the other SDKs do.
//!
//! **Invariant:** nothing is judged here; `tests/e2e/test_sdks.py` compares what the SDKs print.
//!
//! Usage: `conformance ws://127.0.0.1:PORT/ws`

use std::time::Duration;

use serde_json::{Value, json};
use tickerplant_client::{
    Backoff, BookDepth, BookSide, Channel, Client, Connection, Decimal, Event, GapCause, Origin, Subscription, Update,
};

/// What came of the run of numbers that is going on.
fn stream<'a>(runs: &'a mut [Value], symbol: &str, channel: Channel) -> Option<&'a mut Value> {
    let streams = &mut runs.last_mut()?["streams"];
    let stream = &mut streams[format!("{symbol} {channel}")];
    if stream.is_null() {
        *stream = json!({"live": [], "gaps": [], "digest": 0});
    }
    Some(stream)
}

fn live<T>(runs: &mut [Value], update: &Update<T>, channel: Channel, said: Option<u64>) {
    if update.origin == Origin::Snapshot {
        return;
    }
    let Some(stream) = stream(runs, update.symbol(), channel) else { return };
    if let Value::Array(live) = &mut stream["live"] {
        live.push(update.seq.into());
    }
    if let (Some(said), Some(digest)) = (said, stream["digest"].as_u64()) {
        stream["digest"] = ((digest * 31 + said) % 2_147_483_647).into();
    }
}

fn book(client: &Client, symbol: &str) -> Value {
    let Some(state) = client.book(symbol, BookDepth::Top10) else { return Value::Null };
    let side = |side| {
        let levels = state.book.levels(side).map(|level| {
            let price = Decimal::price(level.price, &state.instrument);
            json!([price.to_string(), Decimal::size(level.size, &state.instrument).to_string()])
        });
        levels.collect::<Vec<_>>()
    };
    json!({"seq": state.seq, "bids": side(BookSide::Bid), "asks": side(BookSide::Ask)})
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("usage: conformance ws://127.0.0.1:PORT/ws")?;
    let pauses = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(10), ..Backoff::default() };
    let mut client = Client::builder(url).reconnect(pauses).connect().await?;
    let channels = [Channel::Trades, Channel::Quotes, Channel::Book(BookDepth::Top10), Channel::Status];
    client.subscribe(Subscription::to(channels, ["A", "B", "NOPE", "SECRET"]))?;
    let (mut runs, mut refused, mut connections, mut wrong_books) = (Vec::new(), Vec::new(), 0, 0);
    while let Some(event) = client.next().await {
        match event {
            Event::Connection(Connection::Connected { epoch, epoch_changed, .. }) => {
                connections += 1;
                if runs.is_empty() || epoch_changed {
                    runs.push(json!({"epoch": epoch, "streams": {}}));
                }
            }
            Event::Refused { symbols, .. } => {
                for symbol in symbols {
                    if !refused.contains(&symbol) {
                        refused.push(symbol);
                    }
                }
            }
            Event::BookProblem(_) => wrong_books += 1,
            Event::Gap(gap) => {
                let reason = match gap.cause {
                    // What the TypeScript SDK calls what nobody declared.
                    GapCause::NotResumed | GapCause::Undeclared => "hole",
                    declared @ GapCause::Declared(_) => declared.name(),
                };
                let symbol = gap.instrument.symbol.as_str();
                if let Some(stream) = stream(&mut runs, symbol, gap.channel)
                    && let Value::Array(gaps) = &mut stream["gaps"]
                {
                    gaps.push(json!([gap.from_seq, gap.to_seq, reason]));
                }
            }
            Event::Trade(trade) => {
                let said = u64::try_from(trade.value.price.0)? * 7 + trade.value.size.0;
                live(&mut runs, &trade, Channel::Trades, Some(said));
            }
            Event::Quote(quote) => live(&mut runs, &quote, Channel::Quotes, None),
            Event::BookSnapshot(update) | Event::BookDelta(update) => {
                live(&mut runs, &update, Channel::Book(BookDepth::Top10), None);
            }
            Event::Status(status) => {
                live(&mut runs, &status, Channel::Status, None);
                if &*status.value.reason == "done" {
                    break;
                }
            }
            _ => {}
        }
    }
    let books = json!({"A": book(&client, "A"), "B": book(&client, "B")});
    let result = json!({"books": books, "connections": connections, "refused": refused, "runs": runs,
                        "wrong_books": wrong_books});
    println!("{result}");
    Ok(())
}
