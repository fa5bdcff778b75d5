//! Makes a report of what was gathered.
//!
//! **Invariant:** pure: the same gathered intervals and samples give the same report.

use std::collections::BTreeMap;
use std::time::Duration;

use market::{Channel, Timestamp};

use crate::clock;
use crate::crew::Gathered;
use crate::exit::Verdict;
use crate::options::{Options, Protocol};
use crate::plan::Plan;
use crate::process::{self, Usage};
use crate::report::{
    BOTTLENECK_SHARE, Change, Connections, Expected, Latencies, Moment, Own, Quantiles, Report, ServerUse, Setting,
    Traffic,
};
use crate::run::Sample;
use crate::tally::Tally;

/// How a run went.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// The first interval of the window, and the first behind it
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) restarted_ns: Option<u64>,
    /// Since when the new process listens
    pub(crate) listening_ns: Option<u64>,
    pub(crate) recovered_ns: Option<u64>,
    pub(crate) ended_early: bool,
    pub(crate) interrupted: bool,
}

impl Course {
    /// Seconds from an instant until all connections were up again.
    fn recovered_in_s(&self, from: Option<u64>) -> Option<f64> {
        from.zip(self.recovered_ns).map(|(from, to)| to.saturating_sub(from) as f64 / 1e9)
    }
}

/// All that a report is made of.
pub(crate) struct Result<'a> {
    pub(crate) options: &'a Options,
    pub(crate) plan: &'a Plan,
    pub(crate) processes: u16,
    pub(crate) verified: u32,
    pub(crate) gathered: &'a Gathered,
    pub(crate) samples: &'a BTreeMap<u64, Sample>,
    pub(crate) course: Course,
    pub(crate) memory_before: Option<Usage>,
    pub(crate) metrics: BTreeMap<String, Change>,
}

impl Result<'_> {
    /// The report.
    pub(crate) fn report(self) -> Report {
        let (options, plan, course) = (self.options, self.plan, &self.course);
        let series_s = plan.series.as_secs_f64();
        let window_s = (course.end - course.first) as f64 * series_s;
        let window =
            self.gathered.intervals.range(course.first..course.end).fold(Tally::default(), |mut sum, (_, tally)| {
                sum.add(tally);
                sum
            });
        let total = self.gathered.total();
        let standing = self.gathered.standing();
        let elements = window.elements_estimated();
        let own = self.own(window_s);
        let at_end = match self.gathered.up.range(..course.end).next_back() {
            Some((_, up)) if !course.ended_early => *up,
            _ => standing.up,
        };
        let mut report = Report {
            name: options.name.clone().or_else(|| options.workload.clone()).unwrap_or_else(|| "run".to_owned()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            began: Timestamp(clock::wall_ns()).to_string(),
            labels: options.label.iter().map(|label| label.split_once('=').unwrap_or((label, ""))).map(owned).collect(),
            command: std::env::args().collect(),
            machine: process::machine(),
            setting: self.setting(),
            window_s,
            connections: Connections {
                wanted: options.connections,
                up: standing.came_up,
                at_end,
                verified: self.verified,
                stalled: options.stalled,
                begun_per_s: window.connects as f64 / window_s,
                failed: total.connects_failed,
                changes_per_s: window.changes as f64 / window_s,
            },
            traffic: Traffic {
                elements,
                estimated: elements > window.elements,
                frames: window.frames,
                bytes: window.bytes,
                elements_per_s: elements as f64 / window_s,
                frames_per_s: window.frames as f64 / window_s,
                bytes_per_s: window.bytes as f64 / window_s,
                frames_per_element: window.data_messages as f64 / elements.max(1) as f64,
                bytes_per_element: window.bytes as f64 / elements.max(1) as f64,
                bytes_per_frame: window.bytes as f64 / window.frames.max(1) as f64,
                snapshot_elements: total.snapshot_elements,
                slow_elements: total.slow_elements,
                elements_in_all: total.elements_estimated() + total.slow_elements,
            },
            latency: Latencies {
                time: Quantiles::of(&window.latency_time),
                sent: Quantiles::of(&window.latency_sent),
                connect: Quantiles::of(if window.connects > 0 {
                    &window.latency_connect
                } else {
                    &total.latency_connect
                }),
                change: Quantiles::of(&window.latency_change),
            },
            server: self.server(window_s, elements, window.frames),
            own,
            metrics: BTreeMap::new(),
            findings: total.findings,
            dropped_said_by_server: total.dropped_said,
            notices: total.notices.clone(),
            ends: total.ends.clone(),
            recovery_s: course.recovered_in_s(course.restarted_ns),
            recovery_listening_s: course.recovered_in_s(course.listening_ns),
            recovery_server_cpu_s: self.recovery_cpu_s(series_s),
            series: self.series(series_s),
            ..Report::default()
        };
        report.warnings = self.warnings(&report, &window);
        let expected = if options.expect_data { Expected::Data } else { Expected::Anything };
        report.judge(options.slo.as_ref(), expected);
        if course.interrupted && report.verdict != Some(Verdict::Violated) {
            report.verdict = Some(Verdict::Interrupted);
        }
        Report { metrics: self.metrics, ..report }
    }

    fn setting(&self) -> Setting {
        let (options, plan) = (self.options, self.plan);
        let lower = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
        let native = options.protocol == Protocol::Native;
        let channels: Vec<_> = plan.channels.iter().map(Channel::name).collect();
        let symbols = match (options.subscribe, options.symbols_per_client) {
            (false, _) => "none".to_owned(),
            (true, 0) => options.symbols.join(","),
            (true, each) => format!("{each} of each client's own, {}", lower(&options.pick)),
        };
        let mode = lower(&options.mode);
        Setting {
            url: format!("{}://{}{}", lower(&plan.target.scheme), plan.target.authority, plan.target.path),
            protocol: if native { format!("native {}", lower(&options.format)) } else { "raw".to_owned() },
            deflate: lower(&options.deflate),
            channels: channels.join(","),
            symbols,
            mode: if mode == "latest" { format!("latest every {} ms", options.interval_ms) } else { mode },
            warmup_s: options.warmup_s,
            threads: options.threads.into(),
            processes: self.processes.into(),
        }
    }

    fn window_samples(&self) -> Option<(Sample, Sample)> {
        let first = self.samples.range(self.course.first..).next()?.1;
        let last = self.samples.range(..=self.course.end).next_back()?.1;
        Some((*first, *last))
    }

    fn own(&self, window_s: f64) -> Own {
        let cpu = self.window_samples().map_or(Duration::ZERO, |(first, last)| last.own.saturating_sub(first.own));
        let busiest: u64 = self.gathered.busiest_ns.range(self.course.first..self.course.end).map(|(_, ns)| ns).sum();
        let (cpu_share, busiest) = (cpu.as_secs_f64() / window_s, busiest as f64 / 1e9 / window_s);
        let allowed = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        Own {
            cpu_s: cpu.as_secs_f64(),
            cpu_share,
            busiest_thread_share: busiest,
            bottleneck: busiest > BOTTLENECK_SHARE || cpu_share > BOTTLENECK_SHARE * allowed,
        }
    }

    fn server(&self, window_s: f64, elements: u64, frames: u64) -> Option<ServerUse> {
        let (first, last) = self.window_samples()?;
        let last_server = last.server.or_else(|| self.samples.values().rev().find_map(|sample| sample.server))?;
        let memory_before = self.memory_before?.anonymous_bytes;
        // After a restart it is another process: then its time is not the difference.
        let first_server =
            first.server.filter(|first| first.cpu <= last_server.cpu && self.course.restarted_ns.is_none());
        let cpu_s = first_server.map_or(0.0, |first| last_server.cpu.saturating_sub(first.cpu).as_secs_f64());
        let per_cpu_s = |count: u64| (cpu_s > 0.0).then(|| count as f64 / cpu_s);
        let rate = |of: fn(&Usage) -> u64| {
            first_server.map_or(0.0, |first| of(&last_server).saturating_sub(of(&first)) as f64 / window_s)
        };
        let up = self.gathered.standing().up.max(1);
        let growth = last_server.anonymous_bytes as f64 - memory_before as f64;
        Some(ServerUse {
            cpu_s,
            cpu_share: cpu_s / window_s,
            elements_per_cpu_s: per_cpu_s(elements),
            frames_per_cpu_s: per_cpu_s(frames),
            memory_before_bytes: memory_before,
            memory_bytes: last_server.anonymous_bytes,
            resident_bytes: last_server.resident_bytes,
            memory_per_connection_bytes: (self.course.restarted_ns.is_none()).then(|| growth / f64::from(up)),
            switches_voluntary_per_s: rate(|usage| usage.switches_voluntary),
            switches_involuntary_per_s: rate(|usage| usage.switches_involuntary),
            threads: last_server.threads,
        })
    }

    /// What the new process had used of the processor at the end of the interval in which all were back.
    fn recovery_cpu_s(&self, series_s: f64) -> Option<f64> {
        let recovered_s = self.course.recovered_ns? as f64 / 1e9;
        let boundary = (recovered_s / series_s).ceil() as u64;
        let (_, sample) = self.samples.range(boundary..).next()?;
        Some(sample.server?.cpu.as_secs_f64())
    }

    fn series(&self, series_s: f64) -> Vec<Moment> {
        let share = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64() / series_s;
        let moments = self.gathered.intervals.range(..self.course.end).map(|(index, tally)| {
            let (from, to) = (self.samples.get(index), self.samples.get(&(index + 1)));
            let both = from.zip(to);
            let server = both.and_then(|(from, to)| from.server.zip(to.server));
            Moment {
                t_s: (*index as f64 - self.course.first as f64) * series_s,
                up: self.gathered.up.get(index).copied().unwrap_or(0),
                elements_per_s: tally.elements_estimated() as f64 / series_s,
                frames_per_s: tally.frames as f64 / series_s,
                bytes_per_s: tally.bytes as f64 / series_s,
                connects_per_s: tally.connects as f64 / series_s,
                p50_us: tally.latency_time.at(0.5),
                p99_us: tally.latency_time.at(0.99),
                max_us: tally.latency_time.max(),
                lost: tally.findings.lost() + tally.dropped_said,
                own_cpu_share: both.map(|(from, to)| share(from.own, to.own)),
                server_cpu_share: server.map(|(from, to)| share(from.cpu, to.cpu)),
                server_memory_bytes: to.and_then(|to| to.server).map(|usage| usage.anonymous_bytes),
            }
        });
        moments.collect()
    }

    fn warnings(&self, report: &Report, window: &Tally) -> Vec<String> {
        let mut warnings = Vec::new();
        if report.own.bottleneck {
            let advice = if report.connections.verified > 10 { " take fewer --verify-connections, or" } else { "" };
            warnings.push(format!(
                "loadtest itself was busy nearly all the time, the server may be faster:{advice} more --threads or --processes"
            ));
        }
        if window.unread_messages > 0 {
            warnings.push(format!(
                "compressed messages were inflated and checked on {} connections only, and counted on the others",
                report.connections.verified
            ));
        }
        if self.course.ended_early {
            warnings.push("the server went away, the window is shorter than asked for".to_owned());
        }
        if self.course.restarted_ns.is_some() && self.course.recovered_ns.is_none() {
            warnings.push("not all connections came back after the restart".to_owned());
        }
        warnings
    }
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}
