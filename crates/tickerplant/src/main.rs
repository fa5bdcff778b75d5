//! The command `tickerplant`: reads its configuration, opens the feed, and runs the gateway until it is stopped; or shows
//! a running server in a terminal.
//!
//! **Invariant:** everything that can go wrong ends in one line on standard error and a documented exit code; standard
//! output has the start-up lines, or what a view was asked for, and nothing else.
//!
//! What is *not* here: anything about ticks, sessions or sockets.

mod cli;
mod exit;
mod export;
mod inspect;
mod keys;
mod layers;
mod logs;
mod plan;
mod reload;
mod report;
mod serve;
mod settings;
mod stop;
mod traces;
mod views;

use std::io::Write as _;
use std::process::ExitCode;

use cli::{Command, Invocation};
use exit::Failure;

/// A hand-shake takes kilobytes for a moment, a session then less than one: an allocator that gives pages back keeps a storm
/// of connections from deciding what the process holds from then on.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run() -> Result<(), Failure> {
    let loaded = match cli::load(std::env::args_os(), std::env::vars_os())? {
        Invocation::Configured(loaded) => loaded,
        Invocation::Inspect(asked) => return inspect::inspect(&asked),
        Invocation::Export(asked) => return export::export(&asked),
        Invocation::View(view) => return views::run(view),
        Invocation::Keys(command) => return keys::run(&command),
    };
    let plan = plan::Plan::new(&loaded.settings)?;
    match loaded.command {
        Command::Serve => serve::serve(plan, &loaded),
        Command::Record => serve::record(plan),
        Command::CheckConfig => {
            // Nobody may be there to read it (`| head`); that is no failure.
            let _ = std::io::stdout().write_all(report::effective(&loaded, &plan).as_bytes());
            Ok(())
        }
    }
}
