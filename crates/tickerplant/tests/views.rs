//! The views of a running server from outside, and the SDK against a server that is killed and started again.
//!
//! **Invariant:** what is printed can be piped; failures end in one line and their exit code.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tickerplant_client::{Channel, Client, Connection, Event, Origin, Subscription, SymbolList};

fn tickerplant() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickerplant"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TICKERPLANT_") {
            command.env_remove(name);
        }
    }
    command
}

/// A server of this test; dropping it kills it.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(listen: &str, more: &[&str]) -> Self {
        let mut command = tickerplant();
        command.args(["serve", "--listen", listen, "--sim-symbols", "6", "--sim-rate", "500"]).args(more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary can be run");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let address = line.trim().rsplit('/').next().and_then(|address| address.parse().ok());
        Self { child, address: address.unwrap_or_else(|| panic!("no address in {line:?}")) }
    }

    fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// Kills it at once, as SIGKILL does.
    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    fn view(&self, args: &[&str]) -> Output {
        tickerplant().args(args).args(["--url", &self.url()]).output().expect("the binary can be run")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn check_failure(output: &Output, code: i32, words: &[&str]) {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    for word in words {
        assert!(errors.contains(word), "{errors:?} does not say {word:?}");
    }
    assert_eq!(errors.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{errors}");
}

#[test]
fn views_show_a_running_server() {
    let server = Server::start("127.0.0.1:0", &["--sim-scenario", "busy"]);
    let listed = server.view(&["instruments", "--json"]);
    let listed: Vec<Value> = text(&listed.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed.len(), 6);
    let symbol = listed[0]["symbol"].as_str().unwrap();
    let table = text(&server.view(&["instruments", "--prefix", symbol]).stdout);
    let mut rows = table.lines();
    assert!(rows.next().is_some_and(|head| head.starts_with("SYMBOL")), "{table}");
    assert!(rows.clone().count() < 6 && rows.all(|row| row.starts_with(symbol)), "{table}");

    let tail = server.view(&["tail", "*", "--count", "30", "--json", "--channels", "trades,quotes,book.10"]);
    assert!(tail.status.success(), "{}", text(&tail.stderr));
    let lines: Vec<Value> = text(&tail.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().filter(|line| line["type"] != "connected").count() == 30, "{lines:?}");
    assert!(text(&tail.stderr).starts_with("30 events ("), "{}", text(&tail.stderr));
    let plain = server.view(&["tail", symbol, "--count", "5"]);
    assert!(!text(&plain.stdout).contains('\x1b'), "no colours in a pipe");
    assert!(text(&plain.stdout).contains(symbol));

    let book = text(&server.view(&["book", symbol, "--depth", "3"]).stdout);
    assert!(book.starts_with(symbol) && book.contains("\nask  ") && book.contains("\nbid  "), "{book}");

    check_failure(&server.view(&["tail", "NOPE"]), 7, &["NOPE is not a symbol of this server"]);
    let mistyped = symbol.to_ascii_lowercase();
    check_failure(&server.view(&["book", &mistyped, "--once"]), 7, &["did you mean", symbol]);
    check_failure(&server.view(&["tail", "no symbol"]), 2, &["is not a symbol"]);
    let some = server.view(&["tail", symbol, "NOPE", "--count", "1"]);
    assert!(some.status.success() && text(&some.stderr).contains("warning: NOPE is not a symbol"));
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let view = |url: &str| tickerplant().args(["instruments", "--url", url]).output().unwrap();
    check_failure(&view(&format!("ws://{nobody}/ws")), 6, &["cannot connect to ws://", "nobody listens there"]);
    check_failure(&view("http://127.0.0.1/ws"), 2, &["ws://127.0.0.1:8080/ws"]);
    let server = Server::start("127.0.0.1:0", &[]);
    check_failure(&view(&format!("ws://{}/healthz", server.address)), 6, &["refused the connection with 200"]);
}

#[tokio::test]
async fn a_server_that_is_killed_and_started_again_is_found_again() {
    let mut server = Server::start("127.0.0.1:0", &[]);
    let address = server.address.to_string();
    let backoff = tickerplant_client::Backoff { longest: std::time::Duration::from_millis(50), ..Default::default() };
    let mut client = Client::builder(server.url()).reconnect(backoff).connect().await.unwrap();
    client.subscribe(Subscription::to([Channel::Quotes], SymbolList::All)).unwrap();
    let mut last = std::collections::BTreeMap::new();
    let (mut lives, mut lost, mut seen) = (0, 0, 0);
    while lives < 4 || seen < 100 {
        match client.next().await.expect("the client does not give up") {
            Event::Quote(quote) => {
                let before = last.insert(quote.instrument.id, quote.seq);
                let next = quote.origin == Origin::Snapshot || before.is_none_or(|before| quote.seq == before + 1);
                assert!(next, "{} after {before:?}", quote.seq);
                seen += 1;
                if seen == 100 && lives < 4 {
                    server.kill();
                    server = Server::start(&address, &[]);
                }
            }
            Event::Connection(Connection::Connected { epoch_changed, .. }) => {
                assert_eq!(epoch_changed, lives > 0);
                (lives, seen) = (lives + 1, 0);
                last.clear();
            }
            Event::Connection(Connection::Lost { .. }) => lost += 1,
            Event::Gap(gap) => panic!("numbers of another life are no gap: {gap:?}"),
            _ => {}
        }
    }
    assert!(lost >= 3, "{lost}");
}
