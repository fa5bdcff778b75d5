//! What carries a session's bytes: the TCP connection itself, or TLS on it.
//!
//! **Invariant:** nothing here waits, and a plain connection costs not a byte and not a call more because there is TLS: the
//! state of TLS lies behind a pointer in the same space. Of encrypted bytes that the kernel does not take there is at most
//! one record, [`RECORD_BYTES`], for each connection; what is behind it stays in the session's outbox, unencrypted and shared.
//!
//! What is *not* here: hand-shakes, which are over by now (`tls`, `connection`).

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::ServerConnection;
use socket2::SockRef;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;

use super::socket::Read;
use crate::tls::Carrier;

/// What is encrypted before the kernel is asked to take it: one record of the largest size (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16 * 1024;
/// Reads of 4 KiB in one turn of a connection: more than the longest record takes, so one that sends what brings no data
/// (empty records, key updates) has no longer turns than others.
const READS_PER_TURN: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

/// A connection with TLS.
#[derive(Debug)]
pub(super) struct Tls {
    tcp: TcpStream,
    connection: ServerConnection,
    /// Whether the peer has been told that nothing follows.
    closing: bool,
}

/// How much of what was to be written was taken, and whether more would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) bytes: usize,
    pub(super) kernel: Kernel,
}

/// What the kernel says to more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// It has taken all there was.
    Took,
    /// It is full, and something waits for it.
    Full,
    /// The connection is broken.
    Broken,
}

impl Transport {
    /// Registers the connection with the reactor of this thread.
    pub(super) fn new(carrier: Carrier) -> io::Result<Self> {
        Ok(match carrier {
            Carrier::Plain(stream) => Self::Plain(TcpStream::from_std(stream)?),
            Carrier::Tls(stream, connection) => {
                Self::Tls(Box::new(Tls { tcp: TcpStream::from_std(stream)?, connection: *connection, closing: false }))
            }
        })
    }

    /// The connection below.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.tcp,
        }
    }

    /// Writes what the kernel takes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Sent {
        match self {
            Self::Plain(tcp) => send(tcp, bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    /// Writes what was encrypted and not taken.
    pub(super) fn flush(&mut self) -> Kernel {
        match self {
            Self::Plain(_) => Kernel::Took,
            Self::Tls(tls) => tls.flush(),
        }
    }

    /// Whether something was encrypted and not taken.
    pub(super) fn wants_flush(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.connection.wants_write(),
        }
    }

    /// Reads once into `buffer`.
    pub(super) fn read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Read {
        match self {
            Self::Plain(tcp) => match receive(tcp, context, buffer) {
                Ok(0) => Read::End,
                Ok(n) => Read::Bytes(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Read::Nothing,
                Err(_) => Read::End,
            },
            Self::Tls(tls) => tls.read(context, buffer),
        }
    }

    /// Whether bytes were read from the connection and not from here.
    pub(super) fn has_read_ahead(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            // An error shows again at the read that follows.
            Self::Tls(tls) => {
                tls.connection.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0)
            }
        }
    }

    /// Says to the peer that nothing more is sent. What is still to be flushed goes out before.
    pub(super) fn shut_down_write(&mut self) -> Kernel {
        match self {
            Self::Plain(tcp) => {
                // A connection that is broken needs no farewell.
                let _ = SockRef::from(&*tcp).shutdown(Shutdown::Write);
                Kernel::Took
            }
            Self::Tls(tls) => {
                tls.say_goodbye();
                tls.flush()
            }
        }
    }
}

impl Tls {
    fn write(&mut self, bytes: &[u8]) -> Sent {
        let mut taken = 0;
        loop {
            let kernel = self.flush();
            if kernel != Kernel::Took || taken == bytes.len() {
                return Sent { bytes: taken, kernel };
            }
            let end = bytes.len().min(taken + RECORD_BYTES);
            // Nothing waits to go out, so a record fits into the buffer; an error is a connection that has said goodbye.
            match io::Write::write(&mut self.connection.writer(), &bytes[taken..end]) {
                Ok(0) | Err(_) => return Sent { bytes: taken, kernel: Kernel::Broken },
                Ok(n) => taken += n,
            }
        }
    }

    fn flush(&mut self) -> Kernel {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Outgoing(&self.tcp)) {
                Ok(0) => return Kernel::Broken,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Kernel::Full,
                Err(_) => return Kernel::Broken,
            }
        }
        if self.closing {
            let _ = SockRef::from(&self.tcp).shutdown(Shutdown::Write);
        }
        Kernel::Took
    }

    fn read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Read {
        for _ in 0..READS_PER_TURN {
            match io::Read::read(&mut self.connection.reader(), buffer) {
                Ok(0) => return Read::End,
                Ok(n) => return Read::Bytes(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The peer has gone without a word of TLS; whether that was meant, WebSocket's close frames say.
                Err(_) => return Read::End,
            }
            match self.connection.read_tls(&mut Incoming { tcp: &mut self.tcp, context }) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Read::Nothing,
                Err(_) => return Read::End,
            }
            if let Err(error) = self.connection.process_new_packets() {
                tracing::debug!(%error, "a client broke the rules of TLS");
                // The alert that says so, as far as it can be had.
                self.flush();
                return Read::End;
            }
        }
        context.waker().wake_by_ref();
        Read::Nothing
    }

    fn say_goodbye(&mut self) {
        if !self.closing {
            self.closing = true;
            self.connection.send_close_notify();
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        // Without it the end of the stream could be anybody's doing (RFC 8446, section 6.1). When the kernel is full, it is.
        self.say_goodbye();
        self.flush();
    }
}

/// Sends without asking the reactor, which is asked only once the kernel has refused.
fn send(tcp: &TcpStream, bytes: &[u8]) -> Sent {
    let mut taken = 0;
    while taken < bytes.len() {
        match SockRef::from(tcp).send(&bytes[taken..]) {
            Ok(n) => taken += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Sent { bytes: taken, kernel: Kernel::Full };
            }
            Err(_) => return Sent { bytes: taken, kernel: Kernel::Broken },
        }
    }
    Sent { bytes: taken, kernel: Kernel::Took }
}

fn receive(tcp: &mut TcpStream, context: &mut Context<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let mut buffer = ReadBuf::new(buffer);
    match Pin::new(tcp).poll_read(context, &mut buffer) {
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        Poll::Ready(result) => result.map(|()| buffer.filled().len()),
    }
}

/// The connection as rustls writes to it.
struct Outgoing<'a>(&'a TcpStream);

impl io::Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(self.0).send(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        SockRef::from(self.0).send_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The connection as rustls reads from it.
struct Incoming<'a, 'b> {
    tcp: &'a mut TcpStream,
    context: &'a mut Context<'b>,
}

impl io::Read for Incoming<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        receive(self.tcp, self.context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_connection_is_no_larger_because_there_is_tls() {
        assert_eq!(size_of::<Transport>(), size_of::<TcpStream>());
    }
}
