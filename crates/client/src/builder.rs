//! How a client is set up.
//!
//! **Invariant:** every wait and every queue of a client has a bound, and it is here.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use wire::Encoding;

use crate::driver::{Driver, LocalClock};
use crate::engine::{Backoff, Config, Engine, Transports};
use crate::event_stream::Target;
use crate::{Books, Client, ConnectError, Connection, Event, socket};

/// Sets up a [`Client`].
///
/// ```no_run
/// use std::time::Duration;
/// use tickerplant_client::{Backoff, Client, Encoding};
///
/// # async fn example() -> Result<(), tickerplant_client::ConnectError> {
/// let client = Client::builder("ws://127.0.0.1:8080/ws")
///     .token("an API key or a JWT")
///     .encoding(Encoding::Json)
///     .reconnect(Backoff { longest: Duration::from_secs(5), ..Backoff::default() })
///     .connect()
///     .await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Builder {
    url: String,
    bearer: Option<String>,
    config: Config,
    events_max: u32,
    books: bool,
}

impl Builder {
    /// The default of [`Builder::events_max`]: a few seconds of a busy market, at about 150 bytes each.
    pub const EVENTS_MAX: u32 = 65_536;

    pub(crate) fn new(url: String) -> Self {
        let config = Config { seed: RandomState::new().hash_one(&url), ..Config::default() };
        Self { url, bearer: None, config, events_max: Self::EVENTS_MAX, books: true }
    }

    /// An API key or a JWT, sent in the header `Authorization` of the hand-shake.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.bearer = Some(token.into());
        self
    }

    /// An API key or a JWT, sent as the command `auth` once the connection is there.
    #[must_use]
    pub fn auth_command(mut self, token: impl Into<String>) -> Self {
        self.config.auth_command = Some(token.into());
        self
    }

    /// What the server writes: MessagePack, the default, or JSON, which takes more bytes and is slower to read.
    #[must_use]
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.config.encoding = encoding;
        self
    }

    /// How the pauses between attempts to connect again are drawn.
    #[must_use]
    pub fn reconnect(mut self, backoff: Backoff) -> Self {
        self.config.reconnect = Some(backoff);
        self
    }

    /// The client ends with its connection.
    #[must_use]
    pub fn without_reconnect(mut self) -> Self {
        self.config.reconnect = None;
        self
    }

    /// How long it may take until a connection can be used; 10 s unless it is said.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// Nothing from the server for so long is a dead connection; two and a half of its heartbeats unless it is said.
    #[must_use]
    pub fn silence_max(mut self, silence: Duration) -> Self {
        self.config.silence_max = Some(silence);
        self
    }

    /// How often the clocks are compared; each time is a command.
    #[must_use]
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.config.ping_interval = interval;
        self
    }

    /// The ways to the server. Where something refuses WebSockets, server-sent events take over unless it is said.
    #[must_use]
    pub fn transports(mut self, transports: Transports) -> Self {
        self.config.transports = transports;
        self
    }

    /// How many events may wait for the program, at least 1; see [`Client`] for what happens then.
    #[must_use]
    pub fn events_max(mut self, events: u32) -> Self {
        self.events_max = events.max(1);
        self
    }

    /// No books are kept and no checksums compared; for programs that keep books of their own.
    #[must_use]
    pub fn without_books(mut self) -> Self {
        self.books = false;
        self
    }

    /// Connects. The client's first event is that it is connected.
    ///
    /// # Errors
    /// The address cannot be used, or the first attempt failed. Later ones are made by themselves, and told as events.
    ///
    /// # Panics
    /// Outside of a runtime of tokio.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let Self { url, bearer, config, events_max, books } = self;
        let request = socket::request(&url, config.encoding, bearer.as_deref())?;
        let token = bearer.as_deref().or(config.auth_command.as_deref());
        let target = Target::of(&request, socket::authorization(token)?);
        let clock = LocalClock::start();
        let (asks, asked) = mpsc::unbounded_channel();
        let (batches, received) = mpsc::unbounded_channel();
        let (counters, counted) = watch::channel(crate::Counters::default());
        let driver = Driver {
            encoding: config.encoding,
            engine: Engine::new(config, clock.now()),
            clock,
            request,
            target,
            asks: asked,
            batches,
            room: Arc::new(Semaphore::new(events_max as usize)),
            room_max: events_max,
            counters,
        };
        tokio::spawn(driver.run());
        let mut client = Client::new(asks, received, counted, books.then(Books::default));
        while let Some(events) = client.peek().await {
            match events.first() {
                Some(Event::Connection(Connection::Lost { reason, .. } | Connection::Ended { reason })) => {
                    return Err(ConnectError::Failed { url, reason: reason.clone() });
                }
                Some(_) => break,
                None => {}
            }
        }
        Ok(client)
    }
}
