//! Who may connect, and who may open a session: limits in all and per address, decided when a connection is accepted and at
//! the upgrade; and how often an address may try tokens.
//!
//! **Invariant:** a [`Permit`] is the only way to hold a session's place and a [`Place`] that of a connection that is none
//! (yet); dropping them gives it back.
//!
//! What is *not* here: limits within a session, which are the hub's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;

use crate::{Config, Tuned};

const MINUTE: Duration = Duration::from_mins(1);

/// Counts connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    limits: Limits,
    /// Sessions
    open: u32,
    /// Connections that are no sessions (yet)
    http: u32,
    /// New sessions of all addresses.
    new: Rate,
    /// Has an entry for every address with an open connection, and for those whose rates remember something, of which
    /// [`Admission::sweep`] removes those that do not any more. Keyed by a hash that nobody outside can predict.
    addresses: HashMap<IpAddr, Address>,
    /// How many of them have no open connection.
    idle: usize,
}

/// 0 = none.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    http_max: u32,
    http_per_ip_max: u32,
    connections_max: u32,
    per_ip_max: u32,
    per_ip_per_s: u32,
    per_s: u32,
}

/// Addresses without a connection that are remembered: 6 MB. An attacker with more of them (each a whole /64 of IPv6) makes
/// the rates of all idle addresses be forgotten, which costs no memory and nobody else a place.
const IDLE_MAX: usize = 65_536;

#[derive(Debug, Default)]
struct Address {
    /// Sessions
    open: u32,
    /// Connections that are no sessions (yet)
    http: u32,
    /// New sessions.
    new: Rate,
    /// Tokens that were not good.
    failures: Rate,
}

impl Address {
    fn is_idle(&self) -> bool {
        self.open == 0 && self.http == 0
    }
}

/// The generic cell rate algorithm (a token bucket with one number): the instant until which the rate is used up.
#[derive(Debug, Clone, Copy, Default)]
struct Rate(Duration);

impl Rate {
    /// What it is after one more, if that is within `count` per `period`; all of a period may come at once.
    fn take(self, count: u32, period: Duration, now: Duration) -> Option<Self> {
        let used_until = self.0.max(now) + period / count;
        (used_until <= now + period).then_some(Self(used_until))
    }
}

/// A place among the sessions.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Admission,
    peer: IpAddr,
}

/// A place among the connections that are no sessions (yet).
#[derive(Debug)]
pub(crate) struct Place {
    admission: Admission,
    /// Whose it is, if that is known; a proxy's connections are nobody's until it says whose they are.
    of: Option<IpAddr>,
}

/// A connection that is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAdmitted {
    #[error("too many connections without a session in all (http_connections_max is {0})")]
    HttpFull(u32),
    #[error("too many connections without a session from this address (http_connections_per_ip is {0})")]
    HttpPerIp(u32),
    #[error("too many connections in all (connections_max is {0})")]
    Full(u32),
    #[error("too many new connections in all (new_connections_per_s is {0})")]
    RateOfAll(u32),
    #[error("too many connections from this address (connections_per_ip is {0})")]
    PerIp(u32),
    #[error("too many new connections from this address (new_connections_per_ip_per_s is {0})")]
    Rate(u32),
}

impl NotAdmitted {
    /// The value of the metric label `reason`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::HttpFull(_) => "http_connections_max",
            Self::HttpPerIp(_) => "http_connections_per_ip",
            Self::Full(_) => "connections_max",
            Self::RateOfAll(_) => "new_connections",
            Self::PerIp(_) => "connections_per_ip",
            Self::Rate(_) => "new_connections_per_ip",
        }
    }

    /// What the client is answered: that it is too much, or that there is too much of others.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::HttpFull(_) | Self::Full(_) | Self::RateOfAll(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::HttpPerIp(_) | Self::PerIp(_) | Self::Rate(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }
}

impl Admission {
    pub(crate) fn new(config: &Config) -> Self {
        let admission = Self(Arc::new(Inner { state: Mutex::default() }));
        admission.tune(&Tuned::from(config));
        admission
    }

    /// Goes by other limits from now on; connections that are open stay.
    pub(crate) fn tune(&self, tuned: &Tuned) {
        self.lock().limits = Limits {
            http_max: tuned.http_connections_max,
            http_per_ip_max: tuned.http_connections_per_ip,
            connections_max: tuned.connections_max,
            per_ip_max: tuned.connections_per_ip,
            per_ip_per_s: tuned.new_connections_per_ip_per_s,
            per_s: tuned.new_connections_per_s,
        };
    }

    /// Takes a place for a connection that was accepted, which is no session yet.
    ///
    /// # Errors
    /// [`NotAdmitted`] names the limit.
    pub(crate) fn accept(&self, of: Option<IpAddr>) -> Result<Place, NotAdmitted> {
        let mut state = self.lock();
        let max = state.limits.http_max;
        if max > 0 && state.http >= max {
            return Err(NotAdmitted::HttpFull(max));
        }
        let of = of.map(counted_as);
        if let Some(ip) = of {
            state.accept_from(ip)?;
        }
        state.http += 1;
        Ok(Place { admission: self.clone(), of })
    }

    /// Takes a place for a session from `ip` at the monotonic time `now`.
    ///
    /// # Errors
    /// [`NotAdmitted`] names the limit. An attempt that is refused uses up nothing.
    pub(crate) fn admit(&self, peer: IpAddr, now: Duration) -> Result<Permit, NotAdmitted> {
        const SECOND: Duration = Duration::from_secs(1);
        let ip = counted_as(peer);
        let mut guard = self.lock();
        let state = &mut *guard;
        let Limits { connections_max, per_ip_max, per_ip_per_s, per_s, .. } = state.limits;
        if connections_max > 0 && state.open >= connections_max {
            return Err(NotAdmitted::Full(connections_max));
        }
        let (mut new, mut of_all) = (Rate::default(), state.new);
        if let Some(address) = state.addresses.get(&ip) {
            if per_ip_max > 0 && address.open >= per_ip_max {
                return Err(NotAdmitted::PerIp(per_ip_max));
            }
            new = address.new;
        }
        if per_ip_per_s > 0 {
            new = new.take(per_ip_per_s, SECOND, now).ok_or(NotAdmitted::Rate(per_ip_per_s))?;
        }
        // Last, so that an address that is refused for itself takes nothing from the others.
        if per_s > 0 {
            of_all = of_all.take(per_s, SECOND, now).ok_or(NotAdmitted::RateOfAll(per_s))?;
        }
        state.new = of_all;
        state.open += 1;
        state.change(ip, |address| {
            address.new = new;
            address.open += 1;
        });
        Ok(Permit { admission: self.clone(), peer })
    }

    /// Whether a token that `ip` sends is looked at: not after `per_min` in a minute that were not good. 0 = always.
    pub(crate) fn may_try(&self, ip: IpAddr, per_min: u32, now: Duration) -> bool {
        let failures = self.lock().addresses.get(&counted_as(ip)).map_or(Rate::default(), |address| address.failures);
        per_min == 0 || failures.take(per_min, MINUTE, now).is_some()
    }

    /// Counts a token that was not good.
    pub(crate) fn tried_in_vain(&self, ip: IpAddr, per_min: u32, now: Duration) {
        if per_min > 0 {
            self.lock().change(counted_as(ip), |address| {
                // Several at once may overdraw it; they have been looked at.
                address.failures = address.failures.take(per_min, MINUTE, now).unwrap_or(address.failures);
            });
        }
    }

    /// Forgets addresses that hold nothing.
    pub(crate) fn sweep(&self, now: Duration) {
        let mut state = self.lock();
        let remembers = |address: &Address| address.new.0 > now || address.failures.0 > now;
        state.addresses.retain(|_, address| !address.is_idle() || remembers(address));
        state.idle = state.addresses.values().filter(|address| address.is_idle()).count();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic elsewhere cannot leave the counts half changed.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Changes the entry of an address, which is made when there is none.
    fn change(&mut self, ip: IpAddr, change: impl FnOnce(&mut Address)) {
        if self.idle >= IDLE_MAX && !self.addresses.contains_key(&ip) {
            self.addresses.retain(|_, address| !address.is_idle());
            self.idle = 0;
        }
        let idle = &mut self.idle;
        let address = self.addresses.entry(ip).or_insert_with(|| {
            *idle += 1;
            Address::default()
        });
        let was_idle = address.is_idle();
        change(address);
        match (was_idle, address.is_idle()) {
            (true, false) => self.idle -= 1,
            (false, true) => self.idle += 1,
            (true, true) | (false, false) => {}
        }
    }

    /// Counts another connection of an address.
    fn accept_from(&mut self, ip: IpAddr) -> Result<(), NotAdmitted> {
        let max = self.limits.http_per_ip_max;
        if max > 0 && self.addresses.get(&ip).is_some_and(|address| address.http >= max) {
            return Err(NotAdmitted::HttpPerIp(max));
        }
        self.change(ip, |address| address.http += 1);
        Ok(())
    }
}

impl Place {
    /// The proxy has said whose connection it is.
    ///
    /// # Errors
    /// [`NotAdmitted`] names the limit of that address.
    pub(crate) fn belongs_to(&mut self, ip: IpAddr) -> Result<(), NotAdmitted> {
        let mut state = self.admission.lock();
        state.accept_from(counted_as(ip))?;
        if let Some(before) = self.of.replace(counted_as(ip)) {
            state.change(before, |address| address.http = address.http.saturating_sub(1));
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.http = state.http.saturating_sub(1);
        if let Some(ip) = self.of {
            state.change(ip, |address| address.http = address.http.saturating_sub(1));
        }
    }
}

impl Permit {
    /// The client's address.
    pub(crate) fn ip(&self) -> IpAddr {
        self.peer
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.open = state.open.saturating_sub(1);
        state.change(counted_as(self.peer), |address| address.open = address.open.saturating_sub(1));
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
    fn connections_without_a_session_have_places_of_their_own() {
        let config = Config { http_connections_max: 3, http_connections_per_ip: 2, ..Config::default() };
        let admission = Admission::new(&Config { connections_per_ip: 1, ..config });
        let _session = admission.admit(A, Duration::ZERO).unwrap();
        let (first, _second) = (admission.accept(Some(A)).unwrap(), admission.accept(Some(A)).unwrap());
        assert_eq!(admission.accept(Some(A)).unwrap_err(), NotAdmitted::HttpPerIp(2));
        // A proxy's connection is nobody's until it says whose it is.
        let mut proxied = admission.accept(None).unwrap();
        assert_eq!(admission.accept(Some(B)).unwrap_err(), NotAdmitted::HttpFull(3));
        assert_eq!(proxied.belongs_to(A), Err(NotAdmitted::HttpPerIp(2)));
        drop(first);
        assert_eq!(proxied.belongs_to(A), Ok(()));
        assert_eq!(admission.accept(Some(A)).unwrap_err(), NotAdmitted::HttpPerIp(2));
        drop(proxied);
        assert!(admission.accept(Some(A)).is_ok());
        admission.sweep(Duration::from_secs(1));
        assert_eq!(admission.lock().addresses.len(), 1);
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
    fn the_rate_of_all_is_not_used_up_by_who_is_refused_for_itself() {
        let admission =
            Admission::new(&Config { new_connections_per_s: 3, new_connections_per_ip_per_s: 1, ..Config::default() });
        let now = Duration::ZERO;
        assert!(admission.admit(A, now).is_ok());
        for _ in 0..10 {
            assert_eq!(admission.admit(A, now).unwrap_err(), NotAdmitted::Rate(1));
        }
        assert!(admission.admit(B, now).is_ok());
        let other = |n| IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, n));
        assert!(admission.admit(other(1), now).is_ok());
        assert_eq!(admission.admit(other(2), now).unwrap_err(), NotAdmitted::RateOfAll(3));
    }

    #[test]
    fn tokens_that_were_not_good_are_counted_by_network() {
        let admission = admission(0, 0, 0);
        let (now, second) = (Duration::ZERO, Duration::from_secs(1));
        let (a, same, other): (IpAddr, IpAddr, IpAddr) =
            ("2001:db8::1".parse().unwrap(), "2001:db8::ffff:2".parse().unwrap(), "2001:db8:0:1::1".parse().unwrap());
        for _ in 0..3 {
            assert!(admission.may_try(a, 3, now));
            admission.tried_in_vain(a, 3, now);
        }
        assert!(!admission.may_try(same, 3, second) && admission.may_try(other, 3, second));
        admission.sweep(second);
        assert!(!admission.may_try(a, 3, second), "what is remembered is not swept away");
        assert!(admission.may_try(a, 3, 20 * second) && admission.may_try(a, 0, second));
    }

    #[test]
    fn idle_addresses_are_bounded_and_open_ones_kept() {
        let admission = Admission::new(&Config { connections_per_ip: 1, ..Config::default() });
        let held = admission.admit(A, Duration::ZERO).unwrap();
        for n in 0..3 * IDLE_MAX as u128 {
            let ip = IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) | (n << 64)));
            admission.tried_in_vain(ip, 1, Duration::ZERO);
        }
        assert!(admission.lock().addresses.len() <= IDLE_MAX + 1);
        assert_eq!(admission.admit(A, Duration::ZERO).unwrap_err(), NotAdmitted::PerIp(1));
        drop(held);
        assert!(admission.admit(A, Duration::ZERO).is_ok());
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
