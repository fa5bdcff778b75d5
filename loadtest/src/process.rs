//! What a process used, read from `/proc`.
//!
//! **Invariant:** a missing process or a system without `/proc` makes figures absent, never zero.
//!
//! Not here: when it is read (`run`), what is made of it (`report`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `/proc` counts processor time in hundredths of a second on every Linux (`USER_HZ`).
const TICKS_PER_S: u64 = 100;

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// User and system time of all threads, since the process began
    pub(crate) cpu: Duration,
    /// Resident memory
    pub(crate) resident_bytes: u64,
    /// Of that what is no file's: the memory that the program asked for. What the kernel holds for sockets is in neither.
    pub(crate) anonymous_bytes: u64,
    /// Times that a thread waited for something, since it began
    pub(crate) switches_voluntary: u64,
    /// Times that a thread was interrupted
    pub(crate) switches_involuntary: u64,
    pub(crate) threads: u64,
}

/// Reads the usage of process `pid`, or of this process; none when there is no such process or no `/proc`.
pub(crate) fn usage(pid: Option<u32>) -> Option<Usage> {
    let folder = pid.map_or_else(|| "/proc/self".to_owned(), |pid| format!("/proc/{pid}"));
    let stat = std::fs::read_to_string(format!("{folder}/stat")).ok()?;
    let status = std::fs::read_to_string(format!("{folder}/status")).ok()?;
    let mut usage = parse(&stat, &status)?;
    for task in std::fs::read_dir(format!("{folder}/task")).ok()?.flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        usage.switches_voluntary += number(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        usage.switches_involuntary += number(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    Some(usage)
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    // The command's name stands in parentheses and may itself hold spaces and parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let ticks = times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?;
    Some(Usage {
        cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_S),
        resident_bytes: number(status, "VmRSS:")? << 10,
        anonymous_bytes: number(status, "RssAnon:")? << 10,
        threads: number(status, "Threads:")?,
        ..Usage::default()
    })
}

/// The number behind the label that a line begins with.
fn number(status: &str, label: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// The machine that a run was made on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    /// Processors that this process may use
    pub(crate) processors_allowed: usize,
    pub(crate) processors: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
}

/// Reads what the machine says about itself.
pub(crate) fn machine() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    Machine {
        processor: model.map(|(_, name)| name.trim().to_owned()).unwrap_or_default(),
        processors_allowed: std::thread::available_parallelism().map_or(1, usize::from),
        processors: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        memory_bytes: number(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) << 10,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nRssAnon:\t 1024 kB\nThreads:\t3\n";
        let usage = parse(stat, status).unwrap();
        assert_eq!((usage.cpu, usage.threads), (Duration::from_secs(3), 3));
        assert_eq!((usage.resident_bytes, usage.anonymous_bytes), (2 << 20, 1 << 20));
        assert_eq!(parse("", ""), None);
    }
}
