//! What Ctrl-C and SIGTERM ask for.
//!
//! **Invariant:** the first ends the run in good order, with a report of what was measured. The second ends this process at
//! once, and no server that it started outlives it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Asks the run to end; the run looks at it.
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    asked: AtomicBool,
    /// The process group of the server that was started here; 0 when there is none.
    server: AtomicI32,
}

impl Interrupt {
    /// Listens for signals from here on, in a thread of its own.
    ///
    /// # Errors
    /// The system refuses to have them handled.
    pub(crate) fn listen() -> io::Result<Arc<Self>> {
        let interrupt = Arc::new(Self::default());
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let heard = Arc::clone(&interrupt);
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                if heard.asked.swap(true, Ordering::Relaxed) {
                    heard.kill_server();
                    // Ends the process, and says by which signal.
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
            }
        })?;
        Ok(interrupt)
    }

    /// Whether the run is to end.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The process group of a server that was started.
    pub(crate) fn server_began(&self, group: Pid) {
        self.server.store(group.as_raw_pid(), Ordering::Relaxed);
    }

    /// That server is gone; another may have begun since.
    pub(crate) fn server_ended(&self, group: Pid) {
        let _ = self.server.compare_exchange(group.as_raw_pid(), 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn kill_server(&self) {
        if let Some(group) = Pid::from_raw(self.server.load(Ordering::Relaxed)) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
