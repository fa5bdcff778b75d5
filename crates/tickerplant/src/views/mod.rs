//! `book`, `tail`, `instruments`: a running server, seen in a terminal.
//!
//! **Invariant:** standard output has what was asked for and nothing else, so that it can be piped; remarks and the summary
//! go to standard error. What is missing is shown where it is missing.
//!
//! What is *not* here: connections, resuming and books, which the SDK (`tickerplant-client`) does.

mod book;
mod instruments;
mod ladder;
mod paint;
mod tail;

use std::io;

use anyhow::Context as _;
use clap::Args;
use tickerplant_client::{Client, ErrorCode, Event};

use crate::exit::Failure;

pub(crate) use book::BookArgs;
pub(crate) use instruments::InstrumentsArgs;
pub(crate) use tail::TailArgs;

/// Which view, and of what.
#[derive(Debug)]
pub(crate) enum View {
    Book(BookArgs),
    Tail(TailArgs),
    Instruments(InstrumentsArgs),
}

/// Where the server is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Server {
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080/ws")]
    pub(crate) url: String,
    /// API key or JWT, where the server wants one
    #[arg(long, value_name = "TOKEN", env = "TICKER_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
}

impl Server {
    async fn connect(&self) -> Result<Client, Failure> {
        let mut builder = Client::builder(&self.url);
        if let Some(token) = &self.token {
            builder = builder.token(token);
        }
        Ok(builder.connect().await?)
    }
}

/// Shows it until it is over or interrupted.
pub(crate) fn run(view: View) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let shown = runtime.block_on(async {
        match view {
            View::Book(args) => book::show(args).await,
            View::Tail(args) => tail::show(args).await,
            View::Instruments(args) => instruments::show(args).await,
        }
    });
    // A thread that waits for keys never ends by itself.
    runtime.shutdown_background();
    match shown {
        // Nobody reads any more (`| head`); that is no failure.
        Err(Failure::Other(error)) if is_broken_pipe(&error) => Ok(()),
        other => other,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// What a refusal means for a view that wants `symbols`: some unknown ones are a remark, all of them the end.
async fn refused(client: &mut Client, event: &Event, symbols: &[String]) -> Result<(), Failure> {
    let Event::Refused { code, message, symbols: unknown, .. } = event else { return Ok(()) };
    if *code != Some(ErrorCode::UnknownSymbol) {
        return Err(Failure::Refused(message.clone()));
    }
    // Looking for the right name passes over events, so only where none are shown any more.
    let ends = unknown.len() >= symbols.len();
    let known = if ends { known_symbols(client).await } else { Vec::new() };
    let said: Vec<_> = unknown.iter().map(|symbol| unknown_symbol(symbol, &known)).collect();
    let said = said.join("; ");
    if ends {
        return Err(Failure::UnknownSymbol(said));
    }
    eprintln!("warning: {said}");
    Ok(())
}

/// All symbols of the server; none when the connection ends before they come.
async fn known_symbols(client: &mut Client) -> Vec<String> {
    let Ok(ticket) = client.request_instruments(None) else { return Vec::new() };
    while let Some(event) = client.next().await {
        if let Event::Instruments { ticket: Some(answered), instruments } = event
            && answered == ticket
        {
            return instruments.iter().map(|details| details.terms.symbol.to_string()).collect();
        }
    }
    Vec::new()
}

fn unknown_symbol(symbol: &str, known: &[String]) -> String {
    let alike = |name: &&String| strsim::jaro_winkler(&name.to_ascii_uppercase(), &symbol.to_ascii_uppercase());
    let nearest = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    match nearest.filter(|name| alike(name) > 0.8) {
        Some(name) => format!("{symbol} is not a symbol of this server; did you mean {name}?"),
        None => format!("{symbol} is not a symbol of this server; tickerplant instruments lists them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_symbol_is_met_with_the_nearest() {
        let known = ["BTC-USD", "ETH-USD", "AAPL"].map(str::to_owned);
        assert!(unknown_symbol("btc-usd", &known).ends_with("did you mean BTC-USD?"));
        assert!(unknown_symbol("XYZ", &known).ends_with("tickerplant instruments lists them"));
        assert!(unknown_symbol("XYZ", &[]).contains("XYZ is not a symbol"));
    }
}
