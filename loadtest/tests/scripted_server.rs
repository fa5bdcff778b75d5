//! The tool against a server that does known wrongs: it must report exactly those.
//!
//! **Invariant:** the server streams without end and without pauses, so that no test depends on how fast anything is.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread;

use base64::Engine as _;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

/// What the server answers to an upgrade.
#[derive(Clone, Copy)]
enum Answer {
    Upgrade,
    NotFound,
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
    if matches!((script.answer)(number), Answer::NotFound) {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnope\n").ok();
    }
    let request = String::from_utf8(request).unwrap();
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let hash = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let accept = base64::engine::general_purpose::STANDARD.encode(hash);
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
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

fn loadtest(url: &str, connections: usize) -> Output {
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
        .output()
        .unwrap()
}

#[track_caller]
fn check(script: Script, connections: usize, exit_code: i32, want: &Value) {
    let output = loadtest(&serve(Arc::new(script)), connections);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {stderr}"));
    for (key, value) in want.as_object().unwrap() {
        assert_eq!(report.pointer(key), Some(value), "{key} of {report:#}");
    }
    assert_eq!(output.status.code(), Some(exit_code), "{report:#}");
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
    let output = loadtest(&format!("ws://{address}/ws"), 3);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with("loadtest: no connection came up: 3 x connection: Connection refused"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
}
