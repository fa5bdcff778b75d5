//! Who is let in: hand-shakes that are refused and why, and the limits at the door.

mod stage;

use std::io::Write;

use gateway::Config;
use stage::{Client, Raw, Response, Server, config, connect, upgrade_request};

#[test]
fn bad_hand_shakes_are_refused_with_a_reason() {
    let server = Server::start(config());
    let check = |change: &[(&str, &str)], status: u16, says: &str| {
        let mut stream = connect(server.address);
        let request = upgrade_request(change).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let response = Response::read(&mut stream);
        assert_eq!(response.status, status, "{change:?}: {response:?}");
        assert!(response.body.contains(says), "{change:?}: {response:?}");
        response
    };
    check(&[("Upgrade", "")], 400, "Upgrade");
    check(&[("Upgrade", "h2c")], 400, "Upgrade");
    check(&[("Connection", "")], 400, "Connection");
    check(&[("Sec-WebSocket-Key", "")], 400, "Sec-WebSocket-Key");
    check(&[("Sec-WebSocket-Key", "c2hvcnQ=")], 400, "Sec-WebSocket-Key");
    let old = check(&[("Sec-WebSocket-Version", "8")], 426, "13");
    assert!(old.head.contains("sec-websocket-version: 13"), "{old:?}");
    let unknown = check(&[("Sec-WebSocket-Protocol", "ticker.v9, mqtt")], 400, "ticker.v1.msgpack");
    assert!(unknown.body.contains("ticker.v1.json"), "{unknown:?}");
    check(&[("Content-Length", "3")], 400, "body");
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("tickerplant_upgrades_refused_total{reason=\"subprotocol\"} 1"), "{metrics}");
}

#[test]
fn other_methods_are_refused() {
    let server = Server::start(config());
    let mut stream = connect(server.address);
    let request = upgrade_request(&[("Connection", "Upgrade, close")]).replacen("GET", "POST", 1);
    stream.write_all(request.as_bytes()).unwrap();
    let response = Response::read(&mut stream);
    assert_eq!(response.status, 405);
    assert!(response.head.contains("allow: get"), "{response:?}");
}

#[test]
fn pages_of_origins_that_are_not_listed_are_refused() {
    let server = Server::start(Config { origins: vec!["https://desk.example".into()], ..config() });
    let check = |origin: &str, want: u16| {
        let mut stream = connect(server.address);
        stream.write_all(upgrade_request(&[("Origin", origin)]).as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut head = [0; 12];
        std::io::Read::read_exact(&mut stream, &mut head).unwrap();
        assert_eq!(std::str::from_utf8(&head[9..]).unwrap(), want.to_string(), "{origin}");
    };
    check("https://desk.example", 101);
    check("https://evil.example", 403);
    check("", 101);
}

#[test]
fn origins_that_are_none_are_named() {
    let error = gateway::Gateway::bind(Config { origins: vec!["desk".into()], ..config() }).unwrap_err();
    assert!(error.to_string().contains("`desk`"), "{error}");
}

#[test]
fn the_subprotocol_and_the_query_choose_the_encoding() {
    let server = Server::start(config());
    for subprotocol in ["ticker.v1.msgpack", "ticker.v1.json"] {
        let mut client = Client::connect(server.address, subprotocol);
        let message = client.0.read().unwrap();
        assert_eq!(message.is_text(), subprotocol == "ticker.v1.json");
    }
    let mut by_query = Raw::connect(server.address, &[]);
    assert_eq!(by_query.next()["type"], "welcome");
    let mut stream = connect(server.address);
    stream.write_all(upgrade_request(&[]).replace("?format=json", "").as_bytes()).unwrap();
    let mut by_default = tungstenite::WebSocket::from_raw_socket(
        {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
                head.push(byte[0]);
            }
            stream
        },
        tungstenite::protocol::Role::Client,
        None,
    );
    assert!(by_default.read().unwrap().is_binary());
}

fn refused(server: &Server) -> Response {
    let mut stream = connect(server.address);
    stream.write_all(upgrade_request(&[("Connection", "Upgrade, close")]).as_bytes()).unwrap();
    Response::read(&mut stream)
}

#[test]
fn connections_of_one_address_are_limited_and_places_come_free() {
    let server = Server::start(Config { connections_per_ip: 2, ..config() });
    let mut first = server.json_client();
    let _second = server.json_client();
    let third = refused(&server);
    assert_eq!(third.status, 429);
    assert!(third.head.contains("retry-after: "), "{third:?}");
    assert!(third.body.contains("connections_per_ip is 2"), "{third:?}");
    first.0.close(None).unwrap();
    // The server ends the connection once the close frames are exchanged, and frees the place no later.
    while first.0.read().is_ok() {}
    drop(first);
    loop {
        // The end of the stream and the freed place are seen by different threads.
        let mut stream = connect(server.address);
        stream.write_all(upgrade_request(&[]).as_bytes()).unwrap();
        let mut head = [0; 12];
        std::io::Read::read_exact(&mut stream, &mut head).unwrap();
        if &head == b"HTTP/1.1 101" {
            break;
        }
    }
}

#[test]
fn new_connections_of_one_address_are_limited_per_second() {
    let server = Server::start(Config { new_connections_per_ip_per_s: 1, ..config() });
    let _first = server.json_client();
    let second = refused(&server);
    assert_eq!(second.status, 429);
    assert!(second.body.contains("new_connections_per_ip_per_s is 1"), "{second:?}");
}

#[test]
fn connections_in_all_are_limited() {
    let server = Server::start(Config { connections_max: 1, ..config() });
    let _first = server.json_client();
    let second = refused(&server);
    assert_eq!(second.status, 503);
    assert!(second.head.contains("retry-after: "), "{second:?}");
    assert!(second.body.contains("connections_max is 1"), "{second:?}");
    assert_eq!(server.get("/healthz").status, 200, "plain requests are not counted");
}

#[test]
fn a_client_that_never_finishes_its_request_is_cut_off() {
    let server = Server::start(Config { handshake_timeout: std::time::Duration::from_millis(50), ..config() });
    for begun in ["", "GET /ws HTTP/1.1\r\nHost: lo"] {
        let mut stream = connect(server.address);
        stream.write_all(begun.as_bytes()).unwrap();
        // Ends only because the server gives up: the stage's patience is an error.
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut rest).unwrap();
    }
}

#[test]
fn heads_that_are_too_long_are_refused() {
    let server = Server::start(config());
    let mut stream = connect(server.address);
    let long = "x".repeat(20_000);
    // The server may close while this is still being sent.
    let _ = stream.write_all(upgrade_request(&[("Cookie", &long)]).as_bytes());
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(server.get("/healthz").status, 200);
}
