//! A gateway with a feed that a test plays, and clients of both kinds: a real WebSocket library, and raw bytes.

#![allow(dead_code, reason = "each test file uses its part of the stage")]
#![allow(missing_docs, reason = "the names say it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use feed::{Feed, FeedError, Progress};
use gateway::{Config, Gateway, GatewayError, Outcome, Stop};
use market::{
    AssetClass, Event, Instrument, InstrumentId, Level, Price, Quote, Side, Size, Symbol, Tick, Timestamp, Trade,
};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// Only so that a broken server fails a test instead of hanging it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

pub(crate) enum Step {
    Ticks(Vec<Tick>),
    Announce(Instrument),
    End,
    Fail,
}

/// A feed that hands over what the test sends it.
pub(crate) struct PlayedFeed {
    instruments: Vec<Instrument>,
    steps: mpsc::Receiver<Step>,
}

impl Feed for PlayedFeed {
    fn instruments(&self) -> &[Instrument] {
        &self.instruments
    }

    fn start(&mut self, _now: Timestamp) {}

    fn poll(&mut self, now: Timestamp, _ticks_max: usize, out: &mut Vec<Tick>) -> Result<Progress, FeedError> {
        for step in self.steps.try_iter() {
            match step {
                Step::Ticks(ticks) => out.extend(ticks),
                Step::Announce(instrument) => self.instruments.push(instrument),
                Step::End => return Ok(Progress::Ended),
                Step::Fail => {
                    return Err(FeedError::BadRecord {
                        path: "session.csv".into(),
                        position: "line 17".into(),
                        reason: "torn".into(),
                    });
                }
            }
        }
        Ok(Progress::Idle { until: now + Duration::from_millis(1) })
    }
}

/// A feed without a pace, like a replay at full speed.
pub(crate) struct RushingFeed {
    instruments: Vec<Instrument>,
    ticks: std::vec::IntoIter<Tick>,
}

impl RushingFeed {
    pub(crate) fn new(instruments: Vec<Instrument>, ticks: Vec<Tick>) -> Self {
        Self { instruments, ticks: ticks.into_iter() }
    }
}

impl Feed for RushingFeed {
    fn instruments(&self) -> &[Instrument] {
        &self.instruments
    }

    fn start(&mut self, _now: Timestamp) {}

    fn poll(&mut self, _now: Timestamp, ticks_max: usize, out: &mut Vec<Tick>) -> Result<Progress, FeedError> {
        out.extend(self.ticks.by_ref().take(ticks_max));
        Ok(if self.ticks.as_slice().is_empty() { Progress::Ended } else { Progress::Ready })
    }
}

pub(crate) fn instrument(id: u32, symbol: &str) -> Instrument {
    Instrument {
        id: InstrumentId(id),
        symbol: Symbol::new(symbol).unwrap(),
        price_exponent: -2,
        size_exponent: 0,
        tick_size: Price(1),
        lot_size: Size(1),
        class: AssetClass::Equity,
        currency: "USD".into(),
        description: format!("{symbol} Inc."),
    }
}

pub(crate) fn instruments() -> Vec<Instrument> {
    vec![instrument(0, "AAA"), instrument(1, "BBB")]
}

pub(crate) fn trade(instrument: u32, price: i64) -> Tick {
    let trade = Trade { price: Price(price), size: Size(3), side: Side::Buy, trade_id: price as u64 };
    Tick { instrument: InstrumentId(instrument), time: Timestamp(1_000_000_000), event: Event::Trade(trade) }
}

pub(crate) fn quote(instrument: u32, bid: i64) -> Tick {
    let level = |price| Some(Level { price: Price(price), size: Size(1) });
    let quote = Quote { bid: level(bid), ask: level(bid + 1) };
    Tick { instrument: InstrumentId(instrument), time: Timestamp(2_000_000_000), event: Event::Quote(quote) }
}

/// A running gateway; dropping it stops it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    steps: mpsc::Sender<Step>,
    stop: UnboundedSender<Stop>,
    thread: Option<JoinHandle<Result<Outcome, GatewayError>>>,
}

impl Server {
    pub(crate) fn start(config: Config) -> Self {
        let (steps, played) = mpsc::channel();
        Self::with_feed(config, Box::new(PlayedFeed { instruments: instruments(), steps: played }), steps)
    }

    pub(crate) fn rushing(config: Config, ticks: Vec<Tick>) -> Self {
        Self::with_feed(config, Box::new(RushingFeed::new(instruments(), ticks)), mpsc::channel().0)
    }

    fn with_feed(config: Config, feed: Box<dyn Feed>, steps: mpsc::Sender<Step>) -> Self {
        let gateway = Gateway::bind(config).unwrap();
        let address = gateway.local_addr();
        let (stop, stopped) = tokio::sync::mpsc::unbounded_channel();
        let thread = Some(std::thread::spawn(move || gateway.run(feed, stopped)));
        Self { address, steps, stop, thread }
    }

    pub(crate) fn play(&self, ticks: Vec<Tick>) {
        self.step(Step::Ticks(ticks));
    }

    pub(crate) fn step(&self, step: Step) {
        self.steps.send(step).unwrap();
    }

    pub(crate) fn stop(&self, stop: Stop) {
        self.stop.send(stop).unwrap();
    }

    /// Waits for the end that something else has brought about.
    pub(crate) fn outcome(mut self) -> Outcome {
        self.thread.take().unwrap().join().unwrap().unwrap()
    }

    pub(crate) fn json_client(&self) -> Client {
        Client::connect(self.address, "ticker.v1.json")
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        let mut stream = connect(self.address);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        Response::read(&mut stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(Stop::Now);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Config for a test: any free port, two shards, a short drain.
pub(crate) fn config() -> Config {
    Config {
        shards: 2,
        drain: Duration::from_millis(200),
        seed: 7,
        ..Config::new(SocketAddr::from(([127, 0, 0, 1], 0)))
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A client of a library that others wrote.
pub(crate) struct Client<S = TcpStream>(pub(crate) WebSocket<S>);

impl Client {
    pub(crate) fn connect(address: SocketAddr, subprotocol: &str) -> Self {
        Self::over(connect(address), address, subprotocol)
    }
}

impl<S: Read + Write> Client<S> {
    /// Shakes hands on a connection that is there.
    pub(crate) fn over(stream: S, address: SocketAddr, subprotocol: &str) -> Self {
        let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol.parse().unwrap());
        let (socket, response) = tungstenite::client(request, stream).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(response.headers()["sec-websocket-protocol"], subprotocol);
        assert!(!response.headers().contains_key("sec-websocket-extensions"));
        Self(socket)
    }

    pub(crate) fn send(&mut self, command: &str) {
        self.0.send(Message::text(command)).unwrap();
    }

    /// The next message of data or control, either encoding, as JSON.
    pub(crate) fn next(&mut self) -> Value {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Binary(bytes) => return rmp_serde::from_slice(&bytes).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a message: {other:?}"),
            }
        }
    }

    /// The next message that is not a heartbeat.
    pub(crate) fn expect(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next();
            if message["type"] == kind {
                return message;
            }
            assert_eq!(message["type"], "heartbeat", "instead of {kind}: {message}");
        }
    }

    /// The next data message's elements.
    pub(crate) fn data(&mut self) -> Vec<Value> {
        loop {
            let message = self.next();
            if let Some(elements) = message["data"].as_array() {
                return elements.clone();
            }
            assert_eq!(message["type"], "heartbeat", "instead of data: {message}");
        }
    }

    /// Reads on until the server closes; its code.
    pub(crate) fn close_code(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.0.read().unwrap() {
                return frame.expect("a close with a code").code.into();
            }
        }
    }
}

/// What came back for a request of plain HTTP.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    /// Reads until the server closes.
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// The upgrade request of a good client, with other headers where `change` says so; an empty value leaves one out.
pub(crate) fn upgrade_request(change: &[(&str, &str)]) -> String {
    let mut headers = vec![
        ("Host", "localhost"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", KEY),
    ];
    headers.retain(|(name, _)| !change.iter().any(|(changed, _)| changed.eq_ignore_ascii_case(name)));
    headers.extend(change.iter().filter(|(_, value)| !value.is_empty()));
    let mut request = "GET /ws?format=json HTTP/1.1\r\n".to_owned();
    for (name, value) in headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request + "\r\n"
}

/// A frame of a client: final, masked.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        0..=125 => frame.push(0x80 | payload.len() as u8),
        126..=0xffff => {
            frame.push(0x80 | 0x7e);
            frame.extend((payload.len() as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 0x7f);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A client that says exactly what the test wants.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    /// Sends the upgrade request followed by `early` in one write, and reads the head of the answer.
    pub(crate) fn connect(address: SocketAddr, early: &[u8]) -> Self {
        let mut stream = connect(address);
        let mut request = upgrade_request(&[]).into_bytes();
        request.extend(early);
        stream.write_all(&request).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Self(stream)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// The next frame's opcode and payload.
    pub(crate) fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length).unwrap();
                usize::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.0.read_exact(&mut length).unwrap();
                u64::from_be_bytes(length) as usize
            }
            short => usize::from(short),
        };
        assert_eq!(head[0] & 0xf0, 0x80, "final, no extension bits");
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).unwrap();
        (head[0] & 0x0f, payload)
    }

    /// The next text message, as JSON.
    pub(crate) fn next(&mut self) -> Value {
        let (opcode, payload) = self.frame();
        assert_eq!(opcode, 1, "{}", String::from_utf8_lossy(&payload));
        serde_json::from_slice(&payload).unwrap()
    }

    /// Reads on until the server's close frame; its code.
    pub(crate) fn close_code(&mut self) -> u16 {
        loop {
            let (opcode, payload) = self.frame();
            if opcode == 8 {
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
        }
    }

    /// Whether the server has closed the connection, and nothing came before.
    pub(crate) fn at_end(&mut self) -> bool {
        self.0.read(&mut [0]).unwrap() == 0
    }
}
