//! Entitlements as people write them: keys of a file, claims of a token.
//!
//! **Invariant:** what is left out allows everything within the server's own limits; what is there and makes no sense is an
//! error that names it. A list is never silently shortened.

use hub::{Entitlements, InvalidSymbols, ModesAllowed, SymbolSet};
use market::{Channel, UnknownChannel};
use serde::{Deserialize, Serialize};

/// What a key or a token allows, as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Symbols, and patterns such as `BTC-*`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbols: Option<Vec<String>>,
    /// Names of channels; `bars.*` and `book.*` are all of a kind
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<String>>,
    /// `every`, `latest`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modes: Option<Vec<String>>,
    /// The shortest interval of mode `latest`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms_min: Option<u32>,
    /// Connections at a time, together
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Subscribed pairs of channel and symbol, of all connections together
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<u32>,
    /// Commands per second of a connection
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commands_per_s: Option<u32>,
    /// Commands at once of a connection
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commands_burst: Option<u32>,
    /// Bytes per second sent to all connections together
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<u32>,
}

/// An entitlement that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntitlement {
    /// Of the symbols
    #[error("symbols: {0}")]
    Symbols(#[from] InvalidSymbols),
    /// Of the channels
    #[error("channels: {0}")]
    Channels(UnknownChannel),
    /// A list without an entry
    #[error("{0} is empty; leave it out to allow all")]
    Empty(&'static str),
    /// Of the modes
    #[error("modes has {0:?}; every and latest are right")]
    Modes(String),
}

impl Spec {
    /// The checked form.
    ///
    /// # Errors
    /// [`InvalidEntitlement`] names what is wrong.
    pub fn entitlements(&self) -> Result<Entitlements, InvalidEntitlement> {
        let symbols = self.symbols.as_ref().map_or(Ok(SymbolSet::ALL), SymbolSet::new)?;
        Ok(Entitlements {
            symbols,
            channels: self.channels.as_deref().map_or(Ok(Entitlements::ALL.channels), channels)?,
            modes: self.modes.as_deref().map_or(Ok(ModesAllowed::Any), modes)?,
            interval_ms_min: self.interval_ms_min.unwrap_or(0),
            commands_per_s: self.commands_per_s,
            commands_burst: self.commands_burst,
            connections: self.connections,
            subscriptions: self.subscriptions,
            bytes_per_s: self.bytes_per_s,
        })
    }
}

fn channels(names: &[String]) -> Result<market::ChannelSet, InvalidEntitlement> {
    if names.is_empty() {
        return Err(InvalidEntitlement::Empty("channels"));
    }
    let mut set = market::ChannelSet::EMPTY;
    for name in names {
        match name.strip_suffix('*') {
            Some(prefix @ ("" | "bars." | "book.")) => {
                Channel::ALL.into_iter().filter(|c| c.name().starts_with(prefix)).for_each(|c| set.insert(c));
            }
            _ => set.insert(name.parse().map_err(InvalidEntitlement::Channels)?),
        }
    }
    Ok(set)
}

fn modes(names: &[String]) -> Result<ModesAllowed, InvalidEntitlement> {
    let unknown = names.iter().find(|name| !matches!(name.as_str(), "every" | "latest"));
    if let Some(unknown) = unknown {
        return Err(InvalidEntitlement::Modes(unknown.chars().take(64).collect()));
    }
    let has = |mode: &str| names.iter().any(|name| name == mode);
    match (has("every"), has("latest")) {
        (true, true) => Ok(ModesAllowed::Any),
        (true, false) => Ok(ModesAllowed::Every),
        (false, true) => Ok(ModesAllowed::Latest),
        (false, false) => Err(InvalidEntitlement::Empty("modes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Spec {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_left_out_is_allowed() {
        assert_eq!(Spec::default().entitlements(), Ok(Entitlements::ALL));
    }

    #[test]
    fn what_is_there_is_read() {
        let read = spec(
            r#"{"symbols": ["BTC-*"], "channels": ["trades", "bars.*"], "modes": ["latest"], "interval_ms_min": 250, "connections": 2}"#,
        );
        let read = read.entitlements().unwrap();
        assert!(read.symbols.allows("BTC-USD") && !read.symbols.allows("ETH-USD"));
        assert_eq!(read.channels.iter().count(), 9);
        assert_eq!((read.modes, read.interval_ms_min, read.connections), (ModesAllowed::Latest, 250, Some(2)));
    }

    #[test]
    fn mistakes_are_named() {
        let mistake = |text: &str| spec(text).entitlements().unwrap_err().to_string();
        assert!(mistake(r#"{"symbols": ["B C"]}"#).starts_with("symbols: \"B C\" is no symbol"));
        assert!(mistake(r#"{"symbols": []}"#).starts_with("symbols: the list of symbols is empty"));
        assert!(mistake(r#"{"channels": ["trade"]}"#).contains("trade"));
        assert!(mistake(r#"{"channels": ["tra*"]}"#).contains("tra*"));
        assert_eq!(mistake(r#"{"modes": ["fast"]}"#), "modes has \"fast\"; every and latest are right");
        assert_eq!(mistake(r#"{"channels": []}"#), "channels is empty; leave it out to allow all");
        assert!(serde_json::from_str::<Spec>(r#"{"symbls": []}"#).unwrap_err().to_string().contains("symbols"));
    }
}
