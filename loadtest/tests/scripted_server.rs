//! The tool against a server that does known wrongs: it must report exactly those.
//!
//! **Invariant:** the server streams without end and without pauses, so that no test depends on how fast anything is.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

/// What the server answers to an upgrade.
#[derive(Clone, Copy)]
enum Answer {
    Upgrade,
    /// With permessage-deflate
    Deflate,
    NotFound,
    Forbidden,
}

/// What connection number `.0` gets: an answer, and then frame number n of the stream, none for the end of it.
struct Script {
    answer: fn(usize) -> Answer,
    frame: fn(u64) -> Option<Vec<u8>>,
}

fn binary(value: &Value) -> Vec<u8> {
    let payload = rmp_serde::to_vec(value).unwrap();
    let length =
        u8::try_from(payload.len()).ok().filter(|length| *length <= 125).expect("frames of the script are short");
    [&[0x82, length], &payload[..]].concat()
}

fn trade(seq: u64) -> Value {
    json!([1, 7, seq, 5, 100, 1, 1, 0])
}

fn serve(script: Arc<Script>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let script = Arc::clone(&script);
            thread::spawn(move || converse(number, &script, stream.unwrap()));
        }
    });
    format!("ws://{address}/ws")
}

/// One connection. A failed write is the client's end of the test.
fn converse(number: usize, script: &Script, mut stream: TcpStream) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        request.push(byte[0]);
    }
    let extension = match (script.answer)(number) {
        Answer::Upgrade => "",
        Answer::Deflate => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        Answer::NotFound => {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnope\n").ok();
        }
        Answer::Forbidden => {
            return stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").ok();
        }
    };
    let request = String::from_utf8(request).unwrap();
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let hash = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let accept = base64::engine::general_purpose::STANDARD.encode(hash);
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n{extension}\r\n");
    stream.write_all(answer.as_bytes()).ok()?;
    stream.write_all(&binary(&json!({"type": "welcome"}))).ok()?;
    read_command(&mut stream)?;
    stream.write_all(&binary(&json!({"type": "subscribed", "id": 1}))).ok()?;
    stream.write_all(&binary(&json!([9, [0, 1], trade(100)]))).ok()?;
    for number in 0.. {
        let Some(frame) = (script.frame)(number) else { break };
        stream.write_all(&frame).ok()?;
    }
    // The close is written; reading to the end lets the client see it before the socket is gone.
    drop(stream.read_to_end(&mut Vec::new()));
    Some(())
}

/// Reads over the client's subscription, a masked frame.
fn read_command(stream: &mut TcpStream) -> Option<()> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let length = match head[1] & 0x7F {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length).ok()?;
            usize::from(u16::from_be_bytes(length))
        }
        length => usize::from(length),
    };
    stream.read_exact(&mut vec![0; 4 + length]).ok()
}

fn loadtest(url: &str, connections: usize, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args([
            "run",
            "--url",
            url,
            "--connections",
            &connections.to_string(),
            "--seconds",
            "0.3",
            "--warmup-s",
            "0",
            "--connect-timeout-s",
            "10",
            "--series-ms",
            "100",
            "--metrics-url",
            "off",
            "--json",
            "-",
        ])
        .args(more)
        .output()
        .unwrap()
}

#[track_caller]
fn check(script: Script, connections: usize, exit_code: i32, want: &Value) {
    check_with(script, connections, &[], exit_code, want);
}

/// Runs the tool with more flags; gives what it reported.
#[track_caller]
fn check_with(script: Script, connections: usize, more: &[&str], exit_code: i32, want: &Value) -> Value {
    let output = loadtest(&serve(Arc::new(script)), connections, more);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {stderr}"));
    for (key, value) in want.as_object().unwrap() {
        assert_eq!(report.pointer(key), Some(value), "{key} of {report:#}");
    }
    assert_eq!(output.status.code(), Some(exit_code), "{report:#}");
    report
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// A trade that happened at a given time.
fn trade_at(seq: u64, time: u64) -> Value {
    json!([1, 7, seq, time, 100, 1, 1, 0])
}

const ALWAYS: fn(usize) -> Answer = |_| Answer::Upgrade;

#[test]
fn a_faultless_stream_is_complete() {
    let script =
        Script { answer: ALWAYS, frame: |n| Some(binary(&json!([9, trade(101 + 2 * n), trade(102 + 2 * n)]))) };
    let want = json!({
        "/verdict": "complete", "/connections/at_end": 4, "/traffic/snapshot_elements": 4,
        "/findings/missing": 0, "/findings/duplicates": 0, "/findings/gaps": 0,
    });
    check(script, 4, 0, &want);
}

#[test]
fn a_hole_and_a_repeat_are_found_on_every_connection() {
    let frame = |n: u64| {
        let seq = match n {
            0..10 => 101 + n,
            10 => 110,
            _ => 101 + n + 3,
        };
        Some(binary(&json!([9, trade(seq)])))
    };
    let want = json!({"/verdict": "violated", "/findings/missing": 4 * 4, "/findings/duplicates": 4});
    check(Script { answer: ALWAYS, frame }, 4, 3, &want);
}

#[test]
fn a_declared_gap_is_counted_and_allowed() {
    let frame = |n: u64| {
        Some(match n {
            0 => binary(&json!([9, [8, 7, 105, 5, "trades", 101, 105, "conflated"]])),
            _ => binary(&json!([9, trade(105 + n)])),
        })
    };
    let want = json!({"/verdict": "complete", "/findings/gaps": 2, "/findings/declared": 10, "/findings/missing": 0});
    check(Script { answer: ALWAYS, frame }, 2, 0, &want);
}

#[test]
fn a_refused_upgrade_is_one_connection_too_few() {
    let answer = |number| if number == 1 { Answer::NotFound } else { Answer::Upgrade };
    let frame = |n| Some(binary(&json!([9, trade(101 + n)])));
    let want = json!({
        "/verdict": "too_few_connections", "/connections/up": 2,
        "/ends": {"the server answered \"HTTP/1.1 404 Not Found nope\"": 1},
    });
    check(Script { answer, frame }, 3, 4, &want);
}

#[test]
fn a_server_that_goes_away_says_why() {
    let frame = |n| match n {
        0..1000 => Some(binary(&json!([9, trade(101 + n)]))),
        1000 => Some(vec![0x88, 5, 0x03, 0xF4, b'b', b'y', b'e']),
        _ => None,
    };
    let want = json!({
        "/verdict": "too_few_connections", "/connections/up": 2, "/connections/at_end": 0, "/findings/missing": 0,
        "/ends": {"the server closed with 1012 bye": 2},
    });
    check(Script { answer: ALWAYS, frame }, 2, 4, &want);
}

#[test]
fn nobody_there_is_one_clear_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let output = loadtest(&format!("ws://{address}/ws"), 3, &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with("loadtest: no connection came up: 3 x connection: Connection refused"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
}

#[test]
fn steps_back_and_what_was_not_asked_for_are_found() {
    let frame = |n: u64| {
        Some(match n {
            // 102 comes before 101, and once more a number long gone.
            0 => binary(&json!([9, trade(102), trade(101), trade(50)])),
            // A channel that was not subscribed.
            1 => binary(&json!([9, [7, 7, 1, 5, 2, "halted"]])),
            // A gap that says more than is missing.
            2 => binary(&json!([9, [8, 7, 110, 5, "trades", 101, 110, "slow"]])),
            n => binary(&json!([9, trade(108 + n)])),
        })
    };
    let want = json!({
        "/verdict": "violated", "/findings/out_of_order": 2, "/findings/unasked": 1, "/findings/missing": 1,
        "/findings/duplicates": 0, "/findings/gaps": 1, "/findings/gaps_wrong": 1, "/findings/declared": 8,
    });
    check(Script { answer: ALWAYS, frame }, 1, 3, &want);
}

#[test]
fn a_delay_is_in_every_latency() {
    // The time lies 300 ms back, the sending does not.
    let frame = |n| {
        thread::sleep(Duration::from_millis(1));
        let now = now_ns();
        Some(binary(&json!([now, trade_at(101 + n, now - 300_000_000)])))
    };
    let report = check_with(Script { answer: ALWAYS, frame }, 2, &[], 0, &json!({"/verdict": "complete"}));
    let us = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap();
    assert!((300_000..10_000_000).contains(&us("/latency/time/p50")), "{report:#}");
    assert!(us("/latency/sent/p50") < us("/latency/time/p50"), "{report:#}");
}

#[test]
fn a_stall_is_the_largest_latency_of_one_interval() {
    // Message 50 is stamped and then held back; those behind it were due in the meantime.
    let frame = |n: u64| {
        thread::sleep(Duration::from_millis(1));
        let frame = binary(&json!([now_ns(), trade_at(101 + n, now_ns())]));
        if n == 50 {
            thread::sleep(Duration::from_millis(250));
        }
        Some(frame)
    };
    let flags = ["--seconds", "1"];
    let report = check_with(Script { answer: ALWAYS, frame }, 1, &flags, 0, &json!({"/findings/missing": 0}));
    assert!(report.pointer("/latency/time/max").and_then(Value::as_u64).unwrap() >= 250_000, "{report:#}");
    let moments = report["series"].as_array().unwrap();
    let empty = moments.iter().filter(|moment| moment["t_s"].as_f64() >= Some(0.0) && moment["frames_per_s"] == 0.0);
    assert!(empty.count() >= 1, "the stall shows as an interval of nothing: {report:#}");
}

#[test]
fn several_processes_are_summed() {
    let script =
        Script { answer: ALWAYS, frame: |n| Some(binary(&json!([9, trade(101 + 2 * n), trade(104 + 2 * n)]))) };
    let want = json!({
        "/verdict": "violated", "/connections/up": 5, "/connections/at_end": 5, "/traffic/snapshot_elements": 5,
        "/setting/processes": 2, "/setting/threads": 2,
    });
    let report = check_with(script, 5, &["--processes", "2", "--threads", "2"], 3, &want);
    let [elements, steps_back] = ["/traffic/elements_in_all", "/findings/out_of_order"]
        .map(|path| report.pointer(path).unwrap().as_u64().unwrap());
    // Each message goes two numbers too far and the next one comes back.
    assert!(steps_back >= 5 && elements > steps_back, "{report:#}");
}

#[test]
fn a_forbidden_upgrade_is_one_clear_line() {
    let url = serve(Arc::new(Script { answer: |_| Answer::Forbidden, frame: |_| None }));
    let output = loadtest(&url, 2, &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr, "loadtest: no connection came up: 2 x the server answered \"HTTP/1.1 403 Forbidden\"\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn wrong_usage_is_told_apart_from_a_failed_run() {
    for flags in [&["--url", "http://127.0.0.1/"][..], &["--slo", "p98=1ms"], &["--connections", "0"]] {
        let output = loadtest("ws://127.0.0.1:1/", 1, flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(["run", "firehos"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean \"firehose\"?"));
}

#[test]
fn a_missed_objective_has_a_code_of_its_own() {
    let frame = |n| Some(binary(&json!([now_ns(), trade_at(101 + n, now_ns() - 50_000_000)])));
    let flags = ["--slo", "p50=1ms,loss=0"];
    let want = json!({"/verdict": "missed", "/objectives/0/met": false, "/objectives/1/met": true});
    check_with(Script { answer: ALWAYS, frame }, 1, &flags, 6, &want);
}

#[test]
fn a_client_that_was_sent_away_comes_back() {
    let frame = |n| match n {
        0..100 => Some(binary(&json!([9, trade(101 + n)]))),
        100 => Some(vec![0x88, 2, 0x03, 0xF4]),
        _ => None,
    };
    let flags = ["--reconnect", "--reconnect-delay-ms", "1", "--reconnect-jitter-ms", "1"];
    let output = loadtest(&serve(Arc::new(Script { answer: ALWAYS, frame })), 1, &flags);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let came_back = report["ends"]["the server closed with 1012 "].as_u64().unwrap();
    assert!(came_back > 1 && report["findings"]["missing"] == 0, "{report:#}");
}

#[test]
fn compressed_messages_are_checked_on_some_and_counted_on_the_others() {
    // A compressor that would be reset for each message; the client must not mind that history is kept if it were used.
    let frame = |n: u64| {
        let payload = rmp_serde::to_vec(&json!([9, trade(101 + 2 * n), trade(102 + 2 * n)])).unwrap();
        let mut deflate = flate2::Compress::new(flate2::Compression::fast(), false);
        let mut out = Vec::with_capacity(1024);
        deflate.compress_vec(&payload, &mut out, flate2::FlushCompress::Sync).unwrap();
        out.truncate(out.len() - 4);
        Some([&[0xC2, out.len() as u8], &out[..]].concat())
    };
    let flags = ["--deflate", "offer", "--verify-connections", "1"];
    let want =
        json!({"/verdict": "complete", "/connections/verified": 1, "/traffic/estimated": true, "/findings/missing": 0});
    let report = check_with(Script { answer: |_| Answer::Deflate, frame }, 2, &flags, 0, &want);
    let [elements, frames] = ["elements", "frames"].map(|key| report["traffic"][key].as_u64().unwrap());
    assert!(elements.abs_diff(2 * frames) <= 2, "two elements a message: {report:#}");
}

#[test]
fn any_server_can_be_counted_and_timed() {
    let frame = |n: u64| {
        let text = format!("{{\"n\":{n},\"ts\":{}}}", now_ns() / 1_000_000);
        Some([&[0x81, text.len() as u8], text.as_bytes()].concat())
    };
    // The scripted server waits for one message after the upgrade.
    let flags = [
        "--protocol",
        "raw",
        "--subscribe-message",
        "{\"want\":{symbols}}",
        "--time-at",
        "json:ts",
        "--time-unit",
        "ms",
    ];
    let report = check_with(
        Script { answer: ALWAYS, frame },
        2,
        &flags,
        0,
        &json!({"/verdict": "complete", "/setting/protocol": "raw"}),
    );
    assert!(report.pointer("/latency/time/samples").and_then(Value::as_u64).unwrap() > 0, "{report:#}");
}

#[test]
fn results_are_written_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let url = serve(Arc::new(Script {
        answer: ALWAYS,
        frame: |n| Some(binary(&json!([now_ns(), trade_at(101 + n, now_ns())]))),
    }));
    let output = loadtest(&url, 2, &["--json", &at("a.json"), "--html", &at("a.html"), "--name", "first"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("\nverdict       complete"), "the table is shown");
    let page = std::fs::read_to_string(at("a.html")).unwrap();
    assert!(page.contains("<svg") && !page.contains("http://127") && !page.contains("src="), "it loads nothing");
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args([
            "compare",
            &at("a.json"),
            &at("a.json"),
            "--html",
            &at("c.html"),
            "--svg",
            &at("plots"),
            "--markdown",
            &at("c.md"),
        ])
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("latency p99"));
    assert!(folder.path().join("plots/latency.svg").exists() && folder.path().join("c.html").exists());
}
