//! What the client says: where it connects to, the upgrade request, and masked frames.
//!
//! **Invariant:** nothing here touches a socket; bytes go out as values.
//!
//! Not here: reading frames (`frames`), connecting (`swarm`).

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest as _, Sha1};

use crate::inflate::{Deflate, Negotiated};

/// The longest answer to an upgrade request that is waited for.
const RESPONSE_BYTES_MAX: usize = 16 << 10;

/// A `ws://` or `wss://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// `host:port`, as the `Host` header and the name resolution want it
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) scheme: Scheme,
}

/// Whether the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Ws,
    Wss,
}

/// Why a URL cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("the URL must begin with ws:// or wss://")]
    Scheme,
    #[error("the URL names no host")]
    Host,
}

impl FromStr for Target {
    type Err = TargetError;
    fn from_str(url: &str) -> Result<Self, TargetError> {
        let (scheme, port, rest) = if let Some(rest) = url.strip_prefix("ws://") {
            (Scheme::Ws, 80, rest)
        } else {
            (Scheme::Wss, 443, url.strip_prefix("wss://").ok_or(TargetError::Scheme)?)
        };
        let (host, path) = match rest.find(['/', '?']) {
            Some(at) if rest.as_bytes()[at] == b'?' => (&rest[..at], format!("/{}", &rest[at..])),
            Some(at) => (&rest[..at], rest[at..].to_owned()),
            None => (rest, "/".to_owned()),
        };
        if host.is_empty() || host.starts_with(':') {
            return Err(TargetError::Host);
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { host.to_owned() } else { format!("{host}:{port}") };
        Ok(Self { authority, path, scheme })
    }
}

impl Target {
    /// The host alone, as a certificate names it.
    pub(crate) fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }
}

/// What is asked for beside the upgrade itself.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    pub(crate) subprotocol: Option<String>,
    pub(crate) deflate: Deflate,
    /// More header lines, each `Name: value`
    pub(crate) headers: Vec<String>,
}

/// The server's yes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Upgraded {
    pub(crate) negotiated: Negotiated,
    /// What already came behind the answer
    pub(crate) early: Vec<u8>,
}

/// One connection's opening hand-shake.
#[derive(Debug)]
pub(crate) struct Upgrade {
    key: String,
    deflate: Deflate,
    response: Vec<u8>,
}

/// The server did not upgrade.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpgradeError {
    #[error("the server answered {0:?}")]
    Status(String),
    #[error("the answer has a wrong or no Sec-WebSocket-Accept")]
    Accept,
    #[error("the answer agrees to an extension that was not offered: {0:?}")]
    Extension(String),
    #[error("the answer has no end within {RESPONSE_BYTES_MAX} bytes")]
    TooLong,
}

impl Upgrade {
    /// Begins with a key made of `nonce`; returns the request's bytes beside it.
    pub(crate) fn begin(target: &Target, wishes: &Wishes, nonce: [u8; 16]) -> (Self, Vec<u8>) {
        let key = BASE64.encode(nonce);
        let Target { authority, path, .. } = target;
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        );
        let subprotocol = wishes.subprotocol.as_ref().map(|name| format!("Sec-WebSocket-Protocol: {name}"));
        let extension = wishes.deflate.offer().map(|offer| format!("Sec-WebSocket-Extensions: {offer}"));
        for line in subprotocol.iter().chain(&extension).chain(&wishes.headers) {
            request.push_str(line);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        (Self { key, deflate: wishes.deflate, response: Vec::new() }, request.into_bytes())
    }

    /// Takes bytes of the answer; gives the verdict when the answer is whole.
    ///
    /// # Errors
    /// The server refused, or is no WebSocket server.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Option<Upgraded>, UpgradeError> {
        self.response.extend_from_slice(bytes);
        let Some(end) = self.response.windows(4).position(|window| window == b"\r\n\r\n") else {
            return if self.response.len() > RESPONSE_BYTES_MAX { Err(UpgradeError::TooLong) } else { Ok(None) };
        };
        let head = String::from_utf8_lossy(&self.response[..end]);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if !status.starts_with("HTTP/1.1 101") {
            let body = String::from_utf8_lossy(&self.response[end + 4..]);
            let body = body.lines().next().unwrap_or_default();
            return Err(UpgradeError::Status(format!("{status} {body}").trim_end().to_owned()));
        }
        let (mut accepted, mut negotiated) = (false, Negotiated::NONE);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("sec-websocket-accept") {
                accepted = value == accept_key(&self.key);
            } else if name.eq_ignore_ascii_case("sec-websocket-extensions") {
                negotiated =
                    Negotiated::parse(value, self.deflate).ok_or_else(|| UpgradeError::Extension(value.to_owned()))?;
            }
        }
        if !accepted {
            return Err(UpgradeError::Accept);
        }
        let early = self.response.split_off(end + 4);
        Ok(Some(Upgraded { negotiated, early }))
    }
}

/// The one right answer to `key` (RFC 6455 section 4.2.2). Written again here, and not taken from the server's crate, so
/// that a mistake there cannot agree with itself.
pub(crate) fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(hash.finalize())
}

/// Appends one masked frame, as a client must send it (RFC 6455 section 5.3).
pub(crate) fn masked_frame(opcode: u8, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            out.push(0xFE);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0xFF);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// A small generator for keys and masks (xorshift64*); they need to vary, not to be secret in a load test.
#[derive(Debug)]
pub(crate) struct Entropy(u64);

impl Entropy {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn mask(&mut self) -> [u8; 4] {
        self.mask32().to_ne_bytes()
    }

    pub(crate) fn nonce(&mut self) -> [u8; 16] {
        ((u128::from(self.u64()) << 64) | u128::from(self.u64())).to_ne_bytes()
    }

    /// A number below `bound`, by multiplication.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.mask32()) * u64::from(bound)) >> 32) as u32
    }

    /// A number in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn mask32(&mut self) -> u32 {
        (self.u64() >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, scheme, authority, host, path) in [
            ("ws://127.0.0.1:8080/ws", Scheme::Ws, "127.0.0.1:8080", "127.0.0.1", "/ws"),
            ("ws://example.org", Scheme::Ws, "example.org:80", "example.org", "/"),
            ("ws://[::1]:9/ws?format=json", Scheme::Ws, "[::1]:9", "::1", "/ws?format=json"),
            ("ws://h?x=1", Scheme::Ws, "h:80", "h", "/?x=1"),
            ("wss://h/ws", Scheme::Wss, "h:443", "h", "/ws"),
            ("wss://[::1]:9", Scheme::Wss, "[::1]:9", "::1", "/"),
        ] {
            let target = Target { authority: authority.into(), path: path.into(), scheme };
            assert_eq!(target.host(), host, "{url}");
            assert_eq!(url.parse(), Ok(target), "{url}");
        }
        assert_eq!("http://h/ws".parse::<Target>(), Err(TargetError::Scheme));
        assert_eq!("ws:///ws".parse::<Target>(), Err(TargetError::Host));
    }

    #[test]
    fn the_answer_is_checked_and_early_frames_are_kept() {
        let target: Target = "ws://h/ws".parse().unwrap();
        let wishes = Wishes { subprotocol: Some("p".to_owned()), deflate: Deflate::Offer, headers: Vec::new() };
        let early = |early: &[u8], negotiated| Ok(Some(Upgraded { negotiated, early: early.to_vec() }));
        // The key and its answer are the example of RFC 6455 section 1.3.
        let (mut upgrade, request) = Upgrade::begin(&target, &wishes, *b"the sample nonce");
        assert!(String::from_utf8(request).unwrap().contains("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"));
        assert_eq!(upgrade.feed(b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-ACCEPT:"), Ok(None));
        assert_eq!(
            upgrade.feed(b" s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x82\x00"),
            early(b"\x82\x00", Negotiated::NONE)
        );

        let refused = |answer: &[u8]| Upgrade::begin(&target, &wishes, [0; 16]).0.feed(answer).unwrap_err();
        assert_eq!(refused(b"HTTP/1.1 101 x\r\nSec-WebSocket-Accept: no\r\n\r\n"), UpgradeError::Accept);
        assert_eq!(refused(b"HTTP/1.1 404 Not Found\r\n\r\n"), UpgradeError::Status("HTTP/1.1 404 Not Found".into()));
        assert_eq!(refused(&vec![b'x'; RESPONSE_BYTES_MAX + 1]), UpgradeError::TooLong);
    }

    #[test]
    fn a_masked_frame_unmasks_to_its_payload() {
        for length in [0, 125, 126, 60_000, 70_000] {
            let (payload, mask, mut out) = (vec![7u8; length], [1, 2, 3, 4], Vec::new());
            masked_frame(0x2, &payload, mask, &mut out);
            let body = &out[out.len() - length..];
            assert!(body.iter().zip(mask.iter().cycle()).all(|(byte, mask)| byte ^ mask == 7));
        }
    }
}
