//! Who may command: somebody on this machine, or whoever has the key of operators.
//!
//! **Invariant:** where a key is given, nothing is answered without it; where none is, only what comes over loopback and
//! from no web page is. The key is compared in constant time and is in no log and no answer.
//!
//! How often somebody may try is not limited: a key has 128 bits or more, and to lock out whoever shares an address with an
//! attacker would shut the operator out.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ::auth::AdminKey;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{AUTHORIZATION, HOST, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use http::uri::Authority;
use http::{HeaderMap, StatusCode};

use super::refusal;
use crate::metrics::{self as names, Metrics};
use crate::state::Shared;
use crate::watched::Watched;
use crate::{Config, GatewayError};

/// No key is longer.
const FILE_BYTES_MAX: u64 = 4096;

/// See the module.
#[derive(Debug)]
pub(crate) struct Door {
    file: Option<File>,
    key: RwLock<Option<AdminKey>>,
    on_loopback: bool,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    watched: Mutex<Watched>,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    NoKey,
    WrongKey,
    WebPage,
    NotLoopback,
}

impl Door {
    /// Reads the key, if there is to be one.
    ///
    /// # Errors
    /// [`GatewayError::Auth`] names the file and what is wrong with it.
    pub(crate) fn new(config: &Config) -> Result<Self, GatewayError> {
        let watch = |path: PathBuf| File { watched: Mutex::new(Watched::new([path.clone()])), path };
        let file = config.admin_key_file.clone().map(watch);
        let key = file.as_ref().map(|file| read(&file.path)).transpose()?;
        let on_loopback = config.admin_listen.is_none_or(|address| address.ip().is_loopback());
        Ok(Self { file, key: RwLock::new(key), on_loopback })
    }

    /// Reads the key again when its file has changed; one that cannot be read leaves the key from before in force.
    pub(crate) fn reload(&self, metrics: &Metrics) {
        let Some(File { path, watched }) = &self.file else { return };
        if !watched.lock().unwrap_or_else(PoisonError::into_inner).changed() {
            return;
        }
        match read(path) {
            Ok(key) => {
                tracing::info!("the admin key was read again");
                *self.key.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
            }
            Err(error) => {
                metrics.counter(names::AUTH_RELOAD_ERRORS).increment(1);
                tracing::error!(%error, "the admin key could not be read again; the one from before stays in force");
            }
        }
    }

    fn judge(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let key = *self.key.read().unwrap_or_else(PoisonError::into_inner);
        let Some(key) = key else {
            return match () {
                () if !self.on_loopback => Err(Refused::NotLoopback),
                // A page of anybody that is open in a browser of this machine could command otherwise: a simple POST is
                // sent without asking, and a name can be made to lead here.
                () if headers.contains_key(ORIGIN) || !is_for_loopback(headers) => Err(Refused::WebPage),
                () => Ok(()),
            };
        };
        let value = headers.get(AUTHORIZATION).ok_or(Refused::NoKey)?;
        let presented = ::auth::bearer(value.as_bytes()).map_err(|_| Refused::NoKey)?;
        if key.is(presented) { Ok(()) } else { Err(Refused::WrongKey) }
    }
}

/// Whether the request was meant for an address of loopback by that address, or by the one name that always leads there.
fn is_for_loopback(headers: &HeaderMap) -> bool {
    let Some(Ok(host)) = headers.get(HOST).map(HeaderValue::to_str) else { return true };
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn read(path: &Path) -> Result<AdminKey, GatewayError> {
    let wrong = |reason: String| GatewayError::Auth { path: path.to_owned(), reason };
    let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(wrong(format!("it has {length} bytes, more than any key of operators")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    AdminKey::parse(&text).map_err(|error| wrong(error.to_string()))
}

/// The middleware in front of all admin routes.
pub(super) async fn guard(
    State((shared, door)): State<(Arc<Shared>, Arc<Door>)>,
    request: Request,
    next: Next,
) -> Response {
    let refused = match door.judge(request.headers()) {
        Ok(()) => return next.run(request).await,
        Err(refused) => refused,
    };
    shared.metrics.reason(names::AUTH_REFUSED, "admin").increment(1);
    tracing::warn!(?refused, path = request.uri().path(), "an operator's command was refused");
    let (status, message) = match refused {
        Refused::NoKey => (StatusCode::UNAUTHORIZED, "present the admin key with the header Authorization: Bearer"),
        Refused::WrongKey => (StatusCode::UNAUTHORIZED, "this is not the admin key"),
        Refused::WebPage => {
            (StatusCode::FORBIDDEN, "without an admin key, web pages and names other than localhost are refused")
        }
        Refused::NotLoopback => (StatusCode::FORBIDDEN, "without an admin key only a loopback address takes commands"),
    };
    let mut response = refusal(status, message);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tickerplant-admin\""));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(key: Option<&str>, on_loopback: bool) -> Door {
        let key = key.map(|text| AdminKey::parse(text).unwrap());
        Door { file: None, key: RwLock::new(key), on_loopback }
    }

    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        given.iter().map(pair).collect()
    }

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn without_a_key_only_this_machine_and_no_web_page_commands() {
        let check = |on_loopback, given: &[_], want| {
            assert_eq!(door(None, on_loopback).judge(&headers(given)), want, "{given:?}");
        };
        for host in ["127.0.0.1:8081", "localhost:8081", "LOCALHOST", "[::1]:8081", "127.9.9.9"] {
            check(true, &[("host", host)], Ok(()));
            check(false, &[("host", host)], Err(Refused::NotLoopback));
        }
        check(true, &[], Ok(()));
        for host in ["evil.example", "127.0.0.1.evil.example", "192.0.2.1:8081", "a b"] {
            check(true, &[("host", host)], Err(Refused::WebPage));
        }
        check(true, &[("host", "127.0.0.1"), ("origin", "http://127.0.0.1")], Err(Refused::WebPage));
    }

    #[test]
    fn with_a_key_nothing_else_counts() {
        let door = door(Some(KEY), true);
        let check = |value: Option<&str>, want| {
            let given: Vec<_> = value.map(|value| ("authorization", value)).into_iter().collect();
            assert_eq!(door.judge(&headers(&given)), want, "{value:?}");
        };
        check(None, Err(Refused::NoKey));
        check(Some(KEY), Err(Refused::NoKey));
        check(Some("Bearer 0123456789abcdef0123456789abcdee"), Err(Refused::WrongKey));
        check(Some(&format!("Bearer {KEY}")), Ok(()));
    }
}
