//! Several results side by side: runs with the same name are one column, their median, and from the least to the most.
//!
//! **Invariant:** figures that a run does not have are left out of its median and never count as zero.

use std::fmt::Write as _;

use crate::html;
use crate::plot::{Across, Line, Plot, Up, escape};
use crate::report::{Quantiles, Report};
use crate::table::{count, micros};

/// Runs that were the same.
pub(crate) struct Group<'a> {
    pub(crate) name: &'a str,
    pub(crate) runs: Vec<&'a Report>,
}

/// A figure and how it is shown.
struct Row {
    name: &'static str,
    show: fn(f64) -> String,
    of: fn(&Report) -> Option<f64>,
}

fn us(value: f64) -> String {
    micros(value as u64)
}

fn percent(value: f64) -> String {
    format!("{:.1} %", value * 100.0)
}

fn whole(value: f64) -> String {
    count(value.round())
}

fn fine(value: f64) -> String {
    format!("{value:.3}")
}

fn time(report: &Report, of: fn(&Quantiles) -> u64) -> Option<f64> {
    report.latency.time.as_ref().map(|quantiles| of(quantiles) as f64)
}

const ROWS: [Row; 18] = [
    Row { name: "connections at the end", show: whole, of: |r| Some(r.connections.at_end.into()) },
    Row { name: "elements/s", show: whole, of: |r| Some(r.traffic.elements_per_s) },
    Row { name: "frames/s", show: whole, of: |r| Some(r.traffic.frames_per_s) },
    Row { name: "frames per element", show: fine, of: |r| Some(r.traffic.frames_per_element) },
    Row { name: "bytes per element", show: fine, of: |r| Some(r.traffic.bytes_per_element) },
    Row { name: "bytes per frame", show: fine, of: |r| Some(r.traffic.bytes_per_frame) },
    Row { name: "latency p50", show: us, of: |r| time(r, |q| q.p50) },
    Row { name: "latency p99", show: us, of: |r| time(r, |q| q.p99) },
    Row { name: "latency p99.9", show: us, of: |r| time(r, |q| q.p999) },
    Row { name: "latency max", show: us, of: |r| time(r, |q| q.max) },
    Row { name: "connecting p99", show: us, of: |r| r.latency.connect.as_ref().map(|quantiles| quantiles.p99 as f64) },
    Row { name: "server CPU", show: percent, of: |r| Some(r.server.as_ref()?.cpu_share) },
    Row { name: "elements per server CPU s", show: whole, of: |r| r.server.as_ref()?.elements_per_cpu_s },
    Row { name: "frames per server CPU s", show: whole, of: |r| r.server.as_ref()?.frames_per_cpu_s },
    Row { name: "memory per connection, bytes", show: whole, of: |r| r.server.as_ref()?.memory_per_connection_bytes },
    Row { name: "lost undeclared", show: whole, of: |r| Some(r.findings.missing as f64) },
    Row { name: "lost declared", show: whole, of: |r| Some(r.findings.declared as f64) },
    Row { name: "loadtest CPU, busiest thread", show: percent, of: |r| Some(r.own.busiest_thread_share) },
];

/// Takes runs with the same name together, in the order of their first.
pub(crate) fn groups(reports: &[Report]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for report in reports {
        match groups.iter_mut().find(|group| group.name == report.name) {
            Some(group) => group.runs.push(report),
            None => groups.push(Group { name: &report.name, runs: vec![report] }),
        }
    }
    groups
}

impl Row {
    /// The median and the spread over the runs of a group.
    fn cell(&self, group: &Group<'_>) -> Option<Cell> {
        let mut values: Vec<f64> = group.runs.iter().filter_map(|run| (self.of)(run)).collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        let spread = (values.len() > 1 && low < high).then(|| format!("{} to {}", (self.show)(low), (self.show)(high)));
        Some(Cell { median: (self.show)(median), spread })
    }

    fn is_of_interest(&self, groups: &[Group<'_>]) -> bool {
        groups.iter().flat_map(|group| &group.runs).any(|run| (self.of)(run).is_some())
    }
}

struct Cell {
    median: String,
    spread: Option<String>,
}

impl Cell {
    fn text(cell: Option<&Self>) -> String {
        match cell {
            None => "-".to_owned(),
            Some(Self { median, spread: None }) => median.clone(),
            Some(Self { median, spread: Some(spread) }) => format!("{median} ({spread})"),
        }
    }
}

/// The table for a terminal: a column for each group.
pub(crate) fn table(groups: &[Group<'_>]) -> String {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.is_of_interest(groups)).collect();
    let mut columns = vec![vec![String::new(), "runs".to_owned()]];
    columns[0].extend(rows.iter().map(|row| row.name.to_owned()));
    for group in groups {
        let mut column = vec![group.name.to_owned(), group.runs.len().to_string()];
        column.extend(rows.iter().map(|row| Cell::text(row.cell(group).as_ref())));
        columns.push(column);
    }
    let widths: Vec<usize> =
        columns.iter().map(|column| column.iter().map(|cell| cell.chars().count()).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for line in 0..columns[0].len() {
        let cells: Vec<String> = columns
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(place, (column, width))| match place {
                0 => format!("{:<width$}", column[line]),
                _ => format!("{:>width$}", column[line]),
            })
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// The table in Markdown: a row for each group, as servers are compared.
pub(crate) fn markdown(groups: &[Group<'_>]) -> String {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.is_of_interest(groups)).collect();
    let mut out = String::from("| |");
    // Writing to a string cannot fail.
    for row in &rows {
        let _ = write!(out, " {} |", row.name);
    }
    out.push_str("\n| --- |");
    out.push_str(&" ---: |".repeat(rows.len()));
    out.push('\n');
    for group in groups {
        let _ = write!(out, "| {} |", group.name);
        for row in &rows {
            let _ = write!(out, " {} |", Cell::text(row.cell(group).as_ref()));
        }
        out.push('\n');
    }
    out
}

/// The page: the table and the plots over each other.
pub(crate) fn page(groups: &[Group<'_>]) -> String {
    let names: Vec<_> = groups.iter().map(|group| group.name).collect();
    let mut body = format!("<h1>{}</h1>", escape(&names.join(", ")));
    body.push_str("<p class=\"about\">The median of the runs of each, and from the least to the most.</p>");
    body.push_str("<div class=\"scroll\"><table><tr><th></th>");
    for name in &names {
        let _ = write!(body, "<th>{}</th>", escape(name));
    }
    body.push_str("</tr>");
    for row in ROWS.iter().filter(|row| row.is_of_interest(groups)) {
        let _ = write!(body, "<tr><td>{}</td>", row.name);
        for group in groups {
            let _ = write!(body, "<td>{}</td>", Cell::text(row.cell(group).as_ref()));
        }
        body.push_str("</tr>");
    }
    body.push_str("</table></div><h2>Plots</h2>");
    body.push_str(&html::figures(&plots(groups).map(|(_, plot)| plot)));
    html::page("comparison", &body)
}

/// The plots, each with a name for a file: of each group the run whose p99 is the median.
pub(crate) fn plots(groups: &[Group<'_>]) -> [(&'static str, Plot); 3] {
    let chosen: Vec<_> = groups.iter().filter_map(|group| Some((group.name, median_run(group)?))).collect();
    let over_time = |title: &str, up, of: &dyn Fn(&Report) -> Vec<(f64, f64)>| Plot {
        title: title.to_owned(),
        across: Across::Time,
        across_name: "seconds since the window began".to_owned(),
        up,
        lines: chosen.iter().map(|(name, run)| Line { name: (*name).to_owned(), points: of(run) }).collect(),
        window: None,
    };
    let curves = chosen.iter().filter_map(|(name, run)| Some(html::curve(name, run.latency.time.as_ref()?)));
    let measured = |run: &Report| run.series.iter().filter(|moment| moment.t_s >= 0.0).cloned().collect::<Vec<_>>();
    [
        ("latency", html::distribution("Latency from the scheduled time", curves.collect())),
        (
            "throughput",
            over_time("Elements a second", Up::Count, &|run| {
                measured(run).iter().map(|moment| (moment.t_s, moment.elements_per_s)).collect()
            }),
        ),
        (
            "cpu",
            over_time("Server's processor, share of one", Up::Share, &|run| {
                measured(run).iter().filter_map(|moment| Some((moment.t_s, moment.server_cpu_share?))).collect()
            }),
        ),
    ]
}

fn median_run<'a>(group: &Group<'a>) -> Option<&'a Report> {
    let mut runs = group.runs.clone();
    runs.sort_by_key(|run| run.latency.time.as_ref().map(|quantiles| quantiles.p99));
    runs.get(runs.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, p99: u64) -> Report {
        let mut report = Report { name: name.to_owned(), ..Report::default() };
        report.traffic.elements_per_s = 1000.0;
        report.latency.time = Some(Quantiles { p99, curve: vec![(0.5, 1), (0.99, p99)], ..Quantiles::default() });
        report
    }

    #[test]
    fn runs_of_one_name_are_their_median_and_spread() {
        let reports = [run("a", 300), run("b", 7), run("a", 100), run("a", 2000)];
        let groups = groups(&reports);
        assert_eq!(groups.iter().map(|group| (group.name, group.runs.len())).collect::<Vec<_>>(), [("a", 3), ("b", 1)]);
        let table = table(&groups);
        assert!(table.contains("300 us (100 us to 2.00 ms)"), "{table}");
        assert!(!table.contains("server CPU  "), "nobody measured it: {table}");
        let markdown = markdown(&groups);
        assert_eq!(markdown.lines().count(), 4);
        assert!(page(&groups).contains("<svg"));
    }
}
