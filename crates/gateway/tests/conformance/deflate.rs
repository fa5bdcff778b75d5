//! RFC 7692: what is agreed, what is broken, and compressed streams beside plain ones.

use websocket::deflate::{Compressor, Params};
use websocket::{Incoming, Inflater, Reader, ReaderConfig};

use super::handshake::response;
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
