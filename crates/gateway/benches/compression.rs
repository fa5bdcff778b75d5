//! What permessage-deflate costs and saves: a real gateway, 1,000 real connections, four ways to compress, side by side.
//!
//! - *plain*: the clients offer nothing.
//! - *stateless*: they ask for `server_no_context_takeover`, so each message is compressed by itself, once for the lane.
//! - *shared*: they offer plainly and share one compressor with its history.
//! - *each*: the same, but no two clients want quite the same, so that each has a lane and a compressor of its own: what a
//!   server costs that keeps one compressor per connection.
//!
//! Two workloads: messages of about 300 bytes of JSON, and batches of about 50 MessagePack quotes and trades.
//! The server runs on processor 0 and the clients, a child process, on processor 1. Processor time is that of the whole server
//! process; bytes are those of frames on the wire, headers included.
//!
//! `cargo bench --package gateway --bench compression`

use std::collections::VecDeque;
use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use feed::{Feed, FeedError, Progress, SimulatorFeed};
use gateway::{Config, DeflateConfig, Gateway, Stop};
use market::{Instrument, Symbol, Tick, Timestamp};
use mio::{Events, Interest, Poll, Token};

const CLIENTS: usize = 1_000;
/// So many are connected before the memory of the others is measured: what all share is there by then.
const SOME: usize = 100;
const ROUNDS: usize = 3;
const WARM_UP: Duration = Duration::from_secs(2);
const WINDOW: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Stateless,
    Shared,
    Each,
}

const WAYS: [(Way, &str); 4] =
    [(Way::Plain, "plain"), (Way::Stateless, "stateless"), (Way::Shared, "shared"), (Way::Each, "each")];

impl Way {
    fn offer(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Stateless => "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n",
            Self::Shared | Self::Each => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        }
    }
}

struct Workload {
    name: &'static str,
    channels: &'static str,
    scenario: simulator::Scenario,
    /// Ticks per second.
    rate: f64,
    flush_interval: Duration,
    subprotocol: &'static str,
    symbol_suffix: &'static str,
}

const WORKLOADS: [Workload; 2] = [
    Workload {
        name: "messages of about 300 bytes of JSON (two trades), 40 a second",
        channels: r#"["trades"]"#,
        scenario: simulator::Scenario::Uniform,
        rate: 160.0,
        flush_interval: Duration::from_millis(25),
        subprotocol: "ticker.v1.json",
        symbol_suffix: "-USDT-PERPETUAL",
    },
    Workload {
        name: "batches of 50 MessagePack quotes and trades on average, 10 a second",
        scenario: simulator::Scenario::Market,
        channels: r#"["trades","quotes"]"#,
        rate: 500.0,
        flush_interval: Duration::from_millis(100),
        subprotocol: "ticker.v1.msgpack",
        symbol_suffix: "",
    },
];

/// What came of one run: deliveries per second of processor time, bytes per message, the share of the processor, and bytes
/// of memory per connection.
type Outcome = [f64; 4];

/// As in the command `tickerplant`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--clients") {
        return clients(&arguments[at + 1..]);
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "--server") {
        let index = |argument: &String| argument.parse::<usize>().expect("an index");
        let outcome = run(&WORKLOADS[index(&arguments[at + 1])], WAYS[index(&arguments[at + 2])].0);
        return println!("{}", outcome.map(|number| number.to_string()).join(" "));
    }
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    for (index, workload) in WORKLOADS.iter().enumerate() {
        println!("{CLIENTS} clients, {}; median of {rounds}", workload.name);
        println!(
            "  way         deliveries/CPU-s   of plain   bytes/message   of plain   server CPU   memory/connection"
        );
        let mut outcomes = vec![Vec::new(); WAYS.len()];
        for _ in 0..rounds {
            for (way, outcomes) in outcomes.iter_mut().enumerate() {
                outcomes.push(run_apart(index, way));
            }
        }
        let plain = median(&outcomes[0]);
        for ((_, name), outcomes) in WAYS.iter().zip(&outcomes) {
            let [rate, bytes, cpu, memory] = median(outcomes);
            let (rate_ratio, bytes_ratio) = (rate / plain[0], bytes / plain[1]);
            println!(
                "  {name:<10} {rate:>17.0} {rate_ratio:>10.2} {bytes:>15.1} {bytes_ratio:>10.2} {cpu:>12.2} {memory:>17.0} B"
            );
        }
    }
}

fn median(outcomes: &[Outcome]) -> Outcome {
    std::array::from_fn(|field| {
        let mut values: Vec<f64> = outcomes.iter().map(|outcome| outcome[field]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    })
}

/// Has a fresh process be the server, so that memory of an earlier run does not hide what this one takes.
fn run_apart(workload: usize, way: usize) -> Outcome {
    let executable = std::env::current_exe().expect("this program is a file");
    let output = Command::new(executable)
        .args(["--server", &workload.to_string(), &way.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("the server starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    numbers.try_into().expect("four numbers")
}

fn run(workload: &Workload, way: Way) -> Outcome {
    pin("0");
    let config = Config {
        shards: 1,
        flush_interval: workload.flush_interval,
        flush_duty_percent: 100,
        heartbeat_ms: 0,
        limits: wire::Limits { ping_interval_ms: 0, ..wire::Limits::default() },
        deflate: Some(DeflateConfig {
            memory_bytes_max: 1 << 30,
            level: std::env::var("LEVEL").ok().and_then(|t| t.parse().ok()).unwrap_or(1),
            ..DeflateConfig::default()
        }),
        drain: Duration::ZERO,
        ..Config::new(SocketAddr::from(([127, 0, 0, 1], 0)))
    };
    let gateway = Gateway::bind(config).expect("a port is free");
    let address = gateway.local_addr();
    let feed = Metronome::new(workload);
    let (stop, stopped) = tokio::sync::mpsc::unbounded_channel();
    let server = std::thread::spawn(move || gateway.run(Box::new(feed), stopped));

    let executable = std::env::current_exe().expect("this program is a file");
    let distinct = if way == Way::Each { "distinct" } else { "same" };
    let mut child = Command::new(executable)
        .args(["--clients", &address.to_string(), workload.subprotocol, workload.channels, way.offer(), distinct])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the clients start");
    let mut said = io::BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut ask = child.stdin.take().expect("piped");
    let mut hear = || said.next().expect("the clients answer").expect("they say it in text");
    assert_eq!(hear(), "some");
    std::thread::sleep(WARM_UP);
    let memory_before = user_memory_bytes();
    writeln!(ask, "go on").expect("the clients listen");
    assert_eq!(hear(), "connected");
    std::thread::sleep(WARM_UP);
    let mut sample = || {
        writeln!(ask, "report").expect("the clients listen");
        let line = hear();
        let mut numbers = line.split(' ').map(|text| text.parse::<f64>().expect("a number"));
        let (frames, bytes) = (numbers.next().expect("frames"), numbers.next().expect("bytes"));
        (frames, bytes, cpu_seconds(), Instant::now())
    };
    let begin = sample();
    std::thread::sleep(WINDOW);
    let end = sample();
    let memory = user_memory_bytes() - memory_before;
    child.kill().expect("the clients run");
    child.wait().expect("they end");
    stop.send(Stop::Now).expect("the server runs");
    server.join().expect("it did not panic").expect("it ends well");

    let (frames, bytes) = (end.0 - begin.0, end.1 - begin.1);
    let cpu = end.2 - begin.2;
    let share = cpu / (end.3 - begin.3).as_secs_f64();
    [frames / cpu, bytes / frames, share, memory / (CLIENTS - SOME) as f64]
}

/// The uniform simulator under longer names.
struct Metronome {
    simulator: SimulatorFeed,
    instruments: Vec<Instrument>,
}

impl Metronome {
    fn new(workload: &Workload) -> Self {
        let config =
            simulator::Config { rate: workload.rate, scenario: workload.scenario, ..simulator::Config::default() };
        let simulator = SimulatorFeed::new(config).expect("the configuration is sound");
        let renamed = |instrument: &Instrument| Instrument {
            symbol: Symbol::new(&format!("{}{}", instrument.symbol, workload.symbol_suffix)).expect("a symbol"),
            ..instrument.clone()
        };
        let instruments = simulator.instruments().iter().map(renamed).collect();
        Self { simulator, instruments }
    }
}

impl Feed for Metronome {
    fn instruments(&self) -> &[Instrument] {
        &self.instruments
    }

    fn start(&mut self, now: Timestamp) {
        self.simulator.start(now);
    }

    fn poll(&mut self, now: Timestamp, ticks_max: usize, out: &mut Vec<Tick>) -> Result<Progress, FeedError> {
        self.simulator.poll(now, ticks_max, out)
    }
}

fn pin(processor: &str) {
    let process = std::process::id().to_string();
    let done = Command::new("taskset").args(["-a", "-c", "-p", processor, &process]).stdout(Stdio::null()).status();
    assert!(done.is_ok_and(|status| status.success()), "taskset pins the process");
}

/// Processor time of this process so far, in the kernel's ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

fn user_memory_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("Linux 4.5");
    line.split_whitespace().nth(1).and_then(|text| text.parse::<f64>().ok()).expect("kB") * 1024.0
}

/// The child process: connects, counts frames and bytes, and says so when it is asked.
fn clients(arguments: &[String]) {
    pin("1");
    let address: SocketAddr = arguments[0].parse().expect("an address");
    let (subprotocol, channels, offer) = (&arguments[1], &arguments[2], &arguments[3]);
    let distinct = arguments[4] == "distinct";
    let mut poll = Poll::new().expect("epoll");
    let open = |n: usize| Connection::open(address, subprotocol, channels, offer, distinct.then_some(n));
    let mut connections: Vec<Connection> = (0..SOME).map(open).collect();
    println!("some");
    io::stdin().read_line(&mut String::new()).expect("to be told to go on");
    connections.extend((SOME..CLIENTS).map(open));
    for (n, connection) in connections.iter_mut().enumerate() {
        poll.registry().register(&mut connection.stream, Token(n), Interest::READABLE).expect("registered");
    }
    println!("connected");
    let (tell, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || io::stdin().lock().lines().map_while(Result::ok).try_for_each(|_| tell.send(())));
    let mut events = Events::with_capacity(CLIENTS);
    let mut buffer = vec![0; 1 << 18];
    loop {
        poll.poll(&mut events, Some(Duration::from_millis(20))).expect("epoll");
        for event in &events {
            connections[event.token().0].read(&mut buffer);
        }
        if asked.try_recv().is_ok() {
            let frames: u64 = connections.iter().map(|connection| connection.frames).sum();
            let bytes: u64 = connections.iter().map(|connection| connection.bytes).sum();
            println!("{frames} {bytes}");
        }
    }
}

struct Connection {
    stream: mio::net::TcpStream,
    /// A header that is not whole yet.
    partial: VecDeque<u8>,
    /// Bytes of the frame's payload still to come.
    payload: usize,
    frames: u64,
    bytes: u64,
}

impl Connection {
    fn open(address: SocketAddr, subprotocol: &str, channels: &str, offer: &str, distinct: Option<usize>) -> Self {
        let mut stream = TcpStream::connect(address).expect("the server accepts");
        write!(
            stream,
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {subprotocol}\r\n{offer}\r\n"
        )
        .expect("the request goes out");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.extend(byte);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert_eq!(head.contains("permessage-deflate"), !offer.is_empty(), "{head}");
        let subscribe = format!(r#"{{"op":"subscribe","channels":{channels},"symbols":["*"],"snapshot":false}}"#);
        command(&mut stream, &subscribe);
        if let Some(n) = distinct {
            // Nothing ever happens on this channel, but it makes the lane one of its own.
            let symbols = format!(
                r#"{{"op":"subscribe","channels":["status"],"symbols":["{}"],"snapshot":false}}"#,
                NAMES.with(|names| names[n].clone())
            );
            command(&mut stream, &symbols);
        }
        stream.set_nonblocking(true).expect("it can");
        let stream = mio::net::TcpStream::from_std(stream);
        Self { stream, partial: VecDeque::new(), payload: 0, frames: 0, bytes: 0 }
    }

    fn read(&mut self, buffer: &mut [u8]) {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => panic!("the server has closed a connection"),
                Ok(n) => {
                    self.bytes += n as u64;
                    self.count(&buffer[..n]);
                    if n < buffer.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn count(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            while self.payload == 0 && !bytes.is_empty() {
                self.partial.push_back(bytes[0]);
                bytes = &bytes[1..];
                let header = self.partial.make_contiguous();
                let payload = match header {
                    [_, 126, a, b] => usize::from(u16::from_be_bytes([*a, *b])),
                    [_, 127, .., _] if header.len() == 10 => {
                        u64::from_be_bytes(header[2..].try_into().expect("eight bytes")) as usize
                    }
                    [_, short @ 0..126] => usize::from(*short),
                    _ => continue,
                };
                self.partial.clear();
                self.frames += 1;
                self.payload = payload;
                break;
            }
        }
    }
}

thread_local! {
    /// The simulator's symbols, as the clients know them.
    static NAMES: Vec<String> = {
        let simulator = SimulatorFeed::new(simulator::Config::default()).expect("the configuration is sound");
        let suffix = if std::env::args().any(|argument| argument == WORKLOADS[0].subprotocol) { WORKLOADS[0].symbol_suffix } else { "" };
        simulator.instruments().iter().map(|instrument| format!("{}{suffix}", instrument.symbol)).collect()
    };
}

/// Sends a text message, masked with zeros.
fn command(stream: &mut TcpStream, text: &str) {
    // Long enough for a length of two bytes; the first says that a mask follows.
    let text = format!("{text:<126}");
    let mut frame = vec![0x81, 0x80 | 0x7e];
    frame.extend((text.len() as u16).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(text.bytes());
    stream.write_all(&frame).expect("the command goes out");
}
