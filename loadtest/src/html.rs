//! Reports for a browser: one file, opened from the disk.
//!
//! **Invariant:** a page loads nothing, and everything in it that comes from outside is escaped.

use std::fmt::Write as _;

use crate::exit::Verdict;
use crate::plot::{Across, Line, Plot, STYLE, Standing, Up, escape};
use crate::report::{Moment, Quantiles, Report};
use crate::table::{Table, bytes, count, micros};

const PAGE_STYLE: &str = "\
*{box-sizing:border-box}body{margin:0 auto;max-width:1180px;padding:28px 20px 60px;background:var(--bg);color:var(--fg);\
font:15px/1.5 system-ui,sans-serif}h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:34px 0 10px}\
.about{color:var(--dim);margin:0 0 20px}.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:12px}\
.card{border:1px solid var(--grid);border-radius:8px;padding:12px 14px}.card b{display:block;font-size:21px;font-weight:650;\
font-variant-numeric:tabular-nums}.card span{color:var(--dim);font-size:13px}.good{color:var(--c2)}.bad{color:var(--c4)}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:14px}.plots svg{width:100%;height:auto;\
border:1px solid var(--grid);border-radius:8px}.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
td,th{padding:5px 14px 5px 0;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}\
td:first-child,th:first-child{text-align:left}th{color:var(--dim);font-weight:500}pre{overflow-x:auto;font-size:13px;\
border:1px solid var(--grid);border-radius:8px;padding:12px 14px}.warn{border-left:3px solid var(--c1);padding-left:12px}";

/// A page around `body`.
pub(crate) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{}</title><style>{STYLE}{PAGE_STYLE}</style></head><body>{body}\
         </body></html>\n",
        escape(title)
    )
}

/// The page of one run.
pub(crate) fn report(report: &Report) -> String {
    let mut body = format!("<h1>{}</h1><p class=\"about\">{}</p>", escape(&report.name), escape(&about(report)));
    cards(report, &mut body);
    for warning in &report.warnings {
        // Writing to a string cannot fail.
        let _ = write!(body, "<p class=\"warn\">{}</p>", escape(warning));
    }
    body.push_str("<h2>Plots</h2>");
    body.push_str(&figures(&plots(report)));
    quantiles(report, &mut body);
    steps(report, &mut body);
    let _ = write!(body, "<h2>Everything</h2><pre>{}</pre>", escape(&Table(report).to_string()));
    metrics(report, &mut body);
    let command = report.command.join(" ");
    let _ = write!(body, "<h2>Made with</h2><pre>{}</pre>", escape(&command));
    page(&report.name, &body)
}

/// Plots side by side; empty ones are left out.
pub(crate) fn figures(plots: &[Plot]) -> String {
    let shown = plots.iter().filter(|plot| !plot.is_empty()).map(|plot| plot.svg(Standing::InPage));
    format!("<div class=\"plots\">{}</div>", shown.collect::<String>())
}

fn about(report: &Report) -> String {
    let (setting, machine) = (&report.setting, &report.machine);
    let mut parts = vec![
        setting.url.clone(),
        setting.protocol.clone(),
        format!("deflate {}", setting.deflate),
        format!("{} on {}", setting.channels, setting.symbols),
        setting.mode.clone(),
        format!("window {:.0} s after {:.0} s", report.window_s, setting.warmup_s),
        format!("{} ({} processors), Linux {}", machine.processor, machine.processors, machine.kernel),
        report.began.chars().take(19).collect(),
    ];
    parts.extend(report.labels.iter().map(|(key, value)| format!("{key} {value}")));
    parts.join(" · ")
}

fn cards(report: &Report, body: &mut String) {
    let time = report.latency.time.as_ref();
    let (met, verdict) = match report.verdict {
        Some(verdict @ Verdict::Complete) => ("good", verdict.words()),
        Some(verdict) => ("bad", verdict.words()),
        None => ("", "none"),
    };
    let connections = &report.connections;
    let mut cards = vec![
        (format!("{} of {}", connections.at_end, connections.wanted), "connections at the end", ""),
        (format!("{}/s", count(report.traffic.elements_per_s.round())), "elements", ""),
    ];
    if let Some(time) = time {
        cards.push((micros(time.p50), "p50 from the scheduled time", ""));
        cards.push((micros(time.p99), "p99 from the scheduled time", ""));
    }
    if let Some(server) = &report.server {
        cards.push((format!("{:.0} %", server.cpu_share * 100.0), "server, of one processor", ""));
        if let Some(rate) = server.elements_per_cpu_s {
            cards.push((count(rate.round()), "elements per server CPU second", ""));
        }
        cards.push((bytes(server.memory_bytes), "server memory of its own", ""));
    }
    cards.push((format!("{}/s", bytes(report.traffic.bytes_per_s as u64)), "on the wire", ""));
    cards.push((report.findings.lost().to_string(), "elements lost, declared or not", ""));
    cards.push((format!("{:.0} %", report.own.busiest_thread_share * 100.0), "loadtest's busiest thread", ""));
    body.push_str("<div class=\"cards\">");
    let _ = write!(body, "<div class=\"card\"><b class=\"{met}\">{}</b><span>verdict</span></div>", short(verdict));
    for (figure, name, class) in cards {
        let _ = write!(body, "<div class=\"card\"><b class=\"{class}\">{figure}</b><span>{name}</span></div>");
    }
    body.push_str("</div>");
}

fn short(verdict: &str) -> &str {
    verdict.split(':').next().unwrap_or(verdict)
}

fn quantiles(report: &Report, body: &mut String) {
    let latency = &report.latency;
    let rows = [
        ("from the scheduled time", &latency.time),
        ("from sent_at", &latency.sent),
        ("connecting", &latency.connect),
        ("changing a subscription", &latency.change),
    ];
    body.push_str(
        "<h2>Latency</h2><div class=\"scroll\"><table><tr><th></th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th>\
         <th>max</th><th>mean</th><th>samples</th></tr>",
    );
    for (name, quantiles) in rows {
        let Some(Quantiles { samples, mean, p50, p90, p99, p999, max, .. }) = quantiles else { continue };
        let _ = write!(body, "<tr><td>{name}</td>");
        for value in [p50, p90, p99, p999, max] {
            let _ = write!(body, "<td>{}</td>", micros(*value));
        }
        let _ = write!(body, "<td>{}</td><td>{}</td></tr>", micros(*mean as u64), count(*samples as f64));
    }
    body.push_str("</table></div>");
}

fn steps(report: &Report, body: &mut String) {
    if report.steps.is_empty() {
        return;
    }
    body.push_str(
        "<h2>Search for the capacity</h2><div class=\"scroll\"><table><tr><th>rate</th><th>objectives</th><th>p99</th>",
    );
    body.push_str("<th>elements/s</th><th>server CPU</th></tr>");
    for step in &report.steps {
        let (class, verdict) = if step.met { ("good", "met") } else { ("bad", "missed") };
        let cpu = step.server_cpu_share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0));
        let _ = write!(
            body,
            "<tr><td>{}</td><td class=\"{class}\">{verdict}</td><td>{}</td><td>{}</td><td>{cpu}</td></tr>",
            count(step.rate),
            step.p99_us.map_or_else(|| "-".to_owned(), micros),
            count(step.elements_per_s.round())
        );
    }
    body.push_str("</table></div>");
}

fn metrics(report: &Report, body: &mut String) {
    let changed: Vec<_> = report.metrics.iter().filter(|(_, change)| change.before != Some(change.after)).collect();
    if changed.is_empty() {
        return;
    }
    body.push_str(
        "<h2>The server's metrics, before and after</h2><div class=\"scroll\"><table><tr><th></th><th>before</th>",
    );
    body.push_str("<th>after</th></tr>");
    for (name, change) in changed {
        let before = change.before.map_or_else(|| "-".to_owned(), count);
        let _ = write!(body, "<tr><td>{}</td><td>{before}</td><td>{}</td></tr>", escape(name), count(change.after));
    }
    body.push_str("</table></div>");
}

/// The plots of one run.
pub(crate) fn plots(report: &Report) -> Vec<Plot> {
    let window = Some((0.0, report.window_s));
    let over_time = |title: &str, up, lines| Plot {
        title: title.to_owned(),
        across: Across::Time,
        across_name: "seconds since the window began".to_owned(),
        up,
        lines,
        window,
    };
    let line = |name: &str, of: &dyn Fn(&Moment) -> Option<f64>| Line {
        name: name.to_owned(),
        points: report.series.iter().filter_map(|moment| Some((moment.t_s, of(moment)?))).collect(),
    };
    let mut curves = Vec::new();
    for (name, quantiles) in [("from the scheduled time", &report.latency.time), ("from sent_at", &report.latency.sent)]
    {
        curves.extend(quantiles.as_ref().map(|quantiles| curve(name, quantiles)));
    }
    let mut plots = vec![
        distribution("Latency", curves),
        over_time(
            "Latency over time",
            Up::Latency,
            vec![
                line("p50", &|m| m.p50_us.map(|us| us as f64)),
                line("p99", &|m| m.p99_us.map(|us| us as f64)),
                line("max", &|m| m.max_us.map(|us| us as f64)),
            ],
        ),
        over_time("Elements a second", Up::Count, vec![line("elements", &|m| Some(m.elements_per_s))]),
        over_time("Bytes a second", Up::Bytes, vec![line("bytes", &|m| Some(m.bytes_per_s))]),
        over_time(
            "Processor, share of one",
            Up::Share,
            vec![line("server", &|m| m.server_cpu_share), line("loadtest", &|m| m.own_cpu_share)],
        ),
        over_time(
            "Server memory of its own",
            Up::Bytes,
            vec![line("memory", &|m| m.server_memory_bytes.map(|bytes| bytes as f64))],
        ),
        over_time(
            "Connections",
            Up::Count,
            vec![line("up", &|m| Some(m.up.into())), line("begun a second", &|m| Some(m.connects_per_s))],
        ),
    ];
    if report.series.iter().any(|moment| moment.lost > 0) {
        plots.push(over_time("Elements lost in an interval", Up::Count, vec![line("lost", &|m| Some(m.lost as f64))]));
    }
    plots
}

/// A distribution as a line.
pub(crate) fn curve(name: &str, quantiles: &Quantiles) -> Line {
    let points = quantiles.curve.iter().filter(|(quantile, _)| *quantile < 1.0);
    Line { name: name.to_owned(), points: points.map(|(quantile, us)| (*quantile, *us as f64)).collect() }
}

/// Distributions over each other.
pub(crate) fn distribution(title: &str, lines: Vec<Line>) -> Plot {
    Plot {
        title: title.to_owned(),
        across: Across::Quantile,
        across_name: "share of messages".to_owned(),
        up: Up::Latency,
        lines,
        window: None,
    }
}
