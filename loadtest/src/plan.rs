//! What each connection does, made from the options once: which symbols, what is said, how closely it is looked at.
//!
//! **Invariant:** everything that is drawn at random follows from the seed and the connection's number, so a run can be
//! repeated, whatever number of threads and processes it is spread over.
//!
//! Not here: the options' syntax (`options`), sockets (`swarm`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use market::{Channel, ChannelSet};
use serde_json::json;

use crate::options::{Format, Mode, Options, Pick, Protocol, Slow, Verify};
use crate::raw::RawPlan;
use crate::sequence::{Expectation, Start};
use crate::tls::{Tls, Trust};
use crate::upgrade::{Entropy, Scheme, Target, Wishes};

/// Symbols in one command: at most 33 bytes each, and servers take messages of 64 KiB.
const SYMBOLS_PER_COMMAND: usize = 1500;

/// Connections from one address: below the 28,232 ports that Linux gives out by default.
const CONNECTIONS_PER_ADDRESS: u32 = 25_000;

/// What is spoken.
#[derive(Debug, Clone)]
pub(crate) enum Language {
    MessagePack,
    Json,
    Raw(RawPlan),
}

/// How closely a session looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scrutiny {
    /// Every element is read and its number checked
    Verify,
    /// Elements are counted as cheaply as can be
    Count,
}

/// Whether a client reads all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Reader,
    /// Stops to read for a while
    Slow,
}

/// What connections to the server of a run need of TLS.
///
/// # Errors
/// It is not said whose certificates are good, or [`Tls::new`] fails.
pub(crate) fn tls(options: &Options, target: &Target) -> anyhow::Result<Option<Tls>> {
    let trust = match (target.scheme, options.ca.as_deref()) {
        (Scheme::Ws, _) => return Ok(None),
        (Scheme::Wss, Some(file)) => Trust::Authorities(file),
        (Scheme::Wss, None) if options.insecure => Trust::Everybody,
        (Scheme::Wss, None) => bail!(
            "a wss:// address needs --ca FILE, the authorities that are trusted (such as /etc/ssl/certs/ca-certificates.crt), \
             or --insecure"
        ),
    };
    Ok(Some(Tls::new(target, trust)?))
}

/// What all connections of a run do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    /// None where connections are not encrypted
    pub(crate) tls: Option<Tls>,
    pub(crate) address: SocketAddr,
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) wishes: Wishes,
    pub(crate) language: Language,
    pub(crate) channels: ChannelSet,
    pub(crate) expectation: Expectation,
    pub(crate) start: Start,
    pub(crate) connections: u32,
    pub(crate) verified: u32,
    stalled: u32,
    pub(crate) subscribe: bool,
    settings: serde_json::Value,
    symbols: Symbols,
    messages: Vec<String>,
    seed: u64,
    pub(crate) receive_buffer_bytes: u32,
    pub(crate) samples_per_s: u32,
    pub(crate) series: Duration,
    pub(crate) connecting_max: usize,
    /// Connections begun per second in all; none is as fast as they come up
    pub(crate) connect_rate: Option<f64>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) reconnect: Option<Reconnect>,
    pub(crate) stall_after: Duration,
    /// None is until the end
    pub(crate) stall: Option<Duration>,
    pub(crate) changes_per_s: f64,
}

/// How clients come back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reconnect {
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
}

#[derive(Debug, Clone)]
enum Symbols {
    /// The same for all, as given
    Same(Vec<String>),
    /// `count` of `all` for each; `weights` are cumulative, for a Zipf draw
    Drawn { all: Vec<String>, count: usize, weights: Option<Vec<f64>> },
}

impl Plan {
    /// Makes the plan; `listed` gives the server's symbols when they are needed.
    ///
    /// # Errors
    /// The options contradict each other, or the server's name does not resolve.
    pub(crate) fn new(
        options: &Options,
        address: SocketAddr,
        tls: Option<Tls>,
        listed: impl FnOnce() -> anyhow::Result<Vec<String>>,
    ) -> anyhow::Result<Self> {
        let connections = options.connections;
        let channels: ChannelSet = options.channels.iter().copied().collect();
        let (mode, expectation) = match options.mode {
            Mode::Every => ("every", Expectation::Every),
            Mode::Latest => ("latest", Expectation::Latest),
        };
        let slow = match options.slow {
            Slow::Conflate => "conflate",
            Slow::Disconnect => "disconnect",
        };
        let names: Vec<_> = channels.iter().map(Channel::name).collect();
        let mut settings = json!({"channels": names, "mode": mode, "snapshot": options.snapshot, "slow": slow});
        if options.mode == Mode::Latest {
            settings["interval_ms"] = options.interval_ms.into();
        }
        let (language, subprotocol) = match (options.protocol, options.format) {
            (Protocol::Native, Format::Msgpack) => (Language::MessagePack, Some("ticker.v1.msgpack")),
            (Protocol::Native, Format::Json) => (Language::Json, Some("ticker.v1.json")),
            (Protocol::Raw, _) => {
                let raw =
                    RawPlan { time: options.time_at.clone(), unit: options.time_unit, count_by: options.count_by };
                (Language::Raw(raw), None)
            }
        };
        let verified = match (options.protocol, options.verify_connections) {
            (Protocol::Raw, _) => 0,
            (_, Some(Verify::Some(count))) => count.min(connections),
            (_, None) if options.deflate != crate::inflate::Deflate::Off => connections.min(10),
            (_, Some(Verify::All) | None) => connections,
        };
        if options.stalled >= connections {
            bail!("{} of {connections} clients cannot stall: at least one has to read", options.stalled);
        }
        if options.changes_per_s > 0.0 && (options.symbols_per_client == 0 || options.protocol == Protocol::Raw) {
            bail!("--changes-per-s needs --symbols-per-client, on a native server");
        }
        if let Some(header) =
            options.header.iter().find(|header| !header.contains(':') || header.contains(['\r', '\n']))
        {
            bail!("--header {header:?} is not of the form \"Name: value\"");
        }
        Ok(Self {
            target: options.url.clone(),
            tls,
            address,
            sources: sources(&options.source_addresses, address, connections)?,
            wishes: Wishes {
                subprotocol: subprotocol.map(ToOwned::to_owned),
                deflate: options.deflate,
                headers: options.header.clone(),
            },
            subscribe: options.subscribe
                && (options.protocol == Protocol::Native || !options.subscribe_message.is_empty()),
            language,
            channels,
            expectation,
            start: if options.snapshot { Start::Snapshot } else { Start::Anywhere },
            connections,
            verified,
            stalled: options.stalled,
            settings,
            symbols: symbols(options, listed)?,
            messages: options.subscribe_message.clone(),
            seed: options.seed,
            receive_buffer_bytes: options.receive_buffer_bytes,
            samples_per_s: options.samples_per_s,
            series: Duration::from_millis(options.series_ms.into()),
            connecting_max: options.connecting_max as usize,
            connect_rate: (options.connect_rate > 0.0).then_some(options.connect_rate),
            lifetime: duration(options.lifetime_s),
            reconnect: options.reconnect.then(|| Reconnect {
                delay: Duration::from_millis(options.reconnect_delay_ms.into()),
                jitter: Duration::from_millis(options.reconnect_jitter_ms.into()),
            }),
            stall_after: Duration::from_secs_f64(options.stall_after_s),
            stall: duration(options.stall_s),
            changes_per_s: options.changes_per_s,
        })
    }

    /// How closely connection number `index` looks.
    pub(crate) fn scrutiny(&self, index: u32) -> Scrutiny {
        // The stalled ones, which are the last, are looked at as well: what they lose is to be declared.
        let looked_at = index < self.verified.saturating_sub(self.stalled) || self.role(index) == Role::Slow;
        if self.verified > 0 && looked_at { Scrutiny::Verify } else { Scrutiny::Count }
    }

    /// Whether connection number `index` reads all the time.
    pub(crate) fn role(&self, index: u32) -> Role {
        if index >= self.connections - self.stalled { Role::Slow } else { Role::Reader }
    }

    /// Whether some clients stop to read.
    pub(crate) fn has_slow(&self) -> bool {
        self.stalled > 0
    }

    /// The local address of connection number `index`.
    pub(crate) fn source(&self, index: u32) -> Option<IpAddr> {
        (self.sources.len() > 1 || self.sources.first().is_some_and(|source| *source != self.address.ip()))
            .then(|| self.sources[index as usize % self.sources.len()])
    }

    /// The symbols of connection number `index`.
    pub(crate) fn symbols(&self, index: u32) -> Vec<String> {
        match &self.symbols {
            Symbols::Same(symbols) => symbols.clone(),
            Symbols::Drawn { all, count, weights } => {
                let mut entropy = Entropy::new(self.seed ^ (u64::from(index) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                // The first numbers of a generator with a small seed are alike.
                for _ in 0..4 {
                    entropy.u64();
                }
                let mut chosen = Vec::with_capacity(*count);
                while chosen.len() < *count {
                    let place = draw(all.len(), weights.as_deref(), &mut entropy);
                    if !chosen.contains(&place) {
                        chosen.push(place);
                    }
                }
                chosen.into_iter().map(|place| all[place].clone()).collect()
            }
        }
    }

    /// A symbol that is not among `held`; none when all are drawn by everyone.
    pub(crate) fn another_symbol(&self, held: &[String], entropy: &mut Entropy) -> Option<String> {
        let Symbols::Drawn { all, count, weights } = &self.symbols else { return None };
        if *count >= all.len() {
            return None;
        }
        loop {
            let symbol = &all[draw(all.len(), weights.as_deref(), entropy)];
            if !held.contains(symbol) {
                return Some(symbol.clone());
            }
        }
    }

    /// What connection number `index` says once it is up, each a text message.
    pub(crate) fn commands(&self, index: u32) -> Vec<String> {
        if !self.subscribe {
            return Vec::new();
        }
        let symbols = self.symbols(index);
        if let Language::Raw(_) = self.language {
            let (list, csv) = (json!(symbols).to_string(), symbols.join(","));
            let fill = |text: &String| {
                text.replace("{symbols}", &list).replace("{symbols_csv}", &csv).replace("{n}", &index.to_string())
            };
            return self.messages.iter().map(fill).collect();
        }
        symbols.chunks(SYMBOLS_PER_COMMAND).map(|symbols| self.subscribe_command(symbols)).collect()
    }

    /// The command that subscribes to `symbols`.
    pub(crate) fn subscribe_command(&self, symbols: &[String]) -> String {
        let mut command = self.settings.clone();
        command["op"] = "subscribe".into();
        command["id"] = 1.into();
        command["symbols"] = json!(symbols);
        command.to_string()
    }

    /// The command that ends the subscription of `symbol`.
    pub(crate) fn unsubscribe_command(symbol: &str) -> String {
        json!({"op": "unsubscribe", "id": 2, "symbols": [symbol]}).to_string()
    }
}

fn duration(seconds: f64) -> Option<Duration> {
    (seconds > 0.0).then(|| Duration::from_secs_f64(seconds))
}

/// One of `count` places; the weights of a Zipf draw are cumulative.
fn draw(count: usize, weights: Option<&[f64]>, entropy: &mut Entropy) -> usize {
    match weights {
        None => entropy.below(count as u32) as usize,
        Some(weights) => {
            let total = weights.last().copied().unwrap_or_default();
            let at = entropy.unit() * total;
            weights.partition_point(|weight| *weight <= at).min(count - 1)
        }
    }
}

fn symbols(options: &Options, listed: impl FnOnce() -> anyhow::Result<Vec<String>>) -> anyhow::Result<Symbols> {
    let count = options.symbols_per_client as usize;
    if count == 0 || !options.subscribe {
        return Ok(Symbols::Same(options.symbols.clone()));
    }
    let named = options.symbols.iter().any(|symbol| symbol != "*");
    let mut all = match &options.symbol_template {
        Some(template) if options.symbol_count > 0 => {
            (0..options.symbol_count).map(|n| template.replace("{n}", &n.to_string())).collect()
        }
        Some(_) => bail!("--symbol-template needs --symbol-count"),
        None if named => options.symbols.clone(),
        None if options.protocol == Protocol::Raw => {
            bail!("--symbols-per-client needs --symbols or --symbol-template on a raw server")
        }
        None => listed().context("cannot get the server's list of symbols")?,
    };
    if options.symbol_count > 0 {
        all.truncate(options.symbol_count as usize);
    }
    if count > all.len() {
        bail!("--symbols-per-client {count} is more than the {} symbols there are", all.len());
    }
    let weights = (options.pick == Pick::Zipf).then(|| {
        let mut sum = 0.0;
        (1..=all.len())
            .map(|rank| {
                sum += (rank as f64).powf(-options.zipf_exponent);
                sum
            })
            .collect()
    });
    Ok(Symbols::Drawn { all, count, weights })
}

/// The local addresses that connections are spread over.
fn sources(text: &str, address: SocketAddr, connections: u32) -> anyhow::Result<Vec<IpAddr>> {
    if let Ok(count) = text.parse::<u32>() {
        let loopback = matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback());
        let needed = connections.div_ceil(CONNECTIONS_PER_ADDRESS);
        let count = if count == 0 { needed } else { count };
        if count > 1 && !loopback {
            bail!(
                "{connections} connections from one address are more than there are ports: name {count} addresses of this \
                 machine with --source-addresses A,B,..."
            );
        }
        if count > 60_000 {
            bail!("--source-addresses {count} is more than there are");
        }
        // Host parts 0 and 255 are left out, some systems treat them apart.
        let nth = |n: u32| IpAddr::V4(Ipv4Addr::new(127, 0, (n / 254) as u8, (n % 254 + 1) as u8));
        return Ok((0..count).map(nth).collect());
    }
    let parse = |part: &str| part.trim().parse().with_context(|| format!("--source-addresses: {part:?} is no address"));
    text.split(',').map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Cli, Command};
    use clap::Parser as _;

    fn plan(flags: &[&str]) -> anyhow::Result<Plan> {
        let cli = Cli::try_parse_from(["loadtest", "run"].iter().chain(flags)).unwrap();
        let Command::Run(options) = cli.command else { panic!() };
        let listed = || Ok((0..50).map(|n| format!("S{n}")).collect());
        Plan::new(&options, "127.0.0.1:80".parse().unwrap(), None, listed)
    }

    #[test]
    fn symbols_are_drawn_without_repeats_and_the_same_each_time() {
        for pick in ["uniform", "zipf"] {
            let plan = plan(&["--symbols-per-client", "20", "--pick", pick]).unwrap();
            let (first, second) = (plan.symbols(0), plan.symbols(1));
            assert_ne!(first, second);
            assert_eq!(first, plan.symbols(0));
            let mut sorted = first.clone();
            sorted.sort();
            sorted.dedup();
            assert_eq!(sorted.len(), 20);
            let another = plan.another_symbol(&first, &mut Entropy::new(1)).unwrap();
            assert!(!first.contains(&another));
        }
    }

    #[test]
    fn a_zipf_draw_prefers_the_first() {
        let plan = plan(&["--symbols-per-client", "1", "--pick", "zipf"]).unwrap();
        let first = (0..1000).filter(|index| plan.symbols(*index) == ["S0"]).count();
        // 1 / H(50) = 0.22
        assert!((150..300).contains(&first), "{first}");
    }

    #[test]
    fn raw_templates_are_filled() {
        let flags = ["--protocol", "raw", "--symbols", "A,B", "--subscribe-message", "{symbols} {symbols_csv} {n}"];
        assert_eq!(plan(&flags).unwrap().commands(7), [r#"["A","B"] A,B 7"#]);
        assert!(plan(&["--protocol", "raw"]).unwrap().commands(0).is_empty());
    }

    #[test]
    fn long_lists_are_cut_into_several_commands() {
        let template = ["--symbol-template", "N{n}", "--symbol-count", "4000", "--symbols-per-client", "4000"];
        let commands = plan(&template).unwrap().commands(0);
        assert_eq!(commands.len(), 3);
        assert!(commands.iter().all(|command| command.len() < 64 << 10));
    }

    #[test]
    fn sources_are_as_many_as_ports_make_necessary() {
        let local = "127.0.0.1:80".parse().unwrap();
        assert_eq!(sources("0", local, 25_000).unwrap().len(), 1);
        assert_eq!(
            sources("0", local, 25_001).unwrap(),
            ["127.0.0.1", "127.0.0.2"].map(|ip| ip.parse::<IpAddr>().unwrap())
        );
        assert!(sources("0", "10.0.0.1:80".parse().unwrap(), 60_000).is_err());
        assert_eq!(sources("10.0.0.2,10.0.0.3", local, 5).unwrap().len(), 2);
        assert!(sources("x", local, 5).is_err());
    }

    #[test]
    fn stalled_clients_are_the_last_and_looked_at() {
        let plan = plan(&["--connections", "10", "--stalled", "2", "--verify-connections", "3"]).unwrap();
        let verified: Vec<_> = (0..10).filter(|index| plan.scrutiny(*index) == Scrutiny::Verify).collect();
        assert_eq!(verified, [0, 8, 9]);
        assert_eq!((plan.role(7), plan.role(8)), (Role::Reader, Role::Slow));
    }
}
