//! The files of keys: read at the start, and again when they have changed.
//!
//! **Invariant:** keys are only replaced by a set that could be read as a whole; a file that is broken, or gone, leaves
//! what was read before in force.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use auth::{Authenticator, JwtKeys, Keyring};

use super::AuthFiles;
use crate::GatewayError;
use crate::watched::{self, Watched};

#[derive(Debug)]
pub(super) struct Files {
    paths: AuthFiles,
    watched: Watched,
}

impl Files {
    pub(super) fn open(paths: AuthFiles) -> Result<(Self, Authenticator), GatewayError> {
        let watched = Watched::new(all(&paths).cloned());
        // What ends in .pem is a public key.
        let secret = |path: &&PathBuf| path.extension().is_none_or(|extension| extension != "pem");
        all(&paths).filter(secret).for_each(|path| watched::warn_if_readable_by_others(path));
        let authenticator = read(&paths)?;
        Ok((Self { paths, watched }, authenticator))
    }

    /// The keys as they are now, if a file has changed since this was last asked.
    pub(super) fn changed(&mut self) -> Option<Result<Authenticator, GatewayError>> {
        self.watched.changed().then(|| read(&self.paths))
    }
}

fn all(paths: &AuthFiles) -> impl Iterator<Item = &PathBuf> {
    [&paths.api_keys, &paths.jwt_secret, &paths.jwt_public_key, &paths.jwt_jwks].into_iter().flatten()
}

fn read(paths: &AuthFiles) -> Result<Authenticator, GatewayError> {
    let mut keyring = Keyring::default();
    if let Some(path) = &paths.api_keys {
        keyring = Keyring::parse(&text(path)?).map_err(|error| wrong(path, &error))?;
    }
    let mut jwt = JwtKeys::new(paths.jwt.clone());
    if let Some(path) = &paths.jwt_secret {
        jwt.add_secret(&bytes(path)?).map_err(|error| wrong(path, &error))?;
    }
    if let Some(path) = &paths.jwt_public_key {
        jwt.add_pem(&bytes(path)?).map_err(|error| wrong(path, &error))?;
    }
    if let Some(path) = &paths.jwt_jwks {
        jwt.add_jwks(&text(path)?).map_err(|error| wrong(path, &error))?;
    }
    Ok(Authenticator { keyring: Arc::new(keyring), jwt: Arc::new(jwt) })
}

fn text(path: &Path) -> Result<String, GatewayError> {
    String::from_utf8(bytes(path)?).map_err(|_| wrong(path, &"it is not UTF-8"))
}

fn bytes(path: &Path) -> Result<Vec<u8>, GatewayError> {
    watched::read(path).map_err(|reason| wrong(path, &reason))
}

fn wrong(path: &Path, reason: &dyn std::fmt::Display) -> GatewayError {
    GatewayError::Auth { path: path.to_owned(), reason: reason.to_string() }
}
