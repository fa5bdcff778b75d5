//! The dialects a session can speak and the encodings a command can come in.
//!
//! **Invariant:** a session's dialect is fixed at its hand-shake; the encoding of a command is that of its frame,
//! whatever the dialect.

/// How the server writes to a session; a subprotocol of the WebSocket hand-shake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Dialect {
    /// `ticker.v1.msgpack`: arrays in binary frames
    NativeMessagePack = 0,
    /// `ticker.v1.json`: objects in text frames
    NativeJson = 1,
}

/// How a command of a client is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// A binary frame
    MessagePack,
    /// A text frame
    Json,
}

impl Dialect {
    /// How many dialects there are; every [`Dialect::index`] is below it.
    pub const COUNT: usize = 2;

    /// All dialects, in the order of their indices.
    pub const ALL: [Self; Self::COUNT] = [Self::NativeMessagePack, Self::NativeJson];

    /// A dense number below [`Dialect::COUNT`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in `Sec-WebSocket-Protocol`.
    pub const fn subprotocol(self) -> &'static str {
        ["ticker.v1.msgpack", "ticker.v1.json"][self as usize]
    }

    /// Whether its messages go into text frames.
    pub const fn is_text(self) -> bool {
        matches!(self, Self::NativeJson)
    }

    /// The dialect of a name in `Sec-WebSocket-Protocol`; names are compared exactly (RFC 6455, section 4.1).
    pub fn from_subprotocol(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.subprotocol() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_and_names_agree() {
        for (index, dialect) in Dialect::ALL.into_iter().enumerate() {
            assert_eq!(dialect.index(), index);
            assert_eq!(Dialect::from_subprotocol(dialect.subprotocol()), Some(dialect));
        }
        assert_eq!(Dialect::from_subprotocol("ticker.v2.json"), None);
    }
}
