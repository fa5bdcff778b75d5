//! A connection to a server, as a program sees it.
//!
//! **Invariant:** what [`Client::book`] shows is the book right after the event that [`Client::next`] gave last.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::Stream;
use market::{BookDepth, Channel};
use tokio::sync::{mpsc, watch};
use wire::Mode;

use crate::books::BookState;
use crate::driver::{Ask, Batch};
use crate::engine::Clock;
use crate::subscription::{Subscription, SymbolList};
use crate::{Books, Builder, ConnectError, Counters, Event, RequestError, Ticket};

/// A connection to a server that is made again when it is lost, and its events.
///
/// It is a [`Stream`]; [`Client::next`] is there without the trait. A task of tokio does the reading and writing; dropping
/// the client ends it.
///
/// **Back-pressure.** Up to [`Builder::events_max`] events wait for the program. When there is no more room, the client
/// stops reading from its connection; the server's buffer for this client fills, and the server does what the subscription
/// says: it leaves values out and declares the gap, or disconnects ([`Subscription::disconnect_when_slow`]). Nothing is
/// lost without a word, and no memory grows without bound. A program that does not take events for longer than the server
/// waits for the answer to its pings (40 s, unless configured otherwise) is disconnected, and resumes.
#[derive(Debug)]
pub struct Client {
    handle: Handle,
    batches: mpsc::UnboundedReceiver<Batch>,
    /// Seen by [`Builder::connect`], and still to be handed out
    kept: VecDeque<Event>,
    current: std::vec::IntoIter<Event>,
    /// Holds the room of `current` until it is empty
    batch: Option<Batch>,
    problem: Option<Event>,
    books: Option<Books>,
}

/// Makes requests of a [`Client`] from elsewhere; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    asks: mpsc::UnboundedSender<Ask>,
    tickets: Arc<AtomicU64>,
    counters: watch::Receiver<Counters>,
}

impl Client {
    /// Connects with the defaults; [`Client::builder`] has more to choose from.
    ///
    /// # Errors
    /// The address cannot be used, or the first attempt failed. Later ones are made by themselves, and told as events.
    pub async fn connect(url: impl Into<String>) -> Result<Self, ConnectError> {
        Self::builder(url).connect().await
    }

    /// A client to be set up.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    pub(crate) fn new(
        asks: mpsc::UnboundedSender<Ask>,
        batches: mpsc::UnboundedReceiver<Batch>,
        counters: watch::Receiver<Counters>,
        books: Option<Books>,
    ) -> Self {
        let handle = Handle { asks, tickets: Arc::new(AtomicU64::new(1)), counters };
        let (kept, current) = (VecDeque::new(), Vec::new().into_iter());
        Self { handle, batches, kept, current, batch: None, problem: None, books }
    }

    /// The next event; none when the connection is lost for good, which the event before says.
    ///
    /// # Cancel safety
    /// No event is lost when the future is dropped before it is done, as in a branch of `tokio::select!`.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Wants something to be sent. The answer comes as [`Event::Subscribed`] or [`Event::Refused`] with the ticket, so that
    /// events can be taken in the meantime. What is subscribed stays so over reconnections.
    ///
    /// # Errors
    /// It names nothing, or what no instrument can be called; or the client has ended.
    pub fn subscribe(&self, subscription: Subscription) -> Result<Ticket, RequestError> {
        self.handle.subscribe(subscription)
    }

    /// See [`Handle::update`].
    ///
    /// # Errors
    /// As of [`Client::subscribe`].
    pub fn update(
        &self,
        channels: impl IntoIterator<Item = Channel>,
        symbols: impl Into<SymbolList>,
        mode: Mode,
    ) -> Result<Ticket, RequestError> {
        self.handle.update(channels, symbols, mode)
    }

    /// See [`Handle::unsubscribe`].
    ///
    /// # Errors
    /// As of [`Client::subscribe`].
    pub fn unsubscribe(
        &self,
        channels: impl IntoIterator<Item = Channel>,
        symbols: impl Into<SymbolList>,
    ) -> Result<Ticket, RequestError> {
        self.handle.unsubscribe(channels, symbols)
    }

    /// See [`Handle::request_instruments`].
    ///
    /// # Errors
    /// The client has ended.
    pub fn request_instruments(&self, prefix: Option<&str>) -> Result<Ticket, RequestError> {
        self.handle.request_instruments(prefix)
    }

    /// The book of a subscribed symbol and depth, as of the last event; none before its snapshot, and while elements of it
    /// are missing or its checksum was wrong.
    pub fn book(&self, symbol: &str, depth: BookDepth) -> Option<&BookState> {
        self.books.as_ref()?.by_symbol(symbol, depth)
    }

    /// What has been counted.
    pub fn counters(&self) -> Counters {
        self.handle.counters()
    }

    /// How far the server's clock is from ours; none before the first answer to a ping.
    pub fn clock(&self) -> Option<Clock> {
        self.counters().clock
    }

    /// Whether no event is there already: [`Client::next`] would wait. What was gathered is written out then.
    pub fn is_idle(&self) -> bool {
        self.problem.is_none() && self.kept.is_empty() && self.current.len() == 0 && self.batches.is_empty()
    }

    /// Makes requests from elsewhere.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Events that are there are looked at, without being taken.
    pub(crate) async fn peek(&mut self) -> Option<&[Event]> {
        let batch = self.batches.recv().await?;
        self.kept.extend(batch.events);
        Some(self.kept.make_contiguous())
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Some(problem) = self.problem.take() {
            return Poll::Ready(Some(problem));
        }
        loop {
            if let Some(event) = self.kept.pop_front().or_else(|| self.current.next()) {
                self.look_at(&event);
                return Poll::Ready(Some(event));
            }
            match self.batches.poll_recv(cx) {
                Poll::Pending => {
                    // The room of the last batch is free now.
                    self.batch = None;
                    return Poll::Pending;
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(mut batch)) => {
                    self.current = std::mem::take(&mut batch.events).into_iter();
                    self.batch = Some(batch);
                }
            }
        }
    }

    fn look_at(&mut self, event: &Event) {
        let Some(books) = &mut self.books else { return };
        if let Some(problem) = books.apply(event) {
            let channel = Channel::Book(problem.depth);
            // A client that has ended needs no repair.
            let _ = self.handle.asks.send(Ask::Repair(problem.instrument.symbol.as_str().to_owned(), channel));
            self.problem = Some(Event::BookProblem(problem));
        }
    }
}

impl Stream for Client {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.get_mut().poll_event(cx)
    }
}

impl Handle {
    /// As [`Client::subscribe`].
    ///
    /// # Errors
    /// It names nothing, or what no instrument can be called; or the client has ended.
    pub fn subscribe(&self, subscription: Subscription) -> Result<Ticket, RequestError> {
        let subscription = subscription.checked()?;
        self.ask(|ticket| Ask::Subscribe(ticket, subscription))
    }

    /// Changes how often what is subscribed is sent, live.
    ///
    /// # Errors
    /// As of [`Handle::subscribe`].
    pub fn update(
        &self,
        channels: impl IntoIterator<Item = Channel>,
        symbols: impl Into<SymbolList>,
        mode: Mode,
    ) -> Result<Ticket, RequestError> {
        let mut subscription = Subscription::to(channels, symbols).checked()?;
        subscription.setting.mode = mode;
        self.ask(|ticket| Ask::Update(ticket, subscription))
    }

    /// Ends subscriptions of these channels; no channels are all of them.
    ///
    /// # Errors
    /// As of [`Handle::subscribe`].
    pub fn unsubscribe(
        &self,
        channels: impl IntoIterator<Item = Channel>,
        symbols: impl Into<SymbolList>,
    ) -> Result<Ticket, RequestError> {
        let symbols = symbols.into();
        symbols.check()?;
        let channels = channels.into_iter().collect();
        self.ask(|ticket| Ask::Unsubscribe(ticket, channels, Some(symbols)))
    }

    /// Asks for what there is; it comes as [`Event::Instruments`].
    ///
    /// # Errors
    /// The client has ended.
    pub fn request_instruments(&self, prefix: Option<&str>) -> Result<Ticket, RequestError> {
        let prefix = prefix.map(str::to_owned);
        self.ask(|ticket| Ask::Instruments(ticket, prefix))
    }

    /// Ends the client; its last event says so.
    pub fn close(&self) {
        // One that has ended already is closed.
        let _ = self.asks.send(Ask::Close);
    }

    /// What has been counted.
    pub fn counters(&self) -> Counters {
        *self.counters.borrow()
    }

    fn ask(&self, ask: impl FnOnce(Ticket) -> Ask) -> Result<Ticket, RequestError> {
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        self.asks.send(ask(ticket)).map_err(|_| RequestError::Ended)?;
        Ok(ticket)
    }
}
