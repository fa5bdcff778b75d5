//! Clients behind proxies: whose word for their address is taken, and that limits per address are theirs.

mod stage;

use std::io::{Read, Write};
use std::net::TcpStream;

use gateway::{Config, ForwardedHeader, ProxyConfig};
use stage::{PATIENCE, Server, config, connect, upgrade_request};

/// One connection for each address.
fn one_each(trusted: &[&str], header: ForwardedHeader, protocol: bool) -> Server {
    let trusted = trusted.iter().map(|network| network.parse().unwrap()).collect();
    Server::start(Config { connections_per_ip: 1, proxies: ProxyConfig { trusted, header, protocol }, ..config() })
}

/// An upgrade behind those first bytes and with those headers. The connection, and the status of the answer, if there is one.
fn upgrade(server: &Server, first: &[u8], headers: &[(&str, &str)]) -> (TcpStream, Option<u16>) {
    let mut stream = connect(server.address);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = first.to_vec();
    bytes.extend(upgrade_request(headers).as_bytes());
    stream.write_all(&bytes).unwrap();
    let mut status = [0; 12];
    let answered = stream.read_exact(&mut status).is_ok();
    let number = || std::str::from_utf8(&status[9..]).unwrap().parse().unwrap();
    (stream, answered.then(number))
}

const FORWARDED_FOR: &str = "X-Forwarded-For";

#[test]
fn clients_of_a_trusted_proxy_are_told_apart() {
    let server = one_each(&["127.0.0.0/8"], ForwardedHeader::XForwardedFor, false);
    let check = |value: &str, want: u16| {
        let (stream, status) = upgrade(&server, b"", &[(FORWARDED_FOR, value)]);
        assert_eq!(status, Some(want), "{value}");
        stream
    };
    let _first = check("192.0.2.1", 101);
    let _other = check("192.0.2.2", 101);
    check("192.0.2.1", 429);
    // What the client wrote itself stands on the left.
    check("198.51.100.77, 192.0.2.1", 429);
    check("198.51.100.78, 192.0.2.1, 127.0.0.5", 429);
    // The header that the proxy does not write is the client's own.
    let (_, status) = upgrade(&server, b"", &[(FORWARDED_FOR, "192.0.2.1"), ("Forwarded", "for=198.51.100.79")]);
    assert_eq!(status, Some(429));
}

#[test]
fn the_standard_header_where_it_is_chosen() {
    let server = one_each(&["127.0.0.1"], ForwardedHeader::Forwarded, false);
    let check = |value: &str, want: u16| {
        let (stream, status) = upgrade(&server, b"", &[("Forwarded", value)]);
        assert_eq!(status, Some(want), "{value}");
        stream
    };
    let _first = check("for=192.0.2.1;proto=https", 101);
    let _other = check("for=\"[2001:db8::1]:4711\"", 101);
    check("for=198.51.100.1, for=192.0.2.1", 429);
    check("for=\"[2001:db8::2]\"", 429);
}

#[test]
fn nobody_else_is_believed() {
    for trusted in [&[][..], &["10.0.0.0/8"]] {
        let server = one_each(trusted, ForwardedHeader::XForwardedFor, true);
        let (_first, status) = upgrade(&server, b"", &[(FORWARDED_FOR, "192.0.2.1")]);
        assert_eq!(status, Some(101));
        for spoofed in ["192.0.2.2", "10.0.0.1", "127.0.0.2"] {
            assert_eq!(upgrade(&server, b"", &[(FORWARDED_FOR, spoofed)]).1, Some(429), "{trusted:?} {spoofed}");
        }
        // To whom is not trusted the PROXY protocol is no HTTP.
        assert_eq!(upgrade(&server, b"PROXY TCP4 192.0.2.9 127.0.0.1 1 2\r\n", &[]).1, Some(400));
    }
}

#[test]
fn both_versions_of_the_proxy_protocol_tell_clients_apart() {
    let server = one_each(&["127.0.0.1"], ForwardedHeader::XForwardedFor, true);
    let mut version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    version_2.extend([192, 0, 2, 2, 127, 0, 0, 1, 0, 1, 0, 2]);
    let version_1 = b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 443\r\n";
    let (_first, status) = upgrade(&server, version_1, &[]);
    assert_eq!(status, Some(101));
    let (_other, status) = upgrade(&server, &version_2, &[]);
    assert_eq!(status, Some(101));
    for header in [&version_1[..], &version_2] {
        assert_eq!(upgrade(&server, header, &[]).1, Some(429));
        // Behind the header it is the client that writes, who is not trusted.
        assert_eq!(upgrade(&server, header, &[(FORWARDED_FOR, "198.51.100.1")]).1, Some(429));
    }
    // The proxy's own connection.
    assert_eq!(upgrade(&server, b"PROXY UNKNOWN\r\n", &[]).1, Some(101));
    for wrong in [&b""[..], b"PROXY TCP4 192.0.2.1 127.0.0.1 4711\r\n", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"] {
        assert_eq!(upgrade(&server, wrong, &[]).1, None, "{wrong:?}");
    }
}

#[test]
fn connections_without_a_session_count_for_the_client_that_the_proxy_names() {
    let trusted = vec!["127.0.0.1".parse().unwrap()];
    let proxies = ProxyConfig { trusted, protocol: true, header: ForwardedHeader::XForwardedFor };
    let server = Server::start(Config { http_connections_per_ip: 1, proxies, ..config() });
    let open = |address: &str| {
        let mut stream = connect(server.address);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("PROXY TCP4 {address} 127.0.0.1 4711 443\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (stream, std::str::from_utf8(&status[9..]).unwrap().to_owned())
    };
    // The proxy has as many connections as it has clients.
    let (_first, status) = open("192.0.2.1");
    assert_eq!(status, "200");
    let (_other, status) = open("192.0.2.2");
    assert_eq!(status, "200");
    assert_eq!(open("192.0.2.1").1, "429");
}
