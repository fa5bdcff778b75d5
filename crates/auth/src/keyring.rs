//! The file of API keys: reading it, adding to it, revoking.
//!
//! **Invariant:** an edit changes what it is about and leaves the rest of the file as it is, comments included. A file that
//! cannot be read as a whole is not read at all.
//!
//! What is *not* here: the file itself; texts come in and go out.

use std::collections::HashMap;
use std::sync::Arc;

use hub::Entitlements;
use toml::{Table, Value};
use toml_edit::{ArrayOfTables, DocumentMut, Item};

use crate::Spec;
use crate::entitlement::InvalidEntitlement;
use crate::key::{KeyHash, NewKey, id_of};

/// Keys in one file: 100,000 take about 50 MB and half a second to read. More belong into tokens.
const KEYS_MAX: usize = 100_000;
/// A name is for people, in lists and logs.
const NAME_CHARS_MAX: usize = 64;

/// All keys that are good.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    by_id: HashMap<Box<str>, Key>,
}

#[derive(Debug, Clone)]
struct Key {
    name: Box<str>,
    hash: KeyHash,
    entitlements: Arc<Entitlements>,
}

/// A line of a list of keys.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyInfo {
    /// Its public part
    pub id: String,
    /// What people call it
    pub name: String,
    /// When it was made
    pub created: String,
    /// When it was revoked, if it was
    pub revoked: Option<String>,
    /// What it allows
    pub spec: Spec,
}

/// A file of keys that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeyring {
    /// It is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// It has something else than keys.
    #[error("{0} is not known; the file has tables [[key]] and nothing else")]
    Unknown(String),
    /// One of the keys is wrong.
    #[error("key {number} ({name}): {reason}")]
    Key {
        /// Counted from 1
        number: usize,
        /// Its name, or its id
        name: String,
        /// What is wrong
        reason: String,
    },
    /// More than are kept.
    #[error("{0} keys are too many; {KEYS_MAX} are allowed")]
    TooMany(usize),
    /// No key has that id or name.
    #[error("no key has the id or the name {0:?}, or it is revoked already")]
    NoSuchKey(String),
    /// Several keys have that name.
    #[error("several keys have the name {0:?}; give the id")]
    Ambiguous(String),
    /// The name is taken, or none.
    #[error("{0:?} cannot be a name: 1 to {NAME_CHARS_MAX} printable characters are right")]
    Name(String),
    /// An entitlement makes no sense.
    #[error(transparent)]
    Entitlement(#[from] InvalidEntitlement),
}

impl Keyring {
    /// Reads a file.
    ///
    /// # Errors
    /// [`InvalidKeyring`] says what and where.
    pub fn parse(text: &str) -> Result<Self, InvalidKeyring> {
        let mut by_id = HashMap::new();
        for (number, (info, hash)) in entries(text)?.into_iter().enumerate() {
            let wrong = |reason: String| InvalidKeyring::Key { number: number + 1, name: info.name.clone(), reason };
            let entitlements = info.spec.entitlements().map_err(|error| wrong(error.to_string()))?;
            if by_id.contains_key(info.id.as_str()) {
                return Err(wrong(format!("the id {} is there twice", info.id)));
            }
            if info.revoked.is_none() {
                let (name, entitlements) = (info.name.as_str().into(), Arc::new(entitlements));
                by_id.insert(info.id.as_str().into(), Key { name, hash, entitlements });
            }
        }
        Ok(Self { by_id })
    }

    /// The keys of a file, revoked ones included.
    ///
    /// # Errors
    /// [`InvalidKeyring`] says what and where.
    pub fn list(text: &str) -> Result<Vec<KeyInfo>, InvalidKeyring> {
        Ok(entries(text)?.into_iter().map(|(info, _)| info).collect())
    }

    /// Whose key that is. The time does not tell how much of a wrong secret was right.
    pub(crate) fn find(&self, text: &str) -> Option<(&str, &str, &Arc<Entitlements>)> {
        let (id, key) = self.by_id.get_key_value(id_of(text)?)?;
        key.hash.is_of(text).then(|| (id.as_ref(), key.name.as_ref(), &key.entitlements))
    }

    /// What the key of that id allows; none when it is not good (any more).
    pub fn entitlements(&self, id: &str) -> Option<&Arc<Entitlements>> {
        self.by_id.get(id).map(|key| &key.entitlements)
    }

    /// How many keys are good.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

fn entries(text: &str) -> Result<Vec<(KeyInfo, KeyHash)>, InvalidKeyring> {
    let file: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        InvalidKeyring::Syntax(format!("line {line}: {}", error.message().replace('\n', ", ")))
    })?;
    let mut keys = Vec::new();
    for (name, value) in file {
        match (name.as_str(), value) {
            ("key", Value::Array(tables)) => keys = tables,
            _ => return Err(InvalidKeyring::Unknown(name)),
        }
    }
    if keys.len() > KEYS_MAX {
        return Err(InvalidKeyring::TooMany(keys.len()));
    }
    keys.into_iter().enumerate().map(|(index, key)| entry(index + 1, key)).collect()
}

fn entry(number: usize, value: Value) -> Result<(KeyInfo, KeyHash), InvalidKeyring> {
    let mut table = match value {
        Value::Table(table) => table,
        _ => Table::new(),
    };
    let mut text = |key: &str| match table.remove(key) {
        Some(Value::String(text)) => Some(text),
        Some(other) => Some(other.to_string()),
        None => None,
    };
    let (id, name, sha256) = (text("id"), text("name"), text("sha256"));
    let (created, revoked) = (text("created"), text("revoked"));
    let called = name.clone().or_else(|| id.clone()).unwrap_or_else(|| "without a name".into());
    let wrong = |reason: String| InvalidKeyring::Key { number, name: called.clone(), reason };
    let missing = |key: &str| wrong(format!("{key} is missing"));
    let id = id.filter(|id| is_id(id)).ok_or_else(|| wrong("id is missing, or not 8 digits of hex".into()))?;
    let name = name.ok_or_else(|| missing("name"))?;
    check_name(&name)?;
    let sha256 = sha256.ok_or_else(|| missing("sha256"))?;
    let hash = KeyHash::parse(&sha256).ok_or_else(|| wrong("sha256 is not 64 digits of hex".into()))?;
    let spec: Spec = table.try_into().map_err(|error: toml::de::Error| wrong(error.message().replace('\n', ", ")))?;
    Ok((KeyInfo { id, name, created: created.unwrap_or_default(), revoked, spec }, hash))
}

fn is_id(id: &str) -> bool {
    id.len() == 8 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_name(name: &str) -> Result<(), InvalidKeyring> {
    let printable = !name.is_empty() && !name.chars().any(char::is_control);
    if printable && name.chars().count() <= NAME_CHARS_MAX {
        Ok(())
    } else {
        Err(InvalidKeyring::Name(name.to_owned()))
    }
}

/// What a new file begins with.
const PREAMBLE: &str = "\
# API keys of tickerplant. `tickerplant keys new|list|revoke` edit this file; entitlements can be edited by hand, and the
# server takes them in within a second. Only hashes are kept here: a key that is lost cannot be read back.
";

/// The file with another key in it.
///
/// # Errors
/// [`InvalidKeyring`] when the file or what is to be added is wrong.
pub fn add_key(text: &str, key: &NewKey, name: &str, created: &str, spec: &Spec) -> Result<String, InvalidKeyring> {
    check_name(name)?;
    spec.entitlements()?;
    entries(text)?;
    let text = if text.trim().is_empty() { PREAMBLE } else { text };
    let mut document = document(text)?;
    let mut table = toml_edit::Table::new();
    for (field, value) in [("id", key.id.as_str()), ("name", name), ("created", created)] {
        table[field] = toml_edit::value(value);
    }
    table["sha256"] = toml_edit::value(KeyHash::of(&key.text).hex());
    let fields = Table::try_from(spec).map_err(|error| InvalidKeyring::Syntax(error.to_string()))?;
    for (field, value) in fields {
        let value: toml_edit::Value =
            value.to_string().parse().map_err(|_| InvalidKeyring::Syntax(format!("{field} cannot be written")))?;
        table[&field] = toml_edit::value(value);
    }
    let keys = document.entry("key").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let Item::ArrayOfTables(keys) = keys else {
        return Err(InvalidKeyring::Syntax("key is written as a list; tables [[key]] can be edited".into()));
    };
    keys.push(table);
    let mut text = document.to_string();
    // A file of comments alone keeps them behind what is added to it.
    if !text.starts_with('#') && text.ends_with(PREAMBLE) {
        text = format!("{PREAMBLE}{}", text.trim_end_matches(PREAMBLE));
    }
    Keyring::parse(&text)?;
    Ok(text)
}

/// The file with a key marked as revoked, and the key's id.
///
/// # Errors
/// [`InvalidKeyring`] when the file is wrong, or no key or several are meant.
pub fn revoke_key(text: &str, id_or_name: &str, revoked: &str) -> Result<(String, String), InvalidKeyring> {
    let good: Vec<KeyInfo> = Keyring::list(text)?.into_iter().filter(|key| key.revoked.is_none()).collect();
    let mut meant = good.iter().filter(|key| key.id == id_or_name).peekable();
    let id = if let Some(key) = meant.next() {
        key.id.clone()
    } else {
        let named: Vec<_> = good.iter().filter(|key| key.name == id_or_name).collect();
        match named[..] {
            [] => return Err(InvalidKeyring::NoSuchKey(id_or_name.to_owned())),
            [key] => key.id.clone(),
            _ => return Err(InvalidKeyring::Ambiguous(id_or_name.to_owned())),
        }
    };
    let mut document = document(text)?;
    if let Some(keys) = document.get_mut("key").and_then(Item::as_array_of_tables_mut) {
        for key in keys.iter_mut().filter(|key| key.get("id").and_then(Item::as_str) == Some(&id)) {
            key["revoked"] = toml_edit::value(revoked);
        }
    }
    let text = document.to_string();
    if Keyring::parse(&text)?.entitlements(&id).is_some() {
        return Err(InvalidKeyring::Syntax("key is written as a list; tables [[key]] can be edited".into()));
    }
    Ok((text, id))
}

fn document(text: &str) -> Result<DocumentMut, InvalidKeyring> {
    text.parse().map_err(|error: toml_edit::TomlError| InvalidKeyring::Syntax(error.message().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str, spec: &Spec, file: &str) -> (String, NewKey) {
        let key = NewKey::generate().unwrap();
        (add_key(file, &key, name, "2026-01-01T00:00:00Z", spec).unwrap(), key)
    }

    #[test]
    fn a_key_is_found_until_it_is_revoked() {
        let spec = Spec { symbols: Some(vec!["BTC-*".into()]), connections: Some(2), ..Spec::default() };
        let (file, key) = made("desk", &spec, "");
        let (file, other) = made("other", &Spec::default(), &file);
        assert!(file.starts_with("# API keys"), "{file}");
        assert!(!file.contains(&key.text[12..]), "the secret is not in the file");
        let keyring = Keyring::parse(&file).unwrap();
        let (id, name, entitlements) = keyring.find(&key.text).unwrap();
        assert_eq!((id, name), (key.id.as_str(), "desk"));
        assert!(entitlements.symbols.allows("BTC-USD") && entitlements.connections == Some(2));
        assert!(keyring.find(&key.text.replace(&key.id, &other.id)).is_none(), "the id is part of what is hashed");
        let (file, id) = revoke_key(&file, "desk", "2026-01-02T00:00:00Z").unwrap();
        assert_eq!(id, key.id);
        let keyring = Keyring::parse(&file).unwrap();
        assert!(keyring.find(&key.text).is_none() && keyring.find(&other.text).is_some());
        assert_eq!(revoke_key(&file, "desk", ""), Err(InvalidKeyring::NoSuchKey("desk".into())));
        let listed = Keyring::list(&file).unwrap();
        assert_eq!(listed[0].revoked.as_deref(), Some("2026-01-02T00:00:00Z"));
        assert_eq!(listed[0].spec, spec);
    }

    #[test]
    fn edits_leave_the_rest_as_it_is() {
        let (file, _) = made("one", &Spec::default(), "");
        let edited = file.replace("name = \"one\"", "name = \"one\"  # the first desk\nsymbols = [\"A\"]");
        let (file, key) = made("two", &Spec::default(), &edited);
        assert!(file.contains("# the first desk"), "{file}");
        let (file, _) = revoke_key(&file, &key.id, "now").unwrap();
        assert!(file.starts_with(edited.trim_end()), "{file}");
    }

    #[test]
    fn mistakes_are_named_with_the_key() {
        let mistake = |text: &str| Keyring::parse(text).unwrap_err().to_string();
        let (file, _) = made("desk", &Spec::default(), "");
        assert!(mistake("\n[[key]\n").starts_with("line 2: "));
        assert!(mistake("keys = 1").starts_with("keys is not known"));
        assert!(mistake("[[key]]\n").contains("key 1 (without a name): id is missing"));
        assert!(mistake(&format!("{file}symbls = [\"A\"]\n")).contains("key 1 (desk): unknown field `symbls`"));
        assert!(mistake(&format!("{file}symbols = []\n")).contains("key 1 (desk): symbols: the list"));
        assert!(mistake(&format!("{file}{}", file.trim_start_matches(PREAMBLE))).contains("there twice"));
        assert!(mistake(&file.replace("sha256 = \"", "sha256 = \"zz")).contains("64 digits"));
        assert_eq!(Keyring::parse("").unwrap().len(), 0);
    }

    #[test]
    fn names_must_be_told_apart_to_revoke() {
        let (file, _) = made("desk", &Spec::default(), "");
        let (file, key) = made("desk", &Spec::default(), &file);
        assert_eq!(revoke_key(&file, "desk", ""), Err(InvalidKeyring::Ambiguous("desk".into())));
        assert_eq!(revoke_key(&file, &key.id, "").unwrap().1, key.id);
        let wrong = add_key("", &key, "a\nb", "", &Spec::default());
        assert_eq!(wrong, Err(InvalidKeyring::Name("a\nb".into())));
    }
}
