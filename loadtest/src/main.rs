//! `loadtest`: load tests servers that fan out over WebSocket.
//!
//! **Invariant:** exit code 0 means that every connection asked for came up and stayed, that elements came, that no
//! element was lost, repeated or out of order without being declared, and that every objective was met.
//!
//! Not here: TLS.

mod book;
mod ceiling;
mod clock;
mod compare;
mod crew;
mod exit;
mod frames;
mod html;
mod http;
mod inflate;
mod interrupt;
mod options;
mod plan;
mod plot;
mod process;
mod progress;
mod ramp;
mod raw;
mod report;
mod result;
mod run;
mod sequence;
mod server;
mod session;
mod slo;
mod swarm;
mod table;
mod tally;
mod text;
mod tls;
mod upgrade;
mod workload;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser as _;

use crate::interrupt::Interrupt;
use crate::options::{Cli, Command, Options, Part};
use crate::progress::Progress;
use crate::report::Report;
use crate::run::Run;
use crate::table::Table;

fn main() -> ExitCode {
    match command() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(exit::FAILED)
        }
    }
}

fn command() -> anyhow::Result<u8> {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let mut cli = Cli::parse_from(&args);
    if let Command::Run(options) | Command::Worker(options) = &cli.command
        && let Some(name) = &options.workload
    {
        match workload::expand(&args, name) {
            Ok(expanded) => args = expanded,
            Err(error) => {
                eprintln!("loadtest: {error}");
                return Ok(exit::USAGE);
            }
        }
        cli = Cli::parse_from(&args);
    }
    match cli.command {
        Command::Run(options) => run(&options, &args[2..]),
        Command::Worker(options) => work(&options),
        Command::Workloads { name } => workloads(name.as_deref()),
        Command::Compare { files, html, markdown, svg } => {
            compare(&files, html.as_deref(), markdown.as_deref(), svg.as_deref())
        }
        Command::Page { file, html } => write(&html, &html::report(&read(&file)?)).map(|()| 0),
        Command::Ceiling { seconds } => ceiling::measure(seconds).map(|()| 0),
    }
}

fn run(options: &Options, flags: &[OsString]) -> anyhow::Result<u8> {
    let interrupt = Interrupt::listen()?;
    let progress = Progress::new(options.progress);
    let run = Run::new(options, flags, &interrupt, &progress);
    let report = if options.ramp {
        ramp::search(options, |rate| {
            progress.say(&format!("trying a rate of {rate:.0}"));
            run.make(Some(rate))
        })
    } else {
        run.make(None)
    };
    progress.finish();
    publish(&report?, options)
}

/// Writes the report where it was asked for; gives the exit code.
fn publish(report: &Report, options: &Options) -> anyhow::Result<u8> {
    match options.json.as_deref() {
        Some(path) if path == Path::new("-") => println!("{}", serde_json::to_string_pretty(report)?),
        path => {
            println!("{}", Table(report));
            if let Some(path) = path {
                write(path, &serde_json::to_string_pretty(report)?)?;
            }
        }
    }
    if let Some(path) = &options.html {
        write(path, &html::report(report))?;
    }
    Ok(report.verdict.map_or(exit::FAILED, exit::Verdict::exit_code))
}

/// Reads a result of an earlier run.
fn read(path: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no result of `loadtest run --json`", path.display()))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn compare(files: &[PathBuf], html: Option<&Path>, markdown: Option<&Path>, svg: Option<&Path>) -> anyhow::Result<u8> {
    let reports = files.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let groups = compare::groups(&reports);
    print!("{}", compare::table(&groups));
    if let Some(path) = html {
        write(path, &compare::page(&groups))?;
    }
    if let Some(path) = markdown {
        write(path, &compare::markdown(&groups))?;
    }
    if let Some(folder) = svg {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (name, plot) in compare::plots(&groups) {
            if !plot.is_empty() {
                write(&folder.join(format!("{name}.svg")), &plot.svg(plot::Standing::Alone))?;
            }
        }
    }
    Ok(0)
}

fn work(options: &Options) -> anyhow::Result<u8> {
    let part = options.part.unwrap_or(Part { index: 0, count: 1, origin_ns: clock::wall_ns() });
    let (_, hard) = rlimit::Resource::NOFILE.get()?;
    rlimit::Resource::NOFILE.set(hard, hard)?;
    crew::work(&Arc::new(run::plan(options)?), options.threads, part, options.seed)?;
    Ok(0)
}

fn workloads(name: Option<&str>) -> anyhow::Result<u8> {
    match name {
        Some(name) => print!("{}", workload::text(name)?),
        None => workload::built_in().for_each(|(name, about)| println!("{name:<20} {about}")),
    }
    Ok(0)
}
