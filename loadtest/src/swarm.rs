//! Many sockets on one thread: connects, reads into one shared buffer, writes the few bytes that clients say.
//!
//! **Invariant:** one thread, no task and no buffer per connection; a connection costs its socket and its session.
//!
//! Not here: what the bytes mean (`session`).

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::session::{Over, Plan, ReadAt, Scrutiny, Session};
use crate::tally::Tally;
use crate::upgrade::{Entropy, masked_frame};

/// One buffer for all reads. Larger than any socket's receive buffer is by default, so that one read empties a socket.
const READ_BUFFER_BYTES: usize = 1 << 20;

/// How many connections may be on their way up at once: below the usual listen backlog of 128, so that no SYN is
/// dropped and retried a second later.
const CONNECTING_MAX: usize = 100;

/// Close code 1000.
const NORMAL_CLOSE: [u8; 2] = 1000u16.to_be_bytes();

/// How many full reads one socket may have before the others are looked at.
const READS_MAX: usize = 8;

/// Many connections.
pub(crate) struct Swarm {
    poll: Poll,
    address: SocketAddr,
    plan: Plan,
    members: Vec<Member>,
    wanted: usize,
    verified: usize,
    /// Connections that have begun and are not subscribed yet
    rising: usize,
    subscribed: usize,
    came_up: usize,
    /// Sockets that still had bytes when their turn was over
    unread: Vec<usize>,
    buffer: Box<[u8]>,
    entropy: Entropy,
    /// Why sessions ended, with how many
    pub(crate) ends: BTreeMap<String, u64>,
    pub(crate) tally: Tally,
}

struct Member {
    /// None once it is over
    live: Option<(TcpStream, Session)>,
    /// What could not be written yet
    out: Vec<u8>,
    subscribed: bool,
}

impl Swarm {
    /// Prepares `wanted` connections, of which the first `verified` check every element.
    ///
    /// # Errors
    /// The system gives no poll.
    pub(crate) fn new(address: SocketAddr, plan: Plan, wanted: usize, verified: usize, seed: u64) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            address,
            plan,
            members: Vec::with_capacity(wanted),
            wanted,
            verified,
            rising: 0,
            subscribed: 0,
            came_up: 0,
            unread: Vec::new(),
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            entropy: Entropy::new(seed),
            ends: BTreeMap::new(),
            tally: Tally::default(),
        })
    }

    /// How many sessions are subscribed now.
    pub(crate) fn subscribed(&self) -> usize {
        self.subscribed
    }

    /// How many sessions ever were subscribed.
    pub(crate) fn came_up(&self) -> usize {
        self.came_up
    }

    /// Connects until all are subscribed, or none is left that could be, or time is up.
    ///
    /// # Errors
    /// The poll fails.
    pub(crate) fn rise(&mut self, time_max: Duration) -> io::Result<()> {
        let end = Instant::now() + time_max;
        let mut events = Events::with_capacity(4096);
        while self.subscribed < self.wanted && Instant::now() < end {
            while self.members.len() < self.wanted && self.rising < CONNECTING_MAX {
                self.connect();
            }
            if self.rising == 0 && self.members.len() == self.wanted {
                break;
            }
            self.turn(&mut events, false, Duration::from_millis(100))?;
        }
        Ok(())
    }

    /// Reads for `time`; latencies are recorded when `measured`.
    ///
    /// # Errors
    /// The poll fails.
    pub(crate) fn run(&mut self, time: Duration, measured: bool) -> io::Result<()> {
        let end = Instant::now() + time;
        let mut events = Events::with_capacity(4096);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.subscribed == 0 {
                return Ok(());
            }
            self.turn(&mut events, measured, left)?;
        }
    }

    /// Says goodbye on every connection, so that the server does not count them as lost; what a full socket does not take
    /// is not waited for.
    pub(crate) fn close(&mut self) {
        for member in &mut self.members {
            if let Some((stream, _)) = &mut member.live {
                masked_frame(0x8, &NORMAL_CLOSE, self.entropy.mask(), &mut member.out);
                let _ = write_out(stream, &mut member.out);
            }
        }
    }

    fn connect(&mut self) {
        let index = self.members.len();
        let scrutiny = if index < self.verified { Scrutiny::Verify } else { Scrutiny::Count };
        let mut out = Vec::new();
        let session = Session::begin(&self.plan, scrutiny, &mut self.entropy, &mut out);
        let stream = TcpStream::connect(self.address).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(index), interest)?;
            Ok(stream)
        });
        self.rising += 1;
        match stream {
            Ok(stream) => self.members.push(Member { live: Some((stream, session)), out, subscribed: false }),
            Err(error) => {
                self.members.push(Member { live: None, out, subscribed: false });
                self.rising -= 1;
                *self.ends.entry(format!("connect: {error}")).or_default() += 1;
            }
        }
    }

    fn turn(&mut self, events: &mut Events, measured: bool, wait: Duration) -> io::Result<()> {
        let wait = if self.unread.is_empty() { wait } else { Duration::ZERO };
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for index in std::mem::take(&mut self.unread) {
            self.serve(index, measured);
        }
        for event in events.iter() {
            self.serve(event.token().0, measured);
        }
        Ok(())
    }

    /// Writes what waits and reads what is there.
    fn serve(&mut self, index: usize, measured: bool) {
        let Some(member) = self.members.get_mut(index) else { return };
        let Some((stream, session)) = &mut member.live else { return };
        let mut reader = SessionReader {
            buffer: &mut self.buffer,
            plan: &self.plan,
            entropy: &mut self.entropy,
            tally: &mut self.tally,
        };
        let out = &mut member.out;
        let broken = |error: io::Error| format!("connection: {error}");
        let left = write_out(stream, out).map_err(broken).and_then(|()| reader.read(stream, session, out, measured));
        if matches!(left, Ok(Left::Bytes)) {
            self.unread.push(index);
        }
        // An answer to what was just read (the subscription, a pong, the echo of a close) goes out at once.
        let end = left.err().or(write_out(stream, out).map_err(broken).err());
        if session.is_subscribed() && !member.subscribed {
            member.subscribed = true;
            self.subscribed += 1;
            self.came_up += 1;
            self.rising -= 1;
        }
        if let Some(why) = end {
            member.live = None;
            if member.subscribed {
                self.subscribed -= 1;
            } else {
                self.rising -= 1;
            }
            *self.ends.entry(why).or_default() += 1;
        }
    }
}

enum Left {
    Nothing,
    Bytes,
}

struct SessionReader<'a> {
    buffer: &'a mut [u8],
    plan: &'a Plan,
    entropy: &'a mut Entropy,
    tally: &'a mut Tally,
}

impl SessionReader<'_> {
    fn read(
        &mut self,
        stream: &mut TcpStream,
        session: &mut Session,
        out: &mut Vec<u8>,
        measured: bool,
    ) -> Result<Left, String> {
        for _ in 0..READS_MAX {
            let length = match stream.read(self.buffer) {
                Ok(0) => return Err("the server hung up without a close".to_owned()),
                Ok(length) => length,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => return Ok(Left::Nothing),
                    io::ErrorKind::Interrupted => continue,
                    _ => return Err(format!("connection: {error}")),
                },
            };
            let at = ReadAt { wall_ns: wall_ns(), measured };
            session
                .feed(&self.buffer[..length], at, self.plan, self.entropy, self.tally, out)
                .map_err(|over: Over| over.to_string())?;
            // A read that does not fill the buffer has emptied the socket; the next arrival raises a new event.
            if length < self.buffer.len() {
                return Ok(Left::Nothing);
            }
        }
        Ok(Left::Bytes)
    }
}

/// Writes as much as the socket takes and keeps the rest.
fn write_out(stream: &mut TcpStream, out: &mut Vec<u8>) -> io::Result<()> {
    while !out.is_empty() {
        match stream.write(out) {
            Ok(written) => drop(out.drain(..written)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => break,
                io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
    Ok(())
}

fn wall_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
