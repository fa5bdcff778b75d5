//! JSON Web Tokens that this test signs by itself, good ones and every kind of bad one.
//!
//! **Invariant:** no token gets through that is not signed by a key with the algorithm that this key is for.

use std::sync::Arc;

use auth::{Authenticator, InvalidJwtKeys, JwtConfig, JwtKeys, NewKey, Rejected, Spec, TOKEN_BYTES_MAX};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret of thirty-two bytes or more";

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn claims() -> Value {
    json!({"sub": "desk", "exp": NOW + 60, "tickerplant": {"symbols": ["BTC-*"]}})
}

enum Signer {
    Secret(Vec<u8>),
    Rsa(RsaKeyPair),
    Ed(Ed25519KeyPair),
    Nobody,
}

impl Signer {
    fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()));
        let signature = match self {
            Self::Secret(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes()).as_ref().to_vec()
            }
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let random = rand::SystemRandom::new();
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
            Self::Nobody => Vec::new(),
        };
        format!("{message}.{}", base64(&signature))
    }

    fn pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Rsa(pair) => pair.public_key().as_der().unwrap(),
            Self::Ed(pair) => pair.public_key().as_der().unwrap(),
            Self::Secret(_) | Self::Nobody => panic!("no public key"),
        };
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Secret(secret) => json!({"kty": "oct", "kid": kid, "alg": "HS256", "k": base64(secret)}),
            Self::Rsa(pair) => {
                let key = pair.public_key();
                let (n, e) = (key.modulus(), key.exponent());
                let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
                json!({"kty": "RSA", "kid": kid, "use": "sig", "n": base64(n), "e": base64(e)})
            }
            Self::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64(pair.public_key().as_ref())})
            }
            Self::Nobody => panic!("no key"),
        }
    }
}

fn authenticator(keys: JwtKeys) -> Authenticator {
    Authenticator { jwt: Arc::new(keys), ..Authenticator::default() }
}

fn by_secret(config: JwtConfig) -> Authenticator {
    let mut keys = JwtKeys::new(config);
    keys.add_secret(SECRET).unwrap();
    authenticator(keys)
}

fn hs256(claims: &Value) -> String {
    Signer::Secret(SECRET.to_vec()).sign(&json!({"alg": "HS256", "typ": "JWT"}), claims)
}

#[test]
fn each_algorithm_is_taken_with_its_key() {
    let (rsa, ed) = (Signer::rsa(), Signer::ed());
    let mut keys = JwtKeys::new(JwtConfig::default());
    keys.add_secret(SECRET).unwrap();
    keys.add_pem(rsa.pem().as_bytes()).unwrap();
    keys.add_pem(ed.pem().as_bytes()).unwrap();
    let authenticator = authenticator(keys);
    let tokens =
        [hs256(&claims()), rsa.sign(&json!({"alg": "RS256"}), &claims()), ed.sign(&json!({"alg": "EdDSA"}), &claims())];
    for token in tokens {
        let verified = authenticator.authenticate(&token, NOW).unwrap();
        assert_eq!((verified.name.as_str(), verified.id.as_str()), ("desk", "jwt::desk"));
        assert_eq!(verified.expires.unwrap().said_s, NOW + 60);
        assert!(verified.entitlements.symbols.allows("BTC-USD") && !verified.entitlements.symbols.allows("ETH-USD"));
    }
}

#[test]
fn the_key_decides_the_algorithm_and_not_the_token() {
    let rsa = Signer::rsa();
    let mut keys = JwtKeys::new(JwtConfig::default());
    keys.add_pem(rsa.pem().as_bytes()).unwrap();
    let authenticator = authenticator(keys);
    // The classic: the public key, which everybody has, as the secret of HS256.
    for secret in [rsa.pem().into_bytes(), rsa.pem().trim().as_bytes().to_vec()] {
        let forged = Signer::Secret(secret).sign(&json!({"alg": "HS256"}), &claims());
        assert_eq!(authenticator.authenticate(&forged, NOW), Err(Rejected::Algorithm));
    }
    for (header, want) in [
        (json!({"alg": "none"}), Rejected::Malformed),
        (json!({"alg": "NONE"}), Rejected::Malformed),
        (json!({}), Rejected::Malformed),
        (json!({"alg": "HS256"}), Rejected::Algorithm),
        (json!({"alg": "RS384"}), Rejected::Algorithm),
        (json!({"alg": "RS256"}), Rejected::Signature),
        (json!({"alg": "RS256", "crit": ["b64"], "b64": false}), Rejected::Critical),
    ] {
        let token = Signer::Nobody.sign(&header, &claims());
        assert_eq!(authenticator.authenticate(&token, NOW), Err(want), "{header}");
    }
    // A key that the token brings along, or has fetched, is nobody's.
    let own = Signer::rsa();
    let header = json!({"alg": "RS256", "jwk": own.jwk("own"), "jku": "https://evil.example/jwks"});
    assert_eq!(authenticator.authenticate(&own.sign(&header, &claims()), NOW), Err(Rejected::Signature));
}

#[test]
fn one_bit_makes_a_signature_wrong() {
    let authenticator = by_secret(JwtConfig::default());
    let token = hs256(&claims());
    assert!(authenticator.authenticate(&token, NOW).is_ok());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    bytes[31] ^= 1;
    assert_eq!(authenticator.authenticate(&format!("{message}.{}", base64(&bytes)), NOW), Err(Rejected::Signature));
    let mut root = claims();
    root["sub"] = json!("root");
    let other = hs256(&root);
    let (other, _) = other.rsplit_once('.').unwrap();
    assert_eq!(authenticator.authenticate(&format!("{other}.{signature}"), NOW), Err(Rejected::Signature));
}

#[test]
fn claims_are_checked() {
    let config = JwtConfig { issuer: Some("https://id.example".into()), audience: Some("ticker".into()), leeway_s: 5 };
    let authenticator = by_secret(config);
    let good = || {
        let mut good = claims();
        good["iss"] = json!("https://id.example");
        good["aud"] = json!(["other", "ticker"]);
        good
    };
    let check = |key: &str, value: Value, want: Result<(), Rejected>| {
        let mut claims = good();
        claims[key] = value.clone();
        let got = authenticator.authenticate(&hs256(&claims), NOW).map(|_| ());
        assert_eq!(got, want, "{key} = {value}");
    };
    check("jti", json!(1), Ok(()));
    check("exp", Value::Null, Err(Rejected::Missing("exp")));
    check("exp", json!("soon"), Err(Rejected::Time("exp")));
    check("exp", json!(-1), Err(Rejected::Time("exp")));
    check("exp", json!(1e300), Err(Rejected::Time("exp")));
    check("exp", json!(u64::MAX), Ok(()));
    check("exp", json!(NOW - 4), Ok(()));
    check("exp", json!(NOW as f64 - 4.5), Err(Rejected::Expired));
    check("exp", json!(NOW - 5), Err(Rejected::Expired));
    check("nbf", json!(NOW + 5), Ok(()));
    check("nbf", json!(NOW + 6), Err(Rejected::NotYet));
    check("iss", json!("https://evil.example"), Err(Rejected::Issuer));
    check("iss", Value::Null, Err(Rejected::Issuer));
    check("aud", json!("ticker"), Ok(()));
    check("aud", json!("tickers"), Err(Rejected::Audience));
    check("aud", json!([]), Err(Rejected::Audience));
    check("aud", Value::Null, Err(Rejected::Audience));
    check("sub", json!(""), Err(Rejected::Missing("sub")));
    check("tickerplant", json!({}), Ok(()));
    check("tickerplant", json!(1), Err(Rejected::Claim("it is no map of entitlements".into())));
    check("tickerplant", json!({"symbls": []}), Err(Rejected::Claim("it is no map of entitlements".into())));
    let empty = Rejected::Claim("channels is empty; leave it out to allow all".into());
    check("tickerplant", json!({"channels": []}), Err(empty));
    let mut without = good();
    without.as_object_mut().unwrap().remove("tickerplant");
    assert_eq!(authenticator.authenticate(&hs256(&without), NOW), Err(Rejected::Missing("tickerplant")));
}

#[test]
fn a_key_set_is_searched_by_its_ids() {
    let (old, new, ed) = (Signer::rsa(), Signer::rsa(), Signer::ed());
    let foreign = json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": base64(&[1; 32]), "y": base64(&[2; 32])});
    let mut encryption = old.jwk("enc");
    encryption["use"] = json!("enc");
    let set = json!({"keys": [old.jwk("old"), new.jwk("new"), ed.jwk("ed"), foreign, encryption]});
    let mut keys = JwtKeys::new(JwtConfig::default());
    keys.add_jwks(&set.to_string()).unwrap();
    let authenticator = authenticator(keys);
    let check = |signer: &Signer, header: Value, want: Result<(), Rejected>| {
        let got = authenticator.authenticate(&signer.sign(&header, &claims()), NOW).map(|_| ());
        assert_eq!(got, want, "{header}");
    };
    check(&new, json!({"alg": "RS256", "kid": "new"}), Ok(()));
    check(&new, json!({"alg": "RS256"}), Ok(()));
    check(&ed, json!({"alg": "EdDSA", "kid": "ed"}), Ok(()));
    check(&new, json!({"alg": "RS256", "kid": "old"}), Err(Rejected::Signature));
    check(&new, json!({"alg": "RS256", "kid": "newer"}), Err(Rejected::UnknownKey));
    check(&old, json!({"alg": "RS256", "kid": "enc"}), Err(Rejected::UnknownKey));
    check(&ed, json!({"alg": "EdDSA", "kid": "new"}), Err(Rejected::Algorithm));
}

#[test]
fn files_without_a_usable_key_are_refused() {
    let mut keys = JwtKeys::new(JwtConfig::default());
    assert_eq!(keys.add_secret(b"short"), Err(InvalidJwtKeys::ShortSecret(5)));
    assert_eq!(keys.add_pem(b"-----BEGIN PUBLIC KEY-----\n"), Err(InvalidJwtKeys::Pem));
    assert!(matches!(keys.add_jwks("{"), Err(InvalidJwtKeys::Jwks(_))));
    assert_eq!(keys.add_jwks(r#"{"keys": []}"#), Err(InvalidJwtKeys::NoneUsable(0)));
    let short = json!({"keys": [Signer::Secret(vec![1; 16]).jwk("short")]});
    assert_eq!(keys.add_jwks(&short.to_string()), Err(InvalidJwtKeys::ShortSecret(16)));
    let many = json!({"keys": (0..17).map(|_| Signer::Secret(vec![1; 32]).jwk("k")).collect::<Vec<_>>()});
    assert_eq!(keys.add_jwks(&many.to_string()), Err(InvalidJwtKeys::TooMany(17)));
}

#[test]
fn keys_and_tokens_are_told_apart_and_never_repeated() {
    let key = NewKey::generate().unwrap();
    let file = auth::add_key("", &key, "desk", "", &Spec::default()).unwrap();
    let keyring = Arc::new(auth::Keyring::parse(&file).unwrap());
    let authenticator = Authenticator { keyring, ..by_secret(JwtConfig::default()) };
    assert_eq!(authenticator.authenticate(&key.text, NOW).unwrap().id, format!("key:{}", key.id));
    let head = &key.text[..key.text.len() - 1];
    let wrong = format!("{head}{}", if key.text.ends_with('0') { '1' } else { '0' });
    let long = "x".repeat(TOKEN_BYTES_MAX + 1);
    for (token, want) in [
        (wrong.as_str(), Rejected::Key),
        ("tp_", Rejected::Key),
        ("", Rejected::Malformed),
        ("hunter2", Rejected::Malformed),
        ("a.b.c", Rejected::Malformed),
        (long.as_str(), Rejected::TooLong),
    ] {
        let rejected = authenticator.authenticate(token, NOW).unwrap_err();
        assert_eq!(rejected, want);
        assert!(token.len() < 6 || !rejected.to_string().contains(token));
    }
    let without_jwt = Authenticator::default();
    assert_eq!(without_jwt.authenticate(&hs256(&claims()), NOW), Err(Rejected::NoJwt));
    assert!(!format!("{authenticator:?}").contains(&String::from_utf8_lossy(SECRET).into_owned()));
}

proptest! {
    /// Whatever is presented, there is an answer, and it is no.
    #[test]
    fn nothing_made_up_gets_through(token in "(tp_[0-9a-f_]{0,60}|[A-Za-z0-9_.-]{0,80}|eyJhbGciOiJIUzI1NiJ9\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{43}|\\PC{0,40})") {
        prop_assert!(by_secret(JwtConfig::default()).authenticate(&token, NOW).is_err());
    }
}
