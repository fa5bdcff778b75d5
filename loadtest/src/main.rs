//! `loadtest`: many clients of the native protocol from one thread, checked for loss and timed.
//!
//! **Invariant:** exit code 0 means that every connection asked for came up and stayed, that elements came, and that no
//! element was lost, repeated or out of order without being declared.
//!
//! Not here: other protocols than the native one over MessagePack, TLS, several threads.

mod data;
mod frames;
mod process;
mod report;
mod sequence;
mod session;
mod swarm;
mod tally;
mod upgrade;

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use market::{Channel, ChannelSet};
use serde::Serialize;

use crate::report::{Reading, Report, Setting};
use crate::sequence::Expectation;
use crate::session::Plan;
use crate::swarm::Swarm;
use crate::upgrade::Target;

/// Connects many clients, counts and checks what they get.
///
/// Exit codes: 0 all well; 1 could not run; 2 wrong usage; 3 something undeclared was lost, repeated or out of order;
/// 4 fewer connections than asked came up or stayed; 5 nothing came.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where the server's native endpoint is
    #[arg(long, default_value = "ws://127.0.0.1:8080/ws")]
    url: Target,
    /// How many clients connect
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// How long is measured
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// How long runs before that, after all are subscribed
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    warmup_s: f64,
    /// How long the connections may take to come up
    #[arg(long, default_value_t = 30.0, value_parser = seconds)]
    connect_timeout_s: f64,
    /// Comma-separated symbols, or * for all
    #[arg(long, default_value = "*", value_delimiter = ',')]
    symbols: Vec<String>,
    /// Comma-separated channels
    #[arg(long, default_value = "trades,quotes", value_delimiter = ',')]
    channels: Vec<Channel>,
    /// Every element, or the latest per interval
    #[arg(long, value_enum, default_value_t = Mode::Every)]
    mode: Mode,
    /// The interval of mode latest; 0 is as fast as drained
    #[arg(long, default_value_t = 100)]
    interval_ms: u32,
    /// On how many clients every element is checked; the others count
    #[arg(long, default_value = "all")]
    verify: Verify,
    /// The process id of a server on this machine, for its processor time and memory
    #[arg(long)]
    server_pid: Option<u32>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Every,
    Latest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verify {
    All,
    Some(usize),
}

impl FromStr for Verify {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" { Ok(Self::All) } else { text.parse().map(Self::Some) }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("not a number of seconds from 0 to 86400".to_owned()),
    }
}

/// The `subscribe` command.
#[derive(Serialize)]
struct Subscribe<'a> {
    op: &'a str,
    id: u32,
    channels: Vec<&'a str>,
    symbols: &'a [String],
    mode: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_ms: Option<u32>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let connections = arguments.connections as usize;
    raise_file_limit(u64::from(arguments.connections))?;
    let authority = &arguments.url.authority;
    let address: SocketAddr = authority
        .to_socket_addrs()
        .with_context(|| format!("cannot resolve {authority}"))?
        .next()
        .with_context(|| format!("{authority} has no address"))?;
    if arguments.server_pid.is_some_and(|pid| process::usage(Some(pid)).is_none()) {
        bail!("no process has the id given with --server-pid");
    }
    let verified = match arguments.verify {
        Verify::All => connections,
        Verify::Some(count) => count.min(connections),
    };
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let mut swarm = Swarm::new(address, plan(arguments)?, connections, verified, seed)?;

    swarm.rise(Duration::from_secs_f64(arguments.connect_timeout_s))?;
    if swarm.came_up() == 0 {
        bail!("no connection came up: {}", ends(&swarm.ends));
    }
    swarm.run(Duration::from_secs_f64(arguments.warmup_s), false)?;
    let (begin, began) = (reading(&swarm, arguments.server_pid), Instant::now());
    swarm.run(Duration::from_secs_f64(arguments.seconds), true)?;
    let window = began.elapsed();
    let end = reading(&swarm, arguments.server_pid);
    // A server that went away in the window leaves no second reading; the figures of the clients still stand.
    let setting = Setting {
        url: format!("ws://{}{}", arguments.url.authority, arguments.url.path),
        connections_wanted: connections,
        connections_up: swarm.came_up(),
        connections_at_end: swarm.subscribed(),
        connections_verified: verified.min(swarm.came_up()),
        window,
    };
    swarm.close();
    let report = Report::new(setting, begin, end, &swarm.tally, swarm.ends);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(report.verdict.exit_code())
}

fn plan(arguments: &Arguments) -> anyhow::Result<Plan> {
    let (mode, interval_ms, expectation) = match arguments.mode {
        Mode::Every => ("every", None, Expectation::Every),
        Mode::Latest => ("latest", Some(arguments.interval_ms), Expectation::Latest),
    };
    let channels: ChannelSet = arguments.channels.iter().copied().collect();
    let names = channels.iter().map(Channel::name).collect();
    let command = Subscribe { op: "subscribe", id: 1, channels: names, symbols: &arguments.symbols, mode, interval_ms };
    let subscribe = rmp_serde::to_vec_named(&command)?;
    if subscribe.len() > usize::from(u16::MAX) {
        bail!("the list of symbols is too long for one command (64 KiB)");
    }
    Ok(Plan { target: arguments.url.clone(), subscribe, expectation, channels })
}

/// Every connection is a file; a few more are the process's own.
fn raise_file_limit(connections: u64) -> anyhow::Result<()> {
    let wanted = connections + 32;
    let (soft, hard) = rlimit::Resource::NOFILE.get().context("cannot read the limit of open files")?;
    if wanted > hard {
        bail!("{connections} connections need {wanted} open files and the hard limit is {hard}: raise it (ulimit -Hn)");
    }
    if wanted > soft {
        rlimit::Resource::NOFILE.set(hard, hard).context("cannot raise the limit of open files")?;
    }
    Ok(())
}

fn reading(swarm: &Swarm, server_pid: Option<u32>) -> Reading {
    let tally = &swarm.tally;
    Reading {
        bytes: tally.bytes,
        frames: tally.frames,
        elements: tally.elements,
        own: process::usage(None),
        server: server_pid.and_then(|pid| process::usage(Some(pid))),
    }
}

fn ends(ends: &BTreeMap<String, u64>) -> String {
    if ends.is_empty() {
        return "the server does not answer".to_owned();
    }
    let texts: Vec<_> = ends.iter().map(|(why, count)| format!("{count} x {why}")).collect();
    texts.join("; ")
}
