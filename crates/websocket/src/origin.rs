//! Which web pages may connect: an allow-list for the `Origin` header (RFC 6455 section 10.2).
//!
//! A browser says truthfully which origin a page has, so the list keeps foreign pages from using a visitor's access. It
//! keeps nobody else out: other clients may send any origin, or none, and are not what it is for.
//!
//! **Invariant:** an origin is compared as scheme, host and port, never as text that merely begins or ends alike.
//!
//! What is *not* here: who the client is.

use thiserror::Error;

use crate::handshake::Refusal;

/// Origins whose pages may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginList(Vec<Pattern>);

/// An entry of an allow-list that is not an origin.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not an origin such as https://example.org, https://*.example.org or http://localhost:8080")]
pub struct InvalidOrigin(String);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Any,
    /// What sandboxed pages and local files send.
    Null,
    Exact(Origin),
    /// Any sub-domain, however deep, but not the domain itself.
    SubDomains(Origin),
}

/// Lower-case scheme and host, and the port, with the scheme's own where none is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl OriginList {
    /// A list from its entries: an origin, one whose host begins with `*.` for all sub-domains, `null`, or `*` for all.
    ///
    /// # Errors
    ///
    /// Names the first entry that is none of these.
    pub fn parse<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Result<Self, InvalidOrigin> {
        entries
            .into_iter()
            .map(|entry| Pattern::parse(entry.as_ref()).ok_or_else(|| InvalidOrigin(entry.as_ref().to_owned())))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether the list is empty, which allows no origin at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a page of this origin may connect.
    pub fn allows(&self, origin: &str) -> bool {
        let parsed = Origin::parse(origin);
        self.0.iter().any(|pattern| pattern.matches(origin, parsed.as_ref()))
    }

    /// Judges a request by its `Origin` header; one without comes from no page and passes.
    ///
    /// # Errors
    ///
    /// A refusal with status 403.
    pub fn check(&self, origin: Option<&str>) -> Result<(), Refusal> {
        match origin {
            Some(origin) if !self.allows(origin) => Err(Refusal::forbidden_origin(origin)),
            _ => Ok(()),
        }
    }
}

impl Pattern {
    fn parse(entry: &str) -> Option<Self> {
        match entry {
            "*" => Some(Self::Any),
            "null" => Some(Self::Null),
            _ => {
                let origin = Origin::parse(entry)?;
                match origin.host.strip_prefix("*.") {
                    Some(domain) if !domain.contains('*') => {
                        Some(Self::SubDomains(Origin { host: domain.to_owned(), ..origin }))
                    }
                    None if !origin.host.contains('*') => Some(Self::Exact(origin)),
                    _ => None,
                }
            }
        }
    }

    fn matches(&self, text: &str, origin: Option<&Origin>) -> bool {
        match (self, origin) {
            (Self::Any, _) => true,
            (Self::Null, _) => text == "null",
            (Self::Exact(allowed), Some(origin)) => allowed == origin,
            (Self::SubDomains(allowed), Some(origin)) => {
                let below = origin.host.strip_suffix(&allowed.host).and_then(|rest| rest.strip_suffix('.'));
                allowed.scheme == origin.scheme
                    && allowed.port == origin.port
                    && below.is_some_and(|labels| !labels.is_empty())
            }
            (_, None) => false,
        }
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 address lie within brackets.
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = match (port, scheme.as_str()) {
            (Some(digits), _) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            (Some(_), _) => return None,
            (None, "https") => Some(443),
            (None, "http") => Some(80),
            (None, _) => None,
        };
        let host_fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*[]:".contains(&byte);
        let scheme_fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if scheme.is_empty() || host.is_empty() || !scheme.bytes().all(scheme_fits) || !host.bytes().all(host_fits) {
            return None;
        }
        Some(Self { scheme, host: host.to_ascii_lowercase(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entry: &str, allowed: &[&str], refused: &[&str]) {
        let list = OriginList::parse([entry]).expect("the entry is an origin");
        for origin in allowed {
            assert!(list.allows(origin), "{entry} allows {origin}");
        }
        for origin in refused {
            assert!(!list.allows(origin), "{entry} refuses {origin}");
            assert_eq!(list.check(Some(origin)).map_err(|refusal| refusal.status), Err(403));
        }
        assert_eq!(list.check(None), Ok(()));
    }

    #[test]
    fn an_exact_origin_allows_itself_alone() {
        check(
            "https://example.org",
            &["https://example.org", "https://EXAMPLE.org", "https://example.org:443", "HTTPS://example.org"],
            &[
                "http://example.org",
                "https://example.org:8443",
                "https://a.example.org",
                "https://example.org.evil.net",
                "https://evil-example.org",
                "https://example.org@evil.net",
                "https://example.org/path",
                "null",
                "",
                "example.org",
            ],
        );
        check("http://localhost:5173", &["http://localhost:5173"], &["http://localhost", "http://localhost:5174"]);
        check("http://[::1]:80", &["http://[::1]"], &["http://[::2]"]);
    }

    #[test]
    fn a_wildcard_allows_sub_domains_but_not_the_domain() {
        check(
            "https://*.example.org",
            &["https://a.example.org", "https://a.b.Example.org", "https://a.example.org:443"],
            &[
                "https://example.org",
                "https://.example.org",
                "https://aexample.org",
                "http://a.example.org",
                "https://a.example.org:8443",
                "https://a.example.org.evil.net",
            ],
        );
    }

    #[test]
    fn null_and_everything_must_be_asked_for() {
        check("null", &["null"], &["https://example.org"]);
        check("*", &["null", "https://example.org", "anything"], &[]);
        assert!(!OriginList::default().allows("https://example.org"));
    }

    #[test]
    fn entries_that_are_no_origins_are_named() {
        for entry in [
            "",
            "example.org",
            "https://",
            "https://a.*.org",
            "https://*.*.org",
            "https://a:b",
            "https://a/",
            "https://*",
        ] {
            assert_eq!(OriginList::parse([entry]), Err(InvalidOrigin(entry.to_owned())), "{entry}");
        }
    }
}
