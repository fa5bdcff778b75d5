//! What proxies say of their clients: no panic, no more bytes asked for than a header may have, and a word that nobody
//! trusts changes nothing.
//!
//! The first byte picks the reader; the rest are the first bytes of a connection, or lines of a header.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use peer::{ForwardedHeader, Network, proxy_protocol};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fuzz_target!(|data: &[u8]| {
    match data {
        [b'p', rest @ ..] => connection(rest),
        [b'x', rest @ ..] => header(ForwardedHeader::XForwardedFor, rest),
        [b'f', rest @ ..] => header(ForwardedHeader::Forwarded, rest),
        _ => {}
    }
});

/// As the gateway reads it: never more than was asked for.
fn connection(bytes: &[u8]) {
    let mut read = 0;
    loop {
        match proxy_protocol::parse(&bytes[..read]) {
            Ok(proxy_protocol::Progress::NeedsBytes(needed)) => {
                assert!(needed > read && needed <= proxy_protocol::HEADER_BYTES_MAX);
                if needed > bytes.len() {
                    return;
                }
                read = needed;
            }
            Ok(proxy_protocol::Progress::Complete(_)) => return,
            Err(error) => {
                // What is wrong stays wrong, whatever follows.
                assert!(proxy_protocol::parse(bytes).is_err(), "{error}");
                return;
            }
        }
    }
}

fn header(name: ForwardedHeader, data: &[u8]) {
    let lines = || data.split(|&byte| byte == b'\n');
    assert_eq!(peer::client(PEER, &[], name, lines()), PEER);
    let networks: Vec<Network> = ["10.0.0.0/8", "fd00::/8"].iter().filter_map(|text| text.parse().ok()).collect();
    let client = peer::client(PEER, &networks, name, lines());
    // Another line in front was written by somebody further away, who is asked only if all others are trusted.
    let longer = peer::client(PEER, &networks, name, std::iter::once(&b"203.0.113.9"[..]).chain(lines()));
    let trusted = networks.iter().any(|network| network.contains(client));
    assert!(trusted || longer == client, "{client} became {longer}");
}
