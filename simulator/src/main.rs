//! `tickersim`: the simulated market as lines of text, for people, scripts and digests.
//!
//! **Invariant:** it prints as fast as it is read; time is virtual, so the same arguments print the same bytes.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use market::Timestamp;
use simulator::{Config, Next, Scenario, Script, Simulator, text};

/// Prints a simulated market: the same seed, the same bytes.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the instruments, the most active first
    Instruments {
        #[command(flatten)]
        market: Market,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Json)]
        format: Format,
    },
    /// Prints ticks in the order of their times
    Ticks {
        #[command(flatten)]
        market: Market,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Json)]
        format: Format,
        /// How much virtual time to print, in seconds
        #[arg(long, default_value_t = 1.0)]
        seconds: f64,
        /// Stop after that many ticks
        #[arg(long)]
        ticks_max: Option<u64>,
        /// The instant at which virtual time is zero, RFC 3339 in UTC
        #[arg(long, default_value = "2026-11-20T14:30:00Z")]
        begin: String,
    },
}

#[derive(Args)]
struct Market {
    /// Chooses one of 2^64 markets
    #[arg(long, default_value_t = Config::default().seed)]
    seed: u64,
    /// The number of instruments
    #[arg(long, default_value_t = Config::default().symbols)]
    symbols: usize,
    /// Ticks per second in all, trades and quotes together
    #[arg(long, default_value_t = Config::default().rate)]
    rate: f64,
    /// market or uniform, without order books; calm, busy, open, flash-crash, halt or thin, with them
    #[arg(long, default_value_t = Scenario::Market)]
    scenario: Scenario,
    /// A script to play instead of a scenario; simulator/data/scenarios has examples
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    script: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// One JSON object a line
    Json,
    /// Comma-separated values with a header
    Csv,
}

/// Ticks made and written at once: enough to make writes cheap, little enough to stay in the cache.
const TICKS_AT_ONCE: usize = 4096;

/// Exits with 2 when the arguments cannot be followed or the output cannot be written.
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever RUST_BACKTRACE says: nothing here is a bug.
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let result = match Arguments::parse().command {
        Command::Instruments { market, format } => print_instruments(&market.simulator()?, format, &mut out),
        Command::Ticks { market, format, seconds, ticks_max, begin } => {
            let mut simulator = market.simulator()?;
            simulator.begin_at(Timestamp::parse_rfc3339(&begin).context("--begin")?);
            let until = Duration::try_from_secs_f64(seconds).context("--seconds")?;
            print_ticks(&mut simulator, format, until, ticks_max.unwrap_or(u64::MAX), &mut out)
        }
    };
    match result {
        // Whoever reads has had enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write"),
    }
}

impl Market {
    fn simulator(&self) -> anyhow::Result<Simulator> {
        let Self { seed, symbols, rate, scenario, .. } = *self;
        let config = Config { seed, symbols, rate, scenario };
        let Some(path) = &self.script else {
            return Ok(Simulator::new(config)?);
        };
        let name = || path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(name)?;
        Ok(Simulator::scripted(config, Script::parse(&text).with_context(name)?)?)
    }
}

fn print_instruments(simulator: &Simulator, format: Format, out: &mut impl Write) -> io::Result<()> {
    let mut lines = String::new();
    let print = match format {
        Format::Json => text::instrument_json,
        Format::Csv => {
            lines.push_str(text::INSTRUMENT_CSV_HEADER);
            text::instrument_csv
        }
    };
    for instrument in simulator.instruments() {
        print(instrument, &mut lines);
    }
    out.write_all(lines.as_bytes())
}

fn print_ticks(
    simulator: &mut Simulator,
    format: Format,
    until: Duration,
    ticks_max: u64,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut lines = String::new();
    let print = match format {
        Format::Json => text::tick_json,
        Format::Csv => {
            lines.push_str(text::TICK_CSV_HEADER);
            text::tick_csv
        }
    };
    let mut left = ticks_max;
    let mut ticks = Vec::with_capacity(TICKS_AT_ONCE);
    loop {
        let at_once = usize::try_from(left).unwrap_or(usize::MAX).min(TICKS_AT_ONCE);
        let next = simulator.advance(until, at_once, &mut ticks);
        left -= ticks.len() as u64;
        for tick in ticks.drain(..) {
            print(&simulator.instruments()[tick.instrument.index()], &tick, &mut lines);
        }
        out.write_all(lines.as_bytes())?;
        lines.clear();
        if left == 0 || next != Next::Ready {
            return out.flush();
        }
    }
}
