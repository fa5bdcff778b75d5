//! `instruments`: what a server has.
//!
//! **Invariant:** one line, or one JSON object, for each instrument, in the server's order.

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _, stdout};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tickerplant_client::{Connection, Decimal, Event, InstrumentDetails};

use super::Server;
use super::paint::{Paint, Tone};
use crate::exit::Failure;

/// What `instruments` can be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct InstrumentsArgs {
    /// Only symbols that begin so
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// A JSON object for each, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn show(args: InstrumentsArgs) -> Result<(), Failure> {
    let mut client = args.server.connect().await?;
    let ended = || Failure::Other(anyhow::anyhow!("the connection ended before the answer came"));
    client.request_instruments(args.prefix.as_deref()).map_err(|_| ended())?;
    let instruments = loop {
        match client.next().await.ok_or_else(ended)? {
            Event::Instruments { ticket: Some(_), instruments } => break instruments,
            Event::Refused { message, .. } => return Err(Failure::Refused(message)),
            Event::Connection(Connection::Ended { reason }) => return Err(Failure::Refused(reason.to_string())),
            _ => {}
        }
    };
    let mut out = BufWriter::new(stdout().lock());
    let text = if args.json { lines(&instruments) } else { table(&instruments, Paint::of_stdout()) };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write")?;
    Ok(())
}

fn steps(details: &InstrumentDetails) -> (String, String) {
    let tick = Decimal::price(details.tick_size, &details.terms);
    (tick.to_string(), Decimal::size(details.lot_size, &details.terms).to_string())
}

fn lines(instruments: &[InstrumentDetails]) -> String {
    let line = |details: &InstrumentDetails| {
        let (tick, lot) = steps(details);
        let object = json!({
            "symbol": details.terms.symbol.as_str(),
            "instrument_id": details.terms.id.0,
            "price_exponent": details.terms.price_exponent,
            "size_exponent": details.terms.size_exponent,
            "tick_size": tick,
            "lot_size": lot,
            "class": details.class,
            "currency": details.currency,
            "description": details.description,
        });
        format!("{object}\n")
    };
    instruments.iter().map(line).collect()
}

/// An instrument, its tick size and its lot size.
type Row<'a> = (&'a InstrumentDetails, (String, String));

fn table(instruments: &[InstrumentDetails], paint: Paint) -> String {
    let rows: Vec<Row<'_>> = instruments.iter().map(|details| (details, steps(details))).collect();
    let widest = |head: &str, of: &dyn Fn(&Row<'_>) -> usize| rows.iter().map(of).max().unwrap_or(0).max(head.len());
    let symbol = widest("SYMBOL", &|(details, _)| details.terms.symbol.as_str().len());
    let class = widest("CLASS", &|(details, _)| details.class.len());
    let money = widest("CUR", &|(details, _)| details.currency.len());
    let tick = widest("TICK", &|(_, (tick, _))| tick.len());
    let lot = widest("LOT", &|(_, (_, lot))| lot.len());
    let head = format!(
        "{:symbol$}  {:class$}  {:money$}  {:>tick$}  {:>lot$}  DESCRIPTION",
        "SYMBOL", "CLASS", "CUR", "TICK", "LOT"
    );
    let mut text = paint.tone(Tone::Quiet, head) + "\n";
    for (details, (tick_size, lot_size)) in &rows {
        let name = paint.tone(Tone::Strong, format!("{:symbol$}", details.terms.symbol.as_str()));
        let InstrumentDetails { class: kind, currency, description, .. } = details;
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{name}  {kind:class$}  {currency:money$}  {tick_size:>tick$}  {lot_size:>lot$}  {description}"
        );
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tickerplant_client::{InstrumentId, InstrumentTerms, Price, Size, Symbol};

    fn details(symbol: &str, tick: i64, description: &str) -> InstrumentDetails {
        let symbol = Symbol::new(symbol).unwrap();
        InstrumentDetails {
            terms: InstrumentTerms { id: InstrumentId(7), symbol, price_exponent: -2, size_exponent: -4 },
            tick_size: Price(tick),
            lot_size: Size(1),
            class: "crypto".into(),
            currency: "USD".into(),
            description: description.into(),
        }
    }

    #[test]
    fn columns_are_aligned_and_lines_are_json() {
        let instruments = [details("BTC-USD", 1, "Bitcoin"), details("A", 2500, "")];
        let want = "\
SYMBOL   CLASS   CUR   TICK     LOT  DESCRIPTION
BTC-USD  crypto  USD   0.01  0.0001  Bitcoin
A        crypto  USD  25.00  0.0001
";
        assert_eq!(table(&instruments, Paint::Off), want);
        assert!(table(&instruments, Paint::On).contains("\x1b[1mBTC-USD\x1b[0m"));
        let line: serde_json::Value = serde_json::from_str(lines(&instruments).lines().next().unwrap()).unwrap();
        assert_eq!((&line["tick_size"], &line["symbol"]), (&json!("0.01"), &json!("BTC-USD")));
    }
}
