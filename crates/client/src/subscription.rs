//! What a program wants to be sent.
//!
//! **Invariant:** a [`Subscription`] that was accepted names at least one channel and one symbol, and each name can be one.

use market::{Channel, ChannelSet, Symbol};
use wire::{Mode, SlowPolicy};

use crate::RequestError;

/// Channels of symbols, and how they are delivered.
///
/// ```
/// use tickerplant_client::{Channel, Subscription, SymbolList};
///
/// let every_trade = Subscription::to([Channel::Trades], ["BTC-USD"]);
/// let screen = Subscription::to([Channel::Quotes, Channel::Ticker], SymbolList::All).latest_every_ms(250);
/// # let _ = (every_trade, screen);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub(crate) channels: ChannelSet,
    pub(crate) symbols: SymbolList,
    pub(crate) setting: Setting,
}

/// Which instruments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SymbolList {
    /// All, also those that appear later
    All,
    /// These
    Named(Vec<String>),
}

impl<S: Into<String>, I: IntoIterator<Item = S>> From<I> for SymbolList {
    fn from(names: I) -> Self {
        Self::Named(names.into_iter().map(Into::into).collect())
    }
}

/// How a stream is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Setting {
    pub(crate) mode: Mode,
    pub(crate) snapshot: bool,
    pub(crate) slow: SlowPolicy,
}

impl Subscription {
    /// Every element of these channels of these symbols, beginning with the current state.
    pub fn to(channels: impl IntoIterator<Item = Channel>, symbols: impl Into<SymbolList>) -> Self {
        let setting = Setting { mode: Mode::Every, snapshot: true, slow: SlowPolicy::Conflate };
        Self { channels: channels.into_iter().collect(), symbols: symbols.into(), setting }
    }

    /// Only the newest value of each stream, at most once per interval; 0 is as fast as the server gets it out.
    #[must_use]
    pub fn latest_every_ms(mut self, interval_ms: u32) -> Self {
        self.setting.mode = Mode::Latest { interval_ms };
        self
    }

    /// Without the current state at the begin.
    #[must_use]
    pub fn without_snapshot(mut self) -> Self {
        self.setting.snapshot = false;
        self
    }

    /// The server ends the connection when this program does not keep up, instead of leaving values out. It is made again
    /// and resumed, so this is for programs that would rather be late than miss something.
    #[must_use]
    pub fn disconnect_when_slow(mut self) -> Self {
        self.setting.slow = SlowPolicy::Disconnect;
        self
    }

    /// # Errors
    /// It names nothing, or something that no instrument can be called.
    pub(crate) fn checked(self) -> Result<Self, RequestError> {
        if self.channels.is_empty() {
            return Err(RequestError::NoChannels);
        }
        self.symbols.check()?;
        Ok(self)
    }
}

impl SymbolList {
    pub(crate) fn check(&self) -> Result<(), RequestError> {
        match self {
            Self::Named(names) if names.is_empty() => Err(RequestError::NoSymbols),
            Self::Named(names) => names.iter().try_for_each(|name| Ok(Symbol::new(name).map(drop)?)),
            Self::All => Ok(()),
        }
    }
}
