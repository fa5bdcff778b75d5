//! API keys: `tp_`, the key's public id, `_`, and the secret.
//!
//! **Invariant:** the text of a key exists when it is made and when a client presents it, and is kept nowhere: what is
//! stored is the id and a hash.
//!
//! The hash is one SHA-256. A slow hash such as Argon2 makes guessing expensive where secrets are chosen by people; these
//! are 160 random bits, which nobody guesses at any speed, and a slow hash would let anybody buy milliseconds of the
//! server's time with a request.

use std::fmt;
use std::fmt::Write as _;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;

/// What every key begins with, so that scanners for leaked secrets and people recognise one.
const PREFIX: &str = "tp_";
const ID_BYTES: usize = 4;
const SECRET_BYTES: usize = 20;

/// The hash of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash([u8; 32]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash")
    }
}

impl KeyHash {
    pub(crate) fn of(key: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
        Self(hash)
    }

    /// From 64 digits of hex.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
        let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
        if digits.len() == 64 { bytes.try_into().ok().map(Self) } else { None }
    }

    /// Whether it is the hash of `key`, in a time that does not depend on where they differ.
    pub(crate) fn is_of(&self, key: &str) -> bool {
        verify_slices_are_equal(&self.0, &Self::of(key).0).is_ok()
    }

    pub(crate) fn hex(&self) -> String {
        hex(&self.0)
    }
}

/// A key that was just made.
pub struct NewKey {
    /// Its public part
    pub id: String,
    /// What the client presents; to be shown once and forgotten
    pub text: String,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl NewKey {
    /// A random key. None when the system has no random numbers to give.
    pub fn generate() -> Option<Self> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        rand::fill(&mut id).ok()?;
        rand::fill(&mut secret).ok()?;
        let id = hex(&id);
        Some(Self { text: format!("{PREFIX}{id}_{}", hex(&secret)), id })
    }
}

/// The id in the text of a key; none when it is not a key at all.
pub(crate) fn id_of(key: &str) -> Option<&str> {
    let (id, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    let is_hex = |text: &str, bytes: usize| {
        text.len() == 2 * bytes && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    (is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES)).then_some(id)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_form_and_160_bits() {
        let (a, b) = (NewKey::generate().unwrap(), NewKey::generate().unwrap());
        assert_eq!(a.text.len(), 3 + 8 + 1 + 40);
        assert_eq!(id_of(&a.text), Some(a.id.as_str()));
        assert_ne!(a.text, b.text);
        assert!(!format!("{a:?}").contains(&a.text));
    }

    #[test]
    fn only_the_whole_key_has_its_hash() {
        let key = NewKey::generate().unwrap().text;
        let hash = KeyHash::parse(&KeyHash::of(&key).hex()).unwrap();
        assert!(hash.is_of(&key));
        for at in 0..key.len() {
            let mut other = key.clone().into_bytes();
            other[at] ^= 1;
            assert!(!hash.is_of(&String::from_utf8(other).unwrap()));
        }
        assert!(!hash.is_of(&key[..key.len() - 1]) && !hash.is_of(""));
    }

    #[test]
    fn texts_that_are_no_keys_have_no_id() {
        for text in ["", "tp_", "tp_0123abcd", "tp_0123abcd_", "xx_0123abcd_", "tp_0123abcd_zz", "tp_é_é"] {
            assert_eq!(id_of(text), None, "{text}");
        }
        assert_eq!(id_of(&format!("tp_0123ABCD_{}", "0".repeat(40))), None);
        assert_eq!(id_of(&format!("tp_0123abcd_{}", "0".repeat(41))), None);
        assert!(KeyHash::parse("00").is_none() && KeyHash::parse(&"0g".repeat(32)).is_none());
    }
}
