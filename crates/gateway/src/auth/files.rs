//! The files of keys: read at the start, and again when they have changed.
//!
//! **Invariant:** keys are only replaced by a set that could be read as a whole; a file that is broken, or gone, leaves
//! what was read before in force.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use auth::{Authenticator, JwtKeys, Keyring};

use super::AuthFiles;
use crate::GatewayError;

/// No file of keys is larger; anything that is, is not one. 100,000 keys take 30 MB.
const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct Files {
    paths: AuthFiles,
    seen: Vec<Stamp>,
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    file: u64,
}

impl Files {
    pub(super) fn open(paths: AuthFiles) -> Result<(Self, Authenticator), GatewayError> {
        let seen = stamps(&paths);
        for path in all(&paths) {
            warn_if_readable_by_others(path);
        }
        let authenticator = read(&paths)?;
        Ok((Self { paths, seen }, authenticator))
    }

    /// The keys as they are now, if a file has changed since this was last asked.
    pub(super) fn changed(&mut self) -> Option<Result<Authenticator, GatewayError>> {
        let now = stamps(&self.paths);
        if now == self.seen {
            return None;
        }
        // Taken before the reading, so a change during it is seen next time.
        self.seen = now;
        Some(read(&self.paths))
    }
}

fn all(paths: &AuthFiles) -> impl Iterator<Item = &PathBuf> {
    [&paths.api_keys, &paths.jwt_secret, &paths.jwt_public_key, &paths.jwt_jwks].into_iter().flatten()
}

fn stamps(paths: &AuthFiles) -> Vec<Stamp> {
    all(paths).map(|path| stamp(path)).collect()
}

pub(crate) fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok();
    Stamp {
        modified: metadata.as_ref().and_then(|metadata| metadata.modified().ok()),
        bytes: metadata.as_ref().map_or(0, fs::Metadata::len),
        file: metadata.as_ref().map_or(0, number),
    }
}

/// Tells a file from the one that is put in its place by a rename.
#[cfg(unix)]
fn number(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn number(_metadata: &fs::Metadata) -> u64 {
    0
}

#[cfg(unix)]
fn warn_if_readable_by_others(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 && path.extension().is_none_or(|extension| extension != "pem") {
        tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "others can read this file of keys");
    }
}

#[cfg(not(unix))]
fn warn_if_readable_by_others(_path: &Path) {}

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

pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, GatewayError> {
    let length = fs::metadata(path).map_err(|error| wrong(path, &error))?.len();
    if length > FILE_BYTES_MAX {
        return Err(wrong(path, &format!("it has {length} bytes, more than any file of keys")));
    }
    fs::read(path).map_err(|error| wrong(path, &error))
}

fn wrong(path: &Path, reason: &dyn std::fmt::Display) -> GatewayError {
    GatewayError::Auth { path: path.to_owned(), reason: reason.to_string() }
}
