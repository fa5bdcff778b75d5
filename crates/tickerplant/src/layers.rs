//! Settings from the environment and from a file, checked one by one.
//!
//! **Invariant:** a name that is not known is an error that says where it stands and which known one is nearest, also
//! when a higher layer gives the setting. Nothing here reads the environment or a file by itself.

use std::ffi::OsString;
use std::ops::Range;

use clap::{Args as _, Parser};
use toml::Value;

use crate::settings::Settings;

/// What every variable begins with.
const PREFIX: &str = "TICKERPLANT_";

/// A setting that a file or the environment gives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Given {
    /// The file's key of the setting
    pub(crate) key: String,
    /// Its values; a list may have any number
    pub(crate) values: Vec<String>,
    /// Where it is given, for people
    pub(crate) origin: String,
}

/// A file or an environment that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayerError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {reason}")]
    Unreadable {
        /// Which file
        path: String,
        /// Why
        reason: String,
    },
    /// The file is not TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// File and line
        origin: String,
        /// What is wrong
        message: String,
    },
    /// No setting has that name.
    #[error("{origin}: {name} is not known; the nearest known is {nearest}")]
    Unknown {
        /// File and line, or the environment
        origin: String,
        /// The name
        name: String,
        /// The known name that is nearest
        nearest: String,
    },
    /// The value cannot be the setting's.
    #[error("{origin}: {message}")]
    Value {
        /// File and line, or the variable
        origin: String,
        /// What is wrong
        message: String,
    },
}

/// The keys a file may have, in the order of the settings. The file itself cannot name another file.
pub(crate) fn keys() -> Vec<String> {
    let command = Settings::augment_args(clap::Command::new("settings"));
    command.get_arguments().map(|arg| arg.get_id().to_string()).filter(|key| key != "config").collect()
}

/// The setting's flag.
pub(crate) fn flag(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

/// The settings in the environment; an empty variable counts as not set.
pub(crate) fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Vec<Given>, LayerError> {
    let known = keys();
    let mut layer = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let key = name[PREFIX.len()..].to_ascii_lowercase();
        // The exact name, so that TICKERPLANT_listen is not silently taken for TICKERPLANT_LISTEN.
        let exact = variable(&key) == name;
        if key == "config" && exact {
            continue;
        }
        if !known.contains(&key) || !exact {
            let nearest = nearest(&key, known.iter().map(String::as_str).chain(["config"]));
            return Err(LayerError::Unknown {
                origin: "environment".into(),
                name: name.into(),
                nearest: variable(nearest),
            });
        }
        let Some(value) = value.to_str() else {
            return Err(LayerError::Value { origin: format!("environment, {name}"), message: "not UTF-8".into() });
        };
        if value.is_empty() {
            continue;
        }
        let values = if is_list(&key) { value.split(',').map(str::to_owned).collect() } else { vec![value.into()] };
        layer.push(checked(Given { key, values, origin: format!("environment, {name}") })?);
    }
    // The environment has no order; a stable one makes errors and reports repeatable.
    layer.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(layer)
}

/// The settings in the text of a file; `path` is for messages.
pub(crate) fn file(path: &str, text: &str) -> Result<Vec<Given>, LayerError> {
    let line = |span: Option<Range<usize>>| {
        let before = span.and_then(|span| text.get(..span.start)).unwrap_or("");
        format!("{path}, line {}", before.matches('\n').count() + 1)
    };
    let table = toml::de::DeTable::parse(text).map_err(|error| LayerError::Syntax {
        origin: line(error.span()),
        message: error.message().replace('\n', ", "),
    })?;
    let values: toml::Table = text.parse().map_err(|error: toml::de::Error| LayerError::Syntax {
        origin: line(error.span()),
        message: error.message().into(),
    })?;
    let known = keys();
    let mut layer = Vec::new();
    for key in table.get_ref().keys() {
        let origin = line(Some(key.span()));
        let key = key.get_ref().as_ref();
        let Some(value) = values.get(key).filter(|_| known.iter().any(|known| known == key)) else {
            let nearest = nearest(key, known.iter().map(String::as_str)).to_owned();
            return Err(LayerError::Unknown { origin, name: key.to_owned(), nearest });
        };
        layer.push(checked(Given { key: key.to_owned(), values: texts(key, value, &origin)?, origin })?);
    }
    Ok(layer)
}

/// The variable of a key.
pub(crate) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}

/// Whether the setting can be given several times.
pub(crate) fn is_list(key: &str) -> bool {
    ["feed", "allow_origin", "record_channels", "trusted_proxy"].contains(&key)
}

/// The texts that the flag would have been given.
fn texts(key: &str, value: &Value, origin: &str) -> Result<Vec<String>, LayerError> {
    let wrong = |value: &Value, right| {
        let message = format!("{key} is {} {}; it should be {right}", article(value), value.type_str());
        LayerError::Value { origin: origin.into(), message }
    };
    match value {
        Value::Array(items) if is_list(key) => {
            items.iter().map(|item| scalar(item).ok_or_else(|| wrong(item, "a list of strings"))).collect()
        }
        other => Ok(vec![scalar(other).ok_or_else(|| wrong(other, "one value"))?]),
    }
}

fn article(value: &Value) -> &'static str {
    if matches!(value, Value::Array(_)) { "an" } else { "a" }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        // As a person would write it: 1.0 stays 1.0.
        Value::Float(number) => Some(format!("{number:?}")),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// Passes the setting on if the flag's own parser takes its values.
fn checked(given: Given) -> Result<Given, LayerError> {
    #[derive(Parser)]
    struct Probe {
        #[command(flatten)]
        _settings: Settings,
    }
    let flag = flag(&given.key);
    let args = given.values.iter().map(|value| format!("{flag}={value}"));
    match Probe::try_parse_from(["tickerplant".to_owned()].into_iter().chain(args)) {
        Ok(_) => Ok(given),
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            Err(LayerError::Value { origin: given.origin, message: first.to_owned() })
        }
    }
}

/// The name that is most like `name`. Spelling mistakes change a letter or swap two, hence the distance; of equally
/// distant names the one with the longer common beginning wins.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    let distance = |known: &&str| {
        let common = known.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        (strsim::damerau_levenshtein(known, name), usize::MAX - common)
    };
    known.min_by_key(distance).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Result<Vec<Given>, LayerError> {
        environment(pairs.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn given(key: &str, values: &[&str], origin: &str) -> Given {
        Given { key: key.into(), values: values.iter().map(ToString::to_string).collect(), origin: origin.into() }
    }

    /// The message of the error that the text of a file causes.
    fn mistake(text: &str) -> String {
        file("f.toml", text).expect_err(text).to_string()
    }

    #[test]
    fn a_file_gives_what_it_says() {
        let text = "# a comment\nlisten = \"0.0.0.0:1\"\nsim_rate = 2.5\n\nreplay_loop = true\nfeed = [\"sim\"]\nallow_origin = []\n";
        let origin = |line| format!("f.toml, line {line}");
        let mut layer = file("f.toml", text).unwrap();
        layer.sort_by(|a, b| a.origin.cmp(&b.origin));
        assert_eq!(
            layer,
            [
                given("listen", &["0.0.0.0:1"], &origin(2)),
                given("sim_rate", &["2.5"], &origin(3)),
                given("replay_loop", &["true"], &origin(5)),
                given("feed", &["sim"], &origin(6)),
                given("allow_origin", &[], &origin(7)),
            ]
        );
    }

    #[test]
    fn mistakes_in_a_file_are_named_with_their_line() {
        assert_eq!(
            mistake("listen = \"127.0.0.1:1\"\nsim_sed = 1"),
            "f.toml, line 2: sim_sed is not known; the nearest known is sim_seed"
        );
        assert_eq!(mistake("config = \"x\"").split(';').next(), Some("f.toml, line 1: config is not known"));
        assert!(mistake("[server]\nlisten = 1").starts_with("f.toml, line 1: server is not known"));
        assert!(mistake("\n\nlisten = ").starts_with("f.toml, line 3: "));
        assert!(mistake("shards = 1\nshards = 2").starts_with("f.toml, line 2: "));
        assert_eq!(mistake("shards = [1]"), "f.toml, line 1: shards is an array; it should be one value");
        assert_eq!(mistake("feed = [[]]"), "f.toml, line 1: feed is an array; it should be a list of strings");
        let wrong = mistake("\nshards = 0");
        assert!(wrong.starts_with("f.toml, line 2: ") && wrong.contains("--shards"), "{wrong}");
        assert!(mistake("sim_scenario = \"wild\"").contains("known are market, uniform, calm"));
        assert!(mistake("feed = \"tape\"").contains("recording:PATH"));
        assert!(mistake("listen = 8080").contains("--listen"));
    }

    #[test]
    fn the_environment_gives_what_it_says() {
        let layer = variables(&[
            ("PATH", "/bin"),
            ("TICKERPLANT_SIM_SEED", "7"),
            ("TICKERPLANT_CONFIG", "elsewhere"),
            ("TICKERPLANT_LISTEN", ""),
            ("TICKERPLANT_ALLOW_ORIGIN", "https://a,https://b"),
        ]);
        assert_eq!(
            layer,
            Ok(vec![
                given("allow_origin", &["https://a", "https://b"], "environment, TICKERPLANT_ALLOW_ORIGIN"),
                given("sim_seed", &["7"], "environment, TICKERPLANT_SIM_SEED"),
            ])
        );
    }

    #[test]
    fn mistakes_in_the_environment_are_named() {
        let mistake = |name, value| variables(&[(name, value)]).unwrap_err().to_string();
        assert_eq!(
            mistake("TICKERPLANT_SIM_SED", "1"),
            "environment: TICKERPLANT_SIM_SED is not known; the nearest known is TICKERPLANT_SIM_SEED"
        );
        assert!(mistake("TICKERPLANT_listen", "127.0.0.1:1").ends_with("the nearest known is TICKERPLANT_LISTEN"));
        assert!(
            mistake("TICKERPLANT_SHARDS", "many").starts_with("environment, TICKERPLANT_SHARDS: invalid value 'many'")
        );
    }

    #[test]
    fn lists_are_those_settings_that_can_be_repeated() {
        let command = Settings::augment_args(clap::Command::new("settings"));
        for arg in command.get_arguments() {
            let repeatable = matches!(arg.get_action(), clap::ArgAction::Append);
            assert_eq!(is_list(arg.get_id().as_str()), repeatable, "{}", arg.get_id());
        }
    }
}
