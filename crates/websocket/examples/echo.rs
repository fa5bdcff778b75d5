//! A server that sends every message back, to try the crate out and to run conformance suites against.
//!
//! `cargo run --release -p websocket --example echo -- --listen 127.0.0.1:9001`
//!
//! One thread per connection and blocking sockets: the shell around the crate is as small as it can be. The limits are
//! far wider than a real server's, since conformance suites send messages of 16 MiB and of tens of thousands of fragments.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::{Parser, ValueEnum};
use websocket::{
    Incoming, Inflater, MessageKinds, Reader, ReaderConfig,
    deflate::{Compressor, Params, Policy, Takeover, negotiate},
    frame::{self, Compressed, OpCode},
    handshake::{self, HttpVersion, Refusal},
};

/// A WebSocket echo server.
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one and prints it.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// Bytes of a message, also as inflated; a larger one closes with 1009.
    #[arg(long, default_value_t = 64 * 1024 * 1024)]
    message_bytes_max: usize,
    /// Fragments of a message; more close with 1009.
    #[arg(long, default_value_t = 1024 * 1024)]
    fragments_max: usize,
    /// Bytes of the request that opens a connection; more are answered by 431.
    #[arg(long, default_value_t = 16 * 1024)]
    request_bytes_max: usize,
    /// Seconds that the whole request may take.
    #[arg(long, default_value_t = 5)]
    handshake_timeout_s: u64,
    /// Seconds that the peer may take to close after we have.
    #[arg(long, default_value_t = 2)]
    close_timeout_s: u64,
    /// Whether permessage-deflate is accepted as offered.
    #[arg(long, value_enum, default_value = "on")]
    deflate: Switch,
}

#[derive(Clone, Copy, ValueEnum)]
enum Switch {
    On,
    Off,
}

fn main() -> anyhow::Result<()> {
    let args: &'static Args = Box::leak(Box::new(Args::parse()));
    let listener = TcpListener::bind(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    println!("listening on ws://{}/", listener.local_addr()?);
    for socket in listener.incoming() {
        let socket = socket?;
        thread::spawn(move || {
            if let Err(error) = serve(socket, args) {
                eprintln!("{error:#}");
            }
        });
    }
    Ok(())
}

fn serve(mut socket: TcpStream, args: &Args) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    let Some((compression, early)) = open(&mut socket, args)? else { return Ok(()) };
    let config = ReaderConfig {
        message_bytes_max: args.message_bytes_max,
        fragments_max: args.fragments_max,
        kinds: MessageKinds::TextAndBinary,
    };
    let mut reader = Reader::new(config, compression);
    let mut inflater = Inflater::new();
    let mut replies = Replies { bytes: Vec::new(), deflater: compression.map(Deflater::new) };
    let mut arrived = early.len();
    let mut buffer = early;
    buffer.resize(arrived.max(64 * 1024), 0);
    while !reader.is_finished() {
        let outcome = reader.feed(&buffer[..arrived], &mut inflater, &mut |incoming| replies.answer(incoming));
        if let Err(violation) = outcome {
            replies.bytes.extend(frame::close_frame(violation.code, &violation.reason));
        }
        socket.write_all(&replies.bytes)?;
        replies.bytes.clear();
        if !reader.is_finished() {
            arrived = socket.read(&mut buffer)?;
            ensure!(arrived > 0, "the peer left without closing");
        }
    }
    linger(&mut socket, Duration::from_secs(args.close_timeout_s))
}

/// Lets the peer read our Close and close in turn: with unread input, closing at once would reset the connection.
fn linger(socket: &mut TcpStream, timeout: Duration) -> anyhow::Result<()> {
    socket.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + timeout;
    let mut discarded = [0; 4096];
    while read_until(socket, &mut discarded, deadline)? > 0 {}
    Ok(())
}

/// Reads some bytes; 0 if the peer has closed or the time is over.
fn read_until(socket: &mut TcpStream, buffer: &mut [u8], deadline: Instant) -> anyhow::Result<usize> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(0);
    }
    socket.set_read_timeout(Some(left))?;
    let outcome = socket.read(buffer);
    socket.set_read_timeout(None)?;
    match outcome {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(0),
        other => Ok(other?),
    }
}

/// Makes the hand-shake; with the compression agreed upon, and the frames that came with the request. `None` if it was
/// refused.
fn open(socket: &mut TcpStream, args: &Args) -> anyhow::Result<Option<(Option<Params>, Vec<u8>)>> {
    let deadline = Instant::now() + Duration::from_secs(args.handshake_timeout_s);
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let arrived = read_until(socket, &mut chunk, deadline)?;
        ensure!(arrived > 0, "no request came in time");
        received.extend_from_slice(&chunk[..arrived]);
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let head_len = match request.parse(&received) {
            Ok(httparse::Status::Complete(head_len)) => head_len,
            Ok(httparse::Status::Partial) if received.len() > args.request_bytes_max => {
                socket.write_all(&response(431, "Request Header Fields Too Large", &[], "the request is too large"))?;
                bail!("the request is too large");
            }
            Ok(httparse::Status::Partial) => continue,
            Err(error) => {
                socket.write_all(&response(400, "Bad Request", &[], &error.to_string()))?;
                return Ok(None);
            }
        };
        return match answer(&request, args.deflate) {
            Ok((compression, accepted)) => {
                socket.write_all(accepted.as_bytes())?;
                Ok(Some((compression, received.split_off(head_len))))
            }
            Err(refusal) => {
                socket.write_all(&response(refusal.status, refusal.label, &refusal.headers, &refusal.message))?;
                Ok(None)
            }
        };
    }
}

/// The response to a request that may be upgraded; any path is fine and no subprotocol is known.
fn answer(request: &httparse::Request<'_, '_>, deflate: Switch) -> Result<(Option<Params>, String), Refusal> {
    let version = if request.version == Some(1) { HttpVersion::Http11 } else { HttpVersion::Other };
    let headers = request.headers.iter().map(|header| (header.name, header.value));
    let checked = handshake::check(request.method.unwrap_or_default(), version, headers)?;
    let policy = Policy { client: Takeover::AsOffered, ..Policy::default() };
    let agreed = match deflate {
        Switch::On => negotiate(&checked.extensions, policy),
        Switch::Off => None,
    };
    let extensions = agreed
        .as_ref()
        .map_or_else(String::new, |(_, extensions)| format!("Sec-WebSocket-Extensions: {extensions}\r\n"));
    let accepted = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n{extensions}\r\n",
        checked.accept
    );
    Ok((agreed.map(|(params, _)| params), accepted))
}

fn response(status: u16, phrase: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "HTTP/1.1 {status} {phrase}\r\n{}Connection: close\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        headers.concat(),
        body.len()
    )
    .into_bytes()
}

/// What is to be sent in answer to what has come.
struct Replies {
    bytes: Vec<u8>,
    deflater: Option<Deflater>,
}

impl Replies {
    fn answer(&mut self, incoming: Incoming<'_>) {
        match incoming {
            Incoming::Text(text) => self.echo(OpCode::Text, text.as_bytes()),
            Incoming::Binary(payload) => self.echo(OpCode::Binary, payload),
            Incoming::Ping(payload) => self.bytes.extend_from_slice(&frame::pong_frame(payload)),
            Incoming::Pong(_) => {}
            Incoming::Close { code: None, .. } => self.bytes.extend(frame::empty_close_frame()),
            Incoming::Close { code: Some(code), .. } => self.bytes.extend(frame::close_frame(code, "")),
        }
    }

    fn echo(&mut self, opcode: OpCode, payload: &[u8]) {
        let (compressed, payload) = match &mut self.deflater {
            Some(deflater) => (Compressed::Yes, deflater.deflate(payload)),
            None => (Compressed::No, payload),
        };
        self.bytes.extend_from_slice(&frame::header(opcode, compressed, payload.len()));
        self.bytes.extend_from_slice(payload);
    }
}

/// A compressor for this connection alone: nobody else gets the same messages.
struct Deflater {
    compressor: Compressor,
    params: Params,
    deflated: Vec<u8>,
}

impl Deflater {
    fn new(params: Params) -> Self {
        Self { compressor: Compressor::new(1, params.server_max_window_bits), params, deflated: Vec::new() }
    }

    fn deflate(&mut self, payload: &[u8]) -> &[u8] {
        if self.params.server_no_context_takeover {
            self.compressor.reset();
        }
        self.deflated.clear();
        self.compressor.compress(payload, &mut self.deflated);
        &self.deflated
    }
}
