//! The key of operators, which is no client's: one secret in a file.
//!
//! **Invariant:** the text of the key is kept nowhere; what is kept is a hash, compared in constant time.

use std::fmt;

use crate::key::KeyHash;

/// Fewer characters could be guessed: 32 digits of hex are 128 bits.
const CHARACTERS_MIN: usize = 32;

/// What an operator must present.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AdminKey(KeyHash);

/// The text cannot be a key of operators. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it should be one line of at least {CHARACTERS_MIN} characters without spaces, such as openssl rand -hex 32 prints"
)]
pub struct InvalidAdminKey;

impl AdminKey {
    /// From the text of a file; white space around it does not count.
    ///
    /// # Errors
    /// [`InvalidAdminKey`] when it is too short to be safe or more than one word.
    pub fn parse(text: &str) -> Result<Self, InvalidAdminKey> {
        let key = text.trim_ascii();
        let sound = key.len() >= CHARACTERS_MIN && key.bytes().all(|byte| byte.is_ascii_graphic());
        if sound { Ok(Self(KeyHash::of(key))) } else { Err(InvalidAdminKey) }
    }

    /// Whether that is the key, in a time that does not depend on where they differ.
    pub fn is(&self, presented: &str) -> bool {
        self.0.is_of(presented)
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_opens_and_short_ones_are_refused() {
        let text = "0123456789abcdef0123456789abcdef";
        let key = AdminKey::parse(&format!("  {text}\n")).unwrap();
        assert!(key.is(text));
        for other in ["", &text[1..], &text[..31], "0123456789abcdef0123456789abcdeF"] {
            assert!(!key.is(other), "{other}");
        }
        for bad in ["", &text[1..], "0123456789abcdef 0123456789abcdef", "0123456789abcdef\n0123456789abcdef"] {
            assert_eq!(AdminKey::parse(bad), Err(InvalidAdminKey), "{bad:?}");
        }
        assert!(!format!("{key:?} {InvalidAdminKey}").contains("0123"));
    }
}
