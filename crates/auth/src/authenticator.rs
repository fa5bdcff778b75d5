//! One token in, who it is out: an API key by its look, anything else as a JWT.
//!
//! **Invariant:** a rejection says what is wrong with the kind of thing that was presented, never what would have been
//! right of a secret, and repeats none of it.

use std::sync::Arc;

use hub::Entitlements;

use crate::jwt::JwtKeys;
use crate::key::id_of;
use crate::keyring::Keyring;

/// The longest token. Entitlements of some hundred symbols fit; the head of a request may have 16 KiB in all.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// All that can be presented.
#[derive(Debug, Clone, Default)]
pub struct Authenticator {
    /// API keys
    pub keyring: Arc<Keyring>,
    /// What JWTs are verified with
    pub jwt: Arc<JwtKeys>,
}

/// Who presented a good token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What they are called: a key's name, or a token's subject
    pub name: String,
    /// Tells holders apart: `key:` and the id, or `jwt:` and issuer and subject
    pub id: String,
    /// What they may have
    pub entitlements: Arc<Entitlements>,
    /// Until when, in seconds since the Unix epoch, as the token says and with the leeway; none for a key
    pub expires: Option<Expires>,
}

/// When a token is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expires {
    /// `exp`
    pub said_s: u64,
    /// With the leeway
    pub ends_s: u64,
}

/// Why a token is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is longer than any.
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// It looks like a key, and there is none like it. Whether the id exists is not told.
    #[error("the API key is not known, or was revoked")]
    Key,
    /// It is neither.
    #[error("this is neither an API key (tp_...) nor a JWT")]
    Malformed,
    /// JWTs are not taken here.
    #[error("JWTs are not accepted here; present an API key")]
    NoJwt,
    /// Extensions that nobody here understands.
    #[error("the JWT has critical extensions (crit)")]
    Critical,
    /// The `kid` is not among the keys.
    #[error("the JWT is signed with a key that is not known here (kid)")]
    UnknownKey,
    /// The algorithm is not that of the key.
    #[error("the JWT is signed with another algorithm than the keys here are for")]
    Algorithm,
    /// The signature is not right.
    #[error("the signature of the JWT is wrong")]
    Signature,
    /// `exp`
    #[error("the JWT has expired")]
    Expired,
    /// `nbf`
    #[error("the JWT is not valid yet (nbf)")]
    NotYet,
    /// `iss`
    #[error("the JWT is of another issuer (iss)")]
    Issuer,
    /// `aud`
    #[error("the JWT is for another audience (aud)")]
    Audience,
    /// A claim that must be there
    #[error("the JWT has no claim {0}")]
    Missing(&'static str),
    /// A time that is none
    #[error("the claim {0} of the JWT is not a time in seconds")]
    Time(&'static str),
    /// Entitlements that make no sense
    #[error("the claim tickerplant of the JWT: {0}")]
    Claim(String),
}

impl Authenticator {
    /// Looks at a token; `now_s` is the time in seconds since the Unix epoch.
    ///
    /// # Errors
    /// [`Rejected`] says why it is not good.
    pub fn authenticate(&self, token: &str, now_s: u64) -> Result<Verified, Rejected> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Rejected::TooLong);
        }
        if id_of(token).is_some() || token.starts_with("tp_") {
            let (id, name, entitlements) = self.keyring.find(token).ok_or(Rejected::Key)?;
            return Ok(Verified {
                name: name.to_owned(),
                id: format!("key:{id}"),
                entitlements: Arc::clone(entitlements),
                expires: None,
            });
        }
        if token.split('.').count() != 3 {
            return Err(Rejected::Malformed);
        }
        if self.jwt.is_empty() {
            return Err(Rejected::NoJwt);
        }
        let claims = self.jwt.verify(token, now_s)?;
        Ok(Verified {
            name: claims.subject.chars().filter(|c| !c.is_control()).take(64).collect(),
            id: format!("jwt:{}:{}", claims.issuer, claims.subject),
            entitlements: Arc::new(claims.entitlements),
            expires: Some(Expires { said_s: claims.expires_s, ends_s: claims.ends_s }),
        })
    }

    /// What the holder of that id may have now: `Some(None)` for one that is not known any more, none for a JWT, which
    /// says by itself what it allows and until when.
    pub fn entitlements_now(&self, id: &str) -> Option<Option<&Arc<Entitlements>>> {
        id.strip_prefix("key:").map(|id| self.keyring.entitlements(id))
    }
}
