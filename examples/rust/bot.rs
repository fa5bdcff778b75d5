//! A bot that keeps a book and trades on paper: it buys when the bids weigh more than the asks, and sells when they weigh
//! less, one lot at a time, and says what it would have made.
//!
//! ```console
//! cargo run -p tickerplant-client --example bot -- BTC-USD [ws://127.0.0.1:8080/ws]
//! ```
//!
//! **Invariant:** money is counted in integers of the price's exponent; the bot does nothing while its book is not whole.

use std::io::{self, Write as _};
use std::process::ExitCode;

use tickerplant_client::{
    BookDepth, BookSide, BookState, Channel, Client, Connection, Decimal, Event, Price, Subscription,
};

const DEPTH: BookDepth = BookDepth::Top10;
/// A side that is more than so many times as heavy as the other is a signal.
const WEIGHT: u64 = 2;

/// What the bot has: lots, and the money that they have cost, in integers of the price's exponent per lot.
#[derive(Default)]
struct Paper {
    lots: i128,
    money: i128,
    orders: u64,
}

enum Side {
    Buy,
    Sell,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bot: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let symbol = args.next().ok_or("usage: bot SYMBOL [URL]")?;
    let url = args.next().unwrap_or_else(|| "ws://127.0.0.1:8080/ws".to_owned());
    let mut client = Client::connect(url.as_str()).await?;
    client.subscribe(Subscription::to([Channel::Book(DEPTH)], [symbol.as_str()]))?;
    let mut paper = Paper::default();
    let mut out = io::stdout().lock();
    while let Some(event) = client.next().await {
        match event {
            Event::BookSnapshot(_) | Event::BookDelta(_) => {
                if let Event::BookSnapshot(_) = event
                    && let Some(state) = client.book(&symbol, DEPTH)
                {
                    let show = |side| {
                        let best = state.book.best(side);
                        best.map_or("none".to_owned(), |level| {
                            Decimal::price(level.price, &state.instrument).to_string()
                        })
                    };
                    let (bid, ask) = (show(BookSide::Bid), show(BookSide::Ask));
                    writeln!(out, "the book is whole: {bid} / {ask}, waiting for a signal")?;
                }
                if let Some(order) = client.book(&symbol, DEPTH).and_then(|state| paper.decide(state)) {
                    writeln!(out, "{order}")?;
                }
            }
            Event::Gap(gap) => {
                writeln!(
                    out,
                    "{} to {} are missing ({}), waiting for the book",
                    gap.from_seq,
                    gap.to_seq,
                    gap.cause.name()
                )?;
            }
            Event::Connection(Connection::Connected { epoch_changed, .. }) => {
                writeln!(out, "connected to {url}")?;
                if epoch_changed {
                    writeln!(out, "the server began anew: what was in between is unknown, waiting for the book")?;
                }
            }
            Event::Connection(Connection::Lost { reason, retry_in }) => {
                writeln!(out, "connection lost: {reason}; again in {:.1} s", retry_in.as_secs_f32())?;
            }
            Event::Connection(Connection::Ended { reason }) => return Err(reason.into()),
            Event::Refused { message, .. } => return Err(message.into()),
            _ => {}
        }
    }
    Ok(())
}

impl Paper {
    fn decide(&mut self, state: &BookState) -> Option<String> {
        let (bid, ask) = (state.book.best(BookSide::Bid)?.price, state.book.best(BookSide::Ask)?.price);
        let weight = |side| state.book.levels(side).fold(0_u64, |sum, level| sum.saturating_add(level.size.0));
        let (bids, asks) = (weight(BookSide::Bid), weight(BookSide::Ask));
        let exponent = state.instrument.price_exponent;
        if bids > asks.saturating_mul(WEIGHT) && self.lots < 1 {
            Some(self.trade(&Side::Buy, bid, ask, exponent))
        } else if asks > bids.saturating_mul(WEIGHT) && self.lots > -1 {
            Some(self.trade(&Side::Sell, bid, ask, exponent))
        } else {
            None
        }
    }

    /// Takes a lot from the other side of the book, and says what all would be worth if it were got rid of at once.
    fn trade(&mut self, side: &Side, bid: Price, ask: Price, exponent: i8) -> String {
        let (name, lots, price) = match side {
            Side::Buy => ("buy", 1, ask),
            Side::Sell => ("sell", -1, bid),
        };
        self.lots += lots;
        self.money -= lots * i128::from(price.0);
        self.orders += 1;
        // A lot that is held is sold at the bid, one that is owed is bought at the ask.
        let exit = if self.lots > 0 { bid } else { ask };
        let profit = Decimal::new(self.money + self.lots * i128::from(exit.0), exponent);
        let price = Decimal::new(price.0.into(), exponent);
        format!("{:>6}. {name:<4} at {price:>12}   position {:>2}   profit {profit:>12}", self.orders, self.lots)
    }
}
