//! What a client may have: the outcome of its authentication, as data.
//!
//! **Invariant:** nothing here is a secret. A [`Grant`] names its holder and never holds a key or a token, so it may stand
//! in logs and lists.
//!
//! What is *not* here: how a key or a token is checked, which is `auth`'s and the shell's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use market::{ChannelSet, Timestamp};
use wire::{Limits, Mode};

/// Symbols named one by one; a key that needs more wants a pattern. Found by bisection.
pub const SYMBOLS_NAMED_MAX: usize = 10_000;
/// Patterns with a `*`, which are tried one after the other: 64 of them against the 8,000 symbols that fit into one
/// command take a few milliseconds.
pub const SYMBOL_PATTERNS_MAX: usize = 64;
/// Longer than any symbol (32 characters), with room for stars.
const PATTERN_BYTES_MAX: usize = 64;

/// A set of symbols, by name and by pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SymbolSet(Kind);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    All,
    /// Both sorted, neither with duplicates.
    Some {
        named: Arc<[Box<str>]>,
        patterns: Arc<[Box<str>]>,
    },
}

/// A list that is no set of symbols.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSymbols {
    /// It allows nothing, which is more likely a mistake than a wish.
    #[error("the list of symbols is empty; leave it out to allow all")]
    Empty,
    /// An entry that no symbol can match.
    #[error("{0:?} is no symbol and no pattern: 1 to 64 of A-Z a-z 0-9 . - _ / : = ^ and * are right")]
    Pattern(String),
    /// More than is tried in reasonable time.
    #[error(
        "{0} symbols or patterns are too many: {SYMBOLS_NAMED_MAX} names and {SYMBOL_PATTERNS_MAX} patterns are allowed"
    )]
    TooMany(usize),
}

impl SymbolSet {
    /// Every symbol there is or will be.
    pub const ALL: Self = Self(Kind::All);

    /// The set that a list describes; `*` in an entry stands for any number of characters.
    ///
    /// # Errors
    /// [`InvalidSymbols`] says which entry is none.
    pub fn new<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Result<Self, InvalidSymbols> {
        let mut named: Vec<Box<str>> = Vec::new();
        let mut patterns: Vec<Box<str>> = Vec::new();
        for entry in entries {
            let entry = entry.as_ref();
            if entry.is_empty() || entry.len() > PATTERN_BYTES_MAX || !entry.bytes().all(is_of_a_pattern) {
                return Err(InvalidSymbols::Pattern(entry.chars().take(PATTERN_BYTES_MAX).collect()));
            }
            let list = if entry.contains('*') { &mut patterns } else { &mut named };
            list.push(entry.into());
        }
        if named.is_empty() && patterns.is_empty() {
            return Err(InvalidSymbols::Empty);
        }
        for list in [&mut named, &mut patterns] {
            list.sort_unstable();
            list.dedup();
        }
        if named.len() > SYMBOLS_NAMED_MAX || patterns.len() > SYMBOL_PATTERNS_MAX {
            return Err(InvalidSymbols::TooMany(named.len() + patterns.len()));
        }
        if patterns.iter().any(|pattern| pattern.bytes().all(|byte| byte == b'*')) {
            return Ok(Self::ALL);
        }
        Ok(Self(Kind::Some { named: named.into(), patterns: patterns.into() }))
    }

    /// Whether it is every symbol.
    pub fn is_all(&self) -> bool {
        self.0 == Kind::All
    }

    /// Whether the symbol is in it.
    pub fn allows(&self, symbol: &str) -> bool {
        match &self.0 {
            Kind::All => true,
            Kind::Some { named, patterns } => {
                named.binary_search_by(|name| name.as_ref().cmp(symbol)).is_ok()
                    || patterns.iter().any(|pattern| matches(pattern.as_bytes(), symbol.as_bytes()))
            }
        }
    }

    /// The entries, as they are written.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        let (all, named, patterns): (&[&str], &[Box<str>], &[Box<str>]) = match &self.0 {
            Kind::All => (&["*"], &[], &[]),
            Kind::Some { named, patterns } => (&[], named, patterns),
        };
        all.iter().copied().chain(patterns.iter().chain(named).map(AsRef::as_ref))
    }
}

impl fmt::Display for SymbolSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to be understood; ten thousand names help nobody.
        const SHOWN: usize = 8;
        let count = self.entries().count();
        let shown: Vec<&str> = self.entries().take(SHOWN).collect();
        f.write_str(&shown.join(", "))?;
        if count > SHOWN { write!(f, " and {} more", count - SHOWN) } else { Ok(()) }
    }
}

fn is_of_a_pattern(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_/:=^*".contains(&byte)
}

/// Whether a pattern matches all of a text. On a mismatch it goes back to the last `*` only, so the time is at most the
/// product of the two lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star, begun)) = last_star else { return false };
                last_star = Some((star, begun + 1));
                p = star + 1;
                t = begun + 1;
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Which modes of delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ModesAllowed {
    /// Both
    #[default]
    Any,
    /// Only `every`
    Every,
    /// Only `latest`
    Latest,
}

/// What a client may subscribe to and how much of it; what is none is not limited beyond the server's own limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entitlements {
    /// Which symbols
    pub symbols: SymbolSet,
    /// Which channels
    pub channels: ChannelSet,
    /// Which modes
    pub modes: ModesAllowed,
    /// The shortest interval of mode `latest`, in milliseconds
    pub interval_ms_min: u32,
    /// Commands per second of a connection, instead of the server's limit
    pub commands_per_s: Option<u32>,
    /// Commands at once of a connection, instead of the server's limit
    pub commands_burst: Option<u32>,
    /// Connections at a time, together
    pub connections: Option<u32>,
    /// Subscribed pairs of channel and symbol, of all connections together
    pub subscriptions: Option<u32>,
    /// Bytes per second sent to all connections together
    pub bytes_per_s: Option<u32>,
}

impl Entitlements {
    /// Everything, within the server's own limits.
    pub const ALL: Self = Self {
        symbols: SymbolSet::ALL,
        channels: ChannelSet::from_bits(u16::MAX),
        modes: ModesAllowed::Any,
        interval_ms_min: 0,
        commands_per_s: None,
        commands_burst: None,
        connections: None,
        subscriptions: None,
        bytes_per_s: None,
    };

    /// What stands against a delivery, in words that follow "not entitled: "; none when nothing does.
    pub fn refusal(&self, channels: ChannelSet, mode: Mode) -> Option<String> {
        let names = |set: ChannelSet| set.iter().map(market::Channel::name).collect::<Vec<_>>().join(", ");
        if !self.channels.covers(channels) {
            let denied = ChannelSet::from_bits(channels.bits() & !self.channels.bits());
            return Some(format!("channels {}; entitled are {}", names(denied), names(self.channels)));
        }
        match (self.modes, mode) {
            (ModesAllowed::Latest, Mode::Every) => Some("mode every; entitled is latest".to_owned()),
            (ModesAllowed::Every, Mode::Latest { .. }) => Some("mode latest; entitled is every".to_owned()),
            (_, Mode::Latest { interval_ms }) if interval_ms < self.interval_ms_min => {
                Some(format!("interval_ms {interval_ms}; the least is {}", self.interval_ms_min))
            }
            _ => None,
        }
    }

    /// The limits of a session that has them.
    pub(crate) fn limits(&self, server: &Limits) -> Limits {
        Limits {
            commands_per_s: self.commands_per_s.unwrap_or(server.commands_per_s),
            commands_burst: self.commands_burst.unwrap_or(server.commands_burst),
            ..*server
        }
    }
}

/// When a grant ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// As the token says it
    pub wall: Timestamp,
    /// On the monotonic clock of [`crate::Now`], with whatever leeway the shell allows
    pub at: Duration,
}

/// Who a client is, and what it may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What the client is called in logs and lists: a key's name, or a token's subject
    pub name: Box<str>,
    /// Tells holders apart, for limits that all connections of one share: a key's id, or issuer and subject
    pub id: Box<str>,
    /// What it may have
    pub entitlements: Arc<Entitlements>,
    /// Until when; none for a key, which lasts until it is revoked
    pub expires: Option<Expiry>,
}

/// What a session begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Authentication is off: everybody may have everything.
    Open,
    /// The client must authenticate before it can do anything else.
    Required,
    /// The client has authenticated while it connected.
    Granted(Arc<Grant>),
}

/// Why an attempt to authenticate is refused. The text reaches the client: it says what is wrong and never repeats any
/// of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthRefusal {
    /// The token is not good.
    Failed(String),
    /// Too many attempts; the text names the limit.
    TooManyAttempts(String),
    /// The holder has all the connections it may have; the text names the limit.
    TooManyConnections(String),
}

/// What becomes of a grant when the keys have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reconsidered {
    /// It is as it was.
    Kept,
    /// It is worth nothing any more.
    Revoked,
    /// It allows something else now.
    Changed(Arc<Grant>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::Channel;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_whole_symbols() {
        let check = |entries: &[&str], symbol: &str, want: bool| {
            assert_eq!(SymbolSet::new(entries).unwrap().allows(symbol), want, "{entries:?} {symbol}");
        };
        check(&["BTC-*"], "BTC-USD", true);
        check(&["BTC-*"], "BTC-", true);
        check(&["BTC-*"], "XBTC-USD", false);
        check(&["*-USD"], "BTC-USD", true);
        check(&["*-USD"], "BTC-USDT", false);
        check(&["B*-*D"], "BTC-USD", true);
        check(&["BTC-USD", "ETH-USD"], "ETH-USD", true);
        check(&["BTC-USD", "ETH-USD"], "ETH-US", false);
        check(&["btc-*"], "BTC-USD", false);
        check(&["x", "**"], "anything", true);
        assert!(SymbolSet::new(["*"]).unwrap().is_all());
    }

    #[test]
    fn lists_that_are_none_are_refused() {
        assert_eq!(SymbolSet::new::<&str>([]), Err(InvalidSymbols::Empty));
        for wrong in ["", "BTC USD", "B?", "Ä", &"x".repeat(65)] {
            assert!(matches!(SymbolSet::new([wrong]), Err(InvalidSymbols::Pattern(_))), "{wrong}");
        }
        let many = (0..=SYMBOL_PATTERNS_MAX).map(|n| format!("S{n}*"));
        assert!(matches!(SymbolSet::new(many), Err(InvalidSymbols::TooMany(_))));
    }

    #[test]
    fn a_refusal_names_what_is_refused() {
        let entitlements = Entitlements {
            channels: [Channel::Trades].into_iter().collect(),
            modes: ModesAllowed::Latest,
            interval_ms_min: 250,
            ..Entitlements::ALL
        };
        let (trades, both) = ([Channel::Trades].into_iter().collect(), ChannelSet::from_bits(0b11));
        let latest = |interval_ms| Mode::Latest { interval_ms };
        assert_eq!(entitlements.refusal(trades, latest(250)), None);
        assert_eq!(entitlements.refusal(both, latest(250)).unwrap(), "channels quotes; entitled are trades");
        assert_eq!(entitlements.refusal(trades, Mode::Every).unwrap(), "mode every; entitled is latest");
        assert_eq!(entitlements.refusal(trades, latest(100)).unwrap(), "interval_ms 100; the least is 250");
        assert_eq!(Entitlements::ALL.refusal(ChannelSet::from_bits(u16::MAX), latest(0)), None);
    }

    /// The obvious way, which takes exponential time.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => naive(rest, text) || (!text.is_empty() && naive(pattern, &text[1..])),
            ([a, rest @ ..], [b, text @ ..]) => a == b && naive(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_obvious_way(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), naive(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
