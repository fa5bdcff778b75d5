//! The command line.
//!
//! **Invariant:** every key of a workload file is the name of a flag of `run`, and nothing else is; there is one list and one
//! parser for both.
//!
//! Not here: reading workload files (`workload`), what the options mean for a connection (`plan`).

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use market::Channel;

use crate::exit::EXIT_CODES;
use crate::inflate::Deflate;
use crate::raw::{CountBy, TimePlace, TimeUnit};
use crate::slo::Objectives;
use crate::upgrade::Target;

/// Load tests WebSocket servers that fan out: many clients, every element accounted for, honest latency
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a workload against a server
    #[command(after_help = EXIT_CODES, args_override_self = true)]
    Run(Box<Options>),
    /// List the workloads that are built in, or print one
    Workloads {
        /// The one to print, as a file to begin with
        name: Option<String>,
    },
    /// Put several results side by side; runs with the same name are taken together, as their median and spread
    Compare {
        /// Results that `run --json` has written
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Also write a report for a browser
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// Also write a Markdown table
        #[arg(long, value_name = "FILE")]
        markdown: Option<PathBuf>,
        /// Also write each plot as an SVG file into this folder
        #[arg(long, value_name = "FOLDER")]
        svg: Option<PathBuf>,
    },
    /// Make the page for a browser from a result
    Page {
        /// A result that `run --json` has written
        file: PathBuf,
        /// The page
        #[arg(long, value_name = "FILE")]
        html: PathBuf,
    },
    /// Measure how much one core of this tool can take
    Ceiling {
        /// Seconds for each measurement
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// One of several processes of a run; started by `run`
    #[command(hide = true, args_override_self = true)]
    Worker(Box<Options>),
}

/// What `run` can be told.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools)]
pub(crate) struct Options {
    /// A built-in workload (see `loadtest workloads`) or a TOML file; flags win over it
    pub(crate) workload: Option<String>,

    /// Where the server's WebSocket endpoint is
    #[arg(long, default_value = "ws://127.0.0.1:8080/ws", help_heading = "Server")]
    pub(crate) url: Target,
    /// The authorities (PEM) of which one must have signed the certificate of a wss:// server
    #[arg(long, value_name = "FILE", conflicts_with = "insecure", help_heading = "Server")]
    pub(crate) ca: Option<PathBuf>,
    /// Take any certificate of a wss:// server
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set, help_heading = "Server")]
    pub(crate) insecure: bool,
    /// What the server speaks: the native protocol, or anything
    #[arg(long, value_enum, default_value = "native", help_heading = "Server")]
    pub(crate) protocol: Protocol,
    /// The encoding of the native protocol
    #[arg(long, value_enum, default_value = "msgpack", help_heading = "Server")]
    pub(crate) format: Format,
    /// What permessage-deflate the clients offer
    #[arg(long, value_enum, default_value = "off", help_heading = "Server")]
    pub(crate) deflate: Deflate,
    /// A header of the upgrade request, `Name: value`. Repeatable
    #[arg(long, help_heading = "Server")]
    pub(crate) header: Vec<String>,
    /// The process id of the server, if it runs on this machine, for its processor time and memory
    #[arg(long, value_name = "PID", help_heading = "Server")]
    pub(crate) server_pid: Option<u32>,
    /// Start the server with this shell command, and stop it in the end. {rate} is replaced when searching for the capacity
    #[arg(long, value_name = "COMMAND", help_heading = "Server")]
    pub(crate) server_command: Option<String>,
    /// Where the server's metrics are, in Prometheus' text format; `off` for none [default: /metrics of a native server]
    #[arg(long, value_name = "URL", help_heading = "Server")]
    pub(crate) metrics_url: Option<String>,

    /// How many clients connect
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000_000), help_heading = "Connections")]
    pub(crate) connections: u32,
    /// Connections begun per second; 0 is as fast as they come up
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = not_negative, help_heading = "Connections")]
    pub(crate) connect_rate: f64,
    /// Connections that may be on their way up at once, for each thread
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Connections")]
    pub(crate) connecting_max: u32,
    /// How long all connections may take to come up
    #[arg(long, value_name = "S", default_value_t = 60.0, value_parser = not_negative, help_heading = "Connections")]
    pub(crate) connect_timeout_s: f64,
    /// Each connection leaves after this time and another one comes; 0 is never
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = not_negative, help_heading = "Connections")]
    pub(crate) lifetime_s: f64,
    /// Come back when the server ends a connection
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set, help_heading = "Connections")]
    pub(crate) reconnect: bool,
    /// How long a client waits before it comes back, at least
    #[arg(long, value_name = "MS", default_value_t = 100, help_heading = "Connections")]
    pub(crate) reconnect_delay_ms: u32,
    /// And how much longer at most, drawn at random
    #[arg(long, value_name = "MS", default_value_t = 1000, help_heading = "Connections")]
    pub(crate) reconnect_jitter_ms: u32,
    /// Restart the server (see --server-command) so long after the window began; 0 is never
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = not_negative, help_heading = "Connections")]
    pub(crate) restart_after_s: f64,
    /// Size of each socket's receive buffer; 0 is what the system gives
    #[arg(long, value_name = "BYTES", default_value_t = 0, help_heading = "Connections")]
    pub(crate) receive_buffer_bytes: u32,
    /// Local addresses to connect from: a list, or a number of addresses from 127.0.0.1 on; 0 is one for 25,000 connections
    #[arg(long, value_name = "LIST", default_value = "0", help_heading = "Connections")]
    pub(crate) source_addresses: String,
    /// Threads of each process
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256), help_heading = "Connections")]
    pub(crate) threads: u16,
    /// Processes; 0 is as many as the limit of open files makes necessary
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024), help_heading = "Connections")]
    pub(crate) processes: u16,

    /// Whether clients subscribe at all
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set, help_heading = "Subscription")]
    pub(crate) subscribe: bool,
    /// Comma-separated symbols, or * for all
    #[arg(long, value_name = "LIST", default_value = "*", value_delimiter = ',', help_heading = "Subscription")]
    pub(crate) symbols: Vec<String>,
    /// Each client draws so many of all symbols instead; 0 is not
    #[arg(long, value_name = "K", default_value_t = 0, help_heading = "Subscription")]
    pub(crate) symbols_per_client: u32,
    /// How they are drawn
    #[arg(long, value_enum, default_value = "uniform", help_heading = "Subscription")]
    pub(crate) pick: Pick,
    /// How uneven a Zipf draw is
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = not_negative, help_heading = "Subscription")]
    pub(crate) zipf_exponent: f64,
    /// All symbols, when the server has no list of them: a text with {n}, which counts from 0
    #[arg(long, value_name = "TEXT", help_heading = "Subscription")]
    pub(crate) symbol_template: Option<String>,
    /// How many symbols there are; 0 is as many as the server lists
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Subscription")]
    pub(crate) symbol_count: u32,
    /// Comma-separated channels
    #[arg(
        long,
        value_name = "LIST",
        default_value = "trades,quotes",
        value_delimiter = ',',
        help_heading = "Subscription"
    )]
    pub(crate) channels: Vec<Channel>,
    /// Every element, or the latest per interval
    #[arg(long, value_enum, default_value = "every", help_heading = "Subscription")]
    pub(crate) mode: Mode,
    /// The interval of mode latest; 0 is as fast as drained
    #[arg(long, value_name = "MS", default_value_t = 100, help_heading = "Subscription")]
    pub(crate) interval_ms: u32,
    /// Whether subscriptions begin with a snapshot; without, sequences may begin anywhere
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set, help_heading = "Subscription")]
    pub(crate) snapshot: bool,
    /// What is to be done with a client that does not keep up
    #[arg(long, value_enum, default_value = "conflate", help_heading = "Subscription")]
    pub(crate) slow: Slow,
    /// Changes of subscription per second, over all clients: one drawn symbol against another
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = not_negative, help_heading = "Subscription")]
    pub(crate) changes_per_s: f64,

    /// So many of the clients stop reading
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Slow clients")]
    pub(crate) stalled: u32,
    /// How long after all are up
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = not_negative, help_heading = "Slow clients")]
    pub(crate) stall_after_s: f64,
    /// For how long; 0 is until the window ends
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = not_negative, help_heading = "Slow clients")]
    pub(crate) stall_s: f64,
    /// How long all read on after the window, so that stalled clients see what was declared lost
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = not_negative, help_heading = "Slow clients")]
    pub(crate) settle_s: f64,

    /// What a raw client sends first: {symbols} is a JSON array, {symbols_csv} a comma-separated list, {n} the client's number.
    /// Repeatable
    #[arg(long, value_name = "TEXT", help_heading = "Raw servers")]
    pub(crate) subscribe_message: Vec<String>,
    /// Where a message has its time: be:OFFSET, le:OFFSET (8 bytes), json:KEY, msgpack:KEY, msgpack-index:N
    #[arg(long, value_name = "PLACE", help_heading = "Raw servers")]
    pub(crate) time_at: Option<TimePlace>,
    /// What the time counts since the Unix epoch
    #[arg(long, value_enum, default_value = "ns", help_heading = "Raw servers")]
    pub(crate) time_unit: TimeUnit,
    /// How many elements a message counts for
    #[arg(long, value_enum, default_value = "message", help_heading = "Raw servers")]
    pub(crate) count_by: CountBy,

    /// How long is measured
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = not_negative, help_heading = "Measurement")]
    pub(crate) seconds: f64,
    /// How long runs before that, after all are up
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = not_negative, help_heading = "Measurement")]
    pub(crate) warmup_s: f64,
    /// Begin to measure at once instead, while connections come up
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set, help_heading = "Measurement")]
    pub(crate) measure_rise: bool,
    /// On how many clients every element is checked; the others count [default: all, with deflate 10]
    #[arg(long, value_name = "N|all", help_heading = "Measurement")]
    pub(crate) verify_connections: Option<Verify>,
    /// About how many messages a second are timed, for each thread
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Measurement")]
    pub(crate) samples_per_s: u32,
    /// The interval of the series
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(20..=60_000), help_heading = "Measurement")]
    pub(crate) series_ms: u32,
    /// What is drawn at random follows from it
    #[arg(long, default_value_t = 1, help_heading = "Measurement")]
    pub(crate) seed: u64,
    /// Whether no element at all is a failure
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set, help_heading = "Measurement")]
    pub(crate) expect_data: bool,

    /// Objectives, such as p99=10ms,loss=0: p50 p90 p99 p999 max (from the scheduled time), sent_p50.. (from sent_at),
    /// connect_p50.., change_p50.., loss (elements), server_cpu (as 75%), rate (elements/s, at least), memory (bytes per client)
    #[arg(long, value_name = "LIST", help_heading = "Objectives")]
    pub(crate) slo: Option<Objectives>,
    /// Search for the highest rate that meets the objectives; needs --slo and a --server-command with {rate}
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set, help_heading = "Objectives")]
    pub(crate) ramp: bool,
    /// The first rate tried
    #[arg(long, value_name = "RATE", default_value_t = 1000.0, value_parser = positive, help_heading = "Objectives")]
    pub(crate) ramp_from: f64,
    /// No higher rate is tried
    #[arg(long, value_name = "RATE", default_value_t = 2_000_000.0, value_parser = positive, help_heading = "Objectives")]
    pub(crate) ramp_to: f64,
    /// How close the search gets, as a share of the rate
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = positive, help_heading = "Objectives")]
    pub(crate) ramp_precision: f64,

    /// The name of the run in reports [default: the workload's]
    #[arg(long, help_heading = "Output")]
    pub(crate) name: Option<String>,
    /// What else reports should say, such as the server's version. Repeatable: `key=value`
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Output")]
    pub(crate) label: Vec<String>,
    /// Write the result as JSON; `-` is to standard output, instead of the table
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,
    /// Write a report for a browser
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) html: Option<PathBuf>,
    /// Show what goes on, on standard error
    #[arg(long, value_enum, default_value = "auto", help_heading = "Output")]
    pub(crate) progress: Progress,

    /// Which of several processes this one is, as `I/N/ORIGIN_NS`
    #[arg(long, hide = true)]
    pub(crate) part: Option<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    Native,
    Raw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Msgpack,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Every,
    Latest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Slow {
    Conflate,
    Disconnect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pick {
    Uniform,
    Zipf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// When standard error is a terminal
    Auto,
    /// A line for each interval
    Lines,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    All,
    Some(u32),
}

impl FromStr for Verify {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" { Ok(Self::All) } else { text.parse().map(Self::Some) }
    }
}

/// One process of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) index: u16,
    pub(crate) count: u16,
    /// When the series began, in nanoseconds since the Unix epoch
    pub(crate) origin_ns: u64,
}

impl FromStr for Part {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('/');
        let mut next = || parts.next().and_then(|part| part.parse::<u64>().ok()).ok_or("not I/N/ORIGIN_NS");
        Ok(Self { index: next()? as u16, count: next()? as u16, origin_ns: next()? })
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..=1e9).contains(&number) => Ok(number),
        _ => Err("not a number from 0 on".to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match not_negative(text)? {
        0.0 => Err("has to be above 0".to_owned()),
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
