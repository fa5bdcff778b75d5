//! The tool against a server that speaks TLS: whom it trusts, and that it checks there what it checks everywhere.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread;

use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

type Connection = StreamOwned<ServerConnection, std::net::TcpStream>;

/// A frame of so many elements fills several records of TLS and is read in parts.
const TRADES: u64 = 5000;

/// A server with a certificate for `localhost`, and the file of the authority that has signed it.
fn serve(folder: &Path) -> (String, PathBuf) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let file = folder.join("authority.pem");
    std::fs::write(&file, authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap());
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let stream = StreamOwned::new(connection, stream.unwrap());
            thread::spawn(move || converse(stream));
        }
    });
    (format!("wss://localhost:{port}/ws"), file)
}

/// One connection, to which trades are streamed without end. A failed write is the client's end of the test.
fn converse(mut stream: Connection) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap();
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let hash = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let accept = base64::engine::general_purpose::STANDARD.encode(hash);
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
    stream.write_all(answer.as_bytes()).ok()?;
    stream.write_all(&binary(&json!({"type": "welcome"}))).ok()?;
    // The subscription: a masked frame of which nothing is looked at.
    if stream.read(&mut [0; 4096]).ok()? == 0 {
        return None;
    }
    stream.write_all(&binary(&json!({"type": "subscribed", "id": 1}))).ok()?;
    for number in 0.. {
        let trades = (1..=TRADES).map(|n| json!([1, 7, number * TRADES + n, 5, 100, 1, 1, 0]));
        let frame: Vec<Value> = std::iter::once(json!(9)).chain(trades).collect();
        stream.write_all(&binary(&Value::Array(frame))).ok()?;
    }
    Some(())
}

fn binary(value: &Value) -> Vec<u8> {
    let payload = rmp_serde::to_vec(value).unwrap();
    let mut frame = match u8::try_from(payload.len()) {
        Ok(length) if length <= 125 => vec![0x82, length],
        _ => [&[0x82, 127], &(payload.len() as u64).to_be_bytes()[..]].concat(),
    };
    frame.extend(payload);
    frame
}

fn loadtest(url: &str, more: &[&str]) -> Output {
    let fixed = "--connections 3 --seconds 0.3 --warmup-s 0 --connect-timeout-s 30 --series-ms 100 --metrics-url off";
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["run", "--url", url, "--snapshot=false", "--json", "-"]).args(fixed.split(' ')).args(more);
    command.output().unwrap()
}

#[test]
fn every_element_is_checked_on_encrypted_connections() {
    let folder = tempfile::tempdir().unwrap();
    let (url, authority) = serve(folder.path());
    for trust in [&["--ca", authority.to_str().unwrap()][..], &["--insecure"]] {
        let output = loadtest(&url, trust);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["verdict"], "complete");
        assert_eq!(report["connections"]["up"], 3);
        assert_eq!(report["findings"]["missing"], 0);
        assert!(report["traffic"]["elements"].as_u64().unwrap() > TRADES, "{report}");
        assert_eq!(report["setting"]["url"], url);
    }
}

#[test]
fn nobody_is_trusted_who_was_not_named() {
    let folder = tempfile::tempdir().unwrap();
    let (url, _) = serve(folder.path());
    let output = loadtest(&url, &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("--ca FILE") && told.contains("--insecure"), "{told}");

    let other = tempfile::tempdir().unwrap();
    let (_, stranger) = serve(other.path());
    let output = loadtest(&url, &["--ca", stranger.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("invalid peer certificate"), "{told}");
}
