//! Server-sent events and long polling.

mod stage;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use gateway::Stop;
use serde_json::{Value, json};
use stage::{Server, config, connect, quote, trade};

/// Reads the events of a stream, chunk by chunk.
struct Events {
    lines: BufReader<TcpStream>,
    head: String,
    /// What of the body has been read and is no whole event yet
    body: String,
    last_id: Option<String>,
    retry_ms: Option<u64>,
}

impl Events {
    fn open(server: &Server, query: &str, last_event_id: Option<&str>) -> Self {
        let mut stream = connect(server.address);
        let header = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        write!(stream, "GET /api/v1/stream?{query} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n").unwrap();
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).unwrap() > 0, "{head}");
        }
        Self { lines, head: head.to_ascii_lowercase(), body: String::new(), last_id: None, retry_ms: None }
    }

    /// The next message; none at the end of the body.
    fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.body.clone().split_once("\n\n") {
                let length = self.body.len() - rest.len();
                let mut message = None;
                for line in event.lines() {
                    match line.split_once(": ") {
                        Some(("id", id)) => self.last_id = Some(id.to_owned()),
                        Some(("retry", ms)) => self.retry_ms = ms.parse().ok(),
                        Some(("data", data)) => message = serde_json::from_str(data).ok(),
                        _ => assert_eq!(line, ":"),
                    }
                }
                self.body.drain(..length);
                return Some(message.expect("an event with JSON"));
            }
            let mut length = String::new();
            self.lines.read_line(&mut length).unwrap();
            let length = usize::from_str_radix(length.trim_end(), 16).expect("the length of a chunk");
            let mut chunk = vec![0; length + 2];
            std::io::Read::read_exact(&mut self.lines, &mut chunk).unwrap();
            if length == 0 {
                return None;
            }
            self.body.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
        }
    }

    fn expect(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().unwrap_or_else(|| panic!("the end instead of {kind}"));
            if message["type"] == kind {
                return message;
            }
            assert_eq!(message["type"], "heartbeat", "instead of {kind}: {message}");
        }
    }

    /// The elements of the next data message.
    fn data(&mut self) -> Vec<Value> {
        loop {
            let message = self.next().expect("data");
            if let Some(elements) = message["data"].as_array() {
                return elements.clone();
            }
            assert_eq!(message["type"], "heartbeat", "instead of data: {message}");
        }
    }

    /// The numbers of the next `count` elements.
    fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            seqs.extend(self.data().iter().map(|element| element["seq"].as_u64().unwrap()));
        }
        seqs
    }
}

#[test]
fn a_stream_is_a_session_that_goes_on_from_the_last_id() {
    let server = Server::start(config());
    let mut events = Events::open(&server, "symbols=AAA&channels=trades", None);
    assert!(events.head.starts_with("http/1.1 200 "), "{}", events.head);
    for header in ["text/event-stream", "cache-control: no-store", "x-accel-buffering: no", "chunked"] {
        assert!(events.head.contains(header), "{header} in {}", events.head);
    }
    let welcome = events.expect("welcome");
    assert!(events.retry_ms.is_some());
    let subscribed = events.expect("subscribed");
    assert_eq!(subscribed["channels"], json!(["trades"]));
    server.play(vec![trade(0, 100), quote(0, 7), trade(1, 5), trade(0, 101)]);
    assert_eq!(events.seqs(2), [1, 2]);
    let id = events.last_id.clone().unwrap();
    assert!(id.starts_with(welcome["epoch"].as_str().unwrap()), "{id}");
    drop(events);
    server.play(vec![trade(0, 102), trade(1, 6), trade(0, 103)]);
    let mut again = Events::open(&server, "symbols=AAA&channels=trades&after=ignored-1", Some(&id));
    again.expect("welcome");
    again.expect("subscribed");
    assert_eq!(again.seqs(2), [3, 4]);
    let mut by_query = Events::open(&server, &format!("symbols=AAA,BBB&channels=trades&after={id}"), None);
    by_query.expect("welcome");
    assert_eq!(by_query.expect("subscribed")["recovered"]["AAA"]["trades"], "recovered");
    assert_eq!(by_query.seqs(3), [3, 2, 4], "in the order of all");
}

#[test]
fn another_epoch_begins_with_the_state() {
    let server = Server::start(config());
    server.play(vec![trade(0, 100), trade(0, 101)]);
    // The state is there once the snapshot has it.
    while server.get("/api/v1/snapshot?symbols=AAA").json()["data"].as_array().unwrap().is_empty() {}
    let mut events = Events::open(&server, "symbols=AAA&channels=trades", Some("0123-77"));
    events.expect("welcome");
    assert_eq!(events.expect("subscribed")["recovered"]["AAA"]["trades"], "snapshot");
    assert_eq!(events.seqs(1), [2]);
}

#[test]
fn a_drain_ends_streams_with_a_word() {
    let server = Server::start(config());
    let mut events = Events::open(&server, "symbols=*", None);
    events.expect("welcome");
    events.expect("subscribed");
    server.stop(Stop::Drain);
    let notice = events.expect("notice");
    assert_eq!((&notice["code"], notice["reconnect_after_ms"].as_u64()), (&json!("draining"), events.retry_ms));
    let closed = events.expect("closed");
    assert_eq!((&closed["reason"], &closed["code"]), (&json!("draining"), &json!(1012)));
    assert_eq!(events.next(), None, "the body has its end");
}

#[test]
fn polls_go_on_from_each_other() {
    let server = Server::start(config());
    let poll = |query: &str| {
        let response = server.get(&format!("/api/v1/stream?poll=1&symbols=AAA&channels=trades&{query}"));
        assert_eq!(response.status, 200, "{response:?}");
        assert!(response.head.contains("cache-control: no-store"), "{response:?}");
        let body = response.json();
        let seqs: Vec<u64> = body["messages"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|message| message["data"].as_array().cloned().unwrap_or_default())
            .map(|element| element["seq"].as_u64().unwrap())
            .collect();
        (body["next"].as_str().unwrap().to_owned(), seqs, body)
    };
    let (first, seqs, body) = poll("timeout_ms=0");
    assert_eq!((seqs.len(), &body["messages"][0]["type"]), (0, &json!("subscribed")));
    server.play(vec![trade(0, 100), trade(0, 101), trade(0, 102)]);
    let (mut next, mut all, _) = poll(&format!("after={first}"));
    while all.len() < 3 {
        let (then, more, body) = poll(&format!("after={next}"));
        assert!(body["messages"].as_array().unwrap().iter().all(|message| message["type"].is_null()), "{body}");
        next = then;
        all.extend(more);
    }
    assert_eq!(all, [1, 2, 3]);
    let (_, state, _) = poll(&format!("after={first}&interval_ms=10&timeout_ms=0"));
    assert_eq!(state, [3], "the newest value of what has changed");
    let (_, nothing, _) = poll(&format!("after={next}&interval_ms=10&timeout_ms=0"));
    assert!(nothing.is_empty());
}

#[test]
fn mistakes_are_told_before_anything_begins() {
    let server = Server::start(config());
    let check = |query: &str, status: u16, code: &str, says: &str| {
        let response = server.get(&format!("/api/v1/stream?{query}"));
        assert_eq!((response.status, &response.json()["code"]), (status, &json!(code)), "{query}: {response:?}");
        assert!(response.json()["message"].as_str().unwrap().contains(says), "{query}: {response:?}");
    };
    check("", 400, "bad_command", "symbols is missing");
    check("symbols=NOPE", 404, "unknown_symbol", "NOPE");
    check("symbols=AAA&channels=nope", 400, "unknown_channel", "nope");
    check("symbols=AAA&interval_ms=x", 400, "bad_command", "interval_ms is \"x\"");
    check("symbols=AAA&interval_ms=60001", 400, "bad_command", "60000");
    check("symbols=AAA&poll=yes", 400, "bad_command", "poll is \"yes\"");
    check("symbols=AAA&poll=1&timeout_ms=-1", 400, "bad_command", "timeout_ms");
    check("symbols=AAA&after=x", 400, "bad_command", "after is \"x\"");
    check("symbols=AAA&symbols=BBB", 400, "bad_command", "symbols");
}

#[test]
fn streams_count_as_connections() {
    let server = Server::start(gateway::Config { connections_per_ip: 1, ..config() });
    let mut events = Events::open(&server, "symbols=AAA", None);
    events.expect("welcome");
    let refused = server.get("/api/v1/stream?symbols=AAA&poll=1&timeout_ms=0");
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("rate_limited")));
    assert!(refused.head.contains("retry-after: 1"), "{refused:?}");
    drop(events);
    // The place is free once the shard has noticed.
    while server.get("/api/v1/stream?symbols=AAA&poll=1&timeout_ms=0").status == 429 {}
}
