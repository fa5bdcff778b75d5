//! One socket: how it is opened, and how little is written to it.

use std::io::{self, Write as _};
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::plan::{Plan, Role};
use crate::tls::Stream;

/// A connection, encrypted or not.
pub(super) type Connection = Stream<TcpStream>;

/// Begins to connect.
pub(super) fn open(plan: &Plan, index: u32) -> io::Result<Connection> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(plan.address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if plan.receive_buffer_bytes > 0 && (plan.role(index) == Role::Slow || !plan.has_slow()) {
        socket.set_recv_buffer_size(plan.receive_buffer_bytes as usize)?;
    }
    if let Some(source) = plan.source(index) {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&plan.address.into()) {
        Ok(()) => {}
        // The usual answer of a socket that does not block: the connection is on its way.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    Stream::new(TcpStream::from_std(socket.into()), plan.tls.as_ref())
}

/// Writes as much as the socket takes and keeps the rest.
pub(super) fn write_out(stream: &mut Connection, out: &mut Vec<u8>) -> io::Result<()> {
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
    // What TLS has encrypted and the socket has not taken; its hand-shake too.
    if stream.wants_flush()
        && let Err(error) = stream.flush()
        && !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
    {
        return Err(error);
    }
    // Thousands of connections that said one thing each should not keep the room for it.
    if out.is_empty() && out.capacity() > 0 {
        *out = Vec::new();
    }
    Ok(())
}
