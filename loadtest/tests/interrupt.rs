//! What Ctrl-C leaves behind.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Far longer than anything here takes; a bound, not an expectation.
const LONG: Duration = Duration::from_mins(1);

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    while begin.elapsed() < LONG {
        if let Some(found) = look() {
            return found;
        }
        std::thread::yield_now();
    }
    panic!("not within {LONG:?}: {what}");
}

/// Whether the process is there, and not just its exit code for somebody to fetch.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

/// A server that never listens is the worst case: nothing has come of the run yet.
#[test]
fn a_second_interrupt_ends_the_tool_and_the_server_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("pid");
    // Free again, so nobody listens there.
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut tool = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["run", "firehose", "--url", &format!("ws://127.0.0.1:{port}/ws")])
        .args(["--server-command", &format!("sh -c 'echo $$ > {}; exec sleep 600'", note.display())])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = until("the server writes its number", || {
        std::fs::read_to_string(&note).ok().filter(|text| text.ends_with('\n'))?.trim().parse::<u32>().ok()
    });
    assert!(lives(server));
    let pid = Pid::from_raw(i32::try_from(tool.id()).unwrap()).unwrap();
    // Two that come at once may be one to the kernel, so it is asked until it is gone.
    let status = until("the tool ends", || {
        let _ = kill_process(pid, Signal::INT);
        tool.try_wait().unwrap()
    });
    assert_eq!(status.signal(), Some(Signal::INT.as_raw()));
    until("the server is gone", || (!lives(server)).then_some(()));
}
