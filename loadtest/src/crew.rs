//! The threads and processes of a run, and what they have told so far.
//!
//! **Invariant:** it makes no difference to anything that is reported whether a connection was held by a thread of this process
//! or of another one.
//!
//! Not here: the phases of a run (`run`), the sockets (`swarm`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::clock::Clock;
use crate::options::Part;
use crate::plan::Plan;
use crate::swarm::{Order, Report, Share, Standing, Swarm};
use crate::tally::Tally;

/// How long the end of all threads and processes is waited for; what came until then counts.
const END_MAX: Duration = Duration::from_secs(10);

type Told = (u32, Report);

enum Hand {
    Thread(Sender<Order>),
    Process { child: Child, stdin: ChildStdin },
}

/// Everyone who holds connections.
pub(crate) struct Crew {
    hands: Vec<Hand>,
    told: Receiver<Told>,
    gathered: Gathered,
}

/// What was told.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// By the interval's number
    pub(crate) intervals: BTreeMap<u64, Tally>,
    /// Connections up at the end of an interval
    pub(crate) up: BTreeMap<u64, u32>,
    /// The largest share of an interval that one thread was busy, by interval
    pub(crate) busiest_ns: BTreeMap<u64, u64>,
    standings: BTreeMap<u32, Standing>,
    all_up_ns: BTreeMap<u32, u64>,
    done: u32,
    expected: u32,
}

impl Gathered {
    fn take(&mut self, (number, report): Told) {
        match report {
            Report::Interval { index, tally, standing } => {
                self.intervals.entry(index).or_default().add(&tally);
                *self.up.entry(index).or_default() += standing.up;
                let busiest = self.busiest_ns.entry(index).or_default();
                *busiest = (*busiest).max(tally.busy_ns);
                self.standings.insert(number, standing);
            }
            Report::AllUp { at_ns } => drop(self.all_up_ns.insert(number, at_ns)),
            Report::Done { standing } => {
                self.standings.insert(number, standing);
                self.done += 1;
            }
        }
    }

    /// How all connections stand.
    pub(crate) fn standing(&self) -> Standing {
        self.standings.values().fold(Standing::default(), |sum, standing| Standing {
            up: sum.up + standing.up,
            came_up: sum.came_up + standing.came_up,
            over: sum.over + standing.over,
            waiting: sum.waiting + standing.waiting,
        })
    }

    /// Since when all connections have been up, if all threads have said so after `after_ns`.
    pub(crate) fn all_up_since(&self, after_ns: u64) -> Option<u64> {
        let since = self.all_up_ns.values().filter(|at_ns| **at_ns >= after_ns);
        (since.clone().count() == self.expected as usize).then(|| since.max().copied().unwrap_or_default())
    }

    /// Whether everyone has told how its connections stand.
    pub(crate) fn all_have_told(&self) -> bool {
        self.standings.len() == self.expected as usize
    }

    /// The sum of all intervals.
    pub(crate) fn total(&self) -> Tally {
        self.intervals.values().fold(Tally::default(), |mut sum, tally| {
            sum.add(tally);
            sum
        })
    }

    /// Whether everyone has ended.
    fn is_over(&self) -> bool {
        self.done >= self.expected
    }
}

impl Crew {
    /// Starts `threads` threads in this process.
    ///
    /// # Errors
    /// The system gives no thread or no poll.
    pub(crate) fn threads(plan: &Arc<Plan>, threads: u16, part: Part, seed: u64) -> anyhow::Result<Self> {
        let (tell, told) = channel();
        let clock = Clock::since(part.origin_ns);
        let count = u32::from(part.count) * u32::from(threads);
        let mut hands = Vec::new();
        for thread in 0..u32::from(threads) {
            let share = Share { index: u32::from(part.index) * u32::from(threads) + thread, count };
            let swarm = Swarm::new(Arc::clone(plan), share, clock, seed.wrapping_add(u64::from(share.index) * 7919))?;
            let (order, orders) = channel();
            let tell: Sender<Told> = tell.clone();
            thread::Builder::new().name(format!("clients-{}", share.index)).spawn(move || {
                // When nobody listens the run is over anyway.
                let result = swarm.run(&orders, &mut |report| drop(tell.send((share.index, report))));
                if let Err(error) = result {
                    eprintln!("loadtest: a thread ended: {error}");
                }
            })?;
            hands.push(Hand::Thread(order));
        }
        let gathered = Gathered { expected: u32::from(threads), ..Gathered::default() };
        Ok(Self { hands, told, gathered })
    }

    /// Starts `processes` processes of `threads` threads each; `flags` is the command line behind `run`.
    ///
    /// # Errors
    /// A process cannot be started.
    pub(crate) fn processes(flags: &[OsString], processes: u16, threads: u16, origin_ns: u64) -> anyhow::Result<Self> {
        let (tell, told) = channel();
        let program = std::env::current_exe().context("cannot find the tool's own program")?;
        let mut hands = Vec::new();
        for index in 0..processes {
            let mut child = Command::new(&program)
                .arg("worker")
                .args(flags)
                .arg(format!("--part={index}/{processes}/{origin_ns}"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                // A Ctrl-C is for the coordinator, which tells the others.
                .process_group(0)
                .spawn()
                .context("cannot start another process of the tool")?;
            let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
            let (stdin, stdout) = stdin.zip(stdout).context("a process has no pipes")?;
            let tell: Sender<Told> = tell.clone();
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    match serde_json::from_str(&line) {
                        Ok(told) => drop(tell.send(told)),
                        Err(error) => eprintln!("loadtest: a process said something strange: {error}"),
                    }
                }
            });
            hands.push(Hand::Process { child, stdin });
        }
        let expected = u32::from(processes) * u32::from(threads);
        Ok(Self { hands, told, gathered: Gathered { expected, ..Gathered::default() } })
    }

    /// Tells everyone.
    pub(crate) fn order(&mut self, order: Order) {
        for hand in &mut self.hands {
            // One that has ended cannot be told, and need not be.
            match hand {
                Hand::Thread(orders) => drop(orders.send(order)),
                Hand::Process { stdin, .. } => {
                    let line = serde_json::to_string(&order).unwrap_or_default();
                    let _ = writeln!(stdin, "{line}").and_then(|()| stdin.flush());
                }
            }
        }
    }

    /// Listens until `until` and gives what was told so far.
    pub(crate) fn listen(&mut self, until: Instant) -> &Gathered {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.told.recv_timeout(left) {
                Ok(told) => self.gathered.take(told),
                Err(RecvTimeoutError::Timeout) => return &self.gathered,
                // All have ended; time goes on all the same.
                Err(RecvTimeoutError::Disconnected) => {
                    thread::sleep(left);
                    return &self.gathered;
                }
            }
        }
    }

    /// What was told so far.
    pub(crate) fn gathered(&self) -> &Gathered {
        &self.gathered
    }

    /// The processes that were started.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let pid = |hand: &Hand| match hand {
            Hand::Thread(_) => None,
            Hand::Process { child, .. } => Some(child.id()),
        };
        self.hands.iter().filter_map(pid).collect()
    }

    /// Ends everyone and gives all that was told.
    pub(crate) fn end(mut self) -> Gathered {
        self.order(Order::Stop);
        let end = Instant::now() + END_MAX;
        while !self.gathered.is_over() {
            match self.told.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(told) => self.gathered.take(told),
                Err(_) => break,
            }
        }
        for hand in &mut self.hands {
            if let Hand::Process { child, .. } = hand {
                if !self.gathered.is_over() {
                    let _ = child.kill();
                }
                let _ = child.wait();
            }
        }
        self.gathered
    }
}

/// Is one of several processes: orders come in on standard input, reports go out on standard output, a JSON text a line.
///
/// # Errors
/// The threads cannot be started.
pub(crate) fn work(plan: &Arc<Plan>, threads: u16, part: Part, seed: u64) -> anyhow::Result<()> {
    let mut crew = Crew::threads(plan, threads, part, seed)?;
    let orders: Vec<Sender<Order>> = crew
        .hands
        .iter()
        .filter_map(|hand| match hand {
            Hand::Thread(orders) => Some(orders.clone()),
            Hand::Process { .. } => None,
        })
        .collect();
    thread::spawn(move || {
        let lines = std::io::stdin().lines().map_while(Result::ok);
        for order in lines.filter_map(|line| serde_json::from_str::<Order>(&line).ok()) {
            // A thread that has ended cannot be told, and need not be.
            for orders in &orders {
                let _ = orders.send(order);
            }
        }
        // The coordinator is gone.
        for orders in &orders {
            let _ = orders.send(Order::Stop);
        }
    });
    let mut out = std::io::stdout().lock();
    while !crew.gathered.is_over() {
        let Ok(told) = crew.told.recv() else { break };
        serde_json::to_writer(&mut out, &told)?;
        out.write_all(b"\n")?;
        out.flush()?;
        if let Report::Done { .. } = told.1 {
            crew.gathered.take(told);
        }
    }
    Ok(())
}
