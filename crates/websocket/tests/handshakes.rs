//! Which requests are upgraded, and what the others are told.

use proptest::prelude::*;
use websocket::{
    deflate::{Policy, negotiate},
    handshake::{HttpVersion, Refusal, Request, accept_key, check, select_subprotocol},
};

/// The request of RFC 6455 section 1.2.
const PLAIN: &[(&str, &str)] = &[
    ("Host", "server.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

fn judge<'a>(headers: &[(&'a str, &'a str)]) -> Result<Request<'a>, Refusal> {
    check("GET", HttpVersion::Http11, headers.iter().map(|&(name, value)| (name, value.as_bytes())))
}

/// The plain request with all lines of these names replaced by the given ones.
fn with<'a>(lines: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = PLAIN.iter().filter(|(name, _)| !lines.iter().any(|(other, _)| name.eq_ignore_ascii_case(other)));
    kept.chain(lines).copied().collect()
}

fn without(name: &str) -> Vec<(&'static str, &'static str)> {
    PLAIN.iter().filter(|(other, _)| *other != name).copied().collect()
}

fn check_accepted(lines: &[(&str, &str)]) {
    let outcome = judge(&with(lines)).map(|request| request.accept);
    assert_eq!(outcome.as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{lines:?}");
}

fn check_refused(headers: &[(&str, &str)], status: u16, label: &str) {
    let refusal = judge(headers).expect_err("the request is wrong");
    assert_eq!((refusal.status, refusal.label), (status, label), "{headers:?}");
    assert!(!refusal.message.is_empty());
}

#[test]
fn lists_are_read_in_any_case_and_over_several_lines() {
    check_accepted(&[]);
    check_accepted(&[("upgrade", "WebSocket"), ("CONNECTION", "keep-alive, UPGRADE")]);
    check_accepted(&[("Connection", "keep-alive"), ("connection", " ,upgrade\t, x")]);
    check_accepted(&[("Upgrade", "h2c, websocket"), ("Content-Length", "0")]);
    check_accepted(&[("Sec-WebSocket-Key", " dGhlIHNhbXBsZSBub25jZQ==\t")]);
    check_accepted(&[("A-Header-With-A-Name-Longer-Than-Any-That-Matters", "x"), ("X", "y")]);
    assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    // Bits that the last character has too many mean nothing, but the answer is made from the key as it was written.
    let headers = with(&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZR==")]);
    let request = judge(&headers).expect("16 bytes in base64");
    assert_eq!(request.accept, accept_key("dGhlIHNhbXBsZSBub25jZR=="));
}

#[test]
fn a_request_that_lacks_something_is_a_bad_one() {
    for (name, label) in
        [("Host", "host"), ("Upgrade", "upgrade"), ("Connection", "connection"), ("Sec-WebSocket-Key", "key")]
    {
        check_refused(&without(name), 400, label);
    }
    check_refused(&with(&[("Host", "")]), 400, "host");
    check_refused(&with(&[("Host", "a"), ("Host", "a")]), 400, "host");
    check_refused(&with(&[("Host", "é")]), 400, "host");
    check_refused(&with(&[("Upgrade", "websockets")]), 400, "upgrade");
    check_refused(&with(&[("Upgrade", "websocket x")]), 400, "upgrade");
    check_refused(&with(&[("Connection", "close")]), 400, "connection");
    check_refused(&with(&[("Connection", "not-upgrade")]), 400, "connection");
    check_refused(&with(&[("Content-Length", "5")]), 400, "body");
    check_refused(&with(&[("Transfer-Encoding", "chunked")]), 400, "body");
    check_refused(&with(&[("Origin", "https://a.org"), ("Origin", "https://a.org")]), 400, "origin");
}

#[test]
fn the_key_is_given_once_and_has_16_bytes() {
    for key in [
        "",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZWU=",
        "dGhlIHNhbXBsZSBub25jZWVl",
        "dGhl IHNhbXBsZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        "????????????????????????",
        "é",
    ] {
        check_refused(&with(&[("Sec-WebSocket-Key", key)]), 400, "key");
    }
    let key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    check_refused(&with(&[key, key]), 400, "key");
}

#[test]
fn another_version_is_told_the_right_one() {
    for versions in [&["12"][..], &["14"], &[""], &["013"], &["13, 8"], &["13", "13"], &["8", "13"]] {
        let lines: Vec<_> = versions.iter().map(|version| ("Sec-WebSocket-Version", *version)).collect();
        check_refused(&with(&lines), 426, "version");
    }
    let refusal = judge(&without("Sec-WebSocket-Version")).expect_err("there is no version");
    assert_eq!(refusal.status, 426);
    assert!(refusal.headers.contains(&("Sec-WebSocket-Version", "13")));
}

#[test]
fn only_get_over_http_1_1_opens_a_websocket() {
    let judge = |method, version| {
        check(method, version, PLAIN.iter().map(|&(name, value)| (name, value.as_bytes())))
            .map(|_| ())
            .map_err(|refusal| (refusal.status, refusal.label))
    };
    assert_eq!(judge("GET", HttpVersion::Http11), Ok(()));
    for method in ["POST", "HEAD", "get", "CONNECT", ""] {
        assert_eq!(judge(method, HttpVersion::Http11), Err((405, "method")), "{method}");
    }
    assert_eq!(judge("GET", HttpVersion::Other), Err((400, "http_version")));
}

#[test]
fn the_server_prefers_among_the_offered_subprotocols() {
    let headers = with(&[("Sec-WebSocket-Protocol", "a, b,,c "), ("sec-websocket-protocol", "d")]);
    let offered = judge(&headers).expect("the request is right").subprotocols;
    assert_eq!(offered, ["a", "b", "c", "d"]);
    assert_eq!(select_subprotocol(&offered, &["d", "a"]), Some("d"));
    assert_eq!(select_subprotocol(&offered, &["x", "c"]), Some("c"));
    assert_eq!(select_subprotocol(&offered, &["A", "x"]), None);
    assert_eq!(select_subprotocol(&[], &["a"]), None);
    for bad in ["a b", "a,a", "a;b", "\"a\"", "é"] {
        check_refused(&with(&[("Sec-WebSocket-Protocol", bad)]), 400, "subprotocol");
    }
    let refusal = Refusal::unknown_subprotocol(&["a", "b"]);
    assert_eq!((refusal.status, refusal.message.contains("a, b")), (400, true));
}

#[test]
fn what_is_yet_to_be_decided_is_handed_on() {
    let headers = with(&[
        ("Origin", "https://example.org"),
        ("Sec-WebSocket-Extensions", "foo, permessage-deflate; server_max_window_bits=8"),
        ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
    ]);
    let request = judge(&headers).expect("the request is right");
    assert_eq!(request.origin, Some("https://example.org"));
    let (params, answer) = negotiate(request.extensions, Policy::default()).expect("the second offer is fine");
    assert_eq!(answer, "permessage-deflate; client_no_context_takeover");
    assert!(params.client_no_context_takeover && !params.server_no_context_takeover);
}

proptest! {
    #[test]
    fn headers_at_random_never_panic(lines in prop::collection::vec((any::<usize>(), any::<Vec<u8>>()), 0..20)) {
        let names = ["Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version",
            "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Origin", "Content-Length", "X"];
        let headers = lines.iter().map(|(index, value)| (names[index % names.len()], &value[..]));
        let _ = check("GET", HttpVersion::Http11, PLAIN.iter().map(|&(name, value)| (name, value.as_bytes())).chain(headers));
    }

    #[test]
    fn offers_at_random_are_answered_as_the_rfc_allows(line in "(permessage-deflate|x)(;? ?(server|client)(_max_window_bits|_no_context_takeover)?(=\"?[0-9]{0,2}\"?)?,?){0,6}") {
        if let Some((params, answer)) = negotiate([&line], Policy::default()) {
            prop_assert!((9..=15).contains(&params.server_max_window_bits));
            prop_assert!((8..=15).contains(&params.client_max_window_bits));
            prop_assert!(!answer.contains("client_max_window_bits") || line.contains("client_max_window_bits"));
            prop_assert_eq!(answer.contains("client_no_context_takeover"), params.client_no_context_takeover);
            prop_assert_eq!(answer.contains("server_no_context_takeover"), params.server_no_context_takeover);
        }
    }
}
