//! RFC 6455 and RFC 7692 at `/ws`, byte for byte: public suites want an echo, and this server does not echo.
//!
//! A case is what a client sends and all that the server sends until the connection ends. The clients here are raw sockets:
//! a WebSocket library would refuse to send most of this.

mod deflate;
mod handshake;
#[path = "../stage/mod.rs"]
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
