//! Who clients say they are, and the files that say who is right: no panic, no token is good that nobody has signed, and of
//! such a token nothing is read.
//!
//! The first byte picks the reader. Claims are signed here with the server's own secret, as random bytes never are.
#![no_main]

use std::sync::{Arc, LazyLock};

use auth::{
    Authenticator, JwtConfig, JwtKeys, Keyring, NewKey, Rejected, Spec, TOKEN_BYTES_MAX, add_key, bearer, revoke_key,
    secret_in_query,
};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;

const NOW_S: u64 = 1_800_000_000;
const LEEWAY_S: u32 = 10;
const SECRET: &[u8] = b"a secret of thirty-two bytes or more";

static AUTHENTICATOR: LazyLock<Authenticator> = LazyLock::new(|| {
    let mut jwt = JwtKeys::new(JwtConfig { leeway_s: LEEWAY_S, ..JwtConfig::default() });
    jwt.add_secret(SECRET).expect("it is long enough");
    let key = NewKey::generate().expect("the system has random numbers");
    let text = add_key("", &key, "desk", "2026-01-01T00:00:00Z", &Spec::default()).expect("it is the first");
    let keyring = Keyring::parse(&text).expect("it was made here");
    Authenticator { keyring: Arc::new(keyring), jwt: Arc::new(jwt) }
});

fuzz_target!(|data: &[u8]| {
    let Some((reader, rest)) = data.split_first() else { return };
    let text = std::str::from_utf8(rest);
    match (reader, text) {
        (b'h', _) => header(rest),
        (b't', Ok(token)) => nobodys(token),
        (b's', _) => signed(rest),
        (b'q', Ok(query)) => in_query(query),
        (b'j', Ok(set)) => key_set(set),
        (b'p', _) => {
            let _ = JwtKeys::default().add_pem(rest);
        }
        (b'k', Ok(file)) => keys(file),
        _ => {}
    }
});

fn header(value: &[u8]) {
    let Ok(token) = bearer(value) else { return };
    assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(value.ends_with(token.as_bytes()) || value.trim_ascii_end().ends_with(token.as_bytes()));
    nobodys(token);
}

/// What was not signed with the secret is not good, and is refused before its claims are read: the errors that come until
/// then have nothing of a token in them.
fn nobodys(token: &str) {
    let refused = AUTHENTICATOR.authenticate(token, NOW_S).expect_err("nobody has signed it");
    let unread = matches!(
        refused,
        Rejected::TooLong
            | Rejected::Key
            | Rejected::Malformed
            | Rejected::Critical
            | Rejected::UnknownKey
            | Rejected::Algorithm
            | Rejected::Signature
    );
    assert!(unread, "{refused}");
}

/// A token with any claims, behind a header that is good.
fn signed(claims: &[u8]) {
    let head = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256"}"#);
    let message = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
    let Ok(verified) = AUTHENTICATOR.authenticate(&token, NOW_S) else { return };
    assert!(token.len() <= TOKEN_BYTES_MAX);
    let expires = verified.expires.expect("a JWT expires");
    assert!(expires.ends_s > NOW_S && expires.ends_s == expires.said_s.saturating_add(LEEWAY_S.into()));
    assert!(verified.name.chars().count() <= 64 && !verified.name.contains(char::is_control));
    // It is good until then, and no longer.
    assert!(AUTHENTICATOR.authenticate(&token, expires.ends_s).is_err());
    let mut tampered = message.into_bytes();
    if let Some(last) = tampered.last_mut() {
        *last = if *last == b'A' { b'B' } else { b'A' };
        let tampered = String::from_utf8(tampered).expect("it is ASCII");
        nobodys(&format!("{tampered}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())));
    }
}

fn in_query(query: &str) {
    if let Some(name) = secret_in_query(query) {
        assert!(query.split('&').any(|pair| pair.split('=').next() == Some(name)));
        // Wherever it stands.
        assert!(secret_in_query(&format!("format=json&{query}")).is_some());
    }
}

fn key_set(text: &str) {
    let mut keys = JwtKeys::default();
    if keys.add_jwks(text).is_ok() {
        assert!(!keys.is_empty());
        let authenticator = Authenticator { jwt: Arc::new(keys), ..Authenticator::default() };
        // An empty signature is none, whatever the key.
        let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(b"{}"));
        assert!(authenticator.authenticate(&unsigned, NOW_S).is_err());
    }
}

/// A file that can be read can be added to, and what is revoked in it is not good any more.
fn keys(text: &str) {
    static NEW: LazyLock<NewKey> = LazyLock::new(|| NewKey::generate().expect("the system has random numbers"));
    let listed = Keyring::list(text);
    let Ok(good) = Keyring::parse(text) else { return };
    assert!(listed.is_ok());
    if good.entitlements(&NEW.id).is_some() {
        return;
    }
    let more = add_key(text, &NEW, "new", "2026-01-01T00:00:00Z", &Spec::default()).expect("the file is good");
    let both = Keyring::parse(&more).expect("what was written can be read");
    assert_eq!(both.len(), good.len() + 1);
    let (revoked, id) = revoke_key(&more, &NEW.id, "2026-01-02T00:00:00Z").expect("it is there");
    assert_eq!(id, NEW.id);
    assert_eq!(Keyring::parse(&revoked).expect("what was written can be read").len(), good.len());
}
