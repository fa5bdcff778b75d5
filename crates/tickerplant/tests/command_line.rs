//! The binary from outside: precedence of its settings, its exit codes, and what it says.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const DEFAULT_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/tickerplant.toml");

/// The command in an environment without any settings.
fn tickerplant() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickerplant"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TICKERPLANT_") {
            command.env_remove(name);
        }
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of this test run.
fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, content).expect("the directory for tests can be written to");
    path
}

/// The command ends with `code` and one line on standard error that has all the words.
fn check_failure(command: &mut Command, code: i32, words: &[&str]) {
    let output = command.output().expect("the binary can be run");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    for word in words {
        assert!(errors.contains(word), "{errors:?} does not say {word:?}");
    }
    let said = errors.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(said, 1, "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
}

/// The effective configuration.
fn effective(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the binary can be run");
    assert!(status.success(), "{}", text(&stderr));
    text(&stdout)
}

/// The lines without the remarks where values come from.
fn values(report: &str) -> Vec<&str> {
    report.lines().filter(|line| !line.starts_with('#')).map(|line| line.split("  # ").next().unwrap_or(line)).collect()
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let config = file(
        "precedence.toml",
        b"sim_seed = 10\nsim_symbols = 20\nsim_rate = 30.5\nallow_origin = [\"https://f\", \"https://g\"]\nreplay_loop = true\n",
    );
    let mut command = tickerplant();
    command.args(["check-config", "--sim-seed", "12", "--replay-loop=false", "--config"]).arg(&config);
    command.env("TICKERPLANT_SIM_SEED", "11").env("TICKERPLANT_SIM_SYMBOLS", "21");
    let report = effective(&mut command);
    let name = config.display();
    for line in [
        "sim_seed = 12  # command line",
        "sim_symbols = 21  # environment, TICKERPLANT_SIM_SYMBOLS",
        &format!("sim_rate = 30.5  # {name}, line 3"),
        &format!("allow_origin = [\"https://f\", \"https://g\"]  # {name}, line 4"),
        "replay_loop = false  # command line",
        "drain_ms = 5000  # default",
    ] {
        assert!(report.lines().any(|l| l == line), "{line} is not in\n{report}");
    }

    // The file may be named by the environment; a list is taken whole from the highest place.
    let mut command = tickerplant();
    command.args(["check-config", "--allow-origin", "https://c"]);
    command.env("TICKERPLANT_CONFIG", &config).env("TICKERPLANT_ALLOW_ORIGIN", "https://d,https://e");
    let report = effective(&mut command);
    assert!(report.contains("allow_origin = [\"https://c\"]  # command line\n"), "{report}");
    assert!(report.contains("sim_seed = 10  #"), "{report}");
}

#[test]
fn the_default_file_says_what_the_defaults_are() {
    let built_in = effective(tickerplant().arg("check-config"));
    let from_file = effective(tickerplant().args(["check-config", "--config", DEFAULT_FILE]));
    assert_eq!(values(&built_in), values(&from_file));

    // Every key is there; where the default depends on something, behind a `# `.
    let default_file = fs::read_to_string(DEFAULT_FILE).expect("the default file");
    for (line, origin) in values(&from_file).iter().zip(from_file.lines().skip(1)) {
        let key = line.split(" = ").next().unwrap_or_default();
        let mentioned = |prefix: &str| default_file.lines().any(|l| l.starts_with(&format!("{prefix}{key} = ")));
        assert!(mentioned("") || mentioned("# "), "{key} is not in the default file");
        assert_eq!(mentioned(""), !origin.ends_with("  # default"), "{origin}");
    }
}

#[test]
fn the_report_can_be_given_back() {
    let mut command = tickerplant();
    command.args([
        "check-config",
        "--listen",
        "0.0.0.0:1",
        "--auth",
        "off",
        "--sim-rate",
        "1e3",
        "--replay-speed",
        "max",
        "--log",
    ]);
    command.args(["gateway=debug,info", "--feed", "recording:a \"b\".csv", "--feed", "recording:c:d.dbn"]);
    let report = effective(&mut command);
    assert!(report.contains("connections_per_ip = 64  # default"), "{report}");
    let config = file("report.toml", report.as_bytes());
    let again = effective(tickerplant().args(["check-config", "--config"]).arg(config));
    assert_eq!(values(&report), values(&again));
}

#[test]
fn who_listens_to_others_says_whom_it_serves() {
    let check = |args: &[&str]| tickerplant().arg("check-config").args(args).output().unwrap();
    let open = check(&["--listen", "0.0.0.0:1"]);
    assert_eq!(open.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&open.stderr).contains("or say --auth off"), "{open:?}");
    for args in [
        &["--listen", "0.0.0.0:1", "--auth", "off"][..],
        &["--listen", "0.0.0.0:1", "--api-keys-file", "keys.toml"],
        &["--listen", "[::1]:1"],
    ] {
        assert_eq!(check(args).status.code(), Some(0), "{args:?}");
    }
    assert_eq!(check(&["--auth", "required"]).status.code(), Some(2));
}

#[test]
fn keys_are_made_listed_and_revoked() {
    let path = file("keys.toml", b"");
    let keys = |args: &[&str]| {
        let (verb, rest) = args.split_first().unwrap();
        let output = tickerplant().args(["keys", verb, "--file"]).arg(&path).args(rest).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let key = keys(&["new", "--name", "desk", "--symbols", "BTC-*,ETH-*", "--connections", "4"]);
    assert!(key.starts_with("tp_") && key.trim_end().len() == 52, "{key}");
    let stored = std::fs::read_to_string(&path).unwrap();
    assert!(!stored.contains(&key.trim_end()[12..]) && stored.contains("symbols = [\"BTC-*\", \"ETH-*\"]"), "{stored}");
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions()) & 0o777,
        0o600
    );
    assert!(keys(&["list"]).contains("desk"));
    assert_eq!(keys(&["revoke", "desk"]), format!("revoked {}\n", &key[3..11]));
    let again = tickerplant().args(["keys", "revoke", "desk", "--file"]).arg(&path).output().unwrap();
    assert_eq!(again.status.code(), Some(2));
}

#[test]
fn wrong_configurations_are_named_and_end_with_2() {
    let unknown = file("unknown.toml", b"# comment\nsim_sed = 1\n");
    let wrong = file("wrong.toml", b"\n\nshards = \"many\"\n");
    let broken = file("broken.toml", b"listen = \n");
    let with = |path: &Path| {
        let mut command = tickerplant();
        command.args(["serve", "--config"]).arg(path);
        command
    };
    check_failure(&mut with(&unknown), 2, &["unknown.toml, line 2", "sim_sed", "nearest known is sim_seed"]);
    check_failure(&mut with(&wrong), 2, &["wrong.toml, line 3", "'many'", "--shards"]);
    check_failure(&mut with(&broken), 2, &["broken.toml, line 1"]);
    check_failure(&mut with(Path::new("/nonexistent/x.toml")), 2, &["cannot read", "/nonexistent/x.toml"]);
    let script = file("wrong.scenario", b"[[at]]\nseconds = 0\nmood = 1\n");
    let scripted = |path: &Path| {
        let mut command = tickerplant();
        command.args(["serve", "--listen", "127.0.0.1:0", "--sim-script"]).arg(path);
        command
    };
    check_failure(&mut scripted(&script), 2, &["sim_script", "wrong.scenario", "mood"]);
    check_failure(&mut scripted(Path::new("/nonexistent/x.scenario")), 3, &["cannot read", "/nonexistent/x.scenario"]);
    let mut unknown = tickerplant();
    unknown.args(["check-config"]).env("TICKERPLANT_SIM_SED", "1");
    check_failure(&mut unknown, 2, &["TICKERPLANT_SIM_SED", "nearest known is TICKERPLANT_SIM_SEED"]);
    for (args, words) in [
        (&["--sim-sed", "1"][..], &["--sim-sed", "--sim-seed"][..]),
        (&["--sim-rate", "0"], &["0 ticks per second"]),
        (&["--sim-symbols", "10001"], &["10001 symbols"]),
        (&["--feed", "tape"], &["tape", "recording:PATH"]),
        (&["--feed", "sim", "--feed", "recording:x"], &["sim cannot be combined"]),
        (&["--replay-speed", "0"], &["--replay-speed"]),
        (&["--listen", "8080"], &["--listen"]),
        (&["--log", "gateway=loud"], &["log", "gateway=loud"]),
        (&["--listen", "127.0.0.1:0", "--allow-origin", "desk.example/x"], &["allow_origin", "desk.example/x"]),
    ] {
        check_failure(tickerplant().arg("serve").args(args), 2, words);
    }
}

#[test]
fn a_feed_that_cannot_be_opened_ends_with_3() {
    let corrupt = file("corrupt.dbn.zst", b"this is not Zstandard");
    let header = file("header.csv", b"a,b,c\n1,2,3\n");
    for (path, words) in [
        (Path::new("/nonexistent/x.dbn"), &["/nonexistent/x.dbn"][..]),
        (&corrupt, &["corrupt.dbn.zst"]),
        (&header, &["header.csv"]),
    ] {
        let mut command = tickerplant();
        command.args(["serve", "--listen", "127.0.0.1:0", "--feed"]).arg(format!("recording:{}", path.display()));
        check_failure(&mut command, 3, words);
    }
}

#[test]
fn a_port_in_use_ends_with_4() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address").to_string();
    check_failure(tickerplant().args(["serve", "--listen", &address]), 4, &["cannot listen on", &address, "in use"]);
}

#[test]
fn help_names_flags_and_exit_codes() {
    let output = tickerplant().args(["serve", "--help"]).output().expect("the binary can be run");
    let help = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    for word in ["--listen", "--start-on-first-subscriber", "TICKERPLANT_SIM_SEED", "Exit codes:", "  5  "] {
        assert!(help.contains(word), "{word}");
    }
    let usage = tickerplant().arg("sevre").output().expect("the binary can be run");
    assert_eq!(usage.status.code(), Some(2));
    assert!(text(&usage.stderr).contains("serve"));
}

/// A running server that does not outlive its test.
struct Server {
    child: Child,
    address: SocketAddr,
    lines: Vec<String>,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut command = tickerplant();
        command.args(["serve", "--listen", "127.0.0.1:0", "--shards", "1"]).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary can be run");
        let stdout = child.stdout.take().expect("a pipe");
        let lines: Vec<String> = BufReader::new(stdout).lines().take(4).map_while(Result::ok).collect();
        let address = lines.first().and_then(|line| line.split("listening on http://").nth(1)).expect("a first line");
        let address = address.parse().expect("an address");
        Self { child, address, lines }
    }

    fn request(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("the server listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address).expect("it reads");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    /// Sends a signal by its number or name.
    #[cfg(unix)]
    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status();
        assert!(status.expect("kill can be run").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_first_lines_say_where_to_look() {
    let server = Server::start(&["--sim-symbols", "1"]);
    let address = server.address;
    assert_ne!(address.port(), 0);
    assert_eq!(
        server.lines[1..],
        [
            format!("  dashboard  http://{address}/"),
            format!("  websocket  ws://{address}/ws"),
            format!("  metrics    http://{address}/metrics"),
        ]
    );
    assert!(server.request("/healthz").starts_with("HTTP/1.1 200"));
    assert!(server.request("/metrics").starts_with("HTTP/1.1 200"));
}

#[test]
fn limits_can_be_switched_off() {
    let off = [
        "connections-max",
        "connections-per-ip",
        "new-connections-per-ip-per-s",
        "handshake-timeout-ms",
        "message-bytes-max",
        "commands-per-s",
        "commands-rejected-max",
        "subscriptions-max",
        "outbox-bytes-max",
        "heartbeat-ms",
        "ping-interval-ms",
    ]
    .map(|flag| format!("--{flag}=0"));
    let server = Server::start(&off.each_ref().map(String::as_str));
    assert!(server.request("/healthz").starts_with("HTTP/1.1 200"));
}

#[cfg(unix)]
#[test]
fn either_signal_ends_it_with_0() {
    for signal in ["INT", "TERM"] {
        let mut server = Server::start(&["--sim-symbols", "1"]);
        server.signal(signal);
        assert_eq!(server.child.wait().expect("it ends").code(), Some(0), "{signal}");
    }
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_a_drain_with_0() {
    let mut server = Server::start(&["--sim-symbols", "1", "--drain-ms", "600000"]);
    // A session keeps the drain from ending by itself.
    let mut session = TcpStream::connect(server.address).expect("the server listens");
    let address = server.address;
    write!(
        session,
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .expect("it reads");
    let mut welcome = [0; 4096];
    let mut read = 0;
    // Past the head of the answer: the session is open when its first frame has begun.
    while text(&welcome[..read]).split("\r\n\r\n").nth(1).is_none_or(str::is_empty) {
        let more = session.read(&mut welcome[read..]).expect("an answer");
        assert!(more > 0, "{}", text(&welcome[..read]));
        read += more;
    }
    server.signal("TERM");
    // The notice of the drain tells that the first signal has arrived.
    let mut rest = Vec::new();
    let mut buffer = [0; 4096];
    while !text(&rest).contains("draining") {
        let more = session.read(&mut buffer).expect("a notice");
        assert!(more > 0, "closed without a notice");
        rest.extend_from_slice(&buffer[..more]);
    }
    server.signal("INT");
    assert_eq!(server.child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_feed_that_fails_ends_with_5() {
    let header = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n";
    let good = "binance,BTCUSDT,1582329600000000,1582329600000000,1,buy,9682.19,0.5\n";
    let bad = "binance,BTCUSDT,1582329600000001,1582329600000001,2,buy,x,0.5\n";
    let path = file("bad_record.csv", format!("{header}{}{bad}", good.repeat(3)).as_bytes());
    let mut command = tickerplant();
    command.args(["serve", "--listen", "127.0.0.1:0", "--replay-speed", "max", "--drain-ms", "0", "--feed"]);
    let feed = format!("recording:{}", path.display());
    check_failure(command.arg(&feed), 5, &["the feed failed", "bad_record.csv", "line 5"]);
}
