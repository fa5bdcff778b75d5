//! The phases of a run: connect, warm up, measure, settle, say goodbye.
//!
//! **Invariant:** the window is a whole number of intervals of the series, so what is reported for it is the sum of what is
//! shown; whatever ends a run early, what was seen until then is reported.
//!
//! Not here: what the threads do (`swarm`), what the figures mean (`report`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::clock::{self, Clock};
use crate::crew::Crew;
use crate::http;
use crate::interrupt::Interrupt;
use crate::options::{Options, Part, Protocol};
use crate::plan::{self, Plan, Scrutiny};
use crate::process::{self, Usage};
use crate::progress::Progress;
use crate::report::{Change, Report};
use crate::result::{Course, Result as RunResult};
use crate::server::Server;
use crate::swarm::Order;
use crate::tls::Tls;
use crate::upgrade::Target;

/// Descriptors that a process needs beside its connections.
const OTHER_FILES: u64 = 64;

/// Servers gather their metrics about once a second.
const METRICS_SETTLE: Duration = Duration::from_millis(1200);

/// A reading of what everyone used, at the begin of an interval.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    pub(crate) own: Duration,
    pub(crate) server: Option<Usage>,
}

/// A run about to be made.
pub(crate) struct Run<'a> {
    options: &'a Options,
    /// The command line behind `run`, for other processes
    flags: &'a [OsString],
    interrupt: &'a Arc<Interrupt>,
    progress: &'a Progress,
}

/// How many processes are needed, after the limit of open files was raised as far as it may be.
///
/// # Errors
/// One process was asked for and may not have so many files.
fn processes(options: &Options) -> anyhow::Result<u16> {
    let (soft, hard) = rlimit::Resource::NOFILE.get().context("cannot read the limit of open files")?;
    if soft < hard {
        rlimit::Resource::NOFILE.set(hard, hard).context("cannot raise the limit of open files")?;
    }
    let each = hard.saturating_sub(OTHER_FILES).max(1);
    let needed = u64::from(options.connections).div_ceil(each);
    let processes = u64::from(options.processes);
    if processes == 0 {
        return u16::try_from(needed).ok().context("so many connections need more than 65,535 processes");
    }
    if processes < needed {
        bail!(
            "{} connections in {processes} processes need {} open files each, and the hard limit is {hard}: take --processes {needed}, \
             or raise the limit (ulimit -Hn, LimitNOFILE= of systemd, nofile in /etc/security/limits.conf)",
            options.connections,
            u64::from(options.connections).div_ceil(processes) + OTHER_FILES,
        );
    }
    Ok(options.processes)
}

/// The address of a server.
pub(crate) fn resolve(target: &Target) -> anyhow::Result<SocketAddr> {
    let authority = &target.authority;
    let mut addresses = authority.to_socket_addrs().with_context(|| format!("cannot resolve {authority}"))?;
    addresses.next().with_context(|| format!("{authority} has no address"))
}

/// The plan of a run, or of a process of one.
pub(crate) fn plan(options: &Options) -> anyhow::Result<Plan> {
    let address = resolve(&options.url)?;
    let tls = plan::tls(options, &options.url)?;
    Plan::new(options, address, tls.clone(), || http::symbols(address, tls.as_ref(), &options.url))
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        options: &'a Options,
        flags: &'a [OsString],
        interrupt: &'a Arc<Interrupt>,
        progress: &'a Progress,
    ) -> Self {
        Self { options, flags, interrupt, progress }
    }

    /// Makes the run, with a server of its own if there is a command for one.
    ///
    /// # Errors
    /// It cannot begin, or no connection comes up.
    pub(crate) fn make(&self, rate: Option<f64>) -> anyhow::Result<Report> {
        let options = self.options;
        let processes = processes(options)?;
        let address = resolve(&options.url)?;
        let mut server = match &options.server_command {
            None => None,
            Some(command) => {
                let rate = rate.map(|rate| format!("{rate:.0}")).unwrap_or_default();
                self.progress.say("starting the server");
                Some(Server::start(&command.replace("{rate}", &rate), address, self.interrupt)?)
            }
        };
        if options.restart_after_s > 0.0 && server.is_none() {
            bail!("--restart-after-s needs --server-command: only a server that was started here is restarted");
        }
        let pid = options.server_pid.or(server.as_ref().map(Server::pid));
        if pid.is_some_and(|pid| process::usage(Some(pid)).is_none()) {
            bail!("no process has the id given with --server-pid");
        }
        let plan = Arc::new(plan(options)?);
        let tls = plan.tls.as_ref();
        let metrics_before = self.metrics(address, tls);
        let memory_before = pid.and_then(|pid| process::usage(Some(pid)));

        let origin_ns = clock::wall_ns();
        let crew = if processes > 1 {
            Crew::processes(self.flags, processes, options.threads, origin_ns)?
        } else {
            Crew::threads(&plan, options.threads, Part { index: 0, count: 1, origin_ns }, options.seed)?
        };
        let mut stage = Stage {
            run: self,
            crew,
            clock: Clock::since(origin_ns),
            series: plan.series,
            pid,
            samples: BTreeMap::new(),
            shown: 0,
        };
        stage.rise()?;
        let mut course = stage.measure(&mut server)?;
        course.interrupted = self.interrupt.is_asked();
        let gathered = stage.crew.end();
        let metrics_after = if metrics_before.is_empty() {
            BTreeMap::new()
        } else {
            std::thread::sleep(METRICS_SETTLE);
            self.metrics(address, tls)
        };
        let verified = (0..plan.connections).filter(|index| plan.scrutiny(*index) == Scrutiny::Verify).count() as u32;
        let metrics = metrics_after.into_iter().map(|(name, after)| {
            let before = metrics_before.get(&name).copied();
            (name, Change { before, after })
        });
        let result = RunResult {
            options,
            plan: &plan,
            processes,
            verified,
            gathered: &gathered,
            samples: &stage.samples,
            course,
            memory_before,
            metrics: metrics.collect(),
        };
        Ok(result.report())
    }

    /// The server's metrics; none when it has none or is gone.
    fn metrics(&self, address: SocketAddr, tls: Option<&Tls>) -> BTreeMap<String, f64> {
        let options = self.options;
        let found = match options.metrics_url.as_deref() {
            Some("off") => return BTreeMap::new(),
            None if options.protocol == Protocol::Raw => return BTreeMap::new(),
            None => http::metrics(address, tls, &Target { path: "/metrics".into(), ..options.url.clone() }),
            Some(url) => {
                let target = url.replacen("http", "ws", 1).parse::<Target>().map_err(anyhow::Error::from);
                target.and_then(|target| {
                    let tls = plan::tls(options, &target)?;
                    http::metrics(resolve(&target)?, tls.as_ref(), &target)
                })
            }
        };
        found.unwrap_or_default()
    }
}

struct Stage<'a> {
    run: &'a Run<'a>,
    crew: Crew,
    clock: Clock,
    series: Duration,
    pid: Option<u32>,
    /// What everyone had used by the begin of each interval
    samples: BTreeMap<u64, Sample>,
    /// The last interval that was shown
    shown: u64,
}

impl Stage<'_> {
    fn series_ns(&self) -> u64 {
        self.series.as_nanos() as u64
    }

    fn interval_now(&self) -> u64 {
        self.clock.elapsed_ns() / self.series_ns()
    }

    fn is_interrupted(&self) -> bool {
        self.run.interrupt.is_asked()
    }

    /// Listens until the next boundary of intervals, and samples there.
    fn until_boundary(&mut self, phase: &str) {
        let boundary = self.interval_now() + 1;
        self.crew.listen(self.clock.instant_at(boundary * self.series_ns()));
        self.sample(boundary);
        self.show(phase);
    }

    fn sample(&mut self, boundary: u64) {
        let own = |pid| process::usage(pid).map_or(Duration::ZERO, |usage| usage.cpu);
        let own = own(None) + self.crew.pids().into_iter().map(|pid| own(Some(pid))).sum::<Duration>();
        let server = self.pid.and_then(|pid| process::usage(Some(pid)));
        self.samples.insert(boundary, Sample { own, server });
    }

    fn show(&mut self, phase: &str) {
        let gathered = self.crew.gathered();
        // The newest interval may not be told by all yet; the one before is.
        if let Some((index, tally)) = gathered.intervals.iter().nth_back(1)
            && *index > self.shown
        {
            self.run.progress.interval(phase, self.series, gathered.standing(), tally);
            self.shown = *index;
        }
    }

    /// Waits until all connections are up, or none is left that could be, or time is up.
    fn rise(&mut self) -> anyhow::Result<()> {
        let options = self.run.options;
        if options.measure_rise {
            return Ok(());
        }
        let end = Instant::now() + Duration::from_secs_f64(options.connect_timeout_s);
        loop {
            let soon = Instant::now() + Duration::from_millis(20).min(self.series);
            let gathered = self.crew.listen(soon);
            let standing = gathered.standing();
            let told = gathered.all_have_told();
            if gathered.all_up_since(0).is_some() || (told && standing.waiting == 0) || self.is_interrupted() {
                break;
            }
            if Instant::now() > end {
                break;
            }
            self.show("connecting");
        }
        let gathered = self.crew.gathered();
        if gathered.all_up_since(0).is_none() && gathered.standing().came_up == 0 && !self.is_interrupted() {
            let ends = gathered.total().ends;
            let texts: Vec<_> = ends.iter().map(|(why, count)| format!("{count} x {why}")).collect();
            let why = if texts.is_empty() { "the server does not answer".to_owned() } else { texts.join("; ") };
            bail!("no connection came up: {why}");
        }
        Ok(())
    }

    /// Warms up and measures.
    fn measure(&mut self, server: &mut Option<Server>) -> anyhow::Result<Course> {
        let options = self.run.options;
        self.crew.order(Order::Begin);
        let series_s = self.series.as_secs_f64();
        let intervals = |seconds: f64| (seconds / series_s).round() as u64;
        let (warmup, length) = (intervals(options.warmup_s), intervals(options.seconds).max(1));
        let first = if options.measure_rise { 0 } else { self.interval_now() + 1 + warmup };
        let mut course = Course { first, end: first + length, ..Course::default() };
        if options.measure_rise {
            self.sample(0);
        }
        let mut restart = (options.restart_after_s > 0.0).then(|| first + intervals(options.restart_after_s));
        while self.interval_now() < course.end && !self.is_interrupted() {
            let phase = if self.interval_now() < first { "warming up" } else { "measuring" };
            self.until_boundary(phase);
            let now = self.interval_now();
            if restart.is_some_and(|at| now >= at)
                && let Some(server) = server
            {
                restart = None;
                course.restarted_ns = Some(self.clock.elapsed_ns());
                server.restart()?;
                self.pid = Some(server.pid());
                course.listening_ns = Some(self.clock.elapsed_ns());
            }
            let standing = self.crew.gathered().standing();
            // Nobody is there and nobody will be: the rest of the window would be empty.
            if standing.up == 0 && standing.waiting == 0 && self.crew.gathered().all_have_told() {
                course.ended_early = true;
                course.end = course.end.min(now.max(course.first + 1));
                break;
            }
        }
        course.end = course.end.min(self.interval_now().max(course.first + 1));
        course.recovered_ns = course.restarted_ns.and_then(|since| self.crew.gathered().all_up_since(since));
        let settle = Duration::from_secs_f64(options.settle_s);
        if !settle.is_zero() && !self.is_interrupted() && !course.ended_early {
            self.run.progress.say("settling");
            self.crew.order(Order::Settle);
            self.crew.listen(Instant::now() + settle);
        }
        Ok(course)
    }
}
