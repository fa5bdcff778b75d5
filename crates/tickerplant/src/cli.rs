//! The command line, laid over the environment, laid over the file.
//!
//! **Invariant:** a flag wins over the environment, the environment over the file, the file over the default, setting by
//! setting; a list is taken whole from the highest place that gives it.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::exit::{EXIT_CODES, Failure};
use crate::export::Export;
use crate::inspect::Inspect;
use crate::keys::KeysCommand;
use crate::layers::{self, Given, LayerError};
use crate::settings::Settings;
use crate::views::{BookArgs, InstrumentsArgs, TailArgs, View};

/// A ticker plant: market data in at one end, price frames over WebSocket out at the other
#[derive(Debug, Parser)]
#[command(name = "tickerplant", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    subcommand: Subcommands,
}

const EVERYWHERE: &str = "\
Every flag is also an environment variable (--sim-seed is TICKERPLANT_SIM_SEED; lists separated by commas) and a key of the
file (sim_seed). A flag wins over the environment, the environment over the file, the file over the default.";

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Serve a feed to WebSocket clients
    #[command(after_help = format!("{EVERYWHERE}\n\n{EXIT_CODES}"))]
    Serve(Settings),
    /// Record a feed without serving it
    #[command(after_help = format!("{EVERYWHERE}\n\n{EXIT_CODES}"))]
    Record(Settings),
    /// Say what is in a recording
    #[command(after_help = EXIT_CODES)]
    Inspect(Inspect),
    /// Write a recording in another format
    #[command(after_help = EXIT_CODES)]
    Export(Export),
    /// Make, list and revoke API keys
    #[command(subcommand, after_help = EXIT_CODES)]
    Keys(KeysCommand),
    /// Print the configuration that serve would use, and where each value comes from
    #[command(after_help = format!("{EVERYWHERE}\n\n{EXIT_CODES}"))]
    CheckConfig(Settings),
    /// Watch the order book of an instrument of a running server
    #[command(after_help = EXIT_CODES)]
    Book(BookArgs),
    /// Print what a running server sends, one line for each event
    #[command(after_help = EXIT_CODES)]
    Tail(TailArgs),
    /// List the instruments of a running server
    #[command(after_help = EXIT_CODES)]
    Instruments(InstrumentsArgs),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// `serve`
    Serve,
    /// `record`
    Record,
    /// `check-config`
    CheckConfig,
}

/// What is to be done, with all that it needs.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Something that settings from all places are for
    Configured(Box<Loaded>),
    Inspect(Inspect),
    Export(Export),
    View(View),
    Keys(KeysCommand),
}

/// The effective configuration, before it is looked at as a whole.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) command: Command,
    pub(crate) settings: Settings,
    /// Where each setting comes from that is not a default, by key
    pub(crate) origins: BTreeMap<String, String>,
    /// What each setting was given, defaults included, by key
    pub(crate) texts: BTreeMap<String, Vec<String>>,
}

/// Reads the configuration from all its places.
pub(crate) fn load(
    args: impl Iterator<Item = OsString>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Invocation, Failure> {
    let args: Vec<OsString> = args.collect();
    let variables: Vec<_> = variables.collect();
    let matches = Cli::command().try_get_matches_from(&args)?;
    if let Some(("inspect" | "export" | "book" | "tail" | "instruments" | "keys", _)) = matches.subcommand() {
        return Ok(match Cli::from_arg_matches(&matches)?.subcommand {
            Subcommands::Inspect(inspect) => Invocation::Inspect(inspect),
            Subcommands::Export(export) => Invocation::Export(export),
            Subcommands::Book(args) => Invocation::View(View::Book(args)),
            Subcommands::Tail(args) => Invocation::View(View::Tail(args)),
            Subcommands::Instruments(args) => Invocation::View(View::Instruments(args)),
            Subcommands::Keys(command) => Invocation::Keys(command),
            Subcommands::Serve(_) | Subcommands::Record(_) | Subcommands::CheckConfig(_) => {
                unreachable!("by their names")
            }
        });
    }
    let environment = layers::environment(variables.iter().cloned())?;
    let mut given: BTreeMap<String, Given> = BTreeMap::new();
    let path = config_path(&matches, &variables);
    for setting in path.map(|path| read_file(&path)).transpose()?.into_iter().flatten().chain(environment) {
        given.insert(setting.key.clone(), setting);
    }
    let flags = given_as_flags(&matches);
    given.retain(|key, _| !flags.contains(key));

    // The lower layers become flags in front of the real ones: one parser for all of them.
    let lower = given.values().flat_map(|setting| {
        let flag = layers::flag(&setting.key);
        setting.values.iter().map(move |value| OsString::from(format!("{flag}={value}")))
    });
    // A command's name is the first argument; the command line itself has no flags but those that end it.
    let (head, rest) = args.split_at(args.len().min(2));
    let matches = Cli::command().try_get_matches_from(head.iter().cloned().chain(lower).chain(rest.iter().cloned()))?;
    let texts = texts(&matches);
    let cli = Cli::from_arg_matches(&matches)?;
    let (command, settings) = match cli.subcommand {
        Subcommands::Serve(settings) => (Command::Serve, settings),
        Subcommands::Record(settings) => (Command::Record, settings),
        Subcommands::Inspect(inspect) => return Ok(Invocation::Inspect(inspect)),
        Subcommands::Export(export) => return Ok(Invocation::Export(export)),
        Subcommands::Book(args) => return Ok(Invocation::View(View::Book(args))),
        Subcommands::Tail(args) => return Ok(Invocation::View(View::Tail(args))),
        Subcommands::Instruments(args) => return Ok(Invocation::View(View::Instruments(args))),
        Subcommands::CheckConfig(settings) => (Command::CheckConfig, settings),
        Subcommands::Keys(command) => return Ok(Invocation::Keys(command)),
    };
    let origins = given
        .into_values()
        .map(|setting| (setting.key, setting.origin))
        .chain(flags.into_iter().map(|key| (key, "command line".to_owned())))
        .collect();
    Ok(Invocation::Configured(Box::new(Loaded { command, settings, origins, texts })))
}

/// The file that a flag names, or else the environment.
fn config_path(matches: &ArgMatches, variables: &[(OsString, OsString)]) -> Option<OsString> {
    let flag = matches.subcommand().and_then(|(_, matches)| matches.get_raw("config")?.next());
    let variable = || variables.iter().find(|(name, value)| name == "TICKERPLANT_CONFIG" && !value.is_empty());
    flag.map(ToOwned::to_owned).or_else(|| variable().map(|(_, value)| value.clone()))
}

fn read_file(path: &OsString) -> Result<Vec<Given>, LayerError> {
    let name = path.to_string_lossy();
    let text = std::fs::read_to_string(path)
        .map_err(|error| LayerError::Unreadable { path: name.clone().into_owned(), reason: error.to_string() })?;
    layers::file(&name, &text)
}

/// The keys of the flags on the command line.
fn given_as_flags(matches: &ArgMatches) -> Vec<String> {
    let Some((_, matches)) = matches.subcommand() else { return Vec::new() };
    let on_command_line = |key: &String| matches.value_source(key) == Some(ValueSource::CommandLine);
    layers::keys().into_iter().filter(on_command_line).collect()
}

/// What each setting was given, as text.
fn texts(matches: &ArgMatches) -> BTreeMap<String, Vec<String>> {
    let Some((_, matches)) = matches.subcommand() else { return BTreeMap::new() };
    let text = |key: &str| {
        let values = matches.get_raw(key).into_iter().flatten();
        values.map(|value| value.to_string_lossy().into_owned()).collect()
    };
    layers::keys().into_iter().map(|key| (key.clone(), text(&key))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
