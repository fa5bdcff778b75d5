//! Signals, as requests to stop and to read the configuration again.
//!
//! **Invariant:** from [`listen`] on no SIGINT or SIGTERM ends the process by itself: the first drains, the second stops
//! at once.

use std::io;

use gateway::Stop;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Listens for signals from now on, in a thread of its own.
///
/// Unbounded because a person at a keyboard fills it.
pub(crate) fn listen() -> io::Result<UnboundedReceiver<Stop>> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let signals = {
        // Registered before this returns, so that no signal comes too early.
        let _guard = runtime.enter();
        Signals::register()?
    };
    let (sender, receiver) = unbounded_channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || forward(&runtime, signals, &sender))?;
    Ok(receiver)
}

/// Calls `reload` for each SIGHUP from now on, in a thread of its own. Several that come at once may count as one.
#[cfg(unix)]
pub(crate) fn on_hangup(mut reload: impl FnMut() + Send + 'static) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let mut hangups = {
        let _guard = runtime.enter();
        signal(SignalKind::hangup())?
    };
    let forward = move || {
        runtime.block_on(async {
            while hangups.recv().await.is_some() {
                reload();
            }
        });
    };
    std::thread::Builder::new().name("reload".into()).spawn(forward)?;
    Ok(())
}

/// There is no such signal.
#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps, reason = "as on Unix")]
pub(crate) fn on_hangup(_reload: impl FnMut() + Send + 'static) -> io::Result<()> {
    Ok(())
}

fn forward(runtime: &Runtime, mut signals: Signals, sender: &UnboundedSender<Stop>) {
    runtime.block_on(async {
        signals.next().await;
        tracing::info!("stopping: clients are being disconnected; once more stops at once");
        // Nobody listens any more when the gateway has ended by itself; then there is nothing left to stop.
        let _ = sender.send(Stop::Drain);
        signals.next().await;
        tracing::info!("stopping at once");
        let _ = sender.send(Stop::Now);
        // The handlers stay in place: a third signal must not end the process with another exit code.
        std::future::pending::<()>().await;
    });
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// Only so that it does not end the process: a recording that reaches a limit on the length of files is a failed write
    _file_too_long: tokio::signal::unix::Signal,
}

/// SIGXFSZ of Linux and of the BSDs.
#[cfg(unix)]
const FILE_TOO_LONG: i32 = 25;

#[cfg(unix)]
impl Signals {
    fn register() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _file_too_long: signal(SignalKind::from_raw(FILE_TOO_LONG))?,
        })
    }

    async fn next(&mut self) {
        // Either will do, in any order; both futures may be dropped without losing a signal.
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[allow(clippy::unnecessary_wraps, reason = "as on Unix")]
    fn register() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // Where there is no console there is no Ctrl-C to wait for.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
