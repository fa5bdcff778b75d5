//! A server that the tool itself starts, stops and starts again.
//!
//! **Invariant:** what was started is stopped, also when the run fails; only what was started is.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::interrupt::Interrupt;

/// How long a server may take until it listens.
const START_MAX: Duration = Duration::from_secs(20);

/// How long a server may take to end.
const STOP_MAX: Duration = Duration::from_secs(10);

/// How often a process or a port is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    command: String,
    address: SocketAddr,
    interrupt: Arc<Interrupt>,
}

impl Server {
    /// Starts `command` and waits until it listens on `address`.
    ///
    /// # Errors
    /// It cannot be started, ends, or does not listen in time; or something else listens there already.
    pub(crate) fn start(command: &str, address: SocketAddr, interrupt: &Arc<Interrupt>) -> anyhow::Result<Self> {
        if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
            bail!("something listens on {address} already; a server started there would not be the one that is tested");
        }
        let child = Command::new("sh")
            .args(["-c", &format!("exec {command}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start a shell for --server-command")?;
        let mut server = Self { child, command: command.to_owned(), address, interrupt: Arc::clone(interrupt) };
        if let Some(group) = server.group() {
            interrupt.server_began(group);
        }
        server.wait_until_it_listens()?;
        Ok(server)
    }

    fn wait_until_it_listens(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < START_MAX {
            if TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended before it listened on {} ({status}): {}", self.address, self.command);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        bail!("the server does not listen on {} after {START_MAX:?}: {}", self.address, self.command);
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It leads a process group of its own, or Ctrl-C in a terminal would reach it too.
    fn group(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Stops it and starts it again.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        self.stop();
        *self = Self::start(&self.command.clone(), self.address, &Arc::clone(&self.interrupt))?;
        Ok(())
    }

    fn stop(&mut self) {
        let Some(pid) = self.group() else { return };
        // Twice: the first asks to drain, which a load test need not wait for.
        for signal in [Signal::TERM, Signal::TERM] {
            let _ = kill_process_group(pid, signal);
            std::thread::sleep(LOOK_EVERY);
        }
        let begin = Instant::now();
        while begin.elapsed() < STOP_MAX {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
        if let Some(group) = self.group() {
            self.interrupt.server_ended(group);
        }
    }
}
