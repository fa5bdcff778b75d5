//! `keys`: makes, lists and revokes API keys in their file.
//!
//! **Invariant:** the text of a key is written to standard output once, when it is made, and nowhere else. The file is
//! replaced in one step, and nobody but its owner can read it.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use auth::{InvalidKeyring, KeyInfo, Keyring, NewKey, Spec};
use clap::{Args, Subcommand};
use market::Timestamp;

use crate::exit::Failure;

/// What is to be done with the file of keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key and print it, once; what is left out is allowed
    New(New),
    /// List the keys, without the keys themselves
    List(File),
    /// Revoke a key: a server that reads the file closes its sessions within a second
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(crate) struct File {
    /// The file of keys
    #[arg(long, value_name = "FILE", env = "TICKERPLANT_API_KEYS_FILE")]
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct New {
    #[command(flatten)]
    file: File,
    /// What people call the key, in lists and logs
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Symbols and patterns such as BTC-*, separated by commas
    #[arg(long, value_name = "SYMBOLS", value_delimiter = ',')]
    symbols: Option<Vec<String>>,
    /// Channels, separated by commas; bars.* and book.* are all of a kind
    #[arg(long, value_name = "CHANNELS", value_delimiter = ',')]
    channels: Option<Vec<String>>,
    /// Modes: every, latest
    #[arg(long, value_name = "MODES", value_delimiter = ',')]
    modes: Option<Vec<String>>,
    /// The shortest interval of mode latest, in milliseconds
    #[arg(long, value_name = "MS")]
    interval_ms_min: Option<u32>,
    /// Connections at a time
    #[arg(long, value_name = "N")]
    connections: Option<u32>,
    /// Subscribed pairs of channel and symbol, of all connections together
    #[arg(long, value_name = "N")]
    subscriptions: Option<u32>,
    /// Commands per second of a connection
    #[arg(long, value_name = "N")]
    commands_per_s: Option<u32>,
    /// Commands at once of a connection
    #[arg(long, value_name = "N")]
    commands_burst: Option<u32>,
    /// Bytes per second sent to all connections together
    #[arg(long, value_name = "BYTES")]
    bytes_per_s: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    file: File,
    /// The id of the key, or its name if no other has it
    #[arg(value_name = "ID_OR_NAME")]
    key: String,
}

/// Does it.
pub(crate) fn run(command: &KeysCommand) -> Result<(), Failure> {
    match command {
        KeysCommand::New(new) => make(new),
        KeysCommand::List(file) => list(&file.file),
        KeysCommand::Revoke(revoke) => {
            let path = &revoke.file.file;
            let (text, id) = auth::revoke_key(&read(path)?, &revoke.key, &now()).map_err(|e| wrong(path, &e))?;
            replace(path, &text)?;
            print(&format!("revoked {id}\n"))
        }
    }
}

fn make(new: &New) -> Result<(), Failure> {
    let path = &new.file.file;
    let spec = Spec {
        symbols: new.symbols.clone(),
        channels: new.channels.clone(),
        modes: new.modes.clone(),
        interval_ms_min: new.interval_ms_min,
        connections: new.connections,
        subscriptions: new.subscriptions,
        commands_per_s: new.commands_per_s,
        commands_burst: new.commands_burst,
        bytes_per_s: new.bytes_per_s,
    };
    let text = if path.exists() { read(path)? } else { String::new() };
    let known = Keyring::list(&text).map_err(|error| wrong(path, &error))?;
    let key = loop {
        let key = NewKey::generate().context("the system has no random numbers")?;
        if known.iter().all(|other| other.id != key.id) {
            break key;
        }
    };
    let text = auth::add_key(&text, &key, &new.name, &now(), &spec).map_err(|error| wrong(path, &error))?;
    replace(path, &text)?;
    // Alone on standard output, so that it can be taken from there; it cannot be read back.
    print(&format!("{}\n", key.text))
}

fn list(path: &Path) -> Result<(), Failure> {
    let keys = Keyring::list(&read(path)?).map_err(|error| wrong(path, &error))?;
    let mut text = format!("{:<8}  {:<20}  {:<20}  {:<20}  allows\n", "id", "name", "created", "revoked");
    for KeyInfo { id, name, created, revoked, spec } in keys {
        let allows = serde_json::to_string(&spec).context("entitlements cannot be written")?;
        let allows = if allows == "{}" { "everything".to_owned() } else { allows };
        let revoked = revoked.unwrap_or_else(|| "-".to_owned());
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{id:<8}  {name:<20}  {created:<20}  {revoked:<20}  {allows}");
    }
    print(&text)
}

fn print(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let unreadable =
        |error: io::Error| Failure::Setting(format!("cannot read the keys in {}: {error}", path.display()));
    fs::read_to_string(path).map_err(unreadable)
}

fn wrong(path: &Path, error: &InvalidKeyring) -> Failure {
    Failure::Setting(format!("{}: {error}", path.display()))
}

/// Writes the new file beside the old one and puts it in its place: whoever reads it sees one or the other.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let written = write_privately(&beside, text).and_then(|()| fs::rename(&beside, path));
    if let Err(error) = written {
        // It may not be there, and the first error is the one to be told.
        let _ = fs::remove_file(&beside);
        return Err(Failure::Setting(format!("cannot write the keys to {}: {error}", path.display())));
    }
    Ok(())
}

fn write_privately(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// To the second.
fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let text = Timestamp(seconds * 1_000_000_000).to_string();
    text.split('.').next().map_or(text.clone(), |whole| format!("{whole}Z"))
}
