//! From settings to what the parts of the server want: the last check before anything is opened.
//!
//! **Invariant:** a [`Plan`] can be carried out as far as the settings go; what fails after it is the machine or a file.

use std::path::PathBuf;
use std::time::Duration;

use feed::{Feed, FeedError, Rebase, Repeat, ReplayOptions, SimulatorFeed};
use gateway::{AuthConfig, AuthFiles, DeflateConfig, RecordConfig};
use tracing_subscriber::EnvFilter;

use crate::exit::Failure;
use crate::settings::{AuthSetting, FeedSpec, LogFormat, Settings};
use crate::traces;

/// Stands for no time limit: longer than any connection lasts, and far from the end of the clock.
const NO_TIMEOUT: Duration = Duration::from_hours(365 * 24);

/// What is to be served, how, and with which logs.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) gateway: gateway::Config,
    pub(crate) source: Source,
    pub(crate) log: EnvFilter,
    pub(crate) log_format: LogFormat,
    pub(crate) otlp_endpoint: Option<String>,
}

/// Where ticks come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// With the file that scripts it, if any
    Simulator(simulator::Config, Option<PathBuf>),
    Recordings(Vec<PathBuf>, ReplayOptions),
}

impl Plan {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Failure> {
        check_admin(settings)?;
        if let Some(endpoint) = &settings.otlp_endpoint {
            traces::check(endpoint).map_err(|wrong| Failure::Setting(format!("otlp_endpoint: {wrong}")))?;
        }
        Ok(Self {
            gateway: gateway::Config {
                record: record_config(settings)?,
                auth: auth_config(settings)?,
                ..gateway_config(settings)
            },
            source: Source::new(settings)?,
            log: EnvFilter::try_new(&settings.log)
                .map_err(|error| Failure::Setting(format!("log: {:?} is not a filter: {error}", settings.log)))?,
            log_format: settings.log_format,
            otlp_endpoint: settings.otlp_endpoint.clone(),
        })
    }
}

impl Source {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        let mut recordings = Vec::new();
        for feed in &settings.feed {
            match feed {
                FeedSpec::Recording(path) => recordings.push(path.clone()),
                FeedSpec::Simulator if settings.feed.len() == 1 => {
                    return simulator(settings).map(|config| Self::Simulator(config, settings.sim_script.clone()));
                }
                FeedSpec::Simulator => {
                    return Err(Failure::Setting("feed: sim cannot be combined with another feed".into()));
                }
            }
        }
        let options = ReplayOptions {
            speed: settings.replay_speed,
            repeat: if settings.replay_loop { Repeat::Loop } else { Repeat::Once },
            rebase: if settings.replay_rebase { Rebase::ToStart } else { Rebase::Keep },
            on_bad_record: settings.on_bad_record,
            from: settings.replay_from,
            to: settings.replay_to,
        };
        if let (Some(from), Some(to)) = (options.from, options.to)
            && from > to
        {
            return Err(Failure::Setting(format!("replay_from: {from} is later than replay_to, {to}")));
        }
        Ok(Self::Recordings(recordings, options))
    }

    /// Opens the feed; recordings are looked through for their instruments.
    pub(crate) fn open(self) -> Result<Box<dyn Feed>, Failure> {
        Ok(match self {
            Self::Simulator(config, None) => {
                Box::new(SimulatorFeed::new(config).map_err(|error| Failure::Setting(error.to_string()))?)
            }
            Self::Simulator(config, Some(path)) => {
                let name = path.display().to_string();
                let unreadable = |error: std::io::Error| {
                    Failure::FeedOpen(FeedError::Unreadable { path: name.clone(), reason: error.to_string() })
                };
                let text = std::fs::read_to_string(&path).map_err(unreadable)?;
                let wrong = |error: &dyn std::fmt::Display| Failure::Setting(format!("sim_script: {name}: {error}"));
                let script = simulator::Script::parse(&text).map_err(|error| wrong(&error))?;
                Box::new(SimulatorFeed::scripted(config, script).map_err(|error| wrong(&error))?)
            }
            Self::Recordings(paths, options) => feed::open_replay(&paths, options).map_err(Failure::FeedOpen)?,
        })
    }
}

fn simulator(settings: &Settings) -> Result<simulator::Config, Failure> {
    let config = simulator::Config {
        seed: settings.sim_seed,
        symbols: settings.sim_symbols,
        rate: settings.sim_rate,
        scenario: settings.sim_scenario,
    };
    config.check().map_err(|error| Failure::Setting(format!("the simulator: {error}")))?;
    Ok(config)
}

fn record_config(settings: &Settings) -> Result<Option<RecordConfig>, Failure> {
    let Some(path) = settings.record.clone() else { return Ok(None) };
    let rotates = settings.record_rotate_bytes > 0 || settings.record_rotate_s > 0;
    if rotates && !path.is_dir() {
        let what = format!("record: {} is no folder, which recording in several files needs", path.display());
        return Err(Failure::Setting(what));
    }
    Ok(Some(RecordConfig {
        path,
        block: Duration::from_millis(settings.record_block_ms),
        sync: settings.record_sync,
        rotate_bytes: settings.record_rotate_bytes,
        rotate_after: Duration::from_secs(settings.record_rotate_s),
        queue_bytes_max: settings.record_queue_bytes_max,
        channels: settings.record_channels.iter().copied().collect(),
    }))
}

/// Whoever reaches the operators' address can disconnect everybody.
fn check_admin(settings: &Settings) -> Result<(), Failure> {
    match settings.admin_listen {
        Some(address) if !address.ip().is_loopback() && settings.admin_key_file.is_none() => {
            Err(Failure::Setting(format!("admin_listen: {address} is no loopback address, which needs admin_key_file")))
        }
        _ => Ok(()),
    }
}

/// Whether clients must authenticate. Where nobody has said and everybody could connect, nothing is served at all: a
/// server that is open by mistake looks like one that works.
fn auth_config(settings: &Settings) -> Result<AuthConfig, Failure> {
    let files = AuthFiles {
        api_keys: settings.api_keys_file.clone(),
        jwt_secret: settings.jwt_secret_file.clone(),
        jwt_public_key: settings.jwt_public_key_file.clone(),
        jwt_jwks: settings.jwt_jwks_file.clone(),
        jwt: auth::JwtConfig {
            issuer: settings.jwt_issuer.clone(),
            audience: settings.jwt_audience.clone(),
            leeway_s: settings.jwt_leeway_s,
        },
    };
    let none = AuthFiles { jwt: files.jwt.clone(), ..AuthFiles::default() };
    let keys = "api_keys_file, jwt_secret_file, jwt_public_key_file or jwt_jwks_file";
    match settings.auth {
        AuthSetting::Off => Ok(AuthConfig::Off),
        AuthSetting::Required if files == none => {
            Err(Failure::Setting(format!("auth: required needs keys: give {keys}")))
        }
        AuthSetting::Auto
            if files == none && settings.listen.ip().is_loopback() && settings.trusted_proxy.is_empty() =>
        {
            Ok(AuthConfig::Off)
        }
        AuthSetting::Auto if files == none => Err(Failure::Setting(format!(
            "listen: {} can be reached from other machines{}, and no keys are given: give {keys}, or say --auth off to \
             serve everybody",
            settings.listen,
            if settings.trusted_proxy.is_empty() { "" } else { " through a proxy (trusted_proxy)" }
        ))),
        AuthSetting::Required | AuthSetting::Auto => Ok(AuthConfig::Required(files)),
    }
}

fn gateway_config(settings: &Settings) -> gateway::Config {
    let default = gateway::Config::new(settings.listen);
    // Behind a proxy a loopback address serves everybody.
    let public = |limit: u32, default: u32| if settings.trusted_proxy.is_empty() { default } else { limit };
    gateway::Config {
        shards: settings.shards.map_or(default.shards, usize::from),
        proxies: gateway::ProxyConfig {
            trusted: settings.trusted_proxy.clone(),
            header: settings.forwarded_header.into(),
            protocol: settings.proxy_protocol,
        },
        tls: settings
            .tls_cert
            .clone()
            .zip(settings.tls_key.clone())
            .map(|(certificate, key)| gateway::TlsFiles { certificate, key }),
        flush_interval: Duration::from_micros(settings.flush_interval_us),
        flush_duty_percent: settings.flush_duty_percent,
        flush_rest_max: Duration::from_micros(settings.flush_rest_us_max),
        deflate: settings.deflate.then(|| DeflateConfig {
            level: settings.deflate_level,
            threshold_bytes: settings.deflate_threshold_bytes,
            memory_bytes_max: settings.deflate_memory_bytes_max,
            epoch_interval: Duration::from_millis(settings.deflate_epoch_interval_ms),
            ..DeflateConfig::default()
        }),
        start_on_first_subscriber: settings.start_on_first_subscriber,
        http_connections_max: settings.http_connections_max,
        http_connections_per_ip: settings
            .http_connections_per_ip
            .unwrap_or(public(gateway::Config::HTTP_CONNECTIONS_PER_IP, default.http_connections_per_ip)),
        connections_per_ip: settings
            .connections_per_ip
            .unwrap_or(public(gateway::Config::CONNECTIONS_PER_IP, default.connections_per_ip)),
        new_connections_per_ip_per_s: settings
            .new_connections_per_ip_per_s
            .unwrap_or(public(gateway::Config::NEW_CONNECTIONS_PER_IP_PER_S, default.new_connections_per_ip_per_s)),
        connections_max: settings.connections_max,
        limits: wire::Limits {
            message_bytes_max: settings.message_bytes_max,
            commands_per_s: settings.commands_per_s,
            commands_burst: settings.commands_burst,
            commands_rejected_max: settings.commands_rejected_max,
            subscriptions_max: settings.subscriptions_max,
            // 0 is no limit for one client; all outboxes together have a bound all the same.
            outbox_bytes_max: if settings.outbox_bytes_max == 0 { u32::MAX } else { settings.outbox_bytes_max },
            ping_interval_ms: settings.ping_interval_ms,
            pings_unanswered_max: settings.pings_unanswered_max,
            auth_timeout_ms: settings.auth_timeout_ms,
        },
        new_connections_per_s: settings.new_connections_per_s,
        auth_failures_per_ip_per_min: settings
            .auth_failures_per_ip_per_min
            .unwrap_or(public(gateway::Config::AUTH_FAILURES_PER_IP_PER_MIN, default.auth_failures_per_ip_per_min)),
        connections_per_key: settings.connections_per_key,
        subscriptions_per_key: settings.subscriptions_per_key,
        bytes_per_s_per_key: settings.bytes_per_s_per_key,
        overload: gateway::OverloadConfig {
            memory_bytes_max: settings.overload_memory_bytes_max,
            lag_max: Duration::from_millis(settings.overload_lag_ms_max.into()),
        },
        heartbeat_ms: settings.heartbeat_ms,
        handshake_timeout: match settings.handshake_timeout_ms {
            0 => NO_TIMEOUT,
            ms => Duration::from_millis(ms.into()),
        },
        stall_timeout: match settings.stall_timeout_ms {
            0 => NO_TIMEOUT,
            ms => Duration::from_millis(ms.into()),
        },
        unsent_bytes_max: settings.unsent_bytes_max,
        drain: Duration::from_millis(settings.drain_ms.into()),
        origins: settings.allow_origin.clone(),
        replay_bytes_max: settings.replay_bytes_max,
        replay_age_max: Duration::from_secs(settings.replay_age_max_s.into()),
        bars_history_max: settings.bars_history,
        shard_queue_bytes_max: settings.shard_queue_bytes_max,
        admin_listen: settings.admin_listen,
        admin_key_file: settings.admin_key_file.clone(),
        ..default
    }
}
