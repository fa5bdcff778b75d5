//! The tree that a command is read into before it is understood, whichever encoding it came in.
//!
//! **Invariant:** a tree is nested at most [`NESTING_MAX`] deep and has at most one node per byte of its input; strings
//! borrow from the input where they can.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor};

/// How deep a command may be nested. The deepest that has a meaning is `since`, with 4; the rest is room for keys that
/// are ignored. Beyond it a command is refused, so that no input can exhaust the stack.
pub(crate) const NESTING_MAX: usize = 16;

/// A value of a command.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float,
    Text(Cow<'a, str>),
    Bytes,
    Array(Vec<Value<'a>>),
    Map(Entries<'a>),
}

/// A map's entries in their order; entries whose key is no string are left out.
pub(crate) type Entries<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

impl Value<'_> {
    /// What it is, for an error message.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a boolean",
            Self::Unsigned(_) => "an integer",
            Self::Negative(_) => "a negative integer",
            Self::Float => "a number that is no 64-bit integer",
            Self::Text(_) => "a string",
            Self::Bytes => "binary data",
            Self::Array(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// Reads a JSON text whose top level is an object. What could be read before an error stands in `entries`.
pub(crate) fn read_json<'a>(payload: &'a [u8], entries: &mut Entries<'a>) -> Result<(), String> {
    let mut deserializer = serde_json::Deserializer::from_slice(payload);
    deserializer.deserialize_any(Top { entries }).and_then(|()| deserializer.end()).map_err(|error| error.to_string())
}

struct Top<'b, 'a> {
    entries: &'b mut Entries<'a>,
}

impl<'a> Visitor<'a> for Top<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with the key op")
    }

    /// Names the type alone: the text itself is as long as the client likes.
    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Err(E::invalid_type(Unexpected::Other("a string"), &self))
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        read_entries(&mut map, NESTING_MAX - 1, self.entries)
    }
}

/// A value below which at most so many levels may follow.
struct Node(usize);

impl<'a> DeserializeSeed<'a> for Node {
    type Value = Value<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Value<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Node {
    type Value = Value<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value<'a>, E> {
        Ok(Value::Nil)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'a>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value<'a>, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value<'a>, E> {
        Ok(u64::try_from(value).map_or(Value::Negative(value), Value::Unsigned))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value<'a>, E> {
        Ok(Value::Float)
    }

    fn visit_borrowed_str<E>(self, value: &'a str) -> Result<Value<'a>, E> {
        Ok(Value::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value<'a>, E> {
        Ok(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Value<'a>, A::Error> {
        let below = self.0.checked_sub(1).ok_or_else(|| A::Error::custom(too_deep()))?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Node(below))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Value<'a>, A::Error> {
        let below = self.0.checked_sub(1).ok_or_else(|| A::Error::custom(too_deep()))?;
        let mut entries = Vec::new();
        read_entries(&mut map, below, &mut entries)?;
        Ok(Value::Map(entries))
    }
}

fn read_entries<'a, A: MapAccess<'a>>(map: &mut A, below: usize, entries: &mut Entries<'a>) -> Result<(), A::Error> {
    while let Some(key) = map.next_key_seed(Node(0))? {
        let value = map.next_value_seed(Node(below))?;
        if let Value::Text(key) = key {
            entries.push((key, value));
        }
    }
    Ok(())
}

/// The message for a tree that is too deep.
pub(crate) fn too_deep() -> String {
    format!("nested deeper than {NESTING_MAX} levels")
}
