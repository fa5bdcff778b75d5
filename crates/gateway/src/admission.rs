//! Who may open a WebSocket: limits in all and per address, decided at the upgrade.
//!
//! **Invariant:** a [`Permit`] is the only way to hold a place, and dropping it gives the place back.
//!
//! What is *not* here: limits within a session, which are the hub's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Config;

/// Counts connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connections_max: u32,
    per_ip_max: u32,
    per_ip_per_s: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: u32,
    /// Has an entry for every address with an open connection or one within the last second; [`Admission::sweep`]
    /// removes the others, so the limits themselves bound its size.
    addresses: HashMap<IpAddr, Address>,
}

#[derive(Debug)]
struct Address {
    open: u32,
    /// The generic cell rate algorithm (a token bucket with one number): the instant until which the address has used up
    /// its rate.
    used_until: Duration,
}

/// A place among the connections.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Admission,
    ip: IpAddr,
}

/// A connection that is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAdmitted {
    #[error("too many connections in all (connections_max is {0})")]
    Full(u32),
    #[error("too many connections from this address (connections_per_ip is {0})")]
    PerIp(u32),
    #[error("too many new connections from this address (new_connections_per_ip_per_s is {0})")]
    Rate(u32),
}

impl NotAdmitted {
    /// The value of the metric label `reason`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Full(_) => "connections_max",
            Self::PerIp(_) => "connections_per_ip",
            Self::Rate(_) => "new_connections_per_ip",
        }
    }
}

impl Admission {
    pub(crate) fn new(config: &Config) -> Self {
        Self(Arc::new(Inner {
            connections_max: config.connections_max,
            per_ip_max: config.connections_per_ip,
            per_ip_per_s: config.new_connections_per_ip_per_s,
            state: Mutex::default(),
        }))
    }

    /// Takes a place for a connection from `ip` at the monotonic time `now`.
    ///
    /// # Errors
    /// [`NotAdmitted`] names the limit. An attempt that is refused uses up nothing.
    pub(crate) fn admit(&self, ip: IpAddr, now: Duration) -> Result<Permit, NotAdmitted> {
        let Inner { connections_max, per_ip_max, per_ip_per_s, .. } = *self.0;
        let ip = counted_as(ip);
        let mut state = self.lock();
        if connections_max > 0 && state.open >= connections_max {
            return Err(NotAdmitted::Full(connections_max));
        }
        let address = state.addresses.entry(ip).or_insert(Address { open: 0, used_until: Duration::ZERO });
        if per_ip_max > 0 && address.open >= per_ip_max {
            return Err(NotAdmitted::PerIp(per_ip_max));
        }
        if per_ip_per_s > 0 {
            // One second's worth may come at once.
            let cost = Duration::from_secs(1) / per_ip_per_s;
            let used_until = address.used_until.max(now) + cost;
            if used_until > now + Duration::from_secs(1) {
                return Err(NotAdmitted::Rate(per_ip_per_s));
            }
            address.used_until = used_until;
        }
        address.open += 1;
        state.open += 1;
        Ok(Permit { admission: self.clone(), ip })
    }

    /// Forgets addresses that hold nothing.
    pub(crate) fn sweep(&self, now: Duration) {
        self.lock().addresses.retain(|_, address| address.open > 0 || address.used_until > now);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic elsewhere cannot leave the counts half changed.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.open = state.open.saturating_sub(1);
        if let Some(address) = state.addresses.get_mut(&self.ip) {
            address.open = address.open.saturating_sub(1);
        }
    }
}

/// One customer usually holds a whole /64 of IPv6, so that is what counts as one address.
fn counted_as(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn admission(all: u32, per_ip: u32, per_s: u32) -> Admission {
        Admission::new(&Config {
            connections_max: all,
            connections_per_ip: per_ip,
            new_connections_per_ip_per_s: per_s,
            ..Config::default()
        })
    }

    #[test]
    fn a_dropped_permit_frees_its_place() {
        let admission = admission(2, 1, 0);
        let now = Duration::ZERO;
        let a = admission.admit(A, now).unwrap();
        assert_eq!(admission.admit(A, now).unwrap_err(), NotAdmitted::PerIp(1));
        let _b = admission.admit(B, now).unwrap();
        assert_eq!(admission.admit(A, now).unwrap_err(), NotAdmitted::Full(2));
        drop(a);
        assert!(admission.admit(A, now).is_ok());
    }

    #[test]
    fn the_rate_allows_a_second_at_once_and_then_its_pace() {
        let admission = admission(0, 0, 2);
        let at = Duration::from_millis;
        assert!(admission.admit(A, at(0)).is_ok());
        assert!(admission.admit(A, at(0)).is_ok());
        assert_eq!(admission.admit(A, at(499)).unwrap_err(), NotAdmitted::Rate(2));
        assert!(admission.admit(A, at(500)).is_ok());
        assert_eq!(admission.admit(A, at(999)).unwrap_err(), NotAdmitted::Rate(2));
        assert!(admission.admit(B, at(999)).is_ok());
    }

    #[test]
    fn addresses_without_use_are_forgotten() {
        let admission = admission(0, 0, 2);
        drop(admission.admit(A, Duration::ZERO));
        let held = admission.admit(B, Duration::ZERO);
        admission.sweep(Duration::from_secs(1));
        let addresses: Vec<_> = admission.lock().addresses.keys().copied().collect();
        assert_eq!(addresses, [B]);
        drop(held);
    }

    #[test]
    fn one_network_of_ipv6_counts_as_one_address() {
        let admission = admission(0, 1, 0);
        let _held = admission.admit("2001:db8::1".parse().unwrap(), Duration::ZERO);
        assert!(admission.admit("2001:db8::2".parse().unwrap(), Duration::ZERO).is_err());
        assert!(admission.admit("2001:db8:0:1::1".parse().unwrap(), Duration::ZERO).is_ok());
        let _mapped = admission.admit("::ffff:192.0.2.1".parse().unwrap(), Duration::ZERO);
        assert!(admission.admit(A, Duration::ZERO).is_err());
    }
}
