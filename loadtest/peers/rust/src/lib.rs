//! What every peer publishes: a metronome of quotes and trades, and how they are written.
//!
//! Tick k is due at begin + k / rate. It is a quote or a trade in turns, of the instruments round robin, as in the tested
//! server's `uniform` scenario. Its time is the instant at which it was due, whenever it really goes out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Ticks handed out in one go, so that a server that is late still reads.
const TICKS_MAX: u64 = 1000;

/// What all peers can be told.
#[derive(Parser, Clone)]
pub struct Options {
    #[arg(long, default_value_t = 9004)]
    pub port: u16,
    #[arg(long, default_value_t = 1000.0)]
    pub rate: f64,
    #[arg(long, default_value_t = 1000)]
    pub symbols: u32,
    /// 0: every tick is a message of its own; otherwise what fell due in an interval is one message
    #[arg(long, default_value_t = 0)]
    pub batch_us: u64,
    #[arg(long, value_enum, default_value = "msgpack")]
    pub format: Format,
    /// There is none here; accepted so that all peers have the same flags
    #[arg(long, default_value = "off")]
    pub deflate: String,
}

/// How messages are written.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Format {
    Msgpack,
    Json,
}

pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

fn rfc3339(ns: u64) -> String {
    let seconds =
        OffsetDateTime::from_unix_timestamp((ns / 1_000_000_000) as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let text = seconds.format(&Rfc3339).unwrap_or_default();
    format!("{}.{:09}Z", text.trim_end_matches('Z'), ns % 1_000_000_000)
}

fn unsigned(value: u64, out: &mut Vec<u8>) {
    match value {
        0..128 => out.push(value as u8),
        128..256 => out.extend([0xCC, value as u8]),
        256..65536 => {
            out.push(0xCD);
            out.extend((value as u16).to_be_bytes());
        }
        65536..0x1_0000_0000 => {
            out.push(0xCE);
            out.extend((value as u32).to_be_bytes());
        }
        _ => {
            out.push(0xCF);
            out.extend(value.to_be_bytes());
        }
    }
}

impl Format {
    pub fn control(self, kind: &str) -> Vec<u8> {
        match self {
            Self::Json => format!("{{\"type\":\"{kind}\",\"instruments\":[]}}").into_bytes(),
            Self::Msgpack => {
                let mut out = b"\x81\xA4type".to_vec();
                out.push(0xA0 | kind.len() as u8);
                out.extend(kind.as_bytes());
                out
            }
        }
    }

    pub fn element(self, trade: bool, symbol: u32, seq: u64, time_ns: u64) -> Vec<u8> {
        if self == Self::Json {
            let head = format!("\"symbol\":\"S{symbol}\",\"seq\":{seq},\"time\":\"{}\"", rfc3339(time_ns));
            let text = if trade {
                format!(
                    "{{\"type\":\"trade\",{head},\"price\":\"9682.19\",\"size\":\"150\",\"side\":\"buy\",\"trade_id\":{seq}}}"
                )
            } else {
                format!(
                    "{{\"type\":\"quote\",{head},\"bid\":\"9682.18\",\"bid_size\":\"200\",\"ask\":\"9682.20\",\"ask_size\":\"150\"}}"
                )
            };
            return text.into_bytes();
        }
        let mut out = vec![0x98, if trade { 1 } else { 2 }];
        unsigned(symbol.into(), &mut out);
        unsigned(seq, &mut out);
        unsigned(time_ns, &mut out);
        let values = if trade { [968_219, 150, 1, seq] } else { [968_218, 200, 968_220, 150] };
        values.into_iter().for_each(|value| unsigned(value, &mut out));
        out
    }

    pub fn message<'a>(self, elements: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
        if self == Self::Json {
            let texts: Vec<_> = elements.map(String::from_utf8_lossy).collect();
            return format!("{{\"sent_at\":\"{}\",\"data\":[{}]}}", rfc3339(now_ns()), texts.join(",")).into_bytes();
        }
        let mut out = Vec::with_capacity(16 + 32 * elements.len());
        match elements.len() + 1 {
            count @ 0..16 => out.push(0x90 | count as u8),
            count => {
                out.push(0xDD);
                out.extend((count as u32).to_be_bytes());
            }
        }
        unsigned(now_ns(), &mut out);
        elements.for_each(|element| out.extend_from_slice(element));
        out
    }
}

/// Says which ticks have fallen due.
pub struct Metronome {
    options: Options,
    begin: u64,
    next: u64,
    seqs: Vec<[u64; 2]>,
}

impl Metronome {
    pub fn new(options: Options) -> Self {
        Self { begin: now_ns(), next: 0, seqs: vec![[0; 2]; options.symbols as usize], options }
    }

    /// How long to gather.
    pub fn interval(&self) -> Duration {
        Duration::from_micros(if self.options.batch_us == 0 { 1000 } else { self.options.batch_us })
    }

    /// The ticks that have fallen due since the last time, with the number of their symbol.
    pub fn due(&mut self) -> Vec<(u32, Vec<u8>)> {
        let due = (self.elapsed() as u64 + 1).min(self.next + TICKS_MAX);
        let mut ticks = Vec::new();
        while self.next < due {
            let symbol = (self.next % u64::from(self.options.symbols)) as u32;
            let trade = (self.next / u64::from(self.options.symbols) + u64::from(symbol)) % 2;
            let seq = &mut self.seqs[symbol as usize][trade as usize];
            *seq += 1;
            let time_ns = self.begin + (self.next as f64 * 1e9 / self.options.rate) as u64;
            ticks.push((symbol, self.options.format.element(trade == 1, symbol, *seq, time_ns)));
            self.next += 1;
        }
        ticks
    }

    /// Whether so much has fallen due meanwhile that there is no time to wait.
    pub fn is_late(&self) -> bool {
        self.elapsed() - self.next as f64 > TICKS_MAX as f64 / 2.0
    }

    fn elapsed(&self) -> f64 {
        (now_ns() - self.begin) as f64 * self.options.rate / 1e9
    }
}
