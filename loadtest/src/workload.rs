//! Workloads: TOML files whose keys are the flags of `run`.
//!
//! **Invariant:** an unknown key is an error that names the nearest known one; a value is read by the same parser as the
//! flag's, so a file can say nothing that the command line cannot.

use std::ffi::OsString;

use clap::{Arg, ArgAction, CommandFactory as _};
use toml::Value;

use crate::options::Cli;

/// The workloads that are built in.
const BUILT_IN: [(&str, &str); 10] = [
    ("firehose", include_str!("../workloads/firehose.toml")),
    ("selective", include_str!("../workloads/selective.toml")),
    ("dashboards", include_str!("../workloads/dashboards.toml")),
    ("bots", include_str!("../workloads/bots.toml")),
    ("idle", include_str!("../workloads/idle.toml")),
    ("slow-consumers", include_str!("../workloads/slow-consumers.toml")),
    ("connection-storm", include_str!("../workloads/connection-storm.toml")),
    ("reconnect-storm", include_str!("../workloads/reconnect-storm.toml")),
    ("subscription-churn", include_str!("../workloads/subscription-churn.toml")),
    ("ramp", include_str!("../workloads/ramp.toml")),
];

/// Keys that say where a run is from or goes to, which is no part of a workload.
const NOT_OF_A_WORKLOAD: [&str; 4] = ["workload", "part", "json", "html"];

/// A workload cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkloadError {
    #[error("there is no workload {name:?} built in, and no such file{}", nearest_text(.nearest.as_deref()))]
    Unknown { name: String, nearest: Option<String> },
    #[error("cannot read {path}: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("{path}: {reason}")]
    Syntax { path: String, reason: String },
    #[error("{path}: {key:?} is no key of a workload{}", nearest_text(.nearest.as_deref()))]
    UnknownKey { path: String, key: String, nearest: Option<String> },
    #[error("{path}: {key} has a value that is no text, number, boolean or list of those")]
    Value { path: String, key: String },
}

fn nearest_text(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean {nearest:?}?")).unwrap_or_default()
}

/// The names of the built-in workloads, each with the first line of its text.
pub(crate) fn built_in() -> impl Iterator<Item = (&'static str, &'static str)> {
    BUILT_IN.iter().map(|(name, text)| (*name, text.lines().next().unwrap_or_default().trim_start_matches("# ")))
}

/// The text of a workload: a built-in one or a file.
///
/// # Errors
/// There is no such workload.
pub(crate) fn text(name: &str) -> Result<String, WorkloadError> {
    if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return Ok((*text).to_owned());
    }
    let looks_like_a_path = name.contains(['/', '.']);
    std::fs::read_to_string(name).map_err(|error| {
        if looks_like_a_path {
            WorkloadError::Unreadable { path: name.to_owned(), reason: error.to_string() }
        } else {
            WorkloadError::Unknown { name: name.to_owned(), nearest: nearest(name, BUILT_IN.iter().map(|(k, _)| *k)) }
        }
    })
}

/// Puts what a workload says in front of the flags of a command line, `args` being `loadtest run ...`; later flags win.
///
/// # Errors
/// The workload cannot be read or has a key that it must not have.
pub(crate) fn expand(args: &[OsString], workload: &str) -> Result<Vec<OsString>, WorkloadError> {
    let flags = flags(workload, &text(workload)?)?;
    let (head, rest) = args.split_at(args.len().min(2));
    Ok(head.iter().cloned().chain(flags.into_iter().map(OsString::from)).chain(rest.iter().cloned()).collect())
}

/// The flags that a workload's text stands for.
fn flags(path: &str, text: &str) -> Result<Vec<String>, WorkloadError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| WorkloadError::Syntax {
        path: path.to_owned(),
        reason: error.to_string().trim_end().to_owned(),
    })?;
    let known = keys();
    let mut flags = Vec::new();
    for (key, value) in &table {
        let Some((_, repeatable)) = known.iter().find(|(known, _)| known == key) else {
            let nearest = nearest(key, known.iter().map(|(known, _)| known.as_str()));
            return Err(WorkloadError::UnknownKey { path: path.to_owned(), key: key.clone(), nearest });
        };
        let bad = || WorkloadError::Value { path: path.to_owned(), key: key.clone() };
        let flag = key.replace('_', "-");
        match value {
            Value::Array(values) => {
                let texts = values.iter().map(scalar).collect::<Option<Vec<_>>>().ok_or_else(bad)?;
                if *repeatable {
                    flags.extend(texts.into_iter().map(|text| format!("--{flag}={text}")));
                } else {
                    flags.push(format!("--{flag}={}", texts.join(",")));
                }
            }
            value => flags.push(format!("--{flag}={}", scalar(value).ok_or_else(bad)?)),
        }
    }
    Ok(flags)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// All keys, and whether the flag may be given several times.
fn keys() -> Vec<(String, bool)> {
    let command = Cli::command();
    let run = command.find_subcommand("run").into_iter().flat_map(clap::Command::get_arguments);
    let repeatable = |arg: &Arg| matches!(arg.get_action(), ArgAction::Append) && arg.get_value_delimiter().is_none();
    run.map(|arg| (arg.get_id().to_string(), repeatable(arg)))
        .filter(|(key, _)| !NOT_OF_A_WORKLOAD.contains(&key.as_str()))
        .collect()
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let by_likeness = known.map(|known| (strsim::jaro_winkler(name, known), known));
    let (likeness, best) = by_likeness.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness > 0.7).then(|| best.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn every_built_in_workload_is_understood() {
        for (name, about) in built_in() {
            let args = ["loadtest", "run", name].map(OsString::from);
            let expanded = expand(&args, name).unwrap();
            Cli::try_parse_from(expanded).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(about.len() > 10, "{name} says what it is");
        }
    }

    #[test]
    fn flags_win_over_the_workload() {
        let args = ["loadtest", "run", "firehose", "--connections", "7"].map(OsString::from);
        let cli = Cli::try_parse_from(expand(&args, "firehose").unwrap()).unwrap();
        let crate::options::Command::Run(options) = cli.command else { panic!() };
        assert_eq!(options.connections, 7);
    }

    #[test]
    fn a_wrong_key_names_the_nearest() {
        let error = flags("x.toml", "conections = 5").unwrap_err().to_string();
        assert_eq!(error, "x.toml: \"conections\" is no key of a workload; did you mean \"connections\"?");
        let error = flags("x.toml", "json = \"a\"").unwrap_err().to_string();
        assert!(error.starts_with("x.toml: \"json\" is no key of a workload"), "{error}");
        assert!(flags("x.toml", "symbols = { a = 1 }").unwrap_err().to_string().contains("symbols"));
        let error = text("firehos").unwrap_err().to_string();
        assert_eq!(error, "there is no workload \"firehos\" built in, and no such file; did you mean \"firehose\"?");
        assert_eq!(flags("x", "symbols = [\"A\", \"B\"]").unwrap(), ["--symbols=A,B"]);
        assert_eq!(flags("x", "header = [\"A: 1\", \"B: 2\"]").unwrap(), ["--header=A: 1", "--header=B: 2"]);
    }
}
