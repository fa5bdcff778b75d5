//! The closing table of a run.
//!
//! **Invariant:** a figure that was not measured is left out or said not to be measured, never shown as zero.

use std::fmt::{self, Write as _};

use crate::report::{Latencies, Quantiles, Report};
use crate::sequence::Findings;

/// Shows a report for people.
pub(crate) struct Table<'a>(pub(crate) &'a Report);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        writeln!(
            f,
            "{}: {}, {}, window {:.1} s",
            report.name, report.setting.url, report.setting.protocol, report.window_s
        )?;
        connections(f, report)?;
        traffic(f, report)?;
        latencies(f, &report.latency)?;
        usage(f, report)?;
        losses(f, report)?;
        for step in &report.steps {
            let verdict = if step.met { "met   " } else { "missed" };
            writeln!(f, "rate          {:>12}  {verdict} {}", count(step.rate), step.why)?;
        }
        for outcome in &report.objectives {
            let verdict = if outcome.met { "met" } else { "missed" };
            let actual = outcome.actual.map_or_else(|| "not measured".to_owned(), count);
            writeln!(f, "objective     {} {verdict} ({actual})", outcome.objective)?;
        }
        for warning in &report.warnings {
            writeln!(f, "warning       {warning}")?;
        }
        write!(f, "verdict       {}", report.verdict.map_or("none", crate::exit::Verdict::words))
    }
}

fn connections(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let connections = &report.connections;
    write!(
        f,
        "connections   {} of {} came up, {} at the end; every element checked on {}",
        connections.up, connections.wanted, connections.at_end, connections.verified
    )?;
    if connections.stalled > 0 {
        write!(f, "; {} stop to read", connections.stalled)?;
    }
    writeln!(f)?;
    if connections.begun_per_s > 0.0 {
        writeln!(f, "connects      {:>12}/s, {} failed", count(connections.begun_per_s), connections.failed)?;
    }
    if connections.changes_per_s > 0.0 {
        writeln!(f, "changes       {:>12}/s", count(connections.changes_per_s))?;
    }
    if let Some(recovery_s) = report.recovery_s {
        write!(f, "recovered     {recovery_s:>12.2} s after the restart all were back")?;
        if let Some(listening_s) = report.recovery_listening_s {
            write!(f, ", {listening_s:.2} s after the server listened again")?;
        }
        if let Some(cpu_s) = report.recovery_server_cpu_s {
            write!(f, "; it took {cpu_s:.2} s of processor time for that")?;
        }
        writeln!(f)?;
    }
    Ok(())
}

fn traffic(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let traffic = &report.traffic;
    let estimated = if traffic.estimated { "  (in part estimated: compressed messages were only counted)" } else { "" };
    writeln!(f, "elements      {:>12}  {:>12}/s{estimated}", traffic.elements, count(traffic.elements_per_s))?;
    writeln!(f, "frames        {:>12}  {:>12}/s", traffic.frames, count(traffic.frames_per_s))?;
    writeln!(f, "bytes         {:>12}  {:>12}/s", traffic.bytes, count(traffic.bytes_per_s))?;
    if traffic.elements > 0 {
        writeln!(
            f,
            "per element   {:.4} frames, {:.1} bytes; {:.1} bytes a frame",
            traffic.frames_per_element, traffic.bytes_per_element, traffic.bytes_per_frame
        )?;
    }
    Ok(())
}

fn latencies(f: &mut fmt::Formatter<'_>, latencies: &Latencies) -> fmt::Result {
    let Latencies { time, sent, connect, change } = latencies;
    let shown = [
        ("from time", time, true),
        ("from sent_at", sent, false),
        ("connecting", connect, false),
        ("changing", change, false),
    ];
    for (name, quantiles, always) in shown {
        match quantiles {
            None if always => writeln!(f, "{name:<13} not measured (no samples, or times of another clock)")?,
            None => {}
            Some(Quantiles { samples, p50, p90, p99, p999, max, .. }) => writeln!(
                f,
                "{name:<13} p50 {}, p90 {}, p99 {}, p99.9 {}, max {} ({samples} samples)",
                micros(*p50),
                micros(*p90),
                micros(*p99),
                micros(*p999),
                micros(*max)
            )?,
        }
    }
    Ok(())
}

fn usage(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let own = &report.own;
    writeln!(
        f,
        "loadtest CPU  {:.2} s, {:.0} % of one processor, busiest thread {:.0} %",
        own.cpu_s,
        own.cpu_share * 100.0,
        own.busiest_thread_share * 100.0
    )?;
    let Some(server) = &report.server else { return Ok(()) };
    write!(f, "server CPU    {:.2} s, {:.1} % of one processor", server.cpu_s, server.cpu_share * 100.0)?;
    if let (Some(elements), Some(frames)) = (server.elements_per_cpu_s, server.frames_per_cpu_s) {
        write!(f, "; {} elements, {} frames per CPU second", count(elements), count(frames))?;
    }
    writeln!(f)?;
    write!(f, "server memory {} of its own, {} resident", bytes(server.memory_bytes), bytes(server.resident_bytes))?;
    if let Some(each) = server.memory_per_connection_bytes {
        write!(f, "; {each:.0} bytes a connection")?;
    }
    writeln!(f)?;
    writeln!(
        f,
        "server waits  {}/s, interrupted {}/s, {} threads",
        count(server.switches_voluntary_per_s),
        count(server.switches_involuntary_per_s),
        server.threads
    )
}

fn losses(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let Findings { missing, duplicates, out_of_order, unasked, gaps, declared, gaps_wrong, skipped, .. } =
        report.findings;
    if report.connections.verified > 0 {
        writeln!(
            f,
            "undeclared    {missing} missing, {duplicates} duplicates, {out_of_order} out of order, {unasked} unasked, \
             {gaps_wrong} wrong gaps"
        )?;
        writeln!(
            f,
            "declared      {gaps} gaps of {declared} elements, {skipped} skipped by mode latest; the server says {} dropped",
            report.dropped_said_by_server
        )?;
    }
    let Findings { checksums, checksums_wrong, .. } = report.findings;
    if checksums > 0 {
        writeln!(f, "books         {checksums} checksums computed again, {checksums_wrong} differ")?;
    }
    let delivered = "tickerplant_deliveries_total";
    if let Some(change) = report.metrics.get(delivered) {
        let said = change.after - change.before.unwrap_or(0.0);
        writeln!(f, "server counts {said:.0} deliveries, the clients {}", report.traffic.elements_in_all)?;
    }
    for (code, number) in &report.notices {
        writeln!(f, "notice        {code} x {number}")?;
    }
    for (why, number) in &report.ends {
        writeln!(f, "ended         {number} x {why}")?;
    }
    Ok(())
}

/// A number with its thousands apart.
pub(crate) fn count(number: f64) -> String {
    if number.abs() < 100.0 && number.fract() != 0.0 {
        return format!("{number:.2}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && digit.is_ascii_digit() && (digits.len() - place).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds as people read them.
pub(crate) fn micros(us: u64) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match us {
        0..1000 => write!(text, "{us} us"),
        1000..100_000 => write!(text, "{:.2} ms", us as f64 / 1e3),
        100_000..1_000_000 => write!(text, "{:.0} ms", us as f64 / 1e3),
        _ => write!(text, "{:.2} s", us as f64 / 1e6),
    };
    text
}

/// Bytes as people read them.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(1_234_567.0), "1,234,567");
        assert_eq!(count(-1234.4), "-1,234");
        assert_eq!(count(999.0), "999");
        assert_eq!(count(0.5), "0.50");
        assert_eq!(
            (micros(999).as_str(), micros(1500).as_str(), micros(2_000_000).as_str()),
            ("999 us", "1.50 ms", "2.00 s")
        );
        assert_eq!(bytes(12_345), "12.3 kB");
    }
}
