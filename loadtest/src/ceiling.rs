//! How much one core of this tool can take: elements a second through the same code that reads sockets.
//!
//! **Invariant:** bytes go through a real socket of this machine, and through framing, checking and counting as in a run; the
//! server's work is not in it, since the bytes are made beforehand and sent by another thread.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser as _;

use crate::clock::{self, Clock};
use crate::options::{Cli, Command};
use crate::plan::Plan;
use crate::swarm::{Order, Report, Share, Swarm};
use crate::table::count;
use crate::tally::Tally;

/// Elements in each frame.
const BATCH: u64 = 100;

/// Frames in the block that is sent again and again.
const FRAMES: u64 = 64;

/// Measures and prints.
///
/// # Errors
/// No socket or no thread.
pub(crate) fn measure(seconds: f64) -> anyhow::Result<()> {
    println!("frames of {BATCH} trades, 1 connection, loopback, one thread reading");
    for (name, verify) in [("counted", "0"), ("checked", "all")] {
        let (rate, bytes, busy) = once(verify, Duration::from_secs_f64(seconds))?;
        println!(
            "{name:<8} {:>14} elements/s, {:>9} MB/s, {:>3.0} % of a core: {:>14} elements per CPU second",
            count(rate.round()),
            count((bytes / 1e6).round()),
            busy * 100.0,
            count((rate / busy).round())
        );
    }
    Ok(())
}

fn once(verify: &str, time: Duration) -> anyhow::Result<(f64, f64, f64)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let url = format!("ws://{address}/ws");
    thread::spawn(move || serve(&listener));
    let cli = Cli::parse_from(["loadtest", "run", "--url", &url, "--connections", "1", "--verify-connections", verify]);
    let Command::Run(options) = cli.command else { anyhow::bail!("not a run") };
    let plan = Arc::new(Plan::new(&options, address, None, || Ok(Vec::new()))?);
    let swarm = Swarm::new(plan, Share { index: 0, count: 1 }, Clock::since(clock::wall_ns()), 1)?;
    let (order, orders) = channel();
    let (tell, told) = channel();
    let reader = thread::spawn(move || swarm.run(&orders, &mut |report| drop(tell.send(report))));
    // The first interval holds the connecting and is left out.
    let end = Instant::now() + time + Duration::from_secs(1);
    let mut sum = Tally::default();
    let mut intervals = 0;
    while let Ok(report) = told.recv() {
        match report {
            Report::Interval { index, tally, .. } if index > 0 && tally.elements > 0 => {
                sum.add(&tally);
                intervals += 1;
            }
            Report::Done { .. } => break,
            _ => {}
        }
        if Instant::now() > end {
            break;
        }
    }
    order.send(Order::Stop)?;
    reader.join().map_err(|_| anyhow::anyhow!("the reading thread panicked"))??;
    anyhow::ensure!(!sum.findings.is_violation(), "the check found {:?} in a faultless stream", sum.findings);
    let seconds = f64::from(intervals).max(1.0);
    Ok((sum.elements as f64 / seconds, sum.bytes as f64 / seconds, sum.busy_ns as f64 / 1e9 / seconds))
}

/// Upgrades one connection and sends trades as fast as they are taken.
fn serve(listener: &TcpListener) -> Option<()> {
    let (mut stream, _) = listener.accept().ok()?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).ok()?;
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))?;
    let accept = crate::upgrade::accept_key(key);
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
    stream.write_all(answer.as_bytes()).ok()?;
    let control = |value: serde_json::Value| frame(&rmp_serde::to_vec(&value).unwrap_or_default());
    stream.write_all(&control(serde_json::json!({"type": "welcome"}))).ok()?;
    stream.write_all(&control(serde_json::json!({"type": "subscribed", "id": 1}))).ok()?;
    let mut block = Block::new();
    loop {
        stream.write_all(&block.bytes).ok()?;
        block.advance();
    }
}

/// Many frames in one piece, whose sequence numbers are moved on in place: that is far cheaper than writing them anew.
struct Block {
    bytes: Vec<u8>,
    /// Where each sequence number lies
    seqs: Vec<usize>,
}

impl Block {
    fn new() -> Self {
        let (mut bytes, mut seqs) = (Vec::new(), Vec::new());
        for number in 0..FRAMES {
            let mut payload = vec![0xDC];
            payload.extend_from_slice(&(BATCH as u16 + 1).to_be_bytes());
            payload.push(0xCF);
            payload.extend_from_slice(&clock::wall_ns().to_be_bytes());
            let mut places = Vec::new();
            for element in 0..BATCH {
                // [1, instrument, seq, time, price, size, side, id]
                payload.extend_from_slice(&[0x98, 0x01, 0x07, 0xCE]);
                places.push(payload.len());
                payload.extend_from_slice(&((number * BATCH + element + 1) as u32).to_be_bytes());
                payload.push(0xCF);
                payload.extend_from_slice(&clock::wall_ns().to_be_bytes());
                payload.extend_from_slice(&[0xCE, 0x00, 0x0E, 0xC6, 0x1B, 0x0A, 0x01, 0xCD, 0x12, 0x34]);
            }
            let framed = frame(&payload);
            let begin = bytes.len() + framed.len() - payload.len();
            seqs.extend(places.into_iter().map(|place| begin + place));
            bytes.extend_from_slice(&framed);
        }
        Self { bytes, seqs }
    }

    fn advance(&mut self) {
        for place in &self.seqs {
            if let Some(seq) = self.bytes.get_mut(*place..).and_then(|rest| rest.first_chunk_mut()) {
                *seq = (u32::from_be_bytes(*seq).wrapping_add((FRAMES * BATCH) as u32)).to_be_bytes();
            }
        }
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x82];
    match payload.len() {
        length @ 0..=125 => out.push(length as u8),
        length => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}
