//! What of the configuration can change while the gateway runs.
//!
//! **Invariant:** a change is taken in as a whole, and nobody who is inside is thrown out by it: what a new limit forbids is
//! refused from then on, and what is open stays.
//!
//! What is *not* here: the files of keys, which are watched by themselves.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::{Config, OverloadConfig};

/// See the module; the fields are those of [`Config`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are documented where they come from")]
pub struct Tuned {
    pub http_connections_per_ip: u32,
    pub http_connections_max: u32,
    pub connections_per_ip: u32,
    pub new_connections_per_ip_per_s: u32,
    pub connections_max: u32,
    pub new_connections_per_s: u32,
    pub auth_failures_per_ip_per_min: u32,
    pub connections_per_key: u32,
    pub subscriptions_per_key: u32,
    pub bytes_per_s_per_key: u32,
    pub overload: OverloadConfig,
    pub limits: wire::Limits,
    pub drain: Duration,
}

impl From<&Config> for Tuned {
    fn from(config: &Config) -> Self {
        Self {
            http_connections_per_ip: config.http_connections_per_ip,
            http_connections_max: config.http_connections_max,
            connections_per_ip: config.connections_per_ip,
            new_connections_per_ip_per_s: config.new_connections_per_ip_per_s,
            connections_max: config.connections_max,
            new_connections_per_s: config.new_connections_per_s,
            auth_failures_per_ip_per_min: config.auth_failures_per_ip_per_min,
            connections_per_key: config.connections_per_key,
            subscriptions_per_key: config.subscriptions_per_key,
            bytes_per_s_per_key: config.bytes_per_s_per_key,
            overload: config.overload,
            limits: config.limits,
            drain: config.drain,
        }
    }
}

/// How a running gateway is told of a new configuration. Unbounded because an operator fills it by hand.
#[derive(Debug, Clone)]
pub struct Control(pub(crate) UnboundedSender<Reloaded>);

/// What came of reading the configuration again.
#[derive(Debug)]
pub(crate) enum Reloaded {
    Good(Box<Tuned>),
    Bad,
}

impl Control {
    /// The configuration was read again. A gateway that has ended takes no notice.
    pub fn reloaded(&self, tuned: Tuned) {
        let _ = self.0.send(Reloaded::Good(Box::new(tuned)));
    }

    /// It could not be; to be counted.
    pub fn reload_failed(&self) {
        let _ = self.0.send(Reloaded::Bad);
    }
}
