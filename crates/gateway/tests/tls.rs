//! TLS: the same lanes on encrypted connections, certificates that change, and hand-shakes that do not come about.

mod stage;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gateway::{Config, Gateway, Stop, TlsFiles};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version};
use serde_json::Value;
use stage::{Client, Raw, Response, Server, config, connect, trade, upgrade_request};
use tempfile::TempDir;

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A folder with a certificate and its key.
struct Issued {
    folder: TempDir,
}

impl Issued {
    fn new() -> Self {
        let issued = Self { folder: tempfile::tempdir().unwrap() };
        issued.renew();
        issued
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { certificate: self.folder.path().join("cert.pem"), key: self.folder.path().join("key.pem") }
    }

    /// Puts a new certificate in the place of the old one.
    fn renew(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
        fs::write(self.files().key, key.serialize_pem()).unwrap();
        fs::write(self.files().certificate, certificate.pem()).unwrap();
        certificate.der().clone()
    }

    fn certificate(&self) -> CertificateDer<'static> {
        use rustls::pki_types::pem::PemObject as _;
        CertificateDer::from_pem_file(self.files().certificate).unwrap()
    }

    fn config(&self) -> Config {
        Config { tls: Some(self.files()), ..config() }
    }
}

/// A hand-shake that trusts the one certificate and nothing else.
fn tls_with(
    address: SocketAddr,
    trusted: CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<TlsStream, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let config =
        ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = connect(address);
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

fn tls(address: SocketAddr, trusted: CertificateDer<'static>) -> TlsStream {
    tls_with(address, trusted, rustls::ALL_VERSIONS).unwrap()
}

fn client(server: &Server, issued: &Issued, subprotocol: &str) -> Client<TlsStream> {
    Client::over(tls(server.address, issued.certificate()), server.address, subprotocol)
}

fn subscribe<S: Read + Write>(client: &mut Client<S>) {
    client.expect("welcome");
    client.send(r#"{"op":"subscribe","channels":["trades"],"symbols":["AAA"]}"#);
    client.expect("subscribed");
}

#[test]
fn both_versions_are_sent_the_same_as_in_the_clear() {
    let issued = Issued::new();
    let server = Server::start(issued.config());
    let connect = |version| {
        let stream = tls_with(server.address, issued.certificate(), &[version]).unwrap();
        Client::over(stream, server.address, "ticker.v1.json")
    };
    let mut clients = [connect(&version::TLS12), connect(&version::TLS13)];
    clients.iter_mut().for_each(subscribe);
    server.play(vec![trade(0, 100), trade(0, 101)]);
    for client in &mut clients {
        let data = client.data();
        let seqs: Vec<_> = data.iter().map(|element| element["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, [1, 2]);
        assert_eq!(data[1]["price"], "1.01");
    }
}

#[test]
fn frames_that_come_with_the_request_are_read() {
    let issued = Issued::new();
    let server = Server::start(issued.config());
    let mut stream = tls(server.address, issued.certificate());
    let mut bytes = upgrade_request(&[]).into_bytes();
    bytes.extend(stage::frame(1, br#"{"op":"ping","id":1}"#));
    // One write each: the first is read by HTTP, and the second possibly within TLS on the way to the shard.
    stream.write_all(&bytes).unwrap();
    stream.write_all(&stage::frame(1, br#"{"op":"ping","id":2}"#)).unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !(text.contains("\"id\":1") && text.contains("\"id\":2")) {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

/// More than the buffers of both kernels take, so that records are cut, outboxes overflow, and gaps are declared.
#[test]
fn a_client_that_reads_late_loses_nothing_that_is_not_declared() {
    const TRADES: i64 = 60_000;
    let issued = Issued::new();
    let mut config = issued.config();
    config.limits.outbox_bytes_max = 256 * 1024;
    let server = Server::start(config);
    let mut client = client(&server, &issued, "ticker.v1.json");
    let mut punctual = self::client(&server, &issued, "ticker.v1.msgpack");
    subscribe(&mut client);
    punctual.expect("welcome");
    for batch in 0..TRADES / 500 {
        server.play((0..500).map(|n| trade(0, 1 + batch * 500 + n)).collect());
    }
    let mut next = 1;
    while next <= TRADES as u64 {
        let message = client.next();
        if message["code"] == "slow" {
            continue;
        }
        for element in message["data"].as_array().into_iter().flatten() {
            let number = |key: &str| element[key].as_u64().unwrap_or_else(|| panic!("{element}"));
            if element["type"] == "gap" {
                assert_eq!(number("from_seq"), next, "{element}");
                next = number("to_seq") + 1;
            } else {
                assert_eq!(number("seq"), next, "{element}");
                next += 1;
            }
        }
    }
    client.send(r#"{"op":"ping","id":"still there"}"#);
    while client.next()["id"] != "still there" {}
}

#[test]
fn the_end_is_said_in_both_languages() {
    let issued = Issued::new();
    let server = Server::start(issued.config());
    let mut client = client(&server, &issued, "ticker.v1.json");
    client.expect("welcome");
    server.stop(Stop::Drain);
    assert_eq!(client.close_code(), 1012);
    // Answers the close frame, after which the server ends the connection.
    while client.0.read().is_ok() {}
    // Without TLS's own word for the end this would be an error.
    let mut rest = Vec::new();
    client.0.get_mut().read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
}

/// The certificate that a new hand-shake is given.
fn shown(address: SocketAddr, candidates: &[CertificateDer<'static>]) -> Option<usize> {
    candidates.iter().position(|trusted| tls_with(address, trusted.clone(), rustls::ALL_VERSIONS).is_ok())
}

fn metric(stream: &mut TlsStream, name: &str) -> f64 {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_new_certificate_is_for_new_clients_and_a_bad_one_for_none() {
    let issued = Issued::new();
    let server = Server::start(issued.config());
    let old = issued.certificate();
    let mut client = client(&server, &issued, "ticker.v1.json");
    subscribe(&mut client);

    let new = issued.renew();
    let candidates = [old, new];
    // The files are looked at once a second; until then the old one is shown.
    while shown(server.address, &candidates) != Some(1) {}
    server.play(vec![trade(0, 100)]);
    assert_eq!(client.data()[0]["seq"], 1);

    let other = KeyPair::generate().unwrap();
    fs::write(issued.files().key, other.serialize_pem()).unwrap();
    let errors = || {
        let mut stream = tls(server.address, candidates[1].clone());
        metric(&mut stream, "tickerplant_tls_reload_errors_total")
    };
    while errors() < 1.0 {}
    assert_eq!(shown(server.address, &candidates), Some(1), "the one from before stays in force");
    server.play(vec![trade(0, 101)]);
    assert_eq!(client.data()[0]["seq"], 2);
    issued.renew();
    let newest = [issued.certificate()];
    while shown(server.address, &newest).is_none() {}
}

#[test]
fn files_that_are_no_good_are_named() {
    let check = |spoil: &dyn Fn(&TlsFiles), want: &str| {
        let issued = Issued::new();
        spoil(&issued.files());
        let error = Gateway::bind(issued.config()).unwrap_err().to_string();
        assert!(error.contains(want), "{error:?} does not say {want:?}");
    };
    let write = |path: &Path, text: &str| fs::write(path, text).unwrap();
    check(&|files| fs::remove_file(&files.certificate).unwrap(), "cert.pem: No such file");
    check(&|files| fs::remove_file(&files.key).unwrap(), "key.pem: No such file");
    check(&|files| write(&files.certificate, "hello"), "cert.pem: there is no certificate in it");
    check(&|files| write(&files.key, ""), "key.pem: there is no private key in it");
    check(
        &|files| write(&files.key, &KeyPair::generate().unwrap().serialize_pem()),
        "does not fit the certificate in ",
    );
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    check(&|files| write(&files.key, encrypted), "key.pem: the key is encrypted");
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    check(&|files| write(&files.key, no_key), "key.pem: the key is of no kind that can be used");
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    check(&|files| write(&files.certificate, no_certificate), "cert.pem: it is no certificate");
}

#[test]
fn keys_of_all_three_formats_are_read() {
    let issued = Issued::new();
    let files = issued.files();
    for (certificate, key) in [
        (include_str!("tls/rsa.crt"), include_str!("tls/rsa.pkcs1.key")),
        (include_str!("tls/rsa.crt"), include_str!("tls/rsa.pkcs8.key")),
        (include_str!("tls/ec.crt"), include_str!("tls/ec.sec1.key")),
    ] {
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
        Gateway::bind(issued.config()).unwrap();
    }
}

#[test]
fn plain_http_on_a_port_of_tls_is_told_so() {
    let issued = Issued::new();
    let server = Server::start(issued.config());
    let response = server.get("/api/v1/instruments");
    assert_eq!(response.status, 400);
    assert!(response.body.contains("https:// or wss://"), "{response:?}");
    // A WebSocket in the clear, likewise.
    let mut stream = connect(server.address);
    stream.write_all(upgrade_request(&[]).as_bytes()).unwrap();
    assert_eq!(Response::read(&mut stream).status, 400);
    let mut stream = tls(server.address, issued.certificate());
    assert!(metric(&mut stream, "tickerplant_tls_handshake_failures_total{reason=\"plain_http\"}") >= 2.0);
}

#[test]
fn a_hand_shake_that_is_not_finished_is_given_up() {
    let issued = Issued::new();
    let server = Server::start(Config { handshake_timeout: Duration::from_millis(100), ..issued.config() });
    // Nothing at all; the begin of a record; a hand-shake, and no request.
    let mut silent = Raw(connect(server.address));
    let mut begun = Raw(connect(server.address));
    begun.send(&[22, 3, 1, 2, 0, 1]);
    let mut shaken = tls(server.address, issued.certificate());
    assert!(silent.at_end() && begun.at_end());
    assert!(!matches!(shaken.read(&mut [0]), Ok(1)));
    // And what is none.
    let mut noise = Raw(connect(server.address));
    noise.send(&[0x80; 600]);
    // A reset when the server had not read all of it.
    assert!(!matches!(noise.0.read(&mut [0]), Ok(1)));
}

#[test]
fn rest_is_served_and_clients_of_one_address_are_limited() {
    let issued = Issued::new();
    let server = Server::start(Config { connections_per_ip: 1, ..issued.config() });
    let mut stream = tls(server.address, issued.certificate());
    stream.write_all(b"GET /api/v1/instruments HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let instruments: Value = serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(instruments["instruments"].as_array().map(Vec::len), Some(2), "{text}");
    let mut first = client(&server, &issued, "ticker.v1.json");
    first.expect("welcome");
    let mut second = tls(server.address, issued.certificate());
    second.write_all(upgrade_request(&[("Connection", "Upgrade, close")]).as_bytes()).unwrap();
    let mut status = [0; 13];
    second.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 429 ");
}
