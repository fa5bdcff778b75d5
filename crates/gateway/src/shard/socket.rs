//! One session's socket.
//!
//! **Invariant:** nothing here waits. Writes go straight to the kernel; the reactor is asked only once the kernel has
//! refused, because a socket that was just registered counts as not writable until the reactor has run.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use hub::Written;
use tokio::io::Interest;

use super::ready::SocketWaker;
use super::transport::{Kernel, Sent, Transport};
use crate::admission::Permit;
use crate::auth::Holding;
use crate::tls::Carrier;

/// See the module.
#[derive(Debug)]
pub(super) struct Socket {
    transport: Transport,
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
        carrier: Carrier,
        waker: Arc<SocketWaker>,
        inflates: Inflates,
        permit: Permit,
        holding: Option<Holding>,
    ) -> io::Result<Self> {
        Ok(Self {
            transport: Transport::new(carrier)?,
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
        let Sent { bytes, kernel } = self.transport.write(bytes);
        if self.heed(kernel) { Written::Bytes(bytes) } else { Written::Broken }
    }

    /// Notes what the kernel has said to bytes. False when the connection is broken.
    fn heed(&mut self, kernel: Kernel) -> bool {
        match kernel {
            Kernel::Took => true,
            Kernel::Full => {
                self.writing = Writing::Blocked;
                self.watch_writable()
            }
            Kernel::Broken => false,
        }
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
        match self.transport.tcp().poll_write_ready(&mut Context::from_waker(&waker)) {
            Poll::Pending => false,
            // An error shows again at the write that follows.
            Poll::Ready(_) => {
                self.writing = Writing::Free;
                let kernel = self.transport.flush();
                self.heed(kernel);
                self.writing == Writing::Free
            }
        }
    }

    /// Reads once into `buffer`.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Read {
        let waker = self.waker.waker();
        let read = self.transport.read(&mut Context::from_waker(&waker), buffer);
        // What TLS answers by itself, such as to an update of its keys.
        if self.writing == Writing::Free && self.transport.wants_flush() {
            let kernel = self.transport.flush();
            self.heed(kernel);
        }
        read
    }

    /// Sees to it that the socket is woken when there is something to read, at once if there is already. After a read
    /// that did not fill the buffer this costs no call of the kernel.
    pub(super) fn watch_readable(&mut self) {
        let waker = self.waker.waker();
        let readable = self.transport.tcp().poll_read_ready(&mut Context::from_waker(&waker)).is_ready();
        if readable || self.transport.has_read_ahead() {
            waker.wake();
        }
    }

    /// Says to the peer that nothing more is sent, once all that was written is with the kernel.
    pub(super) fn shut_down_write(&mut self) {
        let kernel = self.transport.shut_down_write();
        self.heed(kernel);
    }

    /// Whether all that was written is with the kernel.
    pub(super) fn is_flushed(&self) -> bool {
        !self.transport.wants_flush()
    }

    /// Has the reactor wake the socket when it is writable. False when the connection is broken.
    fn watch_writable(&self) -> bool {
        // The reactor still believes what it last heard, which the kernel has just contradicted: an operation that would
        // block is how it is told. No event is lost: this thread runs the reactor, so what has happened since the
        // kernel's answer is still to be delivered.
        let would_block = || -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) };
        let _ = self.transport.tcp().try_io(Interest::WRITABLE, would_block);
        let waker = self.waker.waker();
        match self.transport.tcp().poll_write_ready(&mut Context::from_waker(&waker)) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => {
                waker.wake();
                true
            }
            Poll::Ready(Err(_)) => false,
        }
    }
}
