//! The task that performs what the engine decides.
//!
//! **Invariant:** while the program has not taken the events that are there, up to the bound, nothing more is read from the
//! socket: the pressure goes back to the server, which leaves values out for this client and says so by gaps.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use futures_util::FutureExt as _;
use http::Request;
use hyper::body::Bytes;
use market::{Channel, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use wire::Encoding;

use crate::engine::{Action, Counters, Engine, Now};
use crate::event_stream::{EventStream, Streamed, Target, Unopened};
use crate::socket::{Received, Socket};
use crate::subscription::{Subscription, SymbolList};
use crate::{Event, Lost, Ticket};

/// So many messages are taken in before their events are handed over, if they are there already.
const MESSAGES_AT_ONCE: usize = 64;

/// What the program asks of the task.
#[derive(Debug)]
pub(crate) enum Ask {
    Subscribe(Ticket, Subscription),
    Update(Ticket, Subscription),
    Unsubscribe(Ticket, Vec<Channel>, Option<SymbolList>),
    Instruments(Ticket, Option<String>),
    Repair(String, Channel),
    Close,
}

/// Events on their way to the program, and the room that they take until they are there.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) events: Vec<Event>,
    _room: OwnedSemaphorePermit,
}

pub(crate) struct Driver {
    pub(crate) engine: Engine,
    pub(crate) clock: LocalClock,
    pub(crate) request: Request<()>,
    /// The same server without a WebSocket
    pub(crate) target: Target,
    pub(crate) encoding: Encoding,
    /// Unbounded because the program fills it, and its own memory is what it fills.
    pub(crate) asks: mpsc::UnboundedReceiver<Ask>,
    /// Bounded by `room`, in events.
    pub(crate) batches: mpsc::UnboundedSender<Batch>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) room_max: u32,
    pub(crate) counters: watch::Sender<Counters>,
}

/// Our clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalClock(Instant);

impl LocalClock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { monotonic: self.0.elapsed(), wall: Timestamp(u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX)) }
    }
}

enum Link {
    None,
    Connecting(Pin<Box<dyn Future<Output = Result<Socket, Lost>> + Send>>),
    Open(Box<Socket>),
    Asking(Pin<Box<dyn Future<Output = Result<EventStream, Unopened>> + Send>>),
    Streaming(Box<EventStream>),
}

/// What a link brought.
enum News {
    Connected(Box<Result<Socket, Lost>>),
    Received(Received),
    Streamed(Streamed),
    Opened(Box<Result<EventStream, Unopened>>),
}

/// A list of instruments that was asked for beside a stream.
type Fetched = (i64, Result<Bytes, Lost>);

impl Link {
    /// # Cancel safety
    /// Connecting goes on with the next call; nothing received is lost.
    async fn news(&mut self) -> News {
        match self {
            Self::None => pending().await,
            Self::Connecting(connecting) => News::Connected(Box::new(connecting.await)),
            Self::Open(socket) => News::Received(socket.receive().await),
            Self::Asking(asking) => News::Opened(Box::new(asking.await)),
            Self::Streaming(stream) => News::Streamed(stream.receive().await),
        }
    }
}

impl Driver {
    /// Runs until the engine has ended, or nobody listens any more.
    pub(crate) async fn run(mut self) {
        let mut link = Link::None;
        let mut waiting: Vec<Event> = Vec::new();
        let (fetching, mut fetched) = mpsc::unbounded_channel();
        loop {
            self.perform(&mut link, &fetching).await;
            waiting.append(&mut self.engine.take_events());
            if let Some(room) = self.room_for(&waiting) {
                self.hand_over(&mut waiting, room);
            }
            self.counters.send_replace(self.engine.counters());
            if waiting.is_empty() && self.engine.is_ended() {
                return;
            }
            let due = self.engine.due().filter(|_| waiting.is_empty());
            let clock = self.clock;
            let alarm = async move {
                match due {
                    Some(due) => tokio::time::sleep(due.saturating_sub(clock.now().monotonic)).await,
                    None => pending().await,
                }
            };
            let wanted = self.wanted(&waiting);
            // Each branch may be dropped unfinished: asks, lists and messages stay where they are, a permit that was not given is
            // asked for again, and the alarm is set anew. The order does not matter: no branch starves another, since each
            // has its turn when it is drawn.
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.ask(ask),
                    None => self.engine.close(),
                },
                () = self.batches.closed() => {
                    if let Link::Open(socket) = link {
                        socket.close().await;
                    }
                    return;
                }
                room = Arc::clone(&self.room).acquire_many_owned(wanted), if !waiting.is_empty() => {
                    // Nobody closes the semaphore.
                    let Ok(room) = room else { return };
                    self.hand_over(&mut waiting, room);
                    // The silence was ours.
                    self.engine.heard(self.clock.now());
                }
                news = link.news(), if waiting.is_empty() => self.take(news, &mut link),
                Some((number, list)) = fetched.recv() => {
                    let list = list.map_err(|lost| lost.to_string());
                    self.engine.fetched(number, list.as_deref().map_err(Clone::clone));
                }
                () = alarm, if due.is_some() => self.engine.timeout(self.clock.now()),
            }
        }
    }

    fn wanted(&self, waiting: &[Event]) -> u32 {
        u32::try_from(waiting.len()).unwrap_or(u32::MAX).min(self.room_max)
    }

    fn room_for(&self, waiting: &[Event]) -> Option<OwnedSemaphorePermit> {
        if waiting.is_empty() {
            return None;
        }
        Arc::clone(&self.room).try_acquire_many_owned(self.wanted(waiting)).ok()
    }

    fn hand_over(&self, waiting: &mut Vec<Event>, room: OwnedSemaphorePermit) {
        // If nobody listens any more, the next turn sees it.
        let _ = self.batches.send(Batch { events: std::mem::take(waiting), _room: room });
    }

    async fn perform(&mut self, link: &mut Link, fetching: &mpsc::UnboundedSender<Fetched>) {
        while let Some(action) = self.engine.action(self.clock.now()) {
            match action {
                Action::Connect => {
                    *link = Link::Connecting(Box::pin(Socket::connect(self.request.clone(), self.encoding)));
                }
                Action::Open(request) => {
                    *link = Link::Asking(Box::pin(EventStream::open(self.target.clone(), request)));
                }
                Action::FetchInstruments(number) => {
                    let (target, fetching) = (self.target.clone(), fetching.clone());
                    tokio::spawn(async move {
                        // Nobody waits for it once the client is gone.
                        let _ = fetching.send((number, target.instruments().await));
                    });
                }
                Action::Send(command) => {
                    if let Link::Open(socket) = link
                        && let Err(lost) = socket.send(command).await
                    {
                        *link = Link::None;
                        self.engine.lost(lost, self.clock.now());
                    }
                }
                Action::Close => {
                    if let Link::Open(socket) = std::mem::replace(link, Link::None) {
                        socket.close().await;
                    }
                }
            }
        }
    }

    fn take(&mut self, news: News, link: &mut Link) {
        let now = self.clock.now();
        match news {
            News::Connected(connected) => match *connected {
                Ok(socket) => {
                    *link = Link::Open(Box::new(socket));
                    self.engine.connected(now);
                }
                Err(lost) => {
                    *link = Link::None;
                    self.engine.lost(lost, now);
                }
            },
            News::Opened(opened) => match *opened {
                Ok(stream) => {
                    *link = Link::Streaming(Box::new(stream));
                    self.engine.connected(now);
                }
                Err(unopened) => {
                    *link = Link::None;
                    match unopened {
                        Unopened::Refused(body, lost) => self.engine.stream_refused(&body, lost, now),
                        Unopened::Lost(lost) => self.engine.lost(lost, now),
                    }
                }
            },
            News::Streamed(streamed) => {
                self.streamed(streamed, link);
                for _ in 1..MESSAGES_AT_ONCE {
                    let Link::Streaming(stream) = link else { return };
                    let Some(streamed) = stream.receive().now_or_never() else { return };
                    self.streamed(streamed, link);
                }
            }
            News::Received(received) => {
                self.received(received, link);
                for _ in 1..MESSAGES_AT_ONCE {
                    let Link::Open(socket) = link else { return };
                    let Some(received) = socket.receive().now_or_never() else { return };
                    self.received(received, link);
                }
            }
        }
    }

    fn received(&mut self, received: Received, link: &mut Link) {
        match received {
            Received::Message(payload) => self.engine.message(&payload, self.clock.now()),
            Received::Other => self.engine.heard(self.clock.now()),
            Received::Lost(lost) => {
                *link = Link::None;
                self.engine.lost(lost, self.clock.now());
            }
        }
    }

    fn streamed(&mut self, streamed: Streamed, link: &mut Link) {
        let now = self.clock.now();
        self.engine.heard(now);
        match streamed {
            Streamed::Event(event) => self.engine.event(event, now),
            Streamed::Other => {}
            Streamed::Lost(lost) => {
                *link = Link::None;
                self.engine.lost(lost, now);
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Subscribe(ticket, subscription) => self.engine.subscribe(ticket, &subscription),
            Ask::Update(ticket, subscription) => self.engine.update(ticket, &subscription),
            Ask::Unsubscribe(ticket, channels, symbols) => {
                self.engine.unsubscribe(ticket, &channels, symbols.as_ref());
            }
            Ask::Instruments(ticket, prefix) => self.engine.request_instruments(ticket, prefix),
            Ask::Repair(symbol, channel) => self.engine.repair(&symbol, channel),
            Ask::Close => self.engine.close(),
        }
    }
}
