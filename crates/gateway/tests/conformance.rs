//! RFC 6455 and RFC 7692 at `/ws`, byte for byte: public suites want an echo, and this server does not echo.
//!
//! A case is what a client sends and all that the server sends until the connection ends. The clients here are raw sockets:
//! a WebSocket library would refuse to send most of this.

mod stage;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use gateway::Config;
use serde_json::Value;
use socket2::SockRef;
use stage::{KEY, Server, config, connect, frame, upgrade_request};

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2: u8 = 0x20;
const RSV3: u8 = 0x10;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What the server makes of a client's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// The answer to the `ping` command with this id
    Answer(String),
    /// An `error` of this code
    Error(String),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

fn answer(id: &str) -> Said {
    Said::Answer(id.to_owned())
}

fn error(code: &str) -> Said {
    Said::Error(code.to_owned())
}

/// A masked frame with any first byte.
fn part(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(0, payload);
    bytes[0] = first;
    bytes
}

/// A masked frame's header, which announces `length` bytes in a form with that many bytes.
fn announced(first: u8, form_bytes: usize, length: u64) -> Vec<u8> {
    let form = if form_bytes == 2 { 126 } else { 127 };
    [&[first, 0x80 | form], &length.to_be_bytes()[8 - form_bytes..], &[0; 4]].concat()
}

fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, payload.len() as u8], payload].concat()
}

/// A command that is answered with its id.
fn ping_command(id: &str) -> String {
    format!(r#"{{"op":"ping","id":"{id}"}}"#)
}

fn good(id: &str) -> Vec<u8> {
    part(FIN | TEXT, ping_command(id).as_bytes())
}

fn close(code: u16) -> Vec<u8> {
    part(FIN | CLOSE, &code.to_be_bytes())
}

/// Settings without limits per client, which are not the subject.
fn settings() -> Config {
    let mut settings = config();
    settings.limits.commands_per_s = 0;
    settings.limits.message_bytes_max = 4000;
    settings
}

/// How the bytes are handed to the socket.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    EachByte,
    /// In the very segment of the request
    WithRequest,
}

/// Connects, sends `bytes`, and returns all that the server says after the welcome until it ends the connection.
///
/// Fails if the server compresses without having agreed to.
fn talk(address: SocketAddr, request: &str, bytes: &[u8], cut: Cut) -> Vec<Said> {
    let mut stream = connect(address);
    let mut first = request.as_bytes().to_vec();
    if matches!(cut, Cut::WithRequest) {
        first.extend_from_slice(bytes);
    }
    stream.write_all(&first).unwrap();
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let mut inflater = deflate::agreed(&head).map(deflate::Inflate::new);
    match cut {
        // A server that has closed need not take the rest.
        Cut::Whole => drop(stream.write_all(bytes)),
        Cut::EachByte => bytes.iter().for_each(|byte| drop(stream.write_all(&[*byte]))),
        Cut::WithRequest => {}
    }
    said(&mut stream, inflater.as_mut())
}

/// Reads to the end of the connection.
fn said(stream: &mut TcpStream, mut inflate: Option<&mut deflate::Inflate>) -> Vec<Said> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let mut rest = &bytes[..];
    let mut welcomes = 0;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (first, payload) = take_frame(&mut rest);
        match first & 0x0f {
            TEXT => {
                let payload = match (first & 0x70, &mut inflate) {
                    (0, _) => payload.to_vec(),
                    (RSV1, Some(inflate)) => inflate.message(first, payload),
                    _ => panic!("reserved bits were not agreed upon"),
                };
                let message: Value = serde_json::from_slice(&payload).unwrap();
                match message["type"].as_str().unwrap() {
                    "welcome" => welcomes += 1,
                    "heartbeat" => {}
                    "pong" => all.push(answer(message["id"].as_str().unwrap())),
                    "error" => all.push(error(message["code"].as_str().unwrap())),
                    other => panic!("{other} was not asked for"),
                }
            }
            _ if first & 0x70 != 0 => panic!("a reserved bit on a control frame"),
            PING => {}
            PONG => all.push(Said::Pong(payload.to_vec())),
            CLOSE => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                // A reason is text, too.
                assert!(str::from_utf8(payload.get(2..).unwrap_or_default()).is_ok());
                all.push(Said::Close(code));
                assert!(rest.is_empty(), "nothing follows a close");
            }
            other => panic!("opcode {other} was sent"),
        }
    }
    assert_eq!(welcomes, 1);
    all
}

/// A frame as a server has to send it: final, not masked, with the shortest length. Its first byte, and its payload.
fn take_frame<'a>(rest: &mut &'a [u8]) -> (u8, &'a [u8]) {
    let (&[first, length], after) = rest.split_first_chunk().expect("a whole header");
    assert!(first & FIN != 0, "final");
    let (length, after) = match length {
        126 => {
            let (length, after) = after.split_first_chunk().expect("a whole length");
            let length = usize::from(u16::from_be_bytes(*length));
            assert!(length > 125, "the shortest form");
            (length, after)
        }
        127 => {
            let (length, after) = after.split_first_chunk().expect("a whole length");
            let length = u64::from_be_bytes(*length) as usize;
            assert!(length > 0xffff, "the shortest form");
            (length, after)
        }
        short => {
            assert!(short < 126, "not masked");
            (usize::from(short), after)
        }
    };
    let (payload, after) = after.split_at(length);
    *rest = after;
    (first, payload)
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase().replacen("http/1.1", "HTTP/1.1", 1)
}

/// What is valid is answered so, however it is cut, and the session lives on until the client closes.
fn check(server: &Server, what: &str, frames: &[Vec<u8>], expected: &[Said]) {
    let bytes = [frames.concat(), good("still here"), close(1000)].concat();
    let expected = [expected, &[answer("still here"), Said::Close(Some(1000))]].concat();
    for &cut in cuts(&bytes) {
        let said = talk(server.address, &upgrade_request(&[]), &bytes, cut);
        assert_eq!(said, expected, "{what}, {cut:?}");
    }
}

/// After a good command, `frames` make the server close with this code and end the connection, whatever follows.
fn check_violation(server: &Server, what: &str, code: u16, frames: &[Vec<u8>]) {
    let bytes = [good("before"), frames.concat(), good("ignored")].concat();
    for &cut in cuts(&bytes) {
        let said = talk(server.address, &upgrade_request(&[]), &bytes, cut);
        assert_eq!(said, after_violation(code), "{what}, {cut:?}");
    }
}

/// What the server says to a client that breaks a rule after a command.
fn after_violation(code: u16) -> Vec<Said> {
    // Only of a message's length does the protocol have a word of its own.
    let error = (code == 1009).then(|| error("message_too_big"));
    [Some(answer("before")), error, Some(Said::Close(Some(code)))].into_iter().flatten().collect()
}

/// Every cut; a packet for each of thousands of bytes would show nothing that hundreds do not.
fn cuts(bytes: &[u8]) -> &'static [Cut] {
    if bytes.len() < 500 { &[Cut::Whole, Cut::EachByte, Cut::WithRequest] } else { &[Cut::Whole, Cut::WithRequest] }
}

#[test]
fn broken_rules_of_framing_are_1002() {
    let server = Server::start(settings());
    let check = |what: &str, frames: &[Vec<u8>]| check_violation(&server, what, 1002, frames);
    check("unmasked text", &[unmasked(FIN | TEXT, b"hi")]);
    check("unmasked empty ping", &[unmasked(FIN | PING, b"")]);
    check("unmasked close", &[unmasked(FIN | CLOSE, &[3, 232])]);
    for (bit, name) in [(RSV1, "RSV1"), (RSV2, "RSV2"), (RSV3, "RSV3"), (0x70, "all")] {
        for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
            check(name, &[part(FIN | bit | opcode, b"")]);
        }
        check(name, &[part(TEXT, b"a"), part(FIN | bit | CONTINUATION, b"b")]);
    }
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        check("reserved opcode", &[part(FIN | opcode, b"hi")]);
        check("reserved opcode, not final", &[part(opcode, b"")]);
        check("reserved opcode within a message", &[part(TEXT, b"a"), part(FIN | opcode, b"")]);
    }
    for opcode in [CLOSE, PING, PONG] {
        check("fragmented control frame", &[part(opcode, b""), part(FIN | CONTINUATION, b"")]);
        check("control frame of 126 bytes", &[part(FIN | opcode, &[b'x'; 126])]);
        check("control frame of 64 KiB", &[announced(FIN | opcode, 8, 0x1_0000)]);
    }
    check("continuation of nothing", &[part(FIN | CONTINUATION, b"hi")]);
    check("continuation of nothing, not final", &[part(CONTINUATION, b"hi")]);
    check("continuation after a pong", &[part(FIN | PONG, b""), part(CONTINUATION, b"")]);
    check("text within a message", &[part(TEXT, b"a"), part(FIN | TEXT, b"b")]);
    check("binary within a message", &[part(TEXT, b"a"), part(CONTINUATION, b"b"), part(BINARY, b"c")]);
    check("two bytes for a length of 125", &[announced(FIN | TEXT, 2, 125)]);
    check("eight bytes for a length of 65535", &[announced(FIN | TEXT, 8, 65535)]);
    check("a length with its top bit set", &[announced(FIN | TEXT, 8, 1 << 63)]);
}

#[test]
fn a_continuation_after_the_last_fragment_is_1002() {
    let server = Server::start(settings());
    let (one, two) = (ping_command("first"), ping_command("x"));
    let (head, tail) = one.split_at(7);
    let frames =
        [part(TEXT, head.as_bytes()), part(FIN | CONTINUATION, tail.as_bytes()), part(CONTINUATION, two.as_bytes())];
    for cut in [Cut::Whole, Cut::EachByte, Cut::WithRequest] {
        let said = talk(server.address, &upgrade_request(&[]), &frames.concat(), cut);
        assert_eq!(said, [answer("first"), Said::Close(Some(1002))], "{cut:?}");
    }
}

#[test]
fn text_that_is_not_utf8_is_1007() {
    let server = Server::start(settings());
    let cases: [(&str, &[u8]); 9] = [
        ("no lead byte", b"\xFF"),
        ("a lone continuation byte", b"\x80"),
        ("overlong slash", b"\xC0\xAF"),
        ("overlong null", b"\xE0\x80\x80"),
        ("surrogate", b"\xED\xA0\x80"),
        ("beyond Unicode", b"\xF4\x90\x80\x80"),
        ("five bytes", b"\xF8\x88\x80\x80\x80"),
        ("in the middle", b"\xCE\xBA\xE1\xBD\xB9\xED\xA0\x80edited"),
        ("cut short", b"cut short \xE2\x82"),
    ];
    for (what, bad) in cases {
        let check = |frames: &[Vec<u8>]| check_violation(&server, what, 1007, frames);
        check(&[part(FIN | TEXT, bad)]);
        for at in 0..=bad.len() {
            let (head, tail) = bad.split_at(at);
            check(&[part(TEXT, head), part(FIN | CONTINUATION, tail)]);
        }
        let reason = [&1000_u16.to_be_bytes(), bad].concat();
        check(&[part(FIN | CLOSE, &reason)]);
    }
    // Nothing that could follow would make it text, so the rest is not waited for.
    check_violation(&server, "before the end of the message", 1007, &[part(TEXT, b"fine \xFF")]);
}

#[test]
fn text_of_any_characters_is_taken_however_it_is_cut() {
    let server = Server::start(settings());
    let id = "κόσμε \u{7ff}\u{800}\u{fffd}\u{ffff}\u{10000}\u{10ffff} 🐂";
    let command = ping_command(id);
    for at in 0..=command.len() {
        let (head, tail) = command.as_bytes().split_at(at);
        check(&server, "cut", &[part(TEXT, head), part(FIN | CONTINUATION, tail)], &[answer(id)]);
    }
    let bytes: Vec<Vec<u8>> = command.as_bytes().iter().map(|byte| part(CONTINUATION, &[*byte])).collect();
    let frames = [vec![part(TEXT, b"")], bytes, vec![part(FIN | CONTINUATION, b"")]].concat();
    check(&server, "a fragment for each byte", &frames, &[answer(id)]);
}

#[test]
fn closes_are_echoed_with_their_code_and_bad_ones_refused() {
    let server = Server::start(settings());
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        let reason = [&u16::to_be_bytes(code)[..], &[b'x'; 123]].concat();
        for payload in [&reason[..2], &reason[..]] {
            let close = part(FIN | CLOSE, payload);
            let said = talk(server.address, &upgrade_request(&[]), &close, Cut::EachByte);
            assert_eq!(said, [Said::Close(Some(code))]);
            // What comes with a close is not looked at. (What comes later may find the connection closed already.)
            let said = talk(server.address, &upgrade_request(&[]), &[close, good("ignored")].concat(), Cut::Whole);
            assert_eq!(said, [Said::Close(Some(code))]);
        }
    }
    let within_a_message = [part(TEXT, b"never ended"), part(FIN | CLOSE, b""), good("ignored")].concat();
    let said = talk(server.address, &upgrade_request(&[]), &within_a_message, Cut::Whole);
    assert_eq!(said, [Said::Close(None)]);
    check_violation(&server, "close of one byte", 1002, &[part(FIN | CLOSE, &[3])]);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        check_violation(&server, &format!("close {code}"), 1002, &[close(code)]);
    }
}

#[test]
fn pings_are_answered_and_pongs_are_not() {
    let server = Server::start(settings());
    let pong = |payload: &[u8]| Said::Pong(payload.to_vec());
    check(&server, "empty", &[part(FIN | PING, b"")], &[pong(b"")]);
    check(&server, "as long as can be", &[part(FIN | PING, &[0xFF; 125])], &[pong(&[0xFF; 125])]);
    check(&server, "pong unasked", &[part(FIN | PONG, b"x"), part(FIN | PONG, &[0; 125])], &[]);
    let command = ping_command("joined");
    let (head, tail) = command.as_bytes().split_at(9);
    let frames = [
        part(TEXT, head),
        part(FIN | PING, b"one"),
        part(CONTINUATION, b""),
        part(FIN | PONG, b"two"),
        part(FIN | PING, b"three"),
        part(FIN | CONTINUATION, tail),
    ];
    check(&server, "between fragments", &frames, &[pong(b"one"), pong(b"three"), answer("joined")]);
    let many: Vec<Vec<u8>> = (0..1000_u32).map(|n| part(FIN | PING, &n.to_be_bytes())).collect();
    let answers: Vec<Said> = (0..1000_u32).map(|n| pong(&n.to_be_bytes())).collect();
    check(&server, "a thousand", &many, &answers);
}

#[test]
fn messages_of_either_kind_and_any_length_are_taken() {
    let server = Server::start(settings());
    let padded = |id: &str, length: usize| format!("{:length$}", ping_command(id)).into_bytes();
    for length in [125, 126, 127, 128, 3999, 4000] {
        check(&server, "text", &[part(FIN | TEXT, &padded("a", length))], &[answer("a")]);
    }
    // What cannot be understood is the application's matter; the connection is fine.
    check(&server, "empty text", &[part(FIN | TEXT, b"")], &[error("bad_command")]);
    check(&server, "empty binary", &[part(FIN | BINARY, b"")], &[error("bad_command")]);
    check(&server, "binary that is no text", &[part(FIN | BINARY, b"\xC1\xFF\x80")], &[error("bad_command")]);
    let fragments = [part(BINARY, b""), part(CONTINUATION, b""), part(FIN | CONTINUATION, b"")];
    check(&server, "empty fragments", &fragments, &[error("bad_command")]);
    let commands: Vec<Vec<u8>> = (0..300).map(|n| good(&n.to_string())).collect();
    let answers: Vec<Said> = (0..300).map(|n| answer(&n.to_string())).collect();
    check(&server, "many in one segment", &commands, &answers);
}

#[test]
fn messages_beyond_the_limits_are_1009() {
    let server = Server::start(settings());
    let check = |what: &str, frames: &[Vec<u8>]| check_violation(&server, what, 1009, frames);
    check("one byte more", &[part(FIN | TEXT, &[b' '; 4001])]);
    // Judged by what is announced: nothing of it has come.
    check("announced", &[announced(FIN | BINARY, 2, 4001)]);
    check("as much as can be announced", &[announced(FIN | BINARY, 8, (1 << 63) - 1)]);
    check("in sum", &[part(TEXT, &[b' '; 4000]), part(FIN | CONTINUATION, b" ")]);
    check("in sum, announced", &[part(BINARY, &[0; 2000]), announced(CONTINUATION, 8, u64::MAX >> 1)]);
    let fragments_max = 1024;
    let empty = |count| vec![part(CONTINUATION, b""); count];
    let whole =
        [vec![part(TEXT, ping_command("f").as_bytes())], empty(fragments_max - 2), vec![part(FIN, b"")]].concat();
    self::check(
        &server,
        "as many fragments as allowed, twice",
        &[&whole[..], &whole].concat(),
        &[answer("f"), answer("f")],
    );
    check("one fragment more", &[vec![part(TEXT, b"")], empty(fragments_max)].concat());
}

/// The connection ends without a close: the client said nothing of one.
#[test]
fn a_half_close_ends_the_session_after_what_was_sent() {
    let server = Server::start(settings());
    let command = good("last");
    for (what, sent, expected) in [
        ("at once", Vec::new(), vec![]),
        ("behind a command", command.clone(), vec![answer("last")]),
        ("within a header", [&command[..], &command[..3]].concat(), vec![answer("last")]),
        ("within a frame", [&command[..], &command[..12]].concat(), vec![answer("last")]),
        ("within a message", [&command[..], &part(TEXT, b"half")].concat(), vec![answer("last")]),
    ] {
        let mut stream = connect(server.address);
        stream.write_all(&[upgrade_request(&[]).as_bytes(), &sent].concat()).unwrap();
        read_head(&mut stream);
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(said(&mut stream, None), expected, "{what}");
    }
}

#[test]
fn a_reset_ends_the_session() {
    let server = Server::start(settings());
    for sent in [&b""[..], &good("unread"), &good("unread")[..5]] {
        let mut stream = connect(server.address);
        stream.write_all(&[upgrade_request(&[]).as_bytes(), sent].concat()).unwrap();
        read_head(&mut stream);
        // Without lingering, closing is a reset.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    // Counters are written once a second.
    while !server.get("/metrics").body.contains("tickerplant_disconnects_total{reason=\"lost\"} 3\n") {}
    check(&server, "the next client", &[], &[]);
}

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
fn response(address: SocketAddr, request: &[u8]) -> (u16, String, String) {
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

/// RFC 7692.
mod deflate {
    use websocket::deflate::{Compressor, Params};
    use websocket::{Incoming, Inflater, Reader, ReaderConfig};

    use super::*;

    /// What was agreed, by the head of the answer in lower case.
    pub(super) fn agreed(head: &str) -> Option<Params> {
        let answer = head.lines().find_map(|line| line.strip_prefix("sec-websocket-extensions: "))?;
        let mut parts = answer.split("; ");
        assert_eq!(parts.next(), Some("permessage-deflate"));
        let mut params = Params {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        };
        for part in parts {
            match part.split_once('=') {
                None if part == "server_no_context_takeover" => params.server_no_context_takeover = true,
                None if part == "client_no_context_takeover" => params.client_no_context_takeover = true,
                Some(("server_max_window_bits", bits)) => params.server_max_window_bits = bits.parse().unwrap(),
                Some(("client_max_window_bits", bits)) => params.client_max_window_bits = bits.parse().unwrap(),
                _ => panic!("{part} is no parameter"),
            }
        }
        Some(params)
    }

    /// Inflates the server's messages: a server's reader on the client's side of the table.
    pub(super) struct Inflate(Reader, Inflater);

    impl Inflate {
        pub(super) fn new(params: Params) -> Self {
            let turned = Params { client_no_context_takeover: params.server_no_context_takeover, ..params };
            let config = ReaderConfig { message_bytes_max: 16 << 20, ..ReaderConfig::default() };
            Self(Reader::new(config, Some(turned)), Inflater::new())
        }

        pub(super) fn message(&mut self, first: u8, payload: &[u8]) -> Vec<u8> {
            let mut message = None;
            let masked = part(first, payload);
            let outcome = self.0.feed(&masked, &mut self.1, &mut |incoming| match incoming {
                Incoming::Text(text) => message = Some(text.as_bytes().to_vec()),
                other => panic!("{other:?}"),
            });
            outcome.unwrap();
            message.unwrap()
        }
    }

    /// A compressed message: nothing in it refers to one before.
    fn deflated(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Compressor::new(6, 15).compress(message, &mut out);
        out
    }

    fn request(offer: &str) -> String {
        upgrade_request(&[("Sec-WebSocket-Extensions", offer)])
    }

    /// Offers that differ in what the client may and the server must do.
    const OFFERS: [&str; 4] = [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=9",
    ];

    fn check(server: &Server, what: &str, frames: &[Vec<u8>], expected: &[Said]) {
        let bytes = [frames.concat(), good("still here"), close(1000)].concat();
        let expected = [expected, &[answer("still here"), Said::Close(Some(1000))]].concat();
        for offer in OFFERS {
            for &cut in cuts(&bytes) {
                let said = talk(server.address, &request(offer), &bytes, cut);
                assert_eq!(said, expected, "{what}, {cut:?}, {offer}");
            }
        }
    }

    fn check_violation(server: &Server, what: &str, code: u16, frames: &[Vec<u8>]) {
        let bytes = [good("before"), frames.concat(), good("ignored")].concat();
        for offer in OFFERS {
            for &cut in cuts(&bytes) {
                let said = talk(server.address, &request(offer), &bytes, cut);
                assert_eq!(said, after_violation(code), "{what}, {cut:?}, {offer}");
            }
        }
    }

    #[test]
    fn offers_are_answered_as_the_rfc_allows() {
        let server = Server::start(settings());
        let check = |lines: &[&str], expected: Option<&str>| {
            let change: Vec<_> = lines.iter().map(|line| ("Sec-WebSocket-Extensions", *line)).collect();
            let (status, head, body) = response(server.address, upgrade_request(&change).as_bytes());
            assert_eq!(status, 101, "{lines:?}: {body}");
            let answer = head.lines().find_map(|line| line.strip_prefix("sec-websocket-extensions: "));
            assert_eq!(answer, expected, "{lines:?}");
        };
        // That clients keep no context is asked of them: one inflater then serves all.
        let plain = "permessage-deflate; client_no_context_takeover";
        let strict = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        check(&["permessage-deflate"], Some(plain));
        check(&["Permessage-Deflate ;  client_max_window_bits"], Some(plain));
        check(&["permessage-deflate; client_no_context_takeover"], Some(plain));
        check(&["permessage-deflate; client_max_window_bits=15"], Some(plain));
        check(&["permessage-deflate; server_no_context_takeover"], Some(strict));
        for bits in 9..=15 {
            let answer = format!("{plain}; server_max_window_bits={bits}");
            check(&[&format!("permessage-deflate; server_max_window_bits={bits}")], Some(&answer));
            check(&[&format!("permessage-deflate; server_max_window_bits=\"{bits}\"")], Some(&answer));
        }
        for bits in 8..=14 {
            let answer = format!("{plain}; client_max_window_bits={bits}");
            check(&[&format!("permessage-deflate; client_max_window_bits={bits}")], Some(&answer));
        }
        for bad in [
            "server_max_window_bits",
            "server_max_window_bits=8",
            "server_max_window_bits=16",
            "server_max_window_bits=09",
            "client_max_window_bits=7",
            "client_max_window_bits=x",
            "server_no_context_takeover=1",
            "client_no_context_takeover; client_no_context_takeover",
            "unknown",
            "",
        ] {
            let offer = format!("permessage-deflate; {bad}");
            check(&[&offer], None);
            check(&[&format!("{offer}, permessage-deflate; server_no_context_takeover")], Some(strict));
            check(&[&offer, "permessage-deflate"], Some(plain));
        }
        check(
            &["x-webkit-deflate-frame, permessage-deflate; server_no_context_takeover, permessage-deflate"],
            Some(strict),
        );
    }

    #[test]
    fn rsv1_is_only_for_the_first_frame_of_a_message() {
        let server = Server::start(settings());
        let check = |what: &str, frames: &[Vec<u8>]| check_violation(&server, what, 1002, frames);
        let command = deflated(ping_command("never").as_bytes());
        for opcode in [PING, PONG, CLOSE] {
            check("control frame", &[part(FIN | RSV1 | opcode, b"")]);
        }
        check("continuation", &[part(RSV1 | TEXT, &command), part(FIN | RSV1 | CONTINUATION, b"")]);
        check("continuation of what is not compressed", &[part(TEXT, b"a"), part(FIN | RSV1 | CONTINUATION, b"b")]);
        check("RSV2 as well", &[part(FIN | RSV1 | RSV2 | TEXT, &command)]);
        check("RSV3 as well", &[part(FIN | RSV1 | RSV3 | TEXT, &command)]);
        check("reserved opcode", &[part(FIN | RSV1 | 0x3, &command)]);
    }

    #[test]
    fn compressed_and_plain_commands_may_alternate() {
        let server = Server::start(settings());
        let command = |id| deflated(ping_command(id).as_bytes());
        let whole = part(FIN | RSV1 | TEXT, &command("κόσμε"));
        check(&server, "one frame", std::slice::from_ref(&whole), &[answer("κόσμε")]);
        check(
            &server,
            "plain between",
            &[whole.clone(), good("plain"), whole],
            ["κόσμε", "plain", "κόσμε"].map(answer).as_slice(),
        );
        let joined = command("joined");
        for at in 0..=joined.len() {
            let (head, tail) = joined.split_at(at);
            let frames = [
                part(RSV1 | TEXT, head),
                part(FIN | PING, b"between"),
                part(CONTINUATION, b""),
                part(FIN | CONTINUATION, tail),
            ];
            check(&server, "fragments", &frames, &[Said::Pong(b"between".to_vec()), answer("joined")]);
        }
        // The examples of section 7.2.3: no compression, a final block, two blocks, and the empty message.
        for example in [
            &[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00][..],
            &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00],
            &[0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00],
            &[0x00],
        ] {
            check(&server, "example", &[part(FIN | RSV1 | TEXT, example)], &[error("bad_command")]);
        }
    }

    #[test]
    fn what_does_not_inflate_to_text_is_1007() {
        let server = Server::start(settings());
        let check = |what: &str, frames: &[Vec<u8>]| check_violation(&server, what, 1007, frames);
        check("reserved type of block", &[part(FIN | RSV1 | TEXT, &[0x07, 0, 0])]);
        check("not deflated", &[part(FIN | RSV1 | BINARY, b"\xFF\xFF\xFF\xFF")]);
        check("plain text", &[part(FIN | RSV1 | TEXT, ping_command("x").as_bytes())]);
        let whole = deflated(b"long enough to be cut somewhere, long enough to be cut");
        check("cut short", &[part(FIN | RSV1 | BINARY, &whole[..whole.len() / 2])]);
        for bad in [&b"\xFF"[..], b"\xED\xA0\x80", b"cut short \xE2\x82"] {
            let (head, tail) = bad.split_at(bad.len() / 2);
            check("not UTF-8", &[part(FIN | RSV1 | TEXT, &deflated(bad))]);
            check("not UTF-8 and not compressed", &[part(TEXT, head), part(FIN | CONTINUATION, tail)]);
        }
        // "Hello" as a reference to the "Hello" of the message before, which is not kept.
        let first = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
        let referring =
            [part(FIN | RSV1 | TEXT, &first), part(FIN | RSV1 | TEXT, &[0xF2, 0x00, 0x11, 0x00, 0x00])].concat();
        let said = talk(server.address, &request("permessage-deflate"), &referring, Cut::Whole);
        assert_eq!(said, [error("bad_command"), Said::Close(Some(1007))]);
    }

    #[test]
    fn the_limit_counts_what_is_inflated() {
        let server = Server::start(settings());
        let padded = |length: usize| deflated(format!("{:length$}", ping_command("a")).as_bytes());
        super::deflate::check(&server, "as long as can be", &[part(FIN | RSV1 | TEXT, &padded(4000))], &[answer("a")]);
        let check = |what: &str, frames: &[Vec<u8>]| check_violation(&server, what, 1009, frames);
        check("one byte more", &[part(FIN | RSV1 | TEXT, &padded(4001))]);
        let bomb = deflated(&vec![b' '; 2 << 20]);
        assert!(bomb.len() <= 4000, "{}", bomb.len());
        check("bomb", &[part(FIN | RSV1 | TEXT, &bomb)]);
        check("bomb of bytes in fragments", &[part(RSV1 | BINARY, &bomb[..9]), part(FIN | CONTINUATION, &bomb[9..])]);
        check("longer before it is inflated", &[announced(FIN | RSV1 | TEXT, 2, 4001)]);
    }

    /// A client that reads on while others do.
    struct Client {
        stream: TcpStream,
        inflate: Option<Inflate>,
        compressed: usize,
    }

    impl Client {
        fn connect(server: &Server, offer: &str) -> Self {
            let mut stream = connect(server.address);
            stream.write_all(request(offer).as_bytes()).unwrap();
            let inflate = agreed(&read_head(&mut stream)).map(Inflate::new);
            assert_eq!(inflate.is_some(), !offer.is_empty(), "{offer}");
            Self { stream, inflate, compressed: 0 }
        }

        /// The next text message.
        fn message(&mut self) -> Value {
            loop {
                let mut bytes = vec![0; 2];
                self.stream.read_exact(&mut bytes).unwrap();
                let length_bytes = [0, 2, 8][usize::from(bytes[1].saturating_sub(125))];
                bytes.resize(2 + length_bytes, 0);
                self.stream.read_exact(&mut bytes[2..]).unwrap();
                let length = match length_bytes {
                    0 => usize::from(bytes[1]),
                    _ => bytes[2..].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
                };
                let begin = bytes.len();
                bytes.resize(begin + length, 0);
                self.stream.read_exact(&mut bytes[begin..]).unwrap();
                let (first, payload) = take_frame(&mut &bytes[..]);
                if first & 0x0f != TEXT {
                    continue;
                }
                if first & RSV1 == 0 {
                    return serde_json::from_slice(payload).unwrap();
                }
                self.compressed += 1;
                let inflated = self.inflate.as_mut().expect("compression was agreed upon").message(first, payload);
                return serde_json::from_slice(&inflated).unwrap();
            }
        }

        fn subscribe(&mut self) {
            let command = br#"{"op":"subscribe","channels":["trades"],"symbols":["AAA","BBB"],"snapshot":false}"#;
            self.stream.write_all(&part(FIN | TEXT, command)).unwrap();
            while self.message()["type"] != "subscribed" {}
        }

        /// Reads data until there are `count` elements.
        fn elements(&mut self, count: usize) -> Vec<Value> {
            let mut all = Vec::new();
            while all.len() < count {
                all.extend(self.message()["data"].as_array().cloned().unwrap_or_default());
            }
            all
        }
    }

    /// Rounds of data, in each of which another client has come; how many of the client's messages were compressed, with
    /// what it had offered.
    fn compare(server: &Server) -> Vec<(&'static str, usize)> {
        const TICKS: i64 = 200;
        const ROUNDS: usize = 12;
        let offers = ["", "permessage-deflate; server_max_window_bits=12; server_no_context_takeover"];
        let offers = offers.into_iter().chain(OFFERS).cycle().take(ROUNDS);
        let mut clients: Vec<(&str, Client)> = Vec::new();
        for (round, offer) in offers.enumerate() {
            let mut client = Client::connect(server, offer);
            client.subscribe();
            clients.push((offer, client));
            for chunk in 0..10 {
                let ticks = (0..TICKS / 10).map(|n| stage::trade((n % 2) as u32, round as i64 * 7919 + chunk * 31 + n));
                server.play(ticks.collect());
            }
            let (first, others) = clients.split_first_mut().unwrap();
            let plain = first.1.elements(TICKS as usize);
            assert_eq!(plain.len(), TICKS as usize);
            for (offer, other) in others {
                assert_eq!(other.elements(TICKS as usize), plain, "{offer}");
            }
        }
        clients.iter().map(|(offer, client)| (*offer, client.compressed)).collect()
    }

    #[test]
    fn whatever_was_agreed_the_data_is_the_same() {
        let check = |epoch_interval| {
            let deflate = Some(hub::DeflateConfig { epoch_interval, ..hub::DeflateConfig::default() });
            let compressed = compare(&Server::start(Config { deflate, ..settings() }));
            assert!(compressed.iter().all(|(offer, count)| !offer.is_empty() || *count == 0), "{compressed:?}");
            assert!(compressed.iter().any(|(_, count)| *count > 0), "{compressed:?}");
            compressed
        };
        // Who comes late waits for a history to begin anew, perhaps until after the end.
        check(Duration::from_hours(1));
        // With a new one for each flush somebody waits for, nobody does.
        let compressed = check(Duration::ZERO);
        assert!(compressed.iter().all(|(offer, count)| offer.is_empty() || *count > 0), "{compressed:?}");
    }

    #[test]
    fn where_it_is_switched_off_offers_are_declined_and_rsv1_is_reserved() {
        let server = Server::start(Config { deflate: None, ..settings() });
        for offer in OFFERS {
            let (status, head, _) = response(server.address, request(offer).as_bytes());
            assert!(status == 101 && agreed(&head).is_none(), "{head}");
        }
        super::check(&server, "plain", &[good("plain")], &[answer("plain")]);
        let command = deflated(ping_command("never").as_bytes());
        check_violation(&server, "compressed", 1002, &[part(FIN | RSV1 | TEXT, &command)]);
    }
}
