//! The plain HTTP side.

mod stage;

use std::io::Write as _;

use gateway::Config;
use market::{BookDepth, BookSide, BookUpdate, Event, InstrumentId, Level, Price, Size, Tick};
use serde_json::json;
use stage::{Response, Server, config, connect, quote, trade};

#[test]
fn instruments_are_listed() {
    let server = Server::start(config());
    let response = server.get("/api/v1/instruments");
    assert_eq!(response.status, 200);
    assert!(response.head.contains("content-type: application/json"), "{response:?}");
    let first = &response.json()["instruments"][0];
    assert_eq!(first["symbol"], "AAA");
    assert_eq!(first["tick_size"], "0.01");
    assert_eq!(first["price_exponent"], -2);
}

#[test]
fn a_snapshot_has_the_last_values_as_exact_decimals() {
    let server = Server::start(config());
    server.play(vec![trade(0, 12_345), quote(0, 12_300), quote(1, 7)]);
    let data = loop {
        let response = server.get("/api/v1/snapshot?symbols=AAA,BBB");
        assert_eq!(response.status, 200, "{response:?}");
        let body = response.json();
        assert_eq!(body["snapshot"], true);
        // The tick may not have been taken in yet.
        if body["data"].as_array().unwrap().iter().any(|element| element["symbol"] == "BBB") {
            break body["data"].as_array().unwrap().clone();
        }
    };
    let of = |kind: &str, symbol: &str| {
        data.iter().find(|element| element["type"] == kind && element["symbol"] == symbol).unwrap().clone()
    };
    assert_eq!(of("trade", "AAA")["price"], "123.45");
    assert_eq!(of("quote", "AAA")["bid"], "123.00");
    assert_eq!(of("quote", "BBB")["ask"], "0.08");
    assert_eq!(of("ticker", "AAA")["trade_count"], 1);
    let all = server.get("/api/v1/snapshot?symbols=*").json();
    assert_eq!(all["data"].as_array().unwrap().len(), data.len());
}

#[test]
fn bad_requests_are_answered_with_what_is_wrong() {
    let server = Server::start(config());
    let unknown = server.get("/api/v1/snapshot?symbols=AAA,NOPE,%3CB%3E");
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.json()["code"], "unknown_symbol");
    assert_eq!(unknown.json()["symbols"], json!(["NOPE", "<B>"]));
    for path in ["/api/v1/snapshot", "/api/v1/snapshot?symbols="] {
        let missing = server.get(path);
        assert_eq!((missing.status, missing.json()["code"].clone()), (400, json!("bad_command")), "{path}");
    }
    assert_eq!(server.get("/api/v1/nothing").json()["type"], "error");
    assert_eq!(server.get("/api/v1/nothing").status, 404);
    assert_eq!(server.get("/nothing").status, 404);
    assert_eq!(server.get("/../../Cargo.toml").status, 404);
}

#[test]
fn the_page_is_there_with_or_without_a_build() {
    let server = Server::start(config());
    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-type: text/html"), "{page:?}");
    assert!(page.head.contains("content-security-policy: default-src 'self'"), "{page:?}");
    assert!(page.head.contains("x-content-type-options: nosniff"), "{page:?}");
    assert!(page.body.contains("Tickerplant"), "{page:?}");
}

#[test]
fn health_and_metrics_answer() {
    let server = Server::start(config());
    assert_eq!(server.get("/healthz").body, "ok\n");
    assert_eq!(server.get("/readyz").body, "ready\n");
    let metrics = server.get("/metrics");
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{metrics:?}");
    assert!(metrics.body.contains("# HELP tickerplant_connections_accepted_total "), "{metrics:?}");
    assert!(metrics.body.contains("\ntickerplant_sessions 0\n"), "{metrics:?}");
}

#[test]
fn bars_books_and_trades_have_a_history_of_their_own() {
    let server = Server::start(config());
    let level = |price, size| Level { price: Price(price), size: Size(size) };
    let mut book = market::Book::new();
    book.set(BookSide::Bid, Price(100), Size(2));
    let update = BookUpdate::new(BookDepth::Full, &[level(100, 2)], &[], book.checksum());
    let time = trade(0, 1).time;
    let snapshot = Tick { instrument: InstrumentId(0), time, event: Event::BookSnapshot(update) };
    server.play(vec![snapshot, trade(0, 12_345), trade(0, 12_400), trade(1, 5)]);
    let trades = loop {
        // The ticks may not have been taken in yet.
        let response = server.get("/api/v1/trades?symbol=BBB");
        assert_eq!(response.status, 200, "{response:?}");
        if response.json()["data"][0]["price"] == "0.05" {
            break server.get("/api/v1/trades?symbol=AAA&limit=1").json();
        }
    };
    assert_eq!((&trades["data"][0]["price"], &trades["data"][0]["seq"]), (&json!("124.00"), &json!(2)));
    let bars = server.get("/api/v1/bars?symbol=AAA&interval=1d").json();
    let bar = &bars["data"][0];
    assert_eq!((&bar["open"], &bar["close"], &bar["trade_count"]), (&json!("123.45"), &json!("124.00"), &json!(2)));
    assert_eq!(bars["data"].as_array().unwrap().len(), 1);
    let book = server.get("/api/v1/book?symbol=AAA&depth=full").json();
    assert_eq!(book["data"][0]["bids"][0][0], "1.00");
    assert_eq!(server.get("/api/v1/book?symbol=BBB").json()["data"], json!([]));
    let snapshot = server.get("/api/v1/snapshot?symbols=AAA&channels=book.10,bars.1h").json();
    assert_eq!(snapshot["data"].as_array().unwrap().len(), 2);

    for (path, status, code, says) in [
        ("/api/v1/bars", 400, "bad_command", "symbol is missing"),
        ("/api/v1/bars?symbol=NOPE", 404, "unknown_symbol", "NOPE"),
        ("/api/v1/bars?symbol=AAA&interval=2m", 400, "bad_command", "known are 1s, 5s"),
        ("/api/v1/book?symbol=AAA&depth=7", 400, "bad_command", "10, 50, full"),
        ("/api/v1/trades?symbol=AAA&limit=0", 400, "bad_command", "limit"),
        ("/api/v1/snapshot?symbols=AAA&channels=news", 400, "unknown_channel", "news"),
    ] {
        let response = server.get(path);
        assert_eq!((response.status, &response.json()["code"]), (status, &json!(code)), "{path}");
        assert!(response.body.contains(says), "{path}: {}", response.body);
    }
}

/// Asks with these headers besides.
fn ask(server: &Server, method: &str, path: &str, headers: &str) -> Response {
    let mut stream = connect(server.address);
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n").unwrap();
    Response::read(&mut stream)
}

#[test]
fn what_is_known_is_not_sent_again() {
    let server = Server::start(config());
    for path in ["/api/v1/instruments", "/api/v1/snapshot?symbols=*", "/openapi.json"] {
        let first = server.get(path);
        let tag = first.head.split("etag: ").nth(1).unwrap().lines().next().unwrap().replace("w/", "W/");
        assert!(first.head.contains("cache-control: no-cache"), "{first:?}");
        let again = ask(&server, "GET", path, &format!("If-None-Match: \"other\", {tag}\r\n"));
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{again:?}");
        let other = ask(&server, "GET", path, "If-None-Match: \"other\"\r\n");
        assert_eq!(other.status, 200);
        let head = ask(&server, "HEAD", path, "");
        assert_eq!((head.status, head.body.as_str()), (200, ""));
    }
}

#[test]
fn only_methods_that_are_there_are_allowed() {
    let server = Server::start(config());
    for path in ["/api/v1/instruments", "/api/v1/stream", "/healthz"] {
        let response = ask(&server, "DELETE", path, "");
        assert_eq!((response.status, &response.json()["type"]), (405, &json!("error")), "{response:?}");
        assert!(response.head.contains("allow: get,head"), "{response:?}");
    }
}

#[test]
fn pages_of_allowed_origins_may_read() {
    let listed = Config { origins: vec!["https://desk.example".to_owned()], ..config() };
    let allow = |config: Config, origin: &str| {
        let server = Server::start(config);
        let headers = format!("Origin: {origin}\r\nAccess-Control-Request-Method: GET\r\n");
        let preflight = ask(&server, "OPTIONS", "/api/v1/stream", &headers);
        let answer = ask(&server, "GET", "/api/v1/instruments", &format!("Origin: {origin}\r\n"));
        let allowed = |response: &Response| {
            assert_eq!(response.status, 200);
            let value = response.head.split("access-control-allow-origin: ").nth(1)?;
            Some(value.lines().next()?.to_owned())
        };
        assert_eq!(allowed(&preflight), allowed(&answer));
        if allowed(&answer) != Some("*".to_owned()) {
            // Or a cache would give one origin what was allowed to another.
            assert!(
                answer.head.lines().any(|line| line.starts_with("vary: ") && line.contains("origin")),
                "{answer:?}"
            );
        }
        if allowed(&preflight).is_some() {
            assert!(preflight.head.contains("last-event-id"), "{preflight:?}");
        }
        allowed(&answer)
    };
    assert_eq!(allow(config(), "https://any.example"), Some("*".to_owned()));
    assert_eq!(allow(listed.clone(), "https://desk.example"), Some("https://desk.example".to_owned()));
    assert_eq!(allow(listed, "https://other.example"), None);
}

#[test]
fn large_answers_are_compressed_and_streams_are_not() {
    let server = Server::start(config());
    let mut stream = connect(server.address);
    write!(stream, "GET /openapi.json HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut bytes).unwrap();
    let head = String::from_utf8_lossy(&bytes).split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
    assert!(head.contains("content-encoding: gzip") && head.contains("accept-encoding"), "{head}");
    let head = ask(&server, "HEAD", "/api/v1/stream?symbols=*", "Accept-Encoding: gzip\r\n").head;
    assert!(head.contains("text/event-stream") && !head.contains("content-encoding"), "{head}");
}
