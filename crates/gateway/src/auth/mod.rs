//! Authentication at the doors of the gateway: the upgrade, plain HTTP, and the command `auth`.
//!
//! **Invariant:** whoever tries a token that is not good is counted by address, and past the limit is refused before
//! anything is computed for them. Nothing of a token is logged or put into an answer.
//!
//! What is *not* here: whether a token is good (`auth`), and what a grant allows within a session (`hub`).

mod files;
mod holders;
mod http;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ::auth::{Authenticator, JwtConfig, Verified};
use ::http::HeaderMap;
use ::http::header::AUTHORIZATION;
use hub::{Access, AuthRefusal, Expiry, Grant, Now, Reconsidered};
use market::Timestamp;
use metrics::Counter;

use crate::admission::Admission;
use crate::clock;
use crate::metrics::{self as names, Metrics};
use crate::{Config, GatewayError, Tuned};
use files::Files;
use holders::Holders;
pub(crate) use holders::{Holding, PerKeyLimits};
pub(crate) use http::{Caller, count, guard, refuse, secret_in_url};

/// Whether clients must say who they are, and how that is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AuthConfig {
    /// They need not; tokens are not looked at.
    #[default]
    Off,
    /// They must.
    Required(AuthFiles),
}

/// Where keys are. Each file is read again when it has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthFiles {
    /// API keys
    pub api_keys: Option<PathBuf>,
    /// The secret of JWTs with HS256
    pub jwt_secret: Option<PathBuf>,
    /// The public key of JWTs with RS256 or EdDSA, in PEM
    pub jwt_public_key: Option<PathBuf>,
    /// A JSON Web Key Set
    pub jwt_jwks: Option<PathBuf>,
    /// What JWTs must say
    pub jwt: JwtConfig,
}

/// Shared by all doors.
#[derive(Debug)]
pub(crate) struct Authentication {
    /// None when authentication is off.
    current: Option<RwLock<Arc<Authenticator>>>,
    pub(crate) holders: Holders,
    failures_per_ip_per_min: AtomicU32,
    failures: Counter,
}

/// Reads the files again when they have changed.
#[derive(Debug)]
pub(crate) struct Reload(Option<Files>);

/// How a request presents itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presented {
    /// Authentication is off.
    NotNeeded,
    /// It says nothing of who it is.
    Nothing,
    Good(Arc<Grant>),
}

impl Presented {
    /// What a session begins with.
    pub(crate) fn access(&self) -> Access {
        match self {
            Self::NotNeeded => Access::Open,
            Self::Nothing => Access::Required,
            Self::Good(grant) => Access::Granted(Arc::clone(grant)),
        }
    }
}

impl Authentication {
    /// Reads the files.
    ///
    /// # Errors
    /// [`GatewayError::Auth`] names the file and what is wrong with it.
    pub(crate) fn new(config: &Config, metrics: &Metrics) -> Result<(Self, Reload), GatewayError> {
        let (current, files) = match &config.auth {
            AuthConfig::Off => (None, None),
            AuthConfig::Required(paths) => {
                let (files, authenticator) = Files::open(paths.clone())?;
                (Some(RwLock::new(Arc::new(authenticator))), Some(files))
            }
        };
        let tuned = Tuned::from(config);
        let authentication = Self {
            current,
            holders: Holders::new(per_key(&tuned)),
            failures_per_ip_per_min: AtomicU32::new(tuned.auth_failures_per_ip_per_min),
            failures: metrics.reason(names::AUTH_REFUSED, "token"),
        };
        Ok((authentication, Reload(files)))
    }

    /// Goes by other limits from now on.
    pub(crate) fn tune(&self, tuned: &Tuned) {
        self.holders.tune(per_key(tuned));
        self.failures_per_ip_per_min.store(tuned.auth_failures_per_ip_per_min, Ordering::Relaxed);
    }

    fn authenticator(&self) -> Option<Arc<Authenticator>> {
        let current = self.current.as_ref()?;
        Some(Arc::clone(&current.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Looks at the header of a request.
    ///
    /// # Errors
    /// [`AuthRefusal`] when what it presents is not good.
    pub(crate) fn of_headers(
        &self,
        headers: &HeaderMap,
        ip: IpAddr,
        admission: &Admission,
        now: Now,
    ) -> Result<Presented, AuthRefusal> {
        if self.current.is_none() {
            return Ok(Presented::NotNeeded);
        }
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Ok(Presented::Nothing) };
        if values.next().is_some() {
            return Err(AuthRefusal::Failed("there are several headers Authorization".to_owned()));
        }
        let token = ::auth::bearer(value.as_bytes()).map_err(|error| AuthRefusal::Failed(error.to_string()))?;
        self.authenticate(token, ip, admission, now).map(Presented::Good)
    }

    /// Looks at a token that `ip` has sent.
    ///
    /// # Errors
    /// [`AuthRefusal`] when it is not good, or the address has tried too many that were not.
    pub(crate) fn authenticate(
        &self,
        token: &str,
        ip: IpAddr,
        admission: &Admission,
        now: Now,
    ) -> Result<Arc<Grant>, AuthRefusal> {
        let Some(authenticator) = self.authenticator() else {
            return Err(AuthRefusal::Failed("authentication is off".to_owned()));
        };
        let per_min = self.failures_per_ip_per_min.load(Ordering::Relaxed);
        if !admission.may_try(ip, per_min, now.monotonic) {
            let text =
                format!("too many failed attempts from this address (auth_failures_per_ip_per_min is {per_min})");
            return Err(AuthRefusal::TooManyAttempts(text));
        }
        let wall = clock::calendar();
        match authenticator.authenticate(token, wall.as_secs()) {
            Ok(verified) => Ok(Arc::new(grant(verified, wall, now.monotonic))),
            Err(rejected) => {
                admission.tried_in_vain(ip, per_min, now.monotonic);
                self.failures.increment(1);
                tracing::debug!(%ip, reason = %rejected, "a token was refused");
                Err(AuthRefusal::Failed(rejected.to_string()))
            }
        }
    }

    /// What a grant is worth now that the keys have changed.
    pub(crate) fn reconsider(&self, grant: &Grant) -> Reconsidered {
        let Some(authenticator) = self.authenticator() else { return Reconsidered::Kept };
        match authenticator.entitlements_now(&grant.id) {
            None => Reconsidered::Kept,
            Some(None) => Reconsidered::Revoked,
            Some(Some(entitlements)) if *entitlements == grant.entitlements => Reconsidered::Kept,
            Some(Some(entitlements)) => {
                let entitlements = Arc::clone(entitlements);
                Reconsidered::Changed(Arc::new(Grant { entitlements, ..grant.clone() }))
            }
        }
    }

    /// Takes in what has changed in the files. Whether there was something.
    pub(crate) fn reload(&self, reload: &mut Reload, metrics: &Metrics) -> bool {
        let (Some(current), Some(files)) = (&self.current, &mut reload.0) else { return false };
        match files.changed() {
            None => false,
            Some(Ok(authenticator)) => {
                tracing::info!(api_keys = authenticator.keyring.len(), "the keys were read again");
                *current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(authenticator);
                true
            }
            Some(Err(error)) => {
                metrics.counter(names::AUTH_RELOAD_ERRORS).increment(1);
                tracing::error!(%error, "the keys could not be read again; those from before stay in force");
                false
            }
        }
    }
}

fn per_key(tuned: &Tuned) -> PerKeyLimits {
    PerKeyLimits {
        connections: tuned.connections_per_key,
        subscriptions: tuned.subscriptions_per_key,
        bytes_per_s: tuned.bytes_per_s_per_key,
    }
}

/// `wall` and `monotonic` are the same instant.
fn grant(verified: Verified, wall: Duration, monotonic: Duration) -> Grant {
    let expires = verified.expires.map(|expires| Expiry {
        wall: Timestamp(expires.said_s.saturating_mul(1_000_000_000)),
        at: monotonic.saturating_add(Duration::from_secs(expires.ends_s).saturating_sub(wall)),
    });
    Grant { name: verified.name.into(), id: verified.id.into(), entitlements: verified.entitlements, expires }
}
