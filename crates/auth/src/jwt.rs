//! JSON Web Tokens (RFC 7519): which keys, which algorithm, which claims.
//!
//! **Invariant:** the key decides which algorithm is right, never the token: a token that names another one is refused, and
//! so is `none`. A token without an expiry is refused. The time is an argument.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use crate::Spec;
use crate::authenticator::Rejected;

/// Keys that tokens can be signed with; a rotation needs two. A token that does not say which is tried with all of its
/// algorithm, at 30 us each.
const KEYS_MAX: usize = 16;
/// RFC 7518, section 3.2: a key of HS256 is no shorter than its hash.
const SECRET_BYTES_MIN: usize = 32;
/// The claim with the entitlements.
const CLAIM: &str = "tickerplant";

/// What is asked of a token beside its signature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JwtConfig {
    /// The `iss` it must have; none asks for none
    pub issuer: Option<String>,
    /// The `aud` that must be among its own; none asks for none
    pub audience: Option<String>,
    /// How far the clocks of issuer and server may be apart, in seconds
    pub leeway_s: u32,
}

/// What tokens are verified with.
#[derive(Debug, Clone, Default)]
pub struct JwtKeys {
    keys: Vec<JwtKey>,
    config: JwtConfig,
}

#[derive(Debug, Clone)]
struct JwtKey {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// A file of keys that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJwtKeys {
    /// The secret can be guessed.
    #[error("the secret has {0} bytes; HS256 needs {SECRET_BYTES_MIN} or more (RFC 7518, section 3.2)")]
    ShortSecret(usize),
    /// No public key.
    #[error("no public key in PEM of RSA or Ed25519")]
    Pem,
    /// No JWKS.
    #[error("no JSON Web Key Set: {0}")]
    Jwks(String),
    /// None of the keys can be used.
    #[error("none of the {0} keys is for signatures with HS256, RS256 or EdDSA (Ed25519)")]
    NoneUsable(usize),
    /// More than are tried.
    #[error("{0} keys are too many; {KEYS_MAX} are allowed")]
    TooMany(usize),
}

impl JwtKeys {
    /// Without keys: refuses every token.
    pub fn new(config: JwtConfig) -> Self {
        Self { keys: Vec::new(), config }
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Takes the secret of HS256; white space at its end is not part of it.
    ///
    /// # Errors
    /// [`InvalidJwtKeys::ShortSecret`]
    pub fn add_secret(&mut self, secret: &[u8]) -> Result<(), InvalidJwtKeys> {
        let secret = secret.trim_ascii_end();
        if secret.len() < SECRET_BYTES_MIN {
            return Err(InvalidJwtKeys::ShortSecret(secret.len()));
        }
        self.add(None, Algorithm::HS256, DecodingKey::from_secret(secret))
    }

    /// Takes a public key in PEM, of RSA for RS256 or Ed25519 for EdDSA.
    ///
    /// # Errors
    /// [`InvalidJwtKeys::Pem`]
    pub fn add_pem(&mut self, pem: &[u8]) -> Result<(), InvalidJwtKeys> {
        let rsa = || Some((Algorithm::RS256, DecodingKey::from_rsa_pem(pem).ok()?));
        let ed = || Some((Algorithm::EdDSA, DecodingKey::from_ed_pem(pem).ok()?));
        let (algorithm, key) = ed().or_else(rsa).ok_or(InvalidJwtKeys::Pem)?;
        self.add(None, algorithm, key)
    }

    /// Takes the keys of a JSON Web Key Set that can be used; a set may have others for others.
    ///
    /// # Errors
    /// [`InvalidJwtKeys`] when there is none.
    pub fn add_jwks(&mut self, text: &str) -> Result<(), InvalidJwtKeys> {
        let set: JwkSet = serde_json::from_str(text).map_err(|error| {
            // The error's own text could repeat a part of the file, which may hold secrets.
            InvalidJwtKeys::Jwks(format!("line {}, column {}", error.line(), error.column()))
        })?;
        let before = self.keys.len();
        for jwk in &set.keys {
            if let Some((algorithm, key)) = usable(jwk)? {
                self.add(jwk.common.key_id.clone(), algorithm, key)?;
            }
        }
        if self.keys.len() == before { Err(InvalidJwtKeys::NoneUsable(set.keys.len())) } else { Ok(()) }
    }

    fn add(&mut self, kid: Option<String>, algorithm: Algorithm, key: DecodingKey) -> Result<(), InvalidJwtKeys> {
        if self.keys.len() >= KEYS_MAX {
            return Err(InvalidJwtKeys::TooMany(self.keys.len() + 1));
        }
        self.keys.push(JwtKey { kid, algorithm, key });
        Ok(())
    }

    /// The claims of a token, if it is good at that time.
    pub(crate) fn verify(&self, token: &str, now_s: u64) -> Result<Claims, Rejected> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Rejected::Malformed)?;
        if header.crit.is_some() {
            // What must be understood and is not (RFC 7515, section 4.1.11); nothing of the kind is.
            return Err(Rejected::Critical);
        }
        let candidates = self.keys.iter().filter(|key| match (&header.kid, &key.kid) {
            (Some(wanted), Some(kid)) => wanted == kid,
            _ => true,
        });
        let mut rejected = Rejected::UnknownKey;
        for candidate in candidates {
            if candidate.algorithm != header.alg {
                rejected = Rejected::Algorithm;
                continue;
            }
            match jsonwebtoken::decode::<Value>(token, &candidate.key, &signature_only(candidate.algorithm)) {
                Ok(token) => return self.check(&token.claims, now_s),
                Err(_) => rejected = Rejected::Signature,
            }
        }
        Err(rejected)
    }

    fn check(&self, claims: &Value, now_s: u64) -> Result<Claims, Rejected> {
        let leeway = u64::from(self.config.leeway_s);
        let expires_s = seconds(claims, "exp")?.ok_or(Rejected::Missing("exp"))?;
        if now_s >= expires_s.saturating_add(leeway) {
            return Err(Rejected::Expired);
        }
        if seconds(claims, "nbf")?.is_some_and(|not_before| not_before > now_s.saturating_add(leeway)) {
            return Err(Rejected::NotYet);
        }
        let issuer = claims["iss"].as_str().unwrap_or_default();
        if self.config.issuer.as_ref().is_some_and(|wanted| wanted != issuer) {
            return Err(Rejected::Issuer);
        }
        if self.config.audience.as_ref().is_some_and(|wanted| !is_for(&claims["aud"], wanted)) {
            return Err(Rejected::Audience);
        }
        let subject = claims["sub"].as_str().filter(|subject| !subject.is_empty()).ok_or(Rejected::Missing("sub"))?;
        let spec = claims.get(CLAIM).ok_or(Rejected::Missing(CLAIM))?;
        let spec: Spec =
            serde_json::from_value(spec.clone()).map_err(|_| Rejected::Claim("it is no map of entitlements".into()))?;
        let entitlements = spec.entitlements().map_err(|error| Rejected::Claim(error.to_string()))?;
        let (subject, issuer) = (subject.to_owned(), issuer.to_owned());
        Ok(Claims { subject, issuer, ends_s: expires_s.saturating_add(leeway), expires_s, entitlements })
    }
}

/// What a good token says.
#[derive(Debug)]
pub(crate) struct Claims {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) expires_s: u64,
    /// With the leeway
    pub(crate) ends_s: u64,
    pub(crate) entitlements: hub::Entitlements,
}

/// Only the signature is left to the library; it would read the clock by itself.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

/// The key and the one algorithm it is for, if it is for one of ours.
fn usable(jwk: &Jwk) -> Result<Option<(Algorithm, DecodingKey)>, InvalidJwtKeys> {
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return Ok(None);
    }
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::OctetKey(_) => (Algorithm::HS256, KeyAlgorithm::HS256),
        _ => return Ok(None),
    };
    if jwk.common.key_algorithm.is_some_and(|given| given != named) {
        return Ok(None);
    }
    let unreadable = || InvalidJwtKeys::Jwks("a key is not base64".to_owned());
    let key = DecodingKey::from_jwk(jwk).map_err(|_| unreadable())?;
    if algorithm == Algorithm::HS256 {
        let bytes = key.try_get_as_bytes().map_err(|_| unreadable())?.len();
        if bytes < SECRET_BYTES_MIN {
            return Err(InvalidJwtKeys::ShortSecret(bytes));
        }
    }
    Ok(Some((algorithm, key)))
}

/// A time of RFC 7519: seconds, perhaps with a fraction, which is cut off.
fn seconds(claims: &Value, name: &'static str) -> Result<Option<u64>, Rejected> {
    match &claims[name] {
        Value::Null => Ok(None),
        Value::Number(number) => {
            let whole =
                number.as_u64().or_else(|| number.as_f64().filter(|s| (0.0..1e15).contains(s)).map(|s| s as u64));
            whole.map(Some).ok_or(Rejected::Time(name))
        }
        _ => Err(Rejected::Time(name)),
    }
}

fn is_for(audience: &Value, wanted: &str) -> bool {
    match audience {
        Value::String(one) => one == wanted,
        Value::Array(several) => several.iter().any(|one| one == wanted),
        _ => false,
    }
}
