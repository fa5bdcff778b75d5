//! The client's address from `X-Forwarded-For` and from `Forwarded` (RFC 7239).
//!
//! **Invariant:** the answer is the rightmost address that is not trusted. Each proxy appends whom it heard from, so what
//! stands to the left of that was written by somebody who is not trusted to.

use std::net::{IpAddr, SocketAddr};

use crate::Network;

/// The header that the proxies write. Only one is looked at: a proxy passes the other on as the client sent it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`
    #[default]
    XForwardedFor,
    /// `Forwarded`, RFC 7239
    Forwarded,
}

impl ForwardedHeader {
    /// The name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

/// Whose connection it is that came from `peer` with these values of the header, in their order.
///
/// An entry that hides the address or cannot be read ends the search: the client is then the last hop that is known.
pub fn client<'a>(
    peer: IpAddr,
    trusted: &[Network],
    header: ForwardedHeader,
    values: impl DoubleEndedIterator<Item = &'a [u8]>,
) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip));
    let mut client = peer.to_canonical();
    for value in values.rev() {
        let Some(hops) = std::str::from_utf8(value).ok().and_then(|text| hops(header, text)) else { return client };
        for hop in hops.into_iter().rev() {
            if !is_trusted(client) {
                return client;
            }
            let Some(ip) = hop else { return client };
            client = ip.to_canonical();
        }
    }
    client
}

/// The hops of one header line; none where the line is malformed, and for a hop without an address.
fn hops(header: ForwardedHeader, text: &str) -> Option<Vec<Option<IpAddr>>> {
    match header {
        ForwardedHeader::XForwardedFor => Some(text.split(',').map(|hop| address(hop.trim())).collect()),
        ForwardedHeader::Forwarded => {
            split_unquoted(text, ',')?.into_iter().map(|element| Some(address(&node(element)?))).collect()
        }
    }
}

/// What stands behind `for=` in an element of `Forwarded`; empty where that is missing, none where it is malformed.
fn node(element: &str) -> Option<String> {
    let mut found = None;
    for pair in split_unquoted(element, ';')? {
        let Some((name, value)) = pair.trim().split_once('=') else {
            if pair.trim().is_empty() {
                continue;
            }
            return None;
        };
        if name.eq_ignore_ascii_case("for") && found.replace(unquoted(value)?).is_some() {
            return None;
        }
    }
    Some(found.unwrap_or_default())
}

/// The parts between separators that stand outside of quotes; none where a quote is left open.
fn split_unquoted(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (index, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if character == separator && !quoted => {
                parts.push(&text[begin..index]);
                begin = index + separator.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    (!quoted).then_some(parts)
}

/// A token as it is, a quoted string without its quotes.
fn unquoted(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else {
        return (!value.contains('"')).then(|| value.to_owned());
    };
    let inner = inner.strip_suffix('"')?;
    // An address has nothing to escape.
    (!inner.contains(['"', '\\'])).then(|| inner.to_owned())
}

/// An address, with or without a port; IPv6 with a port, and in `Forwarded` always, in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.parse().ok();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    bare().or_else(bracketed).or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PROXY: &str = "10.0.0.1";

    fn found(header: ForwardedHeader, peer: &str, values: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        client(peer.parse().unwrap(), &trusted, header, values.iter().map(|value| value.as_bytes())).to_string()
    }

    #[test]
    fn the_rightmost_address_that_is_not_trusted_counts() {
        let check = |peer: &str, values: &[&str], want: &str| {
            assert_eq!(found(ForwardedHeader::XForwardedFor, peer, values), want, "{peer} {values:?}");
        };
        check(PROXY, &["192.0.2.7"], "192.0.2.7");
        check(PROXY, &["198.51.100.1, 192.0.2.7"], "192.0.2.7");
        check(PROXY, &["198.51.100.1, 192.0.2.7 , 10.2.2.2"], "192.0.2.7");
        check(PROXY, &["198.51.100.1", "192.0.2.7"], "192.0.2.7");
        check(PROXY, &["192.0.2.7:4711"], "192.0.2.7");
        check(PROXY, &["[2001:db8::1]:4711"], "2001:db8::1");
        check(PROXY, &["2001:db8::1"], "2001:db8::1");
        check(PROXY, &["::ffff:192.0.2.7"], "192.0.2.7");
        check(PROXY, &["10.3.3.3, 10.2.2.2"], "10.3.3.3");
        check(PROXY, &[], PROXY);
        check(PROXY, &[""], PROXY);
        check(PROXY, &["192.0.2.7, unknown"], PROXY);
        check(PROXY, &["192.0.2.7, garbage, 10.2.2.2"], "10.2.2.2");
        check("192.0.2.99", &["198.51.100.1"], "192.0.2.99");
        check("::1", &["192.0.2.7"], "192.0.2.7");
    }

    #[test]
    fn the_standard_header_is_read_likewise() {
        let check = |values: &[&str], want: &str| {
            assert_eq!(found(ForwardedHeader::Forwarded, PROXY, values), want, "{values:?}");
        };
        check(&["for=192.0.2.7"], "192.0.2.7");
        check(&["For=\"192.0.2.7:4711\";proto=https;by=10.0.0.1"], "192.0.2.7");
        check(&["for=198.51.100.1, by=10.0.0.9;for=\"[2001:db8::1]:4711\""], "2001:db8::1");
        check(&["for=192.0.2.7;host=\"a,b;c\", for=10.2.2.2"], "192.0.2.7");
        check(&["for=192.0.2.7, for=_hidden"], PROXY);
        check(&["for=192.0.2.7, for=unknown"], PROXY);
        check(&["for=192.0.2.7, proto=https"], PROXY);
        check(&["for=192.0.2.7;for=192.0.2.8"], PROXY);
        // An open quote would swallow what the proxy has appended.
        check(&["for=\"192.0.2.7, for=198.51.100.1"], PROXY);
        check(&["for=\"192.0.2.7", "for=198.51.100.1"], "198.51.100.1");
    }

    proptest! {
        #[test]
        fn who_is_not_trusted_is_who_they_are(values in prop::collection::vec(".{0,40}", 0..4)) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
                prop_assert_eq!(found(header, "192.0.2.99", &values), "192.0.2.99");
            }
        }

        #[test]
        fn what_stands_left_of_the_client_changes_nothing(spoofed in "[^,\"]{0,60}", before in ".{0,60}") {
            let line = format!("{spoofed}, 192.0.2.7");
            prop_assert_eq!(found(ForwardedHeader::XForwardedFor, PROXY, &[&before, &line]), "192.0.2.7");
            let line = format!("{spoofed}, for=192.0.2.7");
            let got = found(ForwardedHeader::Forwarded, PROXY, &[&before, &line]);
            // A line that is malformed says nothing.
            prop_assert!(got == "192.0.2.7" || got == PROXY, "{}", got);
        }
    }
}
