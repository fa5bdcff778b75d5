//! RFC 6455 section 4: the hand-shake, and each way to be refused.

use super::*;

#[test]
fn a_hand_shake_may_come_a_byte_at_a_time() {
    let server = Server::start(settings());
    let mut stream = connect(server.address);
    let bytes = [upgrade_request(&[]).as_bytes(), &good("early"), &close(1000)].concat();
    for byte in bytes {
        stream.write_all(&[byte]).unwrap();
    }
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(said(&mut stream, None), [answer("early"), Said::Close(Some(1000))]);
}

#[test]
fn a_hand_shake_that_trickles_in_is_cut_by_the_time_limit() {
    let server = Server::start(Config { handshake_timeout: Duration::from_millis(100), ..settings() });
    let mut stream = connect(server.address);
    // Waiting for an answer is the pause between two bytes: each is progress, and yet the whole is too slow.
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let endless = upgrade_request(&[("Cookie", &"x".repeat(8000))]);
    let mut answered = Vec::new();
    for byte in endless.as_bytes() {
        let mut chunk = [0; 256];
        match stream.write_all(&[*byte]).and_then(|()| stream.read(&mut chunk)) {
            Ok(0) => break,
            Ok(count) => answered.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // Reset: the server had closed when this byte came.
            Err(_) => break,
        }
    }
    assert!(answered.is_empty() || answered.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answered));
    let said = talk(server.address, &upgrade_request(&[]), &close(1000), Cut::Whole);
    assert_eq!(said, [Said::Close(Some(1000))], "one in time is let in");
}

/// The status, the head in lower case and the body of the answer to `request`.
pub(super) fn response(address: SocketAddr, request: &[u8]) -> (u16, String, String) {
    let mut stream = connect(address);
    // Refused before all is read: then the rest cannot be written, or the answer is lost in a reset.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    let status = head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    (status, head, String::from_utf8(body).unwrap())
}

#[test]
fn every_refusal_has_its_status_a_reason_and_a_counter() {
    let server = Server::start(Config { origins: vec!["https://desk.example".into()], ..settings() });
    let mut counted = BTreeMap::new();
    let mut check = |request: String, status: u16, label: &'static str, says: &str| {
        let (got, head, body) = response(server.address, request.as_bytes());
        assert_eq!(got, status, "{request}{head}{body}");
        assert!(body.contains(says), "{request}{body}");
        assert!(head.contains("\r\ncontent-type: text/plain"), "{head}");
        *counted.entry(label).or_insert(0) += 1;
        head
    };
    let with = |change: &[(&str, &str)]| upgrade_request(change);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "get"] {
        let head = check(with(&[]).replacen("GET", method, 1), 405, "method", "GET");
        assert!(head.contains("\r\nallow: get\r\n"), "{head}");
    }
    check(with(&[]).replacen("HTTP/1.1", "HTTP/1.0", 1), 400, "http_version", "HTTP/1.1");
    check(with(&[("Host", "")]), 400, "host", "Host");
    check(with(&[("Host", "a"), ("Host", "b")]), 400, "host", "Host");
    for value in ["", "h2c", "websockets", "web socket", "websocket/13"] {
        check(with(&[("Upgrade", value)]), 400, "upgrade", "Upgrade");
    }
    for value in ["", "keep-alive", "upgrades", "upgrade keep-alive"] {
        check(with(&[("Connection", value)]), 400, "connection", "Connection");
    }
    let longer = "dGhlIHNhbXBsZSBub25jZWU=";
    for key in
        ["", "c2hvcnQ=", longer, "dGhlIHNhbXBsZSBub25jZQ", "not base64 at all!!!!!==", "dGhl,IHNhbXBsZSBub25jZQ=="]
    {
        check(with(&[("Sec-WebSocket-Key", key)]), 400, "key", "Sec-WebSocket-Key");
    }
    check(with(&[("Sec-WebSocket-Key", KEY), ("sec-websocket-key", KEY)]), 400, "key", "once");
    for version in ["", "8", "12", "14", "13, 8", "13.0", "+13"] {
        let head = check(with(&[("Sec-WebSocket-Version", version)]), 426, "version", "13");
        assert!(head.contains("\r\nsec-websocket-version: 13\r\n"), "{head}");
        assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    }
    check(with(&[("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Version", "8")]), 426, "version", "13");
    check(with(&[("Content-Length", "3")]) + "abc", 400, "body", "body");
    check(with(&[("Transfer-Encoding", "chunked")]) + "0\r\n\r\n", 400, "body", "body");
    check(with(&[("Sec-WebSocket-Protocol", "ticker.v9, mqtt")]), 400, "subprotocol", "ticker.v1.json");
    check(with(&[("Sec-WebSocket-Protocol", "a b")]), 400, "subprotocol", "tokens");
    let doubled = [("Sec-WebSocket-Protocol", "ticker.v1.json"), ("Sec-WebSocket-Protocol", "ticker.v1.json")];
    check(with(&doubled), 400, "subprotocol", "twice");
    for origin in [
        "https://evil.example",
        "http://desk.example",
        "https://desk.example:8443",
        "https://desk.example.evil",
        "null",
    ] {
        check(with(&[("Origin", origin)]), 403, "origin", "may not connect");
    }
    check(with(&[("Origin", "https://desk.example"), ("Origin", "https://desk.example")]), 400, "origin", "once");
    let metrics = server.get("/metrics").body;
    for (label, count) in counted {
        let line = format!("tickerplant_upgrades_refused_total{{reason=\"{label}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

#[test]
fn what_is_not_http_or_has_too_long_a_head_is_refused_before_that() {
    let server = Server::start(settings());
    let check = |request: &[u8], statuses: &[u16]| {
        let (status, head, _) = response(server.address, request);
        // 0: the answer was lost because the rest of the request was still on its way.
        assert!(statuses.contains(&status), "{head}");
    };
    check(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", &[400]);
    check(b"GET /ws\r\n\r\n", &[400]);
    check(upgrade_request(&[("Bad Name", "x")]).as_bytes(), &[400]);
    check(upgrade_request(&[("Cookie", &"x".repeat(20_000))]).as_bytes(), &[431, 0]);
    let path = upgrade_request(&[]).replacen("/ws", &format!("/ws?{}", "x".repeat(20_000)), 1);
    check(path.as_bytes(), &[414, 431, 0]);
    let names: Vec<String> = (0..100).map(|n| format!("X-{n}")).collect();
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (&name[..], "x")).collect();
    check(upgrade_request(&headers).as_bytes(), &[431]);
    self::check(&server, "the next client", &[], &[]);
}

#[test]
fn lists_of_tokens_are_read_in_any_case_and_over_several_lines() {
    let server = Server::start(Config { origins: vec!["https://desk.example".into()], ..settings() });
    let check = |change: &[(&str, &str)]| {
        let (status, head, body) = response(server.address, upgrade_request(change).as_bytes());
        assert_eq!(status, 101, "{change:?}: {body}");
        // The value is compared without its case here; that it is right is also what every client checks.
        assert!(head.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
        assert!(head.contains("\r\nupgrade: websocket\r\n") && head.contains("\r\nconnection: upgrade\r\n"), "{head}");
        head
    };
    let plain = check(&[]);
    assert!(!plain.contains("sec-websocket-protocol") && !plain.contains("sec-websocket-extensions"), "{plain}");
    check(&[("upgrade", "WebSocket"), ("CONNECTION", "keep-alive, UPGRADE")]);
    check(&[("Connection", "keep-alive"), ("connection", " ,upgrade\t, x")]);
    check(&[("Upgrade", "h2c"), ("Upgrade", "x/1, WEBSOCKET")]);
    check(&[("sec-websocket-KEY", "  dGhlIHNhbXBsZSBub25jZQ==  "), ("sec-websocket-version", " 13 ")]);
    check(&[("Origin", "https://desk.example")]);
    check(&[("Origin", "https://DESK.example:443")]);
    let chosen =
        check(&[("Sec-WebSocket-Protocol", "mqtt"), ("sec-websocket-protocol", "ticker.v1.json,,ticker.v1.msgpack")]);
    assert!(chosen.contains("\r\nsec-websocket-protocol: ticker.v1.msgpack\r\n"), "{chosen}");
    let unknown = check(&[("Sec-WebSocket-Extensions", "x-webkit-deflate-frame, permessage-bzip2; a=\"1,2\"")]);
    assert!(!unknown.contains("sec-websocket-extensions"), "{unknown}");
}
