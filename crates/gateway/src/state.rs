//! What the parts of a gateway share.
//!
//! **Invariant:** everything here is either immutable or small and locked for a few instructions; no part reaches through
//! it into what another part owns.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hub::Catalog;
use tokio::sync::Notify;

use crate::Config;
use crate::admission::Admission;
use crate::auth::Authentication;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::overload::Overload;
use crate::sequencer::SequencerHandle;
use crate::shard::ShardHandle;
use crate::tuned::Tuned;

/// Shared by all parts, behind an `Arc`.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// Names this run of sequence numbers
    pub(crate) epoch: String,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) admission: Admission,
    pub(crate) auth: Authentication,
    pub(crate) overload: Overload,
    pub(crate) sequencer: SequencerHandle,
    pub(crate) shards: Vec<ShardHandle>,
    pub(crate) responses: Responses,
    catalog: RwLock<Arc<Catalog>>,
    phase: AtomicU8,
    tuned: RwLock<Arc<Tuned>>,
}

/// The responses that sessions fill and that have not come to their end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Responses(Arc<(AtomicUsize, Notify)>);

/// Counts a response until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenResponse(Responses);

impl Responses {
    /// Counts another one.
    pub(crate) fn open(&self) -> OpenResponse {
        self.0.0.fetch_add(1, Ordering::AcqRel);
        OpenResponse(self.clone())
    }

    /// Waits until there is none.
    pub(crate) async fn all_ended(&self) {
        loop {
            // Asked for before the count is read: an end in between is not missed.
            let ended = self.0.1.notified();
            if self.0.0.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for OpenResponse {
    fn drop(&mut self) {
        if self.0.0.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.0.1.notify_one();
        }
    }
}

/// Whether new clients are welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Serving = 0,
    Draining = 1,
}

impl Shared {
    /// With the epoch that the feed has from elsewhere, or a new one. Without shards nobody is served.
    pub(crate) fn new(config: Config, metrics: Metrics, auth: Authentication, epoch: Option<&str>) -> Self {
        let clock = Clock::start();
        let shards = config.shards;
        // Two runs cannot begin in the same nanosecond, and a later run sorts behind.
        let epoch = epoch.map_or_else(|| format!("{:016x}", clock.now().wall.nanos()), ToOwned::to_owned);
        Self {
            epoch,
            clock,
            metrics,
            admission: Admission::new(&config),
            auth,
            overload: Overload::default(),
            sequencer: SequencerHandle::default(),
            shards: (0..shards).map(|_| ShardHandle::new(config.shard_queue_bytes_max)).collect(),
            responses: Responses::default(),
            tuned: RwLock::new(Arc::new(Tuned::from(&config))),
            config,
            catalog: RwLock::default(),
            phase: AtomicU8::new(Phase::Serving as u8),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        if self.phase.load(Ordering::Acquire) == Phase::Serving as u8 { Phase::Serving } else { Phase::Draining }
    }

    /// From now on nobody new is let in; there is no way back.
    pub(crate) fn begin_draining(&self) {
        self.phase.store(Phase::Draining as u8, Ordering::Release);
    }

    /// What of the configuration can change, as it is now.
    pub(crate) fn tuned(&self) -> Arc<Tuned> {
        Arc::clone(&self.tuned.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has all parts go by another configuration from now on.
    pub(crate) fn tune(&self, tuned: Tuned) {
        self.admission.tune(&tuned);
        self.auth.tune(&tuned);
        self.shards.iter().for_each(|shard| shard.tune(tuned.limits));
        *self.tuned.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tuned);
    }

    /// The instruments so far.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_catalog(&self, catalog: Arc<Catalog>) {
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = catalog;
    }
}
