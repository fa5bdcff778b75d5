//! Puts the parts together, runs them, and takes them down in order.
//!
//! **Invariant:** when [`Gateway::run`] returns, every thread it started has ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use feed::{Feed, FeedError};
use market::Instrument;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use websocket::origin::OriginList;

use crate::admin::Door;
use crate::auth::{Authentication, Reload};
use crate::connection::{Doors, Guests};
use crate::metrics::{self as names, Metrics};
use crate::recorder::{RecorderQueue, RecorderThread};
use crate::sequencer::SequencerLoop;
use crate::shard::{self, Order, ShardHandle};
use crate::state::Shared;
use crate::tls::{Tls, TlsReload};
use crate::tuned::{Control, Reloaded};
use crate::upgrade::OriginPolicy;
use crate::{Config, GatewayError, Outcome, accept, admin, overload};

/// How to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Let nobody new in, tell the sessions, close them over the configured time
    Drain,
    /// Close all sessions at once
    Now,
}

/// A gateway that has its address.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    listener: std::net::TcpListener,
    local_addr: SocketAddr,
    admin: Option<std::net::TcpListener>,
    door: Arc<Door>,
    control: (UnboundedSender<Reloaded>, UnboundedReceiver<Reloaded>),
    metrics: Metrics,
    origins: OriginPolicy,
    auth: (Authentication, Reload),
    tls: Option<(Tls, TlsReload)>,
}

/// Connections that may wait to be accepted: a restart under thousands of clients fills this within milliseconds. The
/// kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How long event streams may take for their last bytes once every session has ended.
const LAST_BYTES_MAX: Duration = Duration::from_secs(1);

/// How often histograms are folded, addresses forgotten, and the files of keys and certificates
/// looked at.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

impl Gateway {
    /// Checks the configuration and takes the address. Clients that connect wait until [`Gateway::run`].
    ///
    /// # Errors
    /// [`GatewayError`] when the address cannot be had or an origin is none.
    pub fn bind(config: Config) -> Result<Self, GatewayError> {
        let origins = match config.origins[..] {
            // Behind a proxy loopback is no sign of being alone.
            [] if config.listen.ip().is_loopback() && config.proxies.trusted.is_empty() => OriginPolicy::Any,
            [] => OriginPolicy::SameHost,
            _ => OriginPolicy::Listed(OriginList::parse(&config.origins)?),
        };
        let metrics = Metrics::new().map_err(GatewayError::Metrics)?;
        let auth = Authentication::new(&config, &metrics)?;
        let door = Arc::new(Door::new(&config)?);
        let tls = config.tls.as_ref().map(|files| Tls::new(files, &metrics)).transpose()?;
        let bind_error = |source| GatewayError::Bind { address: config.listen, source };
        let listener = listen(config.listen).map_err(bind_error)?;
        let local_addr = listener.local_addr().map_err(bind_error)?;
        let admin =
            config.admin_listen.map(|address| listen(address).map_err(|source| GatewayError::Bind { address, source }));
        Ok(Self {
            listener,
            local_addr,
            admin: admin.transpose()?,
            door,
            control: mpsc::unbounded_channel(),
            metrics,
            origins,
            auth,
            tls,
            config,
        })
    }

    /// The address on which it takes operators' commands, if it does.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// For telling it of another configuration while it runs.
    pub fn control(&self) -> Control {
        Control(self.control.0.clone())
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until it is stopped or the feed breaks; blocks this thread. A second word on `stop` ends a drain at once.
    /// When `stop` is closed without a word, it serves on.
    ///
    /// # Errors
    /// [`GatewayError`] when a thread or a reactor cannot be had.
    pub fn run(self, feed: Box<dyn Feed>, stop: UnboundedReceiver<Stop>) -> Result<Outcome, GatewayError> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| GatewayError::Start { what: "the accept loop", source })?;
        let config = Config { shards: self.config.shards.max(1), ..self.config };
        let (auth, reload) = self.auth;
        let (tls, tls_reload) = self.tls.unzip();
        let shared = Arc::new(Shared::new(config, self.metrics, auth, feed.epoch()));
        let (failed, failure) = oneshot::channel();
        let (ended, ends) = mpsc::unbounded_channel();
        let mut threads = Threads::new(&shared);
        let recorder = threads.start_recorder(feed.instruments())?;
        let sequencer = SequencerLoop::new(Arc::clone(&shared), feed, failed, recorder);
        let end = End(ended.clone());
        threads.start("sequencer".to_owned(), move || {
            let _end = end;
            sequencer.run();
        })?;
        for index in 0..shared.shards.len() {
            threads.start_shard(index, End(ended.clone()))?;
        }
        drop(ended);
        let outcome = runtime.block_on(async {
            let listener = TcpListener::from_std(self.listener)
                .map_err(|source| GatewayError::Start { what: "the accept loop", source })?;
            let router = accept::router(&shared, self.origins);
            tokio::spawn(accept::accept(
                listener,
                Doors {
                    guests: Guests::Clients,
                    proxies: Arc::new(shared.config.proxies.clone()),
                    shared: Arc::clone(&shared),
                    router,
                    tls,
                },
            ));
            tokio::spawn(keep_up(Arc::clone(&shared), reload, tls_reload, Arc::clone(&self.door)));
            tokio::spawn(overload::watch(Arc::clone(&shared)));
            tokio::spawn(follow(Arc::clone(&shared), self.control.1));
            if let Some(admin) = self.admin {
                let admin = TcpListener::from_std(admin)
                    .map_err(|source| GatewayError::Start { what: "the admin listener", source })?;
                let router = admin::router(&shared, &self.door);
                tokio::spawn(accept::accept(
                    admin,
                    Doors {
                        guests: Guests::Operators,
                        shared: Arc::clone(&shared),
                        router,
                        tls: None,
                        proxies: Arc::default(),
                    },
                ));
            }
            let outcome = supervise(&shared, stop, failure, ends).await;
            // What the shards have written last is still on its way into responses.
            let _ = tokio::time::timeout(LAST_BYTES_MAX, shared.responses.all_ended()).await;
            outcome
        });
        // Connections that only speak HTTP end with their tasks.
        drop(runtime);
        drop(threads);
        outcome
    }
}

/// Waits for the end and brings it about: from the first word to stop until the last shard has ended.
async fn supervise(
    shared: &Shared,
    mut stop: UnboundedReceiver<Stop>,
    mut feed_end: oneshot::Receiver<Result<(), FeedError>>,
    mut ends: UnboundedReceiver<()>,
) -> Result<Outcome, GatewayError> {
    let mut outcome = Outcome::Stopped;
    let mut feed_watched = true;
    let mut draining = false;
    let mut shards_left = shared.shards.len();
    loop {
        // Every branch waits for a channel, which loses nothing when another branch wins. The order is that of urgency,
        // only so that a stop in the same moment as a failure counts as a stop.
        tokio::select! {
            biased;
            Some(word) = stop.recv() => {
                shared.begin_draining();
                let order = match word {
                    Stop::Drain if !draining => Order::Drain(shared.tuned().drain),
                    Stop::Drain | Stop::Now => Order::ShutDown,
                };
                draining = true;
                tracing::info!(?order, "stopping");
                shared.shards.iter().for_each(|shard| shard.order(order));
            }
            ended = &mut feed_end, if feed_watched => {
                feed_watched = false;
                if let Ok(Err(error)) = ended {
                    outcome = Outcome::FeedFailed(error);
                    shared.begin_draining();
                    if !draining {
                        draining = true;
                        let drain = shared.tuned().drain;
                        shared.shards.iter().for_each(|shard| shard.order(Order::Drain(drain)));
                    }
                }
            }
            _ = ends.recv() => {
                if !draining {
                    return Err(GatewayError::ThreadDied);
                }
                // The sequencer goes on until the shards have ended, so these are shards.
                shards_left -= 1;
                if shards_left == 0 {
                    return Ok(outcome);
                }
            }
        }
    }
}

/// Takes in each new configuration.
async fn follow(shared: Arc<Shared>, mut reloads: UnboundedReceiver<Reloaded>) {
    while let Some(reloaded) = reloads.recv().await {
        match reloaded {
            Reloaded::Good(tuned) => {
                shared.tune(*tuned);
                shared.metrics.counter(names::CONFIG_RELOADS).increment(1);
            }
            Reloaded::Bad => shared.metrics.counter(names::CONFIG_RELOAD_ERRORS).increment(1),
        }
    }
}

async fn keep_up(shared: Arc<Shared>, mut reload: Reload, mut tls: Option<TlsReload>, door: Arc<Door>) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    let resident = shared.metrics.gauge(names::RESIDENT_BYTES);
    loop {
        interval.tick().await;
        shared.metrics.upkeep();
        resident.set(overload::memory_bytes().unwrap_or(0) as f64);
        shared.admission.sweep(shared.clock.now().monotonic);
        // Reads a few kilobytes when somebody has edited them, and the times of the files otherwise.
        if shared.auth.reload(&mut reload, &shared.metrics) {
            shared.shards.iter().for_each(ShardHandle::reconsider);
        }
        door.reload(&shared.metrics);
        if let Some(tls) = &mut tls {
            tls.look();
        }
    }
}

/// Tells the supervisor that a thread has come to its end, also by a panic.
pub(crate) struct End(pub(crate) mpsc::UnboundedSender<()>);

impl Drop for End {
    fn drop(&mut self) {
        // The supervisor may have gone first.
        let _ = self.0.send(());
    }
}

/// The threads of a gateway; dropping them ends them.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    joined: Vec<JoinHandle<()>>,
    /// Ended last, when it has what the others have done
    recorder: Option<(Arc<RecorderQueue>, JoinHandle<()>)>,
}

impl Threads {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), joined: Vec::new(), recorder: None }
    }

    /// Starts the recorder, if the session is to be recorded.
    pub(crate) fn start_recorder(
        &mut self,
        instruments: &[Instrument],
    ) -> Result<Option<Arc<RecorderQueue>>, GatewayError> {
        let Some(config) = self.shared.config.record.clone() else { return Ok(None) };
        let shared = Arc::clone(&self.shared);
        let (epoch, clock) = (shared.epoch.clone(), shared.clock);
        let recorder = RecorderThread::begin(config, epoch, clock, instruments, &shared.metrics)?;
        let queue = recorder.queue();
        let thread = std::thread::Builder::new().name("recorder".to_owned()).spawn(move || recorder.run(&shared));
        let thread = thread.map_err(|source| GatewayError::Start { what: "a thread", source })?;
        self.recorder = Some((Arc::clone(&queue), thread));
        Ok(Some(queue))
    }

    pub(crate) fn start(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), GatewayError> {
        let thread = std::thread::Builder::new().name(name).spawn(run);
        self.joined.push(thread.map_err(|source| GatewayError::Start { what: "a thread", source })?);
        Ok(())
    }

    fn start_shard(&mut self, index: usize, end: End) -> Result<(), GatewayError> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| GatewayError::Start { what: "a shard", source })?;
        let shared = Arc::clone(&self.shared);
        self.start(format!("shard-{index}"), move || {
            let _end = end;
            runtime.block_on(shard::run(shared, index));
        })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.shards.iter().for_each(|shard| shard.order(Order::ShutDown));
        self.shared.sequencer.stop();
        for thread in self.joined.drain(..) {
            if thread.join().is_err() {
                // The panic itself was printed by its thread.
                tracing::error!("a thread of the gateway has panicked");
            }
        }
        if let Some((queue, thread)) = self.recorder.take() {
            queue.close();
            if thread.join().is_err() {
                tracing::error!("the recorder has panicked");
            }
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier run that linger in TIME_WAIT do not hold the port; another listener still does.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
