//! The server's half of the opening hand-shake (RFC 6455 section 4.2), on headers that something else has parsed.
//!
//! **Invariant:** [`check`] lets a request pass only if it meets every requirement of section 4.2.1, and everything it
//! refuses has a status, a message that says why and a label to count it by.
//!
//! What is *not* here: HTTP itself, limits of size and time, and authentication.

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD as BASE64},
};
use sha1::{Digest, Sha1};

use crate::extension::token;

/// What a key is joined with before it is hashed (RFC 6455 section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The one version there is.
const VERSION: &str = "13";
/// The length of a decoded key.
const KEY_BYTES: usize = 16;
/// Reads a key as most do: bits that the last character has too many are ignored, the padding is not optional.
const KEY_BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The version of HTTP in the request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1, the only one on which this hand-shake can be made.
    Http11,
    /// Anything else.
    Other,
}

/// A request that may be upgraded, with what of it is still to be decided upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The value of `Sec-WebSocket-Accept` to answer with.
    pub accept: String,
    /// The page's origin, if a browser sent the request.
    pub origin: Option<&'a str>,
    /// The subprotocols that the client offers, in its order of preference.
    pub subprotocols: Vec<&'a str>,
    /// The lines of `Sec-WebSocket-Extensions`, for [`crate::deflate::negotiate`].
    pub extensions: Vec<&'a [u8]>,
}

/// Why a request is not upgraded, and how to say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the response.
    pub status: u16,
    /// The body of the response: what was wrong.
    pub message: String,
    /// Headers that the response must have.
    pub headers: Vec<(&'static str, &'static str)>,
    /// A word to count refusals by, one of a fixed few.
    pub label: &'static str,
}

impl Refusal {
    fn bad_request(label: &'static str, message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into(), headers: Vec::new(), label }
    }

    pub(crate) fn forbidden_origin(origin: &str) -> Self {
        let message = format!("pages of the origin {} may not connect here", origin.escape_default());
        Self { status: 403, message, headers: Vec::new(), label: "origin" }
    }

    /// A refusal for a request that offers subprotocols of which the server knows none; the body lists `known`.
    pub fn unknown_subprotocol(known: &[&str]) -> Self {
        Self::bad_request(
            "subprotocol",
            format!("none of the offered subprotocols is known; known are {}", known.join(", ")),
        )
    }
}

/// The value of `Sec-WebSocket-Accept` that answers a key.
pub fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID.as_bytes());
    BASE64.encode(hash.finalize())
}

/// The first of the server's subprotocols, in its order of preference, that the client offers.
pub fn select_subprotocol<'a>(offered: &[&str], supported: &[&'a str]) -> Option<&'a str> {
    supported.iter().find(|name| offered.contains(*name)).copied()
}

/// Judges an upgrade request; header names are taken in any case, and several lines of one name as one list.
///
/// # Errors
///
/// The first requirement that is not met: 405 for another method than GET, 426 for another version of WebSocket than 13,
/// 400 for everything else.
pub fn check<'a>(
    method: &str,
    version: HttpVersion,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Request<'a>, Refusal> {
    if method != "GET" {
        return Err(Refusal {
            status: 405,
            message: "a WebSocket is opened with GET".to_owned(),
            headers: vec![("Allow", "GET")],
            label: "method",
        });
    }
    if version != HttpVersion::Http11 {
        return Err(Refusal::bad_request("http_version", "a WebSocket is opened over HTTP/1.1"));
    }
    let headers = Headers::gather(headers);
    headers.check_host()?;
    headers.check_no_body()?;
    check_has_token(&headers.upgrade, "websocket", "upgrade", "Upgrade")?;
    check_has_token(&headers.connection, "upgrade", "connection", "Connection")?;
    headers.check_version()?;
    Ok(Request {
        accept: headers.accept()?,
        origin: headers.origin()?,
        subprotocols: headers.subprotocols()?,
        extensions: headers.extensions,
    })
}

/// The lines of each header that matters here.
#[derive(Default)]
struct Headers<'a> {
    host: Vec<&'a [u8]>,
    upgrade: Vec<&'a [u8]>,
    connection: Vec<&'a [u8]>,
    key: Vec<&'a [u8]>,
    version: Vec<&'a [u8]>,
    subprotocol: Vec<&'a [u8]>,
    extensions: Vec<&'a [u8]>,
    origin: Vec<&'a [u8]>,
    content_length: Vec<&'a [u8]>,
    transfer_encoding: Vec<&'a [u8]>,
}

impl<'a> Headers<'a> {
    fn gather(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut gathered = Self::default();
        for (name, value) in headers {
            if let Some(lines) = gathered.lines_of(name) {
                lines.push(value.trim_ascii());
            }
        }
        gathered
    }

    fn lines_of(&mut self, name: &str) -> Option<&mut Vec<&'a [u8]>> {
        // The longest name here has 24 bytes; a longer one is copied no further.
        let mut lower = [0; 24];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        match &*lower {
            b"host" => Some(&mut self.host),
            b"upgrade" => Some(&mut self.upgrade),
            b"connection" => Some(&mut self.connection),
            b"sec-websocket-key" => Some(&mut self.key),
            b"sec-websocket-version" => Some(&mut self.version),
            b"sec-websocket-protocol" => Some(&mut self.subprotocol),
            b"sec-websocket-extensions" => Some(&mut self.extensions),
            b"origin" => Some(&mut self.origin),
            b"content-length" => Some(&mut self.content_length),
            b"transfer-encoding" => Some(&mut self.transfer_encoding),
            _ => None,
        }
    }

    fn check_host(&self) -> Result<(), Refusal> {
        match self.host[..] {
            [host] if !host.is_empty() && host.is_ascii() => Ok(()),
            [] => Err(Refusal::bad_request("host", "the header Host is missing")),
            _ => Err(Refusal::bad_request("host", "the header Host must have one value")),
        }
    }

    /// Bytes of a body could not be told from frames.
    fn check_no_body(&self) -> Result<(), Refusal> {
        if !self.transfer_encoding.is_empty() || self.content_length.iter().any(|&length| length != b"0") {
            return Err(Refusal::bad_request("body", "a request to open a WebSocket has no body"));
        }
        Ok(())
    }

    fn check_version(&self) -> Result<(), Refusal> {
        if self.version == [VERSION.as_bytes()] {
            return Ok(());
        }
        Err(Refusal {
            status: 426,
            message: "the header Sec-WebSocket-Version must be 13".to_owned(),
            headers: vec![("Sec-WebSocket-Version", VERSION), ("Upgrade", "websocket"), ("Connection", "Upgrade")],
            label: "version",
        })
    }

    fn accept(&self) -> Result<String, Refusal> {
        let &[key] = &self.key[..] else {
            return Err(Refusal::bad_request("key", "the header Sec-WebSocket-Key must be given once"));
        };
        let decoded = KEY_BASE64.decode(key).unwrap_or_default();
        match str::from_utf8(key) {
            Ok(key) if decoded.len() == KEY_BYTES => Ok(accept_key(key)),
            _ => Err(Refusal::bad_request("key", "the header Sec-WebSocket-Key must be 16 bytes in base64")),
        }
    }

    fn origin(&self) -> Result<Option<&'a str>, Refusal> {
        match self.origin[..] {
            [] => Ok(None),
            [origin] => match str::from_utf8(origin) {
                Ok(origin) => Ok(Some(origin)),
                Err(_) => Err(Refusal::bad_request("origin", "the header Origin is not text")),
            },
            _ => Err(Refusal::bad_request("origin", "the header Origin must be given at most once")),
        }
    }

    fn subprotocols(&self) -> Result<Vec<&'a str>, Refusal> {
        let mut names = Vec::new();
        for element in elements(&self.subprotocol) {
            let Some(name) = token(element) else {
                return Err(Refusal::bad_request(
                    "subprotocol",
                    "the header Sec-WebSocket-Protocol must be a list of tokens",
                ));
            };
            if names.contains(&name) {
                return Err(Refusal::bad_request("subprotocol", "the header Sec-WebSocket-Protocol names one twice"));
            }
            names.push(name);
        }
        Ok(names)
    }
}

fn check_has_token(lines: &[&[u8]], wanted: &str, label: &'static str, name: &str) -> Result<(), Refusal> {
    if elements(lines).any(|element| element.eq_ignore_ascii_case(wanted.as_bytes())) {
        return Ok(());
    }
    Err(Refusal::bad_request(label, format!("the header {name} must contain {wanted}")))
}

/// The elements of a list that may be spread over several lines; empty ones do not count (RFC 9110 section 5.6.1).
fn elements<'l, 'a>(lines: &'l [&'a [u8]]) -> impl Iterator<Item = &'a [u8]> + use<'l, 'a> {
    lines
        .iter()
        .flat_map(|line| line.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}
