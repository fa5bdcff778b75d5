//! SIGHUP: the configuration is read again, and what can change while the server runs does.
//!
//! **Invariant:** a configuration that is wrong changes nothing. What cannot change and was changed is named in a warning,
//! each time, until the server is started again or the change is taken back.

use std::collections::BTreeMap;

use gateway::{Control, Tuned};

use crate::cli::{self, Invocation, Loaded};
use crate::exit::Failure;
use crate::logs::Logs;
use crate::plan::Plan;

/// The settings that can change while the server runs.
const CHANGEABLE: [&str; 23] = [
    "auth_failures_per_ip_per_min",
    "auth_timeout_ms",
    "bytes_per_s_per_key",
    "commands_burst",
    "commands_per_s",
    "commands_rejected_max",
    "connections_max",
    "connections_per_ip",
    "connections_per_key",
    "drain_ms",
    "http_connections_max",
    "http_connections_per_ip",
    "log",
    "message_bytes_max",
    "new_connections_per_ip_per_s",
    "new_connections_per_s",
    "outbox_bytes_max",
    "overload_lag_ms_max",
    "overload_memory_bytes_max",
    "ping_interval_ms",
    "pings_unanswered_max",
    "subscriptions_max",
    "subscriptions_per_key",
];

/// Reads the configuration again when it is told to.
pub(crate) struct Reloader {
    /// What is in force, by key
    texts: BTreeMap<String, Vec<String>>,
    /// Defaults follow from it, and it cannot change.
    listen: std::net::SocketAddr,
    control: Control,
    logs: Logs,
}

impl Reloader {
    pub(crate) fn new(in_force: &Loaded, control: Control, logs: Logs) -> Self {
        Self { texts: in_force.texts.clone(), listen: in_force.settings.listen, control, logs }
    }

    /// Reads it again, from the same places.
    pub(crate) fn again(&mut self) {
        match self.read() {
            Ok((texts, plan)) => self.apply(texts, plan),
            Err(failure) => {
                tracing::error!(error = %failure, "the configuration cannot be used; the one from before stays in force");
                self.control.reload_failed();
            }
        }
    }

    fn read(&self) -> Result<(BTreeMap<String, Vec<String>>, Plan), Failure> {
        let Invocation::Configured(mut loaded) = cli::load(std::env::args_os(), std::env::vars_os())? else {
            unreachable!("the command line has not changed")
        };
        loaded.settings.listen = self.listen;
        let plan = Plan::new(&loaded.settings)?;
        Ok((loaded.texts, plan))
    }

    fn apply(&mut self, texts: BTreeMap<String, Vec<String>>, plan: Plan) {
        let mut applied = Vec::new();
        for (key, values) in texts {
            let before = self.texts.get_mut(&key);
            if before.as_ref().is_some_and(|before| **before == values) {
                continue;
            }
            if CHANGEABLE.contains(&key.as_str()) {
                applied.push(key.clone());
                self.texts.insert(key, values);
            } else {
                tracing::warn!(setting = key, "changed in the configuration; it takes effect at the next start");
            }
        }
        if applied.iter().any(|key| key == "log") {
            self.logs.set(plan.log);
        }
        self.control.reloaded(Tuned::from(&plan.gateway));
        tracing::info!(changed = applied.join(", "), "the configuration was read again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers;

    #[test]
    fn what_can_change_is_there_and_documented() {
        const OPERATIONS: &str = include_str!("../../../docs/operations.md");
        let known = layers::keys();
        let (_, after) = OPERATIONS.split_once("<!-- changeable -->").unwrap();
        let (listed, _) = after.split_once("<!-- end -->").unwrap();
        let mut documented: Vec<&str> = listed.split('`').skip(1).step_by(2).collect();
        documented.sort_unstable();
        assert_eq!(documented, CHANGEABLE);
        assert!(CHANGEABLE.iter().all(|key| known.iter().any(|known| known == key)));
    }
}
