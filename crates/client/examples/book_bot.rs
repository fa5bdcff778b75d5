//! A bot that keeps a book and trades on paper: it buys when the bids weigh more than the asks, and sells when they weigh
//! less, one lot at a time, and says what it would have made.
//!
//! ```console
//! cargo run -p tickerplant-client --example book_bot -- BTC-USD [ws://127.0.0.1:8080/ws]
//! ```
//!
//! **Invariant:** money is counted in integers of the price's exponent; the bot does nothing while its book is not whole.

use tickerplant_client::{
    BookDepth, BookSide, Channel, Client, Connection, Decimal, Event, InstrumentTerms, Subscription,
};

const DEPTH: BookDepth = BookDepth::Top10;
/// A side that is so many times as heavy as the other is a signal.
const WEIGHT: u64 = 2;

/// What the bot has: lots, and money in integers of the price's exponent per lot.
#[derive(Default)]
struct Paper {
    lots: i128,
    money: i128,
    orders: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let symbol = args.next().ok_or("usage: book_bot SYMBOL [URL]")?;
    let url = args.next().unwrap_or_else(|| "ws://127.0.0.1:8080/ws".to_owned());
    let mut client = Client::connect(url).await?;
    client.subscribe(Subscription::to([Channel::Book(DEPTH)], [symbol.as_str()]))?;
    let mut paper = Paper::default();
    while let Some(event) = client.next().await {
        match event {
            Event::BookDelta(update) => {
                let Some(state) = client.book(&symbol, DEPTH) else { continue };
                let weight = |side| state.book.levels(side).fold(0_u64, |sum, level| sum.saturating_add(level.size.0));
                let (bids, asks) = (weight(BookSide::Bid), weight(BookSide::Ask));
                let (Some(bid), Some(ask)) = (state.book.best(BookSide::Bid), state.book.best(BookSide::Ask)) else {
                    continue;
                };
                if bids / WEIGHT > asks && paper.lots < 1 {
                    paper.trade("buy ", 1, ask.price.0, bid.price.0, &update.instrument);
                } else if asks / WEIGHT > bids && paper.lots > -1 {
                    paper.trade("sell", -1, bid.price.0, ask.price.0, &update.instrument);
                }
            }
            Event::Refused { message, .. } => return Err(message.into()),
            Event::Gap(gap) => println!("{} elements are missing; waiting for the book", gap.count()),
            Event::Connection(Connection::Lost { reason, retry_in }) => println!("{reason}; again in {retry_in:.1?}"),
            _ => {}
        }
    }
    Ok(())
}

impl Paper {
    /// Trades a lot, and values what is held at the price at which it could be got rid of.
    fn trade(&mut self, what: &str, lots: i128, price: i64, out_price: i64, terms: &InstrumentTerms) {
        self.lots += lots;
        self.money -= lots * i128::from(price);
        self.orders += 1;
        let show = |mantissa| Decimal::new(mantissa, terms.price_exponent);
        let worth = self.money + self.lots * i128::from(out_price);
        let (at, profit) = (show(price.into()), show(worth));
        println!("{:>6}. {what} at {at:>12}   position {:>2}   profit {profit:>12}", self.orders, self.lots);
    }
}
