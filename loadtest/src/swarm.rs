//! Many sockets on one thread: connects, reads into one shared buffer, writes the few bytes that clients say.
//!
//! **Invariant:** one thread, no task and no buffer per connection; what is to happen at some instant (a connect, a change of
//! subscription) happens at the instant it was planned for, whether or not the server keeps up.
//!
//! Not here: what the bytes mean (`session`), who is told what was seen (`crew`).

mod serve;
mod socket;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rustc_hash::FxHashMap;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::plan::{Plan, Role};
use crate::session::{Sampler, Session};
use crate::tally::Tally;
use crate::upgrade::{Entropy, masked_frame};

use self::socket::Connection;

/// One buffer for all reads. Larger than what lies in most sockets, small enough to stay in the processor's cache.
const READ_BUFFER_BYTES: usize = 256 << 10;

/// Sockets looked at between two looks at the clock.
const EVENTS_MAX: usize = 1024;

/// How long the loop may sleep: how late an order can be.
const SLEEP_MAX: Duration = Duration::from_millis(20);

/// Tokens from here on belong to connections that are leaving.
const LEAVING: usize = 1 << 40;

/// Close code 1000.
const NORMAL_CLOSE: [u8; 2] = 1000u16.to_be_bytes();

/// Which of all connections a thread has: numbers `index`, `index + count`, `index + 2 * count`...
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) index: u32,
    pub(crate) count: u32,
}

/// What a thread is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// All are up: what happens to them may begin
    Begin,
    /// The window is over: stalled clients read again
    Settle,
    /// Say goodbye and end
    Stop,
}

/// How a thread's connections stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// Subscribed now
    pub(crate) up: u32,
    /// Ever subscribed
    pub(crate) came_up: u32,
    /// Ended, and not to come back
    pub(crate) over: u32,
    /// On their way up or waiting to be
    pub(crate) waiting: u32,
}

/// What a thread tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Interval `index` is over
    Interval { index: u64, tally: Box<Tally>, standing: Standing },
    /// All connections of the share are up, since that instant in nanoseconds since the series began
    AllUp { at_ns: u64 },
    /// The thread ends
    Done { standing: Standing },
}

/// Many connections.
pub(crate) struct Swarm {
    poll: Poll,
    plan: Arc<Plan>,
    share: Share,
    clock: Clock,
    members: Vec<Member>,
    /// How many members have begun to connect for the first time
    begun: usize,
    rising: usize,
    standing: Standing,
    timers: BinaryHeap<Reverse<Timer>>,
    leaving: FxHashMap<usize, Connection>,
    left: usize,
    /// Sockets that still had bytes when their turn was over
    unread: Vec<usize>,
    changes_begin: Option<Instant>,
    changes: u64,
    tally: Tally,
    sampler: Sampler,
    symbols: FxHashMap<Box<str>, u32>,
    inflated: Vec<u8>,
    buffer: Box<[u8]>,
    entropy: Entropy,
    busy_ns: u64,
    news: Vec<Report>,
}

struct Member {
    index: u32,
    live: Option<(Connection, Session)>,
    /// What could not be written yet
    out: Vec<u8>,
    phase: Phase,
    ever_up: bool,
    reading: Reading,
    /// When the present connection was to begin
    planned_ns: u64,
    /// Which connection of the member it is: a timer of an earlier one is void
    generation: u32,
    reconnect_after_ms: Option<u64>,
    /// Drawn symbols, when subscriptions change
    held: Vec<String>,
    change_planned_ns: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Rising,
    Up,
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    On,
    Stalled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    at: Instant,
    member: usize,
    generation: u32,
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Connect,
    Leave,
    Stall,
    Resume,
}

impl Swarm {
    /// Prepares a share of the plan's connections.
    ///
    /// # Errors
    /// The system gives no poll.
    pub(crate) fn new(plan: Arc<Plan>, share: Share, clock: Clock, seed: u64) -> io::Result<Self> {
        let indices = (share.index..plan.connections).step_by(share.count as usize);
        let members: Vec<Member> = indices.map(Member::new).collect();
        let per_interval = u64::from(plan.samples_per_s) * plan.series.as_millis() as u64 / 1000;
        Ok(Self {
            poll: Poll::new()?,
            share,
            clock,
            begun: 0,
            rising: 0,
            standing: Standing { waiting: members.len() as u32, ..Standing::default() },
            members,
            timers: BinaryHeap::new(),
            leaving: FxHashMap::default(),
            left: 0,
            unread: Vec::new(),
            changes_begin: None,
            changes: 0,
            tally: Tally::default(),
            sampler: Sampler::new(per_interval, seed),
            symbols: FxHashMap::default(),
            inflated: Vec::new(),
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            entropy: Entropy::new(seed),
            busy_ns: 0,
            news: Vec::new(),
            plan,
        })
    }

    /// Connects, reads and tells, until told to stop or nobody is left to tell.
    ///
    /// # Errors
    /// The poll fails.
    pub(crate) fn run(mut self, orders: &Receiver<Order>, tell: &mut dyn FnMut(Report)) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let series_ns = self.plan.series.as_nanos() as u64;
        // Of the thread that runs, which is another one than that which prepared.
        self.busy_ns = thread_cpu_ns();
        let (mut interval, began) = (self.clock.elapsed_ns() / series_ns, Instant::now());
        loop {
            match orders.try_recv() {
                Ok(Order::Begin) => self.begin(),
                Ok(Order::Settle) => self.settle(),
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {}
            }
            let now = Instant::now();
            let next = self.connect_due(now, began).min(self.fire_timers(now)).min(self.change_due(now));
            let to_boundary =
                Duration::from_nanos(((interval + 1) * series_ns).saturating_sub(self.clock.elapsed_ns()));
            self.turn(&mut events, next.min(to_boundary).min(SLEEP_MAX))?;
            while self.clock.elapsed_ns() >= (interval + 1) * series_ns {
                tell(self.interval(interval));
                interval += 1;
            }
            self.news.drain(..).for_each(&mut *tell);
        }
        self.say_goodbye();
        tell(self.interval(interval));
        tell(Report::Done { standing: self.standing });
        Ok(())
    }

    fn interval(&mut self, index: u64) -> Report {
        let busy_ns = thread_cpu_ns();
        self.tally.busy_ns = busy_ns - self.busy_ns;
        self.busy_ns = busy_ns;
        self.sampler.adapt();
        Report::Interval { index, tally: Box::new(self.tally.take()), standing: self.standing }
    }

    fn begin(&mut self) {
        let now = Instant::now();
        let (stall_after, stall) = (self.plan.stall_after, self.plan.stall);
        for member in 0..self.members.len() {
            let Member { index, generation, .. } = self.members[member];
            if self.plan.role(index) == Role::Slow {
                let timer = Timer { at: now + stall_after, member, generation, action: Action::Stall };
                self.timers.push(Reverse(timer));
                if let Some(stall) = stall {
                    self.timers.push(Reverse(Timer { at: timer.at + stall, action: Action::Resume, ..timer }));
                }
            }
        }
        self.changes_begin = (self.plan.changes_per_s > 0.0).then_some(now);
    }

    fn settle(&mut self) {
        self.timers.retain(|Reverse(timer)| timer.action != Action::Stall);
        for member in 0..self.members.len() {
            self.resume(member);
        }
        self.changes_begin = None;
    }

    fn resume(&mut self, member: usize) {
        if self.members[member].reading == Reading::Stalled {
            self.members[member].reading = Reading::On;
            // What came while nobody looked raises no new event.
            self.unread.push(member);
        }
    }

    /// Begins the connections that are due; returns how long the next one has.
    fn connect_due(&mut self, now: Instant, began: Instant) -> Duration {
        let rate = self.plan.connect_rate.map(|rate| rate / f64::from(self.share.count));
        while self.begun < self.members.len() && self.rising < self.plan.connecting_max {
            let mut planned = now;
            if let Some(rate) = rate {
                planned = began + Duration::from_secs_f64(self.begun as f64 / rate);
                if planned > now {
                    return planned - now;
                }
            }
            let planned_ns = self.clock.ns_at(planned);
            self.begun += 1;
            self.connect(self.begun - 1, planned_ns);
        }
        SLEEP_MAX
    }

    fn fire_timers(&mut self, now: Instant) -> Duration {
        while let Some(Reverse(timer)) = self.timers.peek().copied() {
            if timer.at > now {
                return timer.at - now;
            }
            self.timers.pop();
            let member = &mut self.members[timer.member];
            if member.generation != timer.generation {
                continue;
            }
            let planned_ns = self.clock.ns_at(timer.at);
            match timer.action {
                Action::Connect => self.connect(timer.member, planned_ns),
                Action::Leave => self.leave(timer.member, planned_ns),
                Action::Stall if member.phase == Phase::Up => member.reading = Reading::Stalled,
                Action::Stall => {}
                Action::Resume => self.resume(timer.member),
            }
        }
        SLEEP_MAX
    }

    /// Changes the subscriptions that are due to be changed.
    fn change_due(&mut self, now: Instant) -> Duration {
        let Some(begin) = self.changes_begin else { return SLEEP_MAX };
        let rate = self.plan.changes_per_s / f64::from(self.share.count);
        loop {
            let planned = begin + Duration::from_secs_f64(self.changes as f64 / rate);
            if planned > now {
                return planned - now;
            }
            self.changes += 1;
            let member = self.entropy.below(self.members.len() as u32) as usize;
            self.change(member, self.clock.ns_at(planned));
        }
    }

    fn change(&mut self, number: usize, planned_ns: u64) {
        let member = &mut self.members[number];
        // One change at a time for a client, so that an answer belongs to it.
        if member.phase != Phase::Up || member.change_planned_ns.is_some() || member.reading == Reading::Stalled {
            return;
        }
        if member.held.is_empty() {
            member.held = self.plan.symbols(member.index);
        }
        let Some(new) = self.plan.another_symbol(&member.held, &mut self.entropy) else { return };
        let place = self.entropy.below(member.held.len() as u32) as usize;
        let unsubscribe = Plan::unsubscribe_command(&member.held[place]);
        let subscribe = self.plan.subscribe_command(std::slice::from_ref(&new));
        member.held[place] = new;
        for command in [unsubscribe, subscribe] {
            masked_frame(0x1, command.as_bytes(), self.entropy.mask(), &mut member.out);
        }
        member.change_planned_ns = Some(planned_ns);
        self.tally.changes += 1;
        self.serve(number);
    }

    fn connect(&mut self, number: usize, planned_ns: u64) {
        let member = &mut self.members[number];
        member.generation += 1;
        member.planned_ns = planned_ns;
        member.phase = Phase::Rising;
        member.reading = Reading::On;
        member.held = Vec::new();
        member.change_planned_ns = None;
        member.out.clear();
        self.rising += 1;
        self.tally.connects += 1;
        let session = Session::begin(member.index, &self.plan, &mut self.entropy, &mut member.out);
        let stream = socket::open(&self.plan, member.index).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(stream.socket(), Token(number), interest)?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => member.live = Some((stream, session)),
            Err(error) => self.end(number, format!("connect: {error}")),
        }
    }

    /// Lets the present connection go in the background and begins another.
    fn leave(&mut self, number: usize, planned_ns: u64) {
        let member = &mut self.members[number];
        if member.phase != Phase::Up {
            return;
        }
        if let Some((mut stream, _)) = member.live.take() {
            masked_frame(0x8, &NORMAL_CLOSE, self.entropy.mask(), &mut member.out);
            let token = LEAVING + self.left;
            self.left += 1;
            let written = socket::write_out(&mut stream, &mut member.out);
            let registered = self.poll.registry().reregister(stream.socket(), Token(token), Interest::READABLE);
            if written.is_ok() && registered.is_ok() {
                self.leaving.insert(token, stream);
            }
        }
        self.standing.up -= 1;
        self.standing.waiting += 1;
        self.connect(number, planned_ns);
    }

    /// Says goodbye on every connection, so that the server does not count them as lost; what a full socket does not take
    /// is not waited for.
    fn say_goodbye(&mut self) {
        for member in &mut self.members {
            if let Some((stream, _)) = &mut member.live {
                masked_frame(0x8, &NORMAL_CLOSE, self.entropy.mask(), &mut member.out);
                let _ = socket::write_out(stream, &mut member.out);
            }
        }
    }
}

impl Member {
    fn new(index: u32) -> Self {
        Self {
            index,
            live: None,
            out: Vec::new(),
            phase: Phase::Waiting,
            ever_up: false,
            reading: Reading::On,
            planned_ns: 0,
            generation: 0,
            reconnect_after_ms: None,
            held: Vec::new(),
            change_planned_ns: None,
        }
    }
}

/// The processor time of this thread.
fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
