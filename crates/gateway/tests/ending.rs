//! How a gateway ends, and how its feed may.

mod stage;

use std::io::Write as _;
use std::time::Duration;

use gateway::{Config, Gateway, GatewayError, Outcome, Stop};
use stage::{Response, Server, Step, config, connect, upgrade_request};

#[test]
fn a_drain_tells_the_clients_and_closes_them() {
    let server = Server::start(config());
    let mut clients: Vec<_> = (0..4).map(|_| server.json_client()).collect();
    for client in &mut clients {
        client.expect("welcome");
    }
    server.stop(Stop::Drain);
    for client in &mut clients {
        let notice = client.expect("notice");
        assert_eq!(notice["code"], "draining");
        assert!(notice["reconnect_after_ms"].is_u64(), "{notice}");
        assert_eq!(client.close_code(), 1012);
        // Reading on sends the answer to the close.
        while client.0.read().is_ok() {}
    }
    assert!(matches!(server.outcome(), Outcome::Stopped));
}

#[test]
fn nobody_new_is_let_in_while_draining() {
    let server = Server::start(Config { drain: Duration::from_mins(1), ..config() });
    let mut client = server.json_client();
    client.expect("welcome");
    server.stop(Stop::Drain);
    client.expect("notice");
    let ready = server.get("/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, "draining\n"));
    assert_eq!(server.get("/healthz").status, 200);
    let mut stream = connect(server.address);
    stream.write_all(upgrade_request(&[("Connection", "Upgrade, close")]).as_bytes()).unwrap();
    let refused = Response::read(&mut stream);
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: "), "{refused:?}");
    // A second word ends it at once.
    server.stop(Stop::Drain);
    assert_eq!(client.close_code(), 1001);
    assert!(matches!(server.outcome(), Outcome::Stopped));
}

#[test]
fn a_drain_without_sessions_ends_at_once() {
    let server = Server::start(Config { drain: Duration::from_hours(1), ..config() });
    server.stop(Stop::Drain);
    assert!(matches!(server.outcome(), Outcome::Stopped));
}

#[test]
fn clients_that_do_not_answer_cannot_hold_up_the_end() {
    let server = Server::start(config());
    let mut client = server.json_client();
    client.expect("welcome");
    server.stop(Stop::Now);
    // The client never reads, so it never answers the close.
    assert!(matches!(server.outcome(), Outcome::Stopped));
    assert_eq!(client.close_code(), 1001);
}

#[test]
fn when_the_feed_has_ended_the_server_stays() {
    let server = Server::start(config());
    let mut client = server.json_client();
    client.expect("welcome");
    server.step(Step::End);
    assert_eq!(client.expect("notice")["code"], "feed_ended");
    assert_eq!(server.get("/readyz").status, 200);
    client.send(r#"{"op":"ping","id":1}"#);
    client.expect("pong");
}

#[test]
fn when_the_feed_fails_the_clients_are_told_and_drained() {
    let server = Server::start(config());
    let mut client = server.json_client();
    client.expect("welcome");
    server.step(Step::Fail);
    assert_eq!(client.expect("notice")["code"], "feed_failed");
    assert_eq!(client.expect("notice")["code"], "draining");
    assert_eq!(client.close_code(), 1012);
    while client.0.read().is_ok() {}
    match server.outcome() {
        Outcome::FeedFailed(error) => assert_eq!(error.to_string(), "session.csv, line 17: torn"),
        Outcome::Stopped => panic!("the failure is lost"),
    }
}

#[test]
fn a_port_in_use_is_a_clear_error() {
    let server = Server::start(config());
    let error = Gateway::bind(Config { listen: server.address, ..config() }).unwrap_err();
    assert!(matches!(error, GatewayError::Bind { .. }));
    let want = format!("cannot listen on {}: the port is in use by another process", server.address);
    assert_eq!(error.to_string(), want);
}
