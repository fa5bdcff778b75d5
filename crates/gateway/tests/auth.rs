//! Who may come in and what they get: keys and tokens at every door, over real sockets.

mod stage;

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use auth::{JwtConfig, NewKey, Spec};
use gateway::{AuthConfig, AuthFiles, Config};
use serde_json::{Value, json};
use stage::{Client, PATIENCE, Response, Server, config, connect, instrument, quote, trade, upgrade_request};
use tungstenite::client::IntoClientRequest;

/// A file of keys in a folder of its own, which goes with it.
struct Keys {
    folder: PathBuf,
    text: String,
}

impl Keys {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tickerplant-auth-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("keys.toml"), "").unwrap();
        Self { folder, text: String::new() }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("keys.toml")
    }

    /// Adds a key; its text.
    fn add(&mut self, name: &str, spec: &Value) -> String {
        let key = NewKey::generate().unwrap();
        let spec: Spec = serde_json::from_value(spec.clone()).unwrap();
        self.replace(auth::add_key(&self.text, &key, name, "2026-01-01", &spec).unwrap());
        key.text
    }

    /// As an editor does it: in one step.
    fn replace(&mut self, text: String) {
        fs::write(self.folder.join("new"), &text).unwrap();
        fs::rename(self.folder.join("new"), self.path()).unwrap();
        self.text = text;
    }

    fn config(&self) -> Config {
        let files = AuthFiles { api_keys: Some(self.path()), ..AuthFiles::default() };
        Config { auth: AuthConfig::Required(files), ..config() }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The answer to an upgrade request with those headers, which is refused.
fn refused(server: &Server, headers: &[(&str, &str)]) -> Response {
    let mut stream = connect(server.address);
    let mut all = vec![("Connection", "Upgrade, close")];
    all.extend(headers);
    stream.write_all(upgrade_request(&all).as_bytes()).unwrap();
    Response::read(&mut stream)
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

fn client(server: &Server, key: &str) -> Client {
    let mut request = format!("ws://{}/ws?format=json", server.address).into_client_request().unwrap();
    request.headers_mut().insert("Authorization", bearer(key).parse().unwrap());
    let (socket, _) = tungstenite::client(request, connect(server.address)).unwrap();
    let mut client = Client(socket);
    client.expect("welcome");
    client
}

fn get(server: &Server, path: &str, authorization: Option<&str>) -> Response {
    let mut stream = connect(server.address);
    let header = authorization.map_or(String::new(), |value| format!("Authorization: {value}\r\n"));
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}Connection: close\r\n\r\n").unwrap();
    Response::read(&mut stream)
}

fn error(client: &mut Client) -> Value {
    client.expect("error")
}

fn subscribe(client: &mut Client, symbols: &[&str]) {
    client.send(&json!({"op": "subscribe", "channels": ["trades"], "symbols": symbols}).to_string());
}

/// Waits until a metric has that value; sessions' are exported once a second.
fn counted(server: &Server, metric: &str, value: u32) {
    let line = format!("\n{metric} {value}\n");
    let until = std::time::Instant::now() + PATIENCE;
    while !server.get("/metrics").body.contains(&line) {
        assert!(std::time::Instant::now() < until, "{line}");
    }
}

#[test]
fn a_key_is_taken_at_the_upgrade_and_by_command() {
    let mut keys = Keys::new();
    let key = keys.add("desk", &json!({"symbols": ["A*"]}));
    let server = Server::start(keys.config());
    let mut by_header = client(&server, &key);
    subscribe(&mut by_header, &["*"]);
    assert_eq!(by_header.expect("subscribed")["instruments"], json!([["AAA", 0, -2, 0]]));
    let mut by_command = server.json_client();
    by_command.expect("welcome");
    subscribe(&mut by_command, &["AAA"]);
    assert_eq!(error(&mut by_command)["code"], "auth_required");
    // Nothing waits for the answer to `auth`.
    by_command.send(&json!({"op": "auth", "token": key}).to_string());
    subscribe(&mut by_command, &["AAA", "BBB"]);
    assert!(by_command.expect("authenticated").get("expires").is_none());
    assert_eq!(by_command.expect("subscribed")["instruments"].as_array().unwrap().len(), 1);
    let refusal = error(&mut by_command);
    assert_eq!((&refusal["code"], &refusal["symbols"]), (&json!("not_entitled"), &json!(["BBB"])));
    server.play(vec![trade(1, 1), trade(0, 2)]);
    for client in [&mut by_header, &mut by_command] {
        assert_eq!(client.data()[0]["symbol"], "AAA");
    }
}

#[test]
fn bad_presentations_are_refused_before_the_upgrade() {
    let mut keys = Keys::new();
    let key = keys.add("desk", &json!({}));
    let server = Server::start(keys.config());
    let wrong = format!("{}{}", &key[..key.len() - 1], if key.ends_with('0') { '1' } else { '0' });
    for (value, says) in [
        (bearer(&wrong), "not known"),
        (bearer("hunter2"), "neither"),
        (bearer("a.b.c"), "JWTs are not accepted"),
        ("Basic dXNlcjpodW50ZXIy".to_owned(), "Bearer"),
    ] {
        let response = refused(&server, &[("Authorization", &value)]);
        assert_eq!(response.status, 401, "{response:?}");
        assert!(response.head.contains("www-authenticate: bearer"), "{response:?}");
        assert_eq!(response.json()["code"], "auth_failed");
        assert!(response.json()["message"].as_str().unwrap().contains(says), "{response:?}");
    }
    let twice = refused(&server, &[("Authorization", &bearer(&key)), ("Authorization", &bearer(&key))]);
    assert_eq!(twice.status, 401, "{twice:?}");
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("tickerplant_upgrades_refused_total{reason=\"auth\"} 5"), "{metrics}");
    assert!(metrics.contains("tickerplant_auth_refused_total{reason=\"token\"} 3"), "{metrics}");
}

#[test]
fn a_token_in_a_url_is_refused_even_where_it_is_good() {
    let mut keys = Keys::new();
    let key = keys.add("desk", &json!({}));
    for config in [keys.config(), config()] {
        let server = Server::start(config);
        for path in ["/ws?token=", "/ws?format=json&x=", "/api/v1/instruments?api_key="] {
            let response = get(&server, &format!("{path}{key}"), Some(&bearer(&key)));
            assert_eq!(response.status, 400, "{path}");
            assert!(response.body.contains("header Authorization"), "{response:?}");
            assert!(!response.body.contains(&key) && !response.head.contains(&key));
        }
    }
}

#[test]
fn plain_http_obeys_the_same() {
    let mut keys = Keys::new();
    let key = bearer(&keys.add("desk", &json!({"symbols": ["A*"], "channels": ["trades", "bars.1m"]})));
    let server = Server::start(keys.config());
    server.play(vec![trade(0, 1), trade(1, 2), quote(0, 1)]);
    let check = |path: &str, status: u16, code: &str| {
        let response = get(&server, path, Some(&key));
        assert_eq!(response.status, status, "{path}: {response:?}");
        assert_eq!(response.json()["code"].as_str().unwrap_or_default(), code, "{path}: {response:?}");
        response.json()
    };
    let without = get(&server, "/api/v1/instruments", None);
    assert_eq!((without.status, &without.json()["code"]), (401, &json!("auth_required")));
    assert!(without.head.contains("www-authenticate: bearer"), "{without:?}");
    assert_eq!(get(&server, "/api/v1/instruments", Some("Bearer tp_no")).status, 401);
    assert_eq!(check("/api/v1/instruments", 200, "")["instruments"].as_array().unwrap().len(), 1);
    assert!(
        check("/api/v1/snapshot?symbols=*", 200, "")["data"]
            .as_array()
            .unwrap()
            .iter()
            .all(|e| e["symbol"] == "AAA" && e["type"] == "trade")
    );
    check("/api/v1/snapshot?symbols=AAA,BBB", 403, "not_entitled");
    check("/api/v1/snapshot?symbols=NONE", 403, "not_entitled");
    check("/api/v1/snapshot?symbols=ANONE", 404, "unknown_symbol");
    check("/api/v1/snapshot?symbols=*&channels=quotes", 403, "not_entitled");
    check("/api/v1/snapshot?symbols=AAA&channels=trades", 200, "");
    check("/api/v1/trades?symbol=AAA", 200, "");
    check("/api/v1/trades?symbol=BBB", 403, "not_entitled");
    check("/api/v1/bars?symbol=AAA&interval=1m", 200, "");
    check("/api/v1/bars?symbol=AAA&interval=5m", 403, "not_entitled");
    check("/api/v1/book?symbol=AAA", 403, "not_entitled");
    assert_eq!(get(&server, "/healthz", None).status, 200);
}

#[test]
fn three_bad_tokens_close_the_session() {
    let keys = Keys::new();
    let server = Server::start(keys.config());
    let mut client = server.json_client();
    client.expect("welcome");
    for id in 1..=3 {
        client.send(&json!({"op": "auth", "token": "hunter2", "id": id}).to_string());
        let refusal = error(&mut client);
        assert_eq!((&refusal["code"], &refusal["id"]), (&json!("auth_failed"), &json!(id)));
        assert!(!refusal["message"].as_str().unwrap().contains("hunter2"));
    }
    assert_eq!(client.close_code(), 4401);
}

#[test]
fn who_says_nothing_is_closed() {
    let keys = Keys::new();
    let limits = wire::Limits { auth_timeout_ms: 50, ..wire::Limits::default() };
    let server = Server::start(Config { limits, ..keys.config() });
    let mut client = server.json_client();
    client.expect("welcome");
    assert_eq!(error(&mut client)["code"], "auth_timeout");
    assert_eq!(client.close_code(), 4401);
}

#[test]
fn addresses_that_fail_too_often_are_not_listened_to() {
    let mut keys = Keys::new();
    let key = keys.add("desk", &json!({}));
    let server = Server::start(Config { auth_failures_per_ip_per_min: 2, ..keys.config() });
    let mut inside = client(&server, &key);
    for _ in 0..2 {
        assert_eq!(refused(&server, &[("Authorization", "Bearer hunter2")]).status, 401);
    }
    let third = refused(&server, &[("Authorization", &bearer(&key))]);
    assert_eq!(third.status, 429, "also for a good one: {third:?}");
    assert!(third.body.contains("auth_failures_per_ip_per_min is 2") && third.head.contains("retry-after: "));
    assert_eq!(get(&server, "/api/v1/instruments", Some(&bearer(&key))).status, 429);
    let mut by_command = server.json_client();
    by_command.expect("welcome");
    for _ in 0..3 {
        by_command.send(&json!({"op": "auth", "token": key}).to_string());
        assert_eq!(by_command.expect("notice")["code"], "rate_limited");
        assert_eq!(error(&mut by_command)["code"], "rate_limited");
    }
    assert_eq!(by_command.close_code(), 4429);
    counted(&server, "tickerplant_auth_refused_total{reason=\"auth_failures_per_ip_per_min\"}", 5);
    subscribe(&mut inside, &["AAA"]);
    inside.expect("subscribed");
}

#[test]
fn connections_and_subscriptions_of_a_key_are_limited() {
    let mut keys = Keys::new();
    let key = keys.add("desk", &json!({"connections": 2, "subscriptions": 2}));
    let server = Server::start(keys.config());
    let (mut one, mut two) = (client(&server, &key), client(&server, &key));
    let third = refused(&server, &[("Authorization", &bearer(&key))]);
    assert_eq!(third.status, 429);
    assert!(third.body.contains("connections_per_key, or connections of the key, is 2"), "{third:?}");
    let mut by_command = server.json_client();
    by_command.expect("welcome");
    by_command.send(&json!({"op": "auth", "token": key}).to_string());
    let refusal = error(&mut by_command);
    assert!(refusal["message"].as_str().unwrap().contains("connections_per_key, or"), "{refusal}");
    assert_eq!(by_command.close_code(), 4409);
    subscribe(&mut one, &["AAA"]);
    one.expect("subscribed");
    subscribe(&mut two, &["AAA", "BBB"]);
    let refusal = error(&mut two);
    assert_eq!(refusal["code"], "too_many_subscriptions");
    assert!(refusal["message"].as_str().unwrap().contains("subscriptions_per_key"), "{refusal}");
    counted(&server, "tickerplant_subscriptions_refused_total{reason=\"subscriptions_per_key\"}", 1);
    counted(&server, "tickerplant_auth_refused_total{reason=\"connections_per_key\"}", 2);
    subscribe(&mut two, &["BBB"]);
    two.expect("subscribed");
}

#[test]
fn bytes_of_a_key_are_paced_and_the_loss_is_declared() {
    let mut keys = Keys::new();
    let key = keys.add("slow", &json!({"bytes_per_s": 20_000}));
    let fast = keys.add("fast", &json!({}));
    let limits = wire::Limits { outbox_bytes_max: 4000, ..wire::Limits::default() };
    let server = Server::start(Config { limits, ..keys.config() });
    let (mut paced, mut free) = (client(&server, &key), client(&server, &fast));
    for client in [&mut paced, &mut free] {
        subscribe(client, &["AAA"]);
        client.expect("subscribed");
    }
    // Wave by wave, so that there are many frames: one goes as a whole.
    let (count, wave) = (1000, 20);
    let mut last = 0;
    while last < count {
        let end = last + wave;
        server.play((last + 1..=end).map(|n| trade(0, n)).collect());
        while last < end {
            last = free.data().last().unwrap()["seq"].as_i64().unwrap();
        }
    }
    // The paced one comes to the same value, by a gap that says what it has not got.
    let (mut next, mut gaps, mut told) = (1, 0, false);
    while next <= count {
        let message = paced.next();
        if message["type"] == "notice" && message["code"] == "rate_limited" {
            assert!(message["message"].as_str().unwrap().contains("bytes_per_s_per_key"), "{message}");
            told = true;
        }
        for element in message["data"].as_array().into_iter().flatten() {
            let from = if element["type"] == "gap" { "from_seq" } else { "seq" };
            gaps += i64::from(element["type"] == "gap");
            assert_eq!(element[from], next, "{element}");
            next = element["seq"].as_i64().unwrap() + 1;
        }
    }
    assert!(gaps > 0 && told);
    let metrics = server.get("/metrics").body;
    assert!(!metrics.contains("tickerplant_throttled_total 0"), "{metrics}");
}

#[test]
fn revoked_keys_end_their_sessions_and_changed_ones_change_them() {
    let mut keys = Keys::new();
    let (one, two) = (keys.add("one", &json!({})), keys.add("two", &json!({})));
    let server = Server::start(keys.config());
    let (mut first, mut second) = (client(&server, &one), client(&server, &two));
    subscribe(&mut second, &["AAA", "BBB"]);
    second.expect("subscribed");
    // A file that is broken changes nothing.
    let good = keys.text.clone();
    keys.replace("[[key]".to_owned());
    while server.get("/metrics").body.contains("tickerplant_auth_reload_errors_total 1") {}
    let (revoked, _) = auth::revoke_key(&good, "one", "now").unwrap();
    keys.replace(revoked.replace("name = \"two\"", "name = \"two\"\nsymbols = [\"B*\"]"));
    let notice = first.expect("notice");
    assert_eq!(notice["code"], "token_expires");
    assert!(notice["message"].as_str().unwrap().contains("revoked"));
    assert_eq!(first.close_code(), 4401);
    let refusal = error(&mut second);
    assert_eq!((&refusal["code"], &refusal["symbols"]), (&json!("not_entitled"), &json!(["AAA"])));
    server.play(vec![trade(0, 1), trade(1, 2)]);
    assert_eq!(second.data()[0]["symbol"], "BBB");
    assert_eq!(refused(&server, &[("Authorization", &bearer(&one))]).status, 401);
    let third = keys.text.clone();
    keys.text = third;
    let added = keys.add("three", &json!({}));
    while get(&server, "/api/v1/instruments", Some(&bearer(&added))).status != 200 {}
}

#[test]
fn a_star_of_a_key_covers_only_what_it_may_have_of_new_instruments() {
    let mut keys = Keys::new();
    let key = keys.add("desk", &json!({"symbols": ["A*"]}));
    let server = Server::start(keys.config());
    let mut client = client(&server, &key);
    subscribe(&mut client, &["*"]);
    client.expect("subscribed");
    server.step(stage::Step::Announce(instrument(2, "CCC")));
    server.step(stage::Step::Announce(instrument(3, "ABC")));
    server.play(vec![trade(2, 1), trade(3, 2)]);
    assert_eq!(client.expect("instruments")["instruments"][0]["symbol"], "ABC");
    assert_eq!(client.data()[0]["symbol"], "ABC");
}

#[test]
fn files_of_keys_that_are_wrong_are_named() {
    let keys = Keys::new();
    fs::write(keys.path(), "[[key]]\nname = \"x\"\n").unwrap();
    let fails = |files: AuthFiles| {
        let config = Config { auth: AuthConfig::Required(files), ..config() };
        gateway::Gateway::bind(config).unwrap_err().to_string()
    };
    let path = keys.path();
    let message = fails(AuthFiles { api_keys: Some(path.clone()), ..AuthFiles::default() });
    assert!(message.contains("keys.toml: key 1 (x): id is missing"), "{message}");
    let short = fails(AuthFiles { jwt_secret: Some(path), jwt: JwtConfig::default(), ..AuthFiles::default() });
    assert!(short.contains("HS256 needs 32"), "{short}");
    let missing = fails(AuthFiles { jwt_jwks: Some("/nowhere/jwks.json".into()), ..AuthFiles::default() });
    assert!(missing.contains("/nowhere/jwks.json"), "{missing}");
}

#[test]
fn thousands_of_unknown_symbols_are_answered_and_forgotten() {
    let server = Server::start(config());
    let mut client = server.json_client();
    client.expect("welcome");
    let symbols: Vec<String> = (0..7000).map(|n| format!("X{n}")).collect();
    for id in 0..5 {
        client.send(&json!({"op": "subscribe", "channels": ["trades"], "symbols": symbols, "id": id}).to_string());
        let refusal = error(&mut client);
        assert_eq!((&refusal["id"], refusal["symbols"].as_array().unwrap().len()), (&json!(id), 1000));
    }
}

#[test]
fn new_connections_in_all_are_limited() {
    let server = Server::start(Config { new_connections_per_s: 1, ..config() });
    let _first = server.json_client();
    let second = refused(&server, &[]);
    assert_eq!(second.status, 503);
    assert!(second.body.contains("new_connections_per_s is 1") && second.head.contains("retry-after: "), "{second:?}");
}

#[test]
fn under_overload_new_sessions_are_refused_and_those_inside_served() {
    let overload = gateway::OverloadConfig { memory_bytes_max: 1, ..gateway::OverloadConfig::default() };
    let server = Server::start(Config { overload, ..config() });
    // The first look at the load comes after a moment; who is quicker is inside.
    let mut inside = Vec::new();
    loop {
        let mut stream = connect(server.address);
        stream.write_all(upgrade_request(&[]).as_bytes()).unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        if &head != b"HTTP/1.1 101" {
            break;
        }
        inside.push(stream);
    }
    let response = refused(&server, &[]);
    assert_eq!(response.status, 503);
    assert!(response.body.contains("overload_memory_bytes_max") && response.head.contains("retry-after: "));
    assert!(server.get("/metrics").body.contains("tickerplant_overloaded 1"));
    assert_eq!(server.get("/api/v1/instruments").status, 200);
}

#[test]
fn event_streams_obey_the_same() {
    let mut keys = Keys::new();
    let key = bearer(&keys.add("desk", &json!({"symbols": ["A*"], "modes": ["latest"], "connections": 1})));
    let server = Server::start(keys.config());
    assert_eq!(get(&server, "/api/v1/stream?symbols=*", None).status, 401);
    let check = |query: &str, status: u16, code: &str| {
        let response = get(&server, &format!("/api/v1/stream?poll=1&timeout_ms=0&{query}"), Some(&key));
        assert_eq!(response.status, status, "{query}: {response:?}");
        assert!(response.body.contains(code), "{query}: {response:?}");
        response.body
    };
    check("symbols=AAA,BBB&interval_ms=100", 403, "not_entitled");
    check("symbols=AAA", 403, "mode every");
    server.play(vec![trade(0, 1), trade(1, 2)]);
    let body = check("symbols=*&channels=trades&interval_ms=0", 200, "AAA");
    assert!(!body.contains("BBB"), "{body}");
    // A session of the key is all that it may have.
    let key = key.strip_prefix("Bearer ").unwrap();
    let _held = loop {
        // The poll before has been answered; its session ends a moment later.
        let mut request = format!("ws://{}/ws", server.address).into_client_request().unwrap();
        request.headers_mut().insert("Authorization", bearer(key).parse().unwrap());
        if let Ok((socket, _)) = tungstenite::client(request, connect(server.address)) {
            break socket;
        }
    };
    let refusal = get(&server, "/api/v1/stream?symbols=*&interval_ms=0", Some(&bearer(key)));
    assert_eq!(refusal.status, 429, "{refusal:?}");
    assert!(refusal.body.contains("connections_per_key, or connections of the key, is 1"), "{refusal:?}");
}
