//! Records a feed without serving anybody.
//!
//! **Invariant:** when [`record`] returns, everything that the feed gave is in the file, or the file says what is not.

use std::sync::Arc;

use feed::Feed;
use tokio::runtime;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::oneshot;

use crate::auth::{AuthConfig, Authentication};
use crate::gateway::{End, Threads};
use crate::metrics::Metrics;
use crate::sequencer::SequencerLoop;
use crate::state::Shared;
use crate::{Config, GatewayError, Outcome, Stop};

/// Records until the feed has ended or a word on `stop`; blocks this thread.
///
/// # Errors
/// [`GatewayError`] when a thread or the file cannot be had.
pub fn record(config: Config, feed: Box<dyn Feed>, mut stop: UnboundedReceiver<Stop>) -> Result<Outcome, GatewayError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| GatewayError::Start { what: "the supervisor", source })?;
    let config = Config { shards: 0, start_on_first_subscriber: false, ..config };
    let metrics = Metrics::new().map_err(GatewayError::Metrics)?;
    // There is no door for anybody to come in by.
    let (auth, _) = Authentication::new(&Config { auth: AuthConfig::Off, ..config.clone() }, &metrics)?;
    let shared = Arc::new(Shared::new(config, metrics, auth, feed.epoch()));
    let (feed_ended, mut feed_end) = oneshot::channel();
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut threads = Threads::new(&shared);
    let recorder = threads.start_recorder(feed.instruments())?;
    let sequencer = SequencerLoop::new(Arc::clone(&shared), feed, feed_ended, recorder);
    let end = End(ended);
    threads.start("sequencer".to_owned(), move || {
        let _end = end;
        sequencer.run();
    })?;
    let outcome = runtime.block_on(async {
        // Each branch waits for a channel; whichever comes first ends it.
        tokio::select! {
            Some(_) = stop.recv() => Ok(Outcome::Stopped),
            ended = &mut feed_end => match ended {
                Ok(Err(error)) => Ok(Outcome::FeedFailed(error)),
                Ok(Ok(())) => Ok(Outcome::Stopped),
                Err(_) => Err(GatewayError::ThreadDied),
            },
            _ = ends.recv() => Err(GatewayError::ThreadDied),
        }
    });
    drop(threads);
    outcome
}
