//! No server, but the least that any could do: the same bytes to every socket, with one bare `send` each.
//!
//! It looks at nothing that clients want, keeps nothing, compresses nothing, and leaves out sockets that are full. What a
//! server takes beyond it is the server's; what it takes itself is the kernel's.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::time::Instant;

use clap::Parser;
use peers::{Format, Metronome, Options};
use tungstenite::Message;

/// A message as the one frame that every socket is sent (RFC 6455, section 5.2: final, not masked).
fn frame(format: Format, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![if format == Format::Json { 0x81 } else { 0x82 }];
    match payload.len() {
        short @ 0..126 => frame.push(short as u8),
        medium @ 126..65_536 => {
            frame.push(126);
            frame.extend((medium as u16).to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// Shakes hands and waits for the subscription, whatever it is.
fn welcome(stream: TcpStream, format: Format, subscribers: &Sender<TcpStream>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut socket = tungstenite::accept(stream).ok()?;
    let say = |kind| {
        let payload = format.control(kind);
        if format == Format::Json {
            Message::text(String::from_utf8_lossy(&payload).into_owned())
        } else {
            Message::binary(payload)
        }
    };
    socket.send(say("welcome")).ok()?;
    while !socket.read().ok()?.is_text() {}
    socket.send(say("subscribed")).ok()?;
    let stream = socket.get_ref().try_clone().ok()?;
    stream.set_nonblocking(true).ok()?;
    subscribers.send(stream).ok()
}

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    let listener = TcpListener::bind(("127.0.0.1", options.port))?;
    println!("listening on http://{}", listener.local_addr()?);
    let (subscribers, arrivals) = mpsc::channel();
    let format = options.format;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // One that goes away during the hand-shake is not missed.
            let _ = welcome(stream, format, &subscribers);
        }
    });
    let mut sockets: Vec<TcpStream> = Vec::new();
    let mut metronome = Metronome::new(options.clone());
    let mut wake = Instant::now();
    loop {
        sockets.extend(arrivals.try_iter());
        let ticks = metronome.due();
        let together = if options.batch_us == 0 { 1 } else { ticks.len().max(1) };
        for ticks in ticks.chunks(together) {
            let frame = frame(format, &format.message(ticks.iter().map(|(_, element)| element.as_slice())));
            sockets.retain_mut(|socket| match socket.write(&frame) {
                Ok(written) => written == frame.len(),
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            });
        }
        wake = (wake + metronome.interval()).max(Instant::now());
        if !metronome.is_late() {
            std::thread::sleep(wake.saturating_duration_since(Instant::now()));
        }
    }
}
