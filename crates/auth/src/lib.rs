//! Who somebody is and what they may have: API keys, JSON Web Tokens, and the entitlements that go with them.
//!
//! **Invariant:** everything here is a pure function of its arguments: texts of files, tokens and the time come in. No
//! error and no `Debug` text repeats any of a token, a key or a secret. Secrets are compared in constant time.
//!
//! What is *not* here: files, their reloading, and how often somebody may try (`gateway`); what entitlements do to a
//! session (`hub`).

mod admin;
mod authenticator;
mod bearer;
mod entitlement;
mod jwt;
mod key;
mod keyring;

pub use admin::{AdminKey, InvalidAdminKey};
pub use authenticator::{Authenticator, Expires, Rejected, TOKEN_BYTES_MAX, Verified};
pub use bearer::{BadHeader, bearer, secret_in_query};
pub use entitlement::{InvalidEntitlement, Spec};
pub use jwt::{InvalidJwtKeys, JwtConfig, JwtKeys};
pub use key::NewKey;
pub use keyring::{InvalidKeyring, KeyInfo, Keyring, add_key, revoke_key};
