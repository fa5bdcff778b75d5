//! What a process used, read from `/proc`.
//!
//! **Invariant:** figures are differences between two readings, never totals since the process began.
//!
//! Not here: other platforms; there the figures are absent.

use std::time::Duration;

/// `/proc` counts processor time in hundredths of a second on every Linux (`USER_HZ`).
const TICKS_PER_S: u64 = 100;

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time of all threads
    pub(crate) cpu: Duration,
    /// Resident memory
    pub(crate) resident_bytes: u64,
}

/// Reads the usage of process `pid`, or of this process; none when there is no such process or no `/proc`.
pub(crate) fn usage(pid: Option<u32>) -> Option<Usage> {
    let folder = pid.map_or_else(|| "/proc/self".to_owned(), |pid| format!("/proc/{pid}"));
    let stat = std::fs::read_to_string(format!("{folder}/stat")).ok()?;
    let status = std::fs::read_to_string(format!("{folder}/status")).ok()?;
    parse(&stat, &status)
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    // The command's name stands in parentheses and may itself hold spaces and parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let ticks = times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Usage { cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_S), resident_bytes: kib << 10 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        let want = Usage { cpu: Duration::from_secs(3), resident_bytes: 2048 << 10 };
        assert_eq!(parse(stat, "Name:\tx\nVmRSS:\t    2048 kB\n"), Some(want));
        assert_eq!(parse("", ""), None);
    }
}
