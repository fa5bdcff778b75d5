//! Writes trades and quotes to standard output as CSV; what is missing is a row too.
//!
//! ```console
//! cargo run -p tickerplant-client --example csv_logger -- ws://127.0.0.1:8080/ws BTC-USD ETH-USD > ticks.csv
//! ```
//!
//! **Invariant:** a stream's rows are in order of `seq`, and each number that is not there stands in a row of kind `gap`. After
//! a row of kind `epoch` all numbers begin anew.

use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;

use tickerplant_client::{Channel, Client, Connection, Event, Origin, Subscription, SymbolList};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("csv_logger: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("usage: csv_logger URL [SYMBOL ...]")?;
    let symbols: Vec<String> = args.collect();
    let symbols = if symbols.is_empty() { SymbolList::All } else { SymbolList::Named(symbols) };
    let mut client = Client::connect(url).await?;
    client.subscribe(Subscription::to([Channel::Trades, Channel::Quotes], symbols))?;

    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "channel,kind,symbol,seq,time,price_or_bid,size_or_bid_size,ask,ask_size")?;
    while let Some(event) = client.next().await {
        match event {
            Event::Trade(trade) if trade.origin == Origin::Live => {
                let (price, size) = (trade.price(), trade.size());
                writeln!(out, "trades,trade,{},{},{},{price},{size},,", trade.symbol(), trade.seq, trade.time)?;
            }
            Event::Quote(quote) if quote.origin == Origin::Live => {
                let pair =
                    |side: Option<(_, _)>| side.map_or(",".to_owned(), |(price, size)| format!("{price},{size}"));
                let (bid, ask) = (pair(quote.bid()), pair(quote.ask()));
                writeln!(out, "quotes,quote,{},{},{},{bid},{ask}", quote.symbol(), quote.seq, quote.time)?;
            }
            Event::Gap(gap) => {
                let (symbol, cause) = (&gap.instrument.symbol, gap.cause.name());
                writeln!(out, "{},gap,{symbol},{},,{},{cause},,", gap.channel, gap.to_seq, gap.from_seq)?;
            }
            Event::Connection(Connection::Connected { epoch, epoch_changed: true, .. }) => {
                // The server was started anew: all numbers begin again, and how much was missed nobody knows.
                writeln!(out, ",epoch,,,,{epoch},,,")?;
            }
            Event::Refused { message, .. } => return Err(message.into()),
            Event::Connection(Connection::Ended { reason }) => return Err(reason.into()),
            Event::Connection(Connection::Lost { reason, .. }) => {
                eprintln!("{reason}");
            }
            _ => {}
        }
        // Rows are gathered while there are more at hand, and can be followed in the file when there are not.
        if client.is_idle() {
            out.flush()?;
        }
    }
    Ok(())
}
