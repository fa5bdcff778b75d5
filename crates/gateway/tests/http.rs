//! The plain HTTP side.

mod stage;

use serde_json::json;
use stage::{Server, config, quote, trade};

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
