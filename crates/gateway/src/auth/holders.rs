//! What all connections of one key use together, and the limits on it.
//!
//! **Invariant:** a [`Holding`] is the only way to count as a connection of a key; dropping it gives back the connection and
//! the subscriptions that went with it.
//!
//! The counts are atomic because the sessions of a key live in several shards; they are touched when a session opens, ends
//! or subscribes, and for a key with a limit on bytes at each write.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hub::{Entitlements, Grant, OverKeyLimit};

/// What may be sent at once after a pause, in seconds' worth of the rate.
const BURST: Duration = Duration::from_secs(1);

/// Limits for keys that have none of their own; 0 = none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PerKeyLimits {
    pub(crate) connections: u32,
    pub(crate) subscriptions: u32,
    pub(crate) bytes_per_s: u32,
}

impl PerKeyLimits {
    fn of(self, entitlements: &Entitlements) -> Self {
        Self {
            connections: entitlements.connections.unwrap_or(self.connections),
            subscriptions: entitlements.subscriptions.unwrap_or(self.subscriptions),
            bytes_per_s: entitlements.bytes_per_s.unwrap_or(self.bytes_per_s),
        }
    }
}

/// Everybody who has a connection.
#[derive(Debug)]
pub(crate) struct Holders {
    known: Mutex<Known>,
}

/// Has an entry for each holder with a connection, and for those that have gone since the map last doubled.
#[derive(Debug)]
struct Known {
    defaults: PerKeyLimits,
    by_id: HashMap<Box<str>, Weak<Holder>>,
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct Holder {
    connections: AtomicU32,
    subscriptions: AtomicU32,
    /// In nanoseconds of the monotonic clock: the instant until which the rate of bytes is used up.
    sent_until: AtomicU64,
}

/// A connection of a key.
#[derive(Debug)]
pub(crate) struct Holding {
    id: Box<str>,
    holder: Arc<Holder>,
    limits: PerKeyLimits,
    subscriptions: u32,
}

impl Holders {
    pub(crate) fn new(defaults: PerKeyLimits) -> Self {
        Self { known: Mutex::new(Known { defaults, by_id: HashMap::new(), sweep_at: 64 }) }
    }

    /// Has connections that are made from now on go by other limits.
    pub(crate) fn tune(&self, defaults: PerKeyLimits) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).defaults = defaults;
    }

    fn limits(&self, grant: &Grant) -> PerKeyLimits {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).defaults.of(&grant.entitlements)
    }

    /// Counts another connection of a grant's holder.
    ///
    /// # Errors
    /// The text names the limit.
    pub(crate) fn connect(&self, grant: &Grant) -> Result<Holding, String> {
        let limits = self.limits(grant);
        let mut guard = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { by_id, sweep_at, .. } = &mut *guard;
        let known = by_id.get(&grant.id).and_then(Weak::upgrade);
        let holder = known.unwrap_or_else(|| {
            if by_id.len() >= *sweep_at {
                by_id.retain(|_, holder| holder.strong_count() > 0);
                *sweep_at = (by_id.len() * 2).max(64);
            }
            let holder = Arc::new(Holder::default());
            by_id.insert(grant.id.clone(), Arc::downgrade(&holder));
            holder
        });
        let max = limits.connections;
        // Under the lock of the map, so that two that come at once cannot both be the last.
        if max > 0 && holder.connections.load(Ordering::Relaxed) >= max {
            return Err(format!(
                "too many connections of this key (connections_per_key, or connections of the key, is {max})"
            ));
        }
        holder.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Holding { id: grant.id.clone(), holder, limits, subscriptions: 0 })
    }

    /// A connection that has authenticated anew, perhaps as somebody else, with whatever it is subscribed to.
    ///
    /// # Errors
    /// The text names the limit; the connection stays whose it was.
    pub(crate) fn change(&self, holding: &mut Holding, grant: &Grant) -> Result<(), String> {
        if holding.id == grant.id {
            holding.limits = self.limits(grant);
            return Ok(());
        }
        let mut other = self.connect(grant)?;
        other.take(holding.subscriptions);
        *holding = other;
        Ok(())
    }
}

impl Holding {
    /// Has so many subscriptions from now on.
    ///
    /// # Errors
    /// [`OverKeyLimit`] when all connections together would have too many; then it has as many as before.
    pub(crate) fn subscribe(&mut self, count: usize) -> Result<(), OverKeyLimit> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let max = self.limits.subscriptions;
        let others = self.holder.subscriptions.load(Ordering::Relaxed).saturating_sub(self.subscriptions);
        // Two shards that ask at once may both get through, once; a limit on memory need not be exact.
        if max > 0 && count > self.subscriptions && others.saturating_add(count) > max {
            return Err(OverKeyLimit { max });
        }
        self.take(count);
        Ok(())
    }

    fn take(&mut self, count: u32) {
        self.holder.subscriptions.fetch_add(count.wrapping_sub(self.subscriptions), Ordering::Relaxed);
        self.subscriptions = count;
    }

    /// Whether so many bytes may be sent now; if so, they count as sent. A frame goes as a whole, so the rate can be
    /// overdrawn by one, which is made up for before the next.
    pub(crate) fn may_send(&self, bytes: usize, now: Duration) -> bool {
        let rate = u64::from(self.limits.bytes_per_s);
        if rate == 0 {
            return true;
        }
        let now = now.as_nanos() as u64;
        let until = self.holder.sent_until.load(Ordering::Relaxed);
        if until > now + BURST.as_nanos() as u64 {
            return false;
        }
        let cost = (bytes as u64).saturating_mul(1_000_000_000) / rate;
        let spend = |until: u64| Some(until.max(now).saturating_add(cost));
        // It always yields a value.
        let _ = self.holder.sent_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
        true
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.take(0);
        self.holder.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(id: &str, entitlements: Entitlements) -> Grant {
        Grant { name: id.into(), id: id.into(), entitlements: Arc::new(entitlements), expires: None }
    }

    #[test]
    fn connections_are_counted_by_key_and_come_free() {
        let holders = Holders::new(PerKeyLimits { connections: 1, ..PerKeyLimits::default() });
        let (a, b) = (grant("a", Entitlements::ALL), grant("b", Entitlements::ALL));
        let held = holders.connect(&a).unwrap();
        assert!(holders.connect(&a).unwrap_err().contains("connections_per_key, or connections of the key, is 1"));
        assert!(holders.connect(&b).is_ok());
        drop(held);
        assert!(holders.connect(&a).is_ok());
        let own = grant("a", Entitlements { connections: Some(2), ..Entitlements::ALL });
        let _two = [holders.connect(&own).unwrap(), holders.connect(&own).unwrap()];
        assert!(holders.connect(&own).is_err());
    }

    #[test]
    fn subscriptions_are_counted_over_all_connections() {
        let holders = Holders::new(PerKeyLimits { subscriptions: 10, ..PerKeyLimits::default() });
        let a = grant("a", Entitlements::ALL);
        let (mut one, mut two) = (holders.connect(&a).unwrap(), holders.connect(&a).unwrap());
        assert_eq!(one.subscribe(7), Ok(()));
        assert_eq!(two.subscribe(4), Err(OverKeyLimit { max: 10 }));
        assert_eq!(two.subscribe(3), Ok(()));
        assert_eq!(one.subscribe(6), Ok(()), "fewer always fit");
        assert_eq!(two.subscribe(4), Ok(()));
        drop(one);
        assert_eq!(two.subscribe(10), Ok(()));
        // Under another key it takes its subscriptions along.
        let b = grant("b", Entitlements::ALL);
        let mut other = holders.connect(&b).unwrap();
        holders.change(&mut two, &b).unwrap();
        assert_eq!(other.subscribe(1), Err(OverKeyLimit { max: 10 }));
    }

    #[test]
    fn bytes_are_paced_over_all_connections() {
        let holders = Holders::new(PerKeyLimits { bytes_per_s: 1000, ..PerKeyLimits::default() });
        let a = grant("a", Entitlements::ALL);
        let (one, two) = (holders.connect(&a).unwrap(), holders.connect(&a).unwrap());
        let at = Duration::from_millis;
        assert!(one.may_send(1500, at(0)));
        assert!(!one.may_send(1, at(499)) && !two.may_send(1, at(499)));
        assert!(two.may_send(1, at(500)));
        let free = Holders::new(PerKeyLimits::default()).connect(&a).unwrap();
        assert!(free.may_send(usize::MAX, at(0)) && free.may_send(usize::MAX, at(0)));
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let holders = Holders::new(PerKeyLimits::default());
        for n in 0..10_000 {
            drop(holders.connect(&grant(&n.to_string(), Entitlements::ALL)).unwrap());
        }
        assert!(holders.known.lock().unwrap().by_id.len() <= 64);
    }
}
