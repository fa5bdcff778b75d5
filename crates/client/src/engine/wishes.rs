//! What the program wants to be subscribed, and the commands that say so.
//!
//! **Invariant:** the wishes are what the server's session has once all commands are answered; so they can be said again,
//! from nothing, on another connection.

use std::collections::{BTreeMap, BTreeSet};

use market::{Channel, ChannelSet};
use wire::{Mode, Since, Subscribe, Symbols};

use super::positions::Positions;
use crate::subscription::{Setting, Subscription, SymbolList};

/// What a command costs beside its symbols and positions, generously.
const COMMAND_BYTES: usize = 512;
/// What a position costs beside its symbol: the channel's name, a number, headers.
const POSITION_BYTES: usize = 24;
/// Symbols of a request that take more are asked for as all: a server takes 16 KiB of a request's head.
const QUERY_BYTES_MAX: usize = 8 << 10;
/// What a symbol costs beside its characters.
const SYMBOL_BYTES: usize = 4;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    channels: BTreeMap<Channel, Wish>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wish {
    all: Option<Setting>,
    named: BTreeMap<String, Setting>,
    /// Set apart from all and then unsubscribed
    left_out: BTreeSet<String>,
}

impl Wishes {
    pub(super) fn add(&mut self, subscription: &Subscription) {
        for channel in subscription.channels.iter() {
            let wish = self.channels.entry(channel).or_default();
            match &subscription.symbols {
                SymbolList::All => {
                    *wish = Wish { all: Some(subscription.setting), ..Wish::default() };
                }
                SymbolList::Named(names) => {
                    for name in names {
                        wish.left_out.remove(name);
                        wish.named.insert(name.clone(), subscription.setting);
                    }
                }
            }
        }
    }

    /// Changes the mode of what is wanted already.
    pub(super) fn update(&mut self, channels: ChannelSet, symbols: &SymbolList, mode: Mode) {
        for channel in channels.iter() {
            let Some(wish) = self.channels.get_mut(&channel) else { continue };
            match symbols {
                SymbolList::All => {
                    wish.all.iter_mut().chain(wish.named.values_mut()).for_each(|setting| setting.mode = mode);
                }
                SymbolList::Named(names) => {
                    for name in names {
                        if let Some(setting) = wish.named.get(name).copied().or(wish.all) {
                            wish.named.insert(name.clone(), Setting { mode, ..setting });
                        }
                    }
                }
            }
        }
    }

    /// Takes away; no channels or symbols are all.
    pub(super) fn remove(&mut self, channels: Option<ChannelSet>, symbols: Option<&SymbolList>) {
        let wanted = |channel: &Channel| channels.is_none_or(|channels| channels.contains(*channel));
        for (_, wish) in self.channels.iter_mut().filter(|(channel, _)| wanted(channel)) {
            match symbols {
                None | Some(SymbolList::All) => *wish = Wish::default(),
                Some(SymbolList::Named(names)) => {
                    for name in names {
                        let apart = wish
                            .named
                            .remove(name)
                            .is_some_and(|setting| wish.all.is_some_and(|all| all.mode != setting.mode));
                        if apart {
                            wish.left_out.insert(name.clone());
                        }
                    }
                }
            }
        }
        self.channels.retain(|_, wish| *wish != Wish::default());
    }

    /// How a stream is wanted; none when it is not.
    pub(super) fn mode(&self, channel: Channel, symbol: &str) -> Option<Mode> {
        let wish = self.channels.get(&channel)?;
        if wish.left_out.contains(symbol) {
            return None;
        }
        wish.named.get(symbol).copied().or(wish.all).map(|setting| setting.mode)
    }

    /// How a stream is wanted, all of it.
    pub(super) fn setting(&self, channel: Channel, symbol: &str) -> Option<Setting> {
        let wish = self.channels.get(&channel)?;
        wish.named.get(symbol).copied().or(wish.all)
    }

    /// The channels of which every element of all instruments is wanted.
    pub(super) fn every_of_all(&self) -> ChannelSet {
        let every = |wish: &Wish| wish.all.is_some_and(|setting| setting.mode == Mode::Every);
        self.channels.iter().filter(|(_, wish)| every(wish)).map(|(channel, _)| *channel).collect()
    }

    /// The channels of which something is wanted.
    pub(super) fn channels(&self) -> impl Iterator<Item = Channel> {
        self.channels.keys().copied()
    }

    /// One request for all that is wanted: some of it may come though nobody asked, or more often than it was asked for.
    pub(super) fn query(&self) -> Option<String> {
        let settings = self.channels.values().flat_map(|wish| wish.all.iter().chain(wish.named.values()));
        // Every element is no interval.
        let interval = settings.map(|setting| match setting.mode {
            Mode::Every => None,
            Mode::Latest { interval_ms } => Some(interval_ms),
        });
        let interval = interval.min()?;
        let names: BTreeSet<_> = self.channels.values().flat_map(|wish| wish.named.keys()).collect();
        let mut symbols = names.into_iter().map(String::as_str).collect::<Vec<_>>().join(",");
        if symbols.len() > QUERY_BYTES_MAX || self.channels.values().any(|wish| wish.all.is_some()) {
            "*".clone_into(&mut symbols);
        }
        let channels = self.channels.keys().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let symbols = symbols.replace('=', "%3D").replace('^', "%5E");
        let interval = interval.map(|interval_ms| format!("&interval_ms={interval_ms}")).unwrap_or_default();
        Some(format!("symbols={symbols}&channels={channels}{interval}"))
    }

    /// The commands that subscribe all of it anew, resuming where that is possible.
    pub(super) fn commands(&self, bytes_max: usize, positions: &impl Positions) -> Vec<Subscribe> {
        let mut commands = Vec::new();
        // One command for each channel of all instruments: its positions need the room.
        for (channel, wish) in &self.channels {
            if let Some(setting) = wish.all {
                commands.push(all_of(*channel, setting, bytes_max, positions));
            }
        }
        // Names that are wanted alike go together.
        let mut by_setting: Vec<(Setting, BTreeMap<&str, ChannelSet>)> = Vec::new();
        for (channel, wish) in &self.channels {
            // What `*` covers in the same way is subscribed by it.
            let apart = |setting: &Setting| wish.all.is_none_or(|all| all.mode != setting.mode);
            for (name, setting) in wish.named.iter().filter(|(_, setting)| apart(setting)) {
                let place = by_setting.iter().position(|(other, _)| other == setting).unwrap_or_else(|| {
                    by_setting.push((*setting, BTreeMap::new()));
                    by_setting.len() - 1
                });
                by_setting[place].1.entry(name).or_default().insert(*channel);
            }
        }
        for (setting, names) in by_setting {
            let mut by_channels: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
            for (name, channels) in names {
                by_channels.entry(channels.bits()).or_default().push(name);
            }
            for (bits, names) in by_channels {
                commands.extend(parts(ChannelSet::from_bits(bits), &names, setting, bytes_max, positions));
            }
        }
        commands
    }
}

fn all_of(channel: Channel, setting: Setting, bytes_max: usize, positions: &impl Positions) -> Subscribe {
    let mut room = bytes_max.saturating_sub(COMMAND_BYTES);
    let mut seqs = Vec::new();
    if setting.mode == Mode::Every {
        for (symbol, seq) in positions.of_channel(channel) {
            let bytes = symbol.len() + POSITION_BYTES;
            let Some(left) = room.checked_sub(bytes) else { break };
            room = left;
            seqs.push((symbol, channel, seq));
        }
    }
    subscribe([channel].into_iter().collect(), Symbols::All, setting, seqs, positions)
}

/// The commands that subscribe channels of names, each of at most so many bytes.
pub(super) fn parts(
    channels: ChannelSet,
    names: &[&str],
    setting: Setting,
    bytes_max: usize,
    positions: &impl Positions,
) -> Vec<Subscribe> {
    let mut commands = Vec::new();
    let (mut symbols, mut seqs, mut bytes) = (Vec::new(), Vec::new(), COMMAND_BYTES);
    for name in names {
        let mut mine = Vec::new();
        if setting.mode == Mode::Every {
            mine.extend(
                channels.iter().filter_map(|channel| Some(((*name).to_owned(), channel, positions.of(name, channel)?))),
            );
        }
        let cost =
            name.len() + SYMBOL_BYTES + mine.len() * POSITION_BYTES + if mine.is_empty() { 0 } else { name.len() };
        if !symbols.is_empty() && bytes + cost > bytes_max {
            let (symbols, seqs) = (std::mem::take(&mut symbols), std::mem::take(&mut seqs));
            commands.push(subscribe(channels, Symbols::Named(symbols), setting, seqs, positions));
            bytes = COMMAND_BYTES;
        }
        bytes += cost;
        symbols.push((*name).to_owned());
        seqs.append(&mut mine);
    }
    if !symbols.is_empty() {
        commands.push(subscribe(channels, Symbols::Named(symbols), setting, seqs, positions));
    }
    commands
}

fn subscribe(
    channels: ChannelSet,
    symbols: Symbols,
    setting: Setting,
    seqs: Vec<(String, Channel, u64)>,
    positions: &impl Positions,
) -> Subscribe {
    let Setting { mode, snapshot, slow } = setting;
    let epoch = positions.epoch().filter(|_| !seqs.is_empty());
    let since = epoch.map(|epoch| Since { epoch: epoch.to_owned(), seqs });
    Subscribe { channels, symbols, mode, snapshot, slow, since }
}
