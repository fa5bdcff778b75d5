//! One session's socket.
//!
//! **Invariant:** nothing here waits. Writes go straight to the kernel; the reactor is asked only once the kernel has
//! refused, because a socket that was just registered counts as not writable until the reactor has run.

use std::io;
use std::net::{IpAddr, Shutdown};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hub::Written;
use socket2::SockRef;
use tokio::io::{AsyncRead as _, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::ready::SocketWaker;
use crate::admission::Permit;
use crate::auth::Holding;

/// See the module. A TLS stream would be another variant of what is inside.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    waker: Arc<SocketWaker>,
    writing: Writing,
    pub(super) peer: Peer,
    /// Whether the peer may have messages to inflate.
    pub(super) inflates: Inflates,
    pub(super) quota: Quota,
    permit: Permit,
}

/// What a session takes of what its key may have.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// Whether the key has been sent its bytes for now.
    pub(super) throttled: bool,
    /// Boxed, because most sessions have none where nobody authenticates, and all pay for the size.
    pub(super) holding: Option<Box<Holding>>,
}

impl Quota {
    pub(super) fn new(holding: Option<Holding>) -> Self {
        Self { throttled: false, holding: holding.map(Box::new) }
    }
}

/// Whether the kernel takes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Free,
    /// The kernel has refused, and the reactor will wake the socket once it does not.
    Blocked,
}

/// Whether the peer may still send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Talking,
    /// Its close frame has been read, and nothing follows one.
    Closed,
}

/// What came of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Bytes(usize),
    /// Nothing there; the reactor will wake the socket.
    Nothing,
    /// The peer has closed its side, or the connection is broken.
    End,
}

/// Whether permessage-deflate was agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inflates {
    Yes,
    No,
}

impl Socket {
    /// Registers the socket with the reactor of this thread.
    pub(super) fn new(
        stream: std::net::TcpStream,
        waker: Arc<SocketWaker>,
        inflates: Inflates,
        permit: Permit,
        holding: Option<Holding>,
    ) -> io::Result<Self> {
        Ok(Self {
            stream: TcpStream::from_std(stream)?,
            waker,
            writing: Writing::Free,
            peer: Peer::Talking,
            inflates,
            quota: Quota::new(holding),
            permit,
        })
    }

    /// The client's address.
    pub(super) fn ip(&self) -> IpAddr {
        self.permit.ip()
    }

    pub(super) fn waker(&self) -> &Arc<SocketWaker> {
        &self.waker
    }

    /// Has another token woken from the next look on.
    pub(super) fn set_waker(&mut self, waker: Arc<SocketWaker>) {
        self.waker = waker;
    }

    /// Writes what the kernel takes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Written {
        if self.writing == Writing::Blocked {
            return Written::Bytes(0);
        }
        let mut written = 0;
        while written < bytes.len() {
            match SockRef::from(&self.stream).send(&bytes[written..]) {
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writing = Writing::Blocked;
                    return if self.watch_writable() { Written::Bytes(written) } else { Written::Broken };
                }
                Err(_) => return Written::Broken,
            }
        }
        Written::Bytes(written)
    }

    /// Whether bytes had to wait; if not, all that was to be written is out.
    pub(super) fn is_blocked(&self) -> bool {
        self.writing == Writing::Blocked || self.quota.throttled
    }

    /// Asks whether the kernel takes bytes again after it had refused.
    pub(super) fn unblocked(&mut self) -> bool {
        if self.writing == Writing::Free {
            return false;
        }
        let waker = self.waker.waker();
        match self.stream.poll_write_ready(&mut Context::from_waker(&waker)) {
            Poll::Pending => false,
            // An error shows again at the write that follows.
            Poll::Ready(_) => {
                self.writing = Writing::Free;
                true
            }
        }
    }

    /// Reads once into `buffer`.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Read {
        let waker = self.waker.waker();
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut self.stream).poll_read(&mut Context::from_waker(&waker), &mut buffer) {
            Poll::Pending => Read::Nothing,
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Read::End,
            Poll::Ready(Ok(())) => Read::Bytes(buffer.filled().len()),
            Poll::Ready(Err(_)) => Read::End,
        }
    }

    /// Sees to it that the socket is woken when there is something to read, at once if there is already. After a read
    /// that did not fill the buffer this costs no call of the kernel.
    pub(super) fn watch_readable(&self) {
        let waker = self.waker.waker();
        if self.stream.poll_read_ready(&mut Context::from_waker(&waker)).is_ready() {
            waker.wake();
        }
    }

    /// Says to the peer that nothing more is sent.
    pub(super) fn shut_down_write(&self) {
        // A connection that is broken needs no farewell.
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
    }

    /// Has the reactor wake the socket when it is writable. False when the connection is broken.
    fn watch_writable(&self) -> bool {
        // The reactor still believes what it last heard, which the kernel has just contradicted: an operation that would
        // block is how it is told. No event is lost: this thread runs the reactor, so what has happened since the
        // kernel's answer is still to be delivered.
        let would_block = || -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) };
        let _ = self.stream.try_io(Interest::WRITABLE, would_block);
        let waker = self.waker.waker();
        match self.stream.poll_write_ready(&mut Context::from_waker(&waker)) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => {
                waker.wake();
                true
            }
            Poll::Ready(Err(_)) => false,
        }
    }
}
