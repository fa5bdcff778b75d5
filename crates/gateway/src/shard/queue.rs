//! The queue from the sequencer to one shard.
//!
//! **Invariant:** pushing never waits. What is dropped are batches only, and [`Upstream::Lagged`] stands exactly where they
//! are missing; everything else takes its place in the order in which it was pushed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hub::Upstream;

/// Items in the queue. A batch is a poll of the feed, so this is reached before the bytes only by very small batches, and
/// then stands for a second or more of delay.
const ITEMS_MAX: usize = 16_384;

/// An item, with the monotonic time at which its ticks were taken from the feed.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) upstream: Upstream,
    pub(crate) taken: Duration,
}

/// What a push came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    Queued,
    /// The batch was dropped, the first since the queue last had room.
    LagBegins,
    /// The batch was dropped too.
    Lagging,
}

/// See the module. Batches count until the shard has said [`Queue::done`], also while it works on them.
#[derive(Debug)]
pub(crate) struct Queue {
    bytes_max: usize,
    items: Mutex<Items>,
    bytes: AtomicUsize,
    count: AtomicUsize,
}

/// What an item counts for against the bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Charge {
    bytes: usize,
    count: usize,
}

#[derive(Debug, Default)]
struct Items {
    waiting: VecDeque<Item>,
    lagging: bool,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, items: Mutex::default(), bytes: AtomicUsize::new(0), count: AtomicUsize::new(0) }
    }

    /// Appends an item, or drops it if it is a batch and there is no room.
    pub(crate) fn push(&self, item: Item) -> Pushed {
        let size = size(&item.upstream);
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(item.upstream, Upstream::Batch(_)) {
            // Once it has overflowed it must be half empty again, or each free place would make a hole of its own.
            let full = if items.lagging { self.above_half() } else { self.above(self.bytes_max, ITEMS_MAX) };
            if full {
                if !matches!(items.waiting.back(), Some(Item { upstream: Upstream::Lagged, .. })) {
                    items.waiting.push_back(Item { upstream: Upstream::Lagged, taken: item.taken });
                }
                let pushed = if items.lagging { Pushed::Lagging } else { Pushed::LagBegins };
                items.lagging = true;
                return pushed;
            }
            items.lagging = false;
        }
        self.bytes.fetch_add(size, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        items.waiting.push_back(item);
        Pushed::Queued
    }

    /// When the ticks of the item that waits longest were taken from the feed.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner).waiting.front().map(|item| item.taken)
    }

    /// Moves everything that waits into `into`, which must be empty.
    pub(crate) fn take(&self, into: &mut VecDeque<Item>) {
        debug_assert!(into.is_empty());
        std::mem::swap(into, &mut self.items.lock().unwrap_or_else(PoisonError::into_inner).waiting);
    }

    /// What [`Queue::done`] is to be called with when the item is worked off.
    pub(crate) fn charge(upstream: &Upstream) -> Charge {
        Charge { bytes: size(upstream), count: usize::from(!matches!(upstream, Upstream::Lagged)) }
    }

    /// Says that an item taken is worked off.
    pub(crate) fn done(&self, charge: Charge) {
        self.bytes.fetch_sub(charge.bytes, Ordering::Relaxed);
        self.count.fetch_sub(charge.count, Ordering::Relaxed);
    }

    /// Whether a feed that can wait should.
    pub(crate) fn above_half(&self) -> bool {
        self.above(self.bytes_max / 2, ITEMS_MAX / 2)
    }

    fn above(&self, bytes: usize, count: usize) -> bool {
        self.bytes.load(Ordering::Relaxed) >= bytes || self.count.load(Ordering::Relaxed) >= count
    }
}

fn size(upstream: &Upstream) -> usize {
    match upstream {
        Upstream::Batch(batch) => batch.bytes(),
        Upstream::Reply(reply) => reply.snapshot.bytes() + reply.replay.bytes(),
        Upstream::Catalog(_) | Upstream::Feed(_) | Upstream::Lagged => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hub::{FeedOutcome, Request, Sequencer, SequencerConfig, StreamKey};
    use market::{
        AssetClass, Channel, Event, Instrument, InstrumentId, Price, Side, Size, Symbol, Tick, Timestamp, Trade,
    };

    fn batch() -> Upstream {
        let mut sequencer = Sequencer::new(SequencerConfig::default());
        sequencer.add_instruments(&[Instrument {
            id: InstrumentId(0),
            symbol: Symbol::new("A").unwrap(),
            price_exponent: -2,
            size_exponent: 0,
            tick_size: Price(1),
            lot_size: Size(1),
            class: AssetClass::Equity,
            currency: "USD".into(),
            description: String::new(),
        }]);
        sequencer.serve(&Request {
            dialect: wire::Dialect::NativeJson,
            keys: vec![StreamKey::new(InstrumentId(0), Channel::Trades)],
            stars: market::ChannelSet::EMPTY,
            star_symbols: hub::SymbolSet::ALL,
            snapshot: false,
            since: None,
            subscribes: true,
        });
        let trade = Trade { price: Price(1), size: Size(1), side: Side::Buy, trade_id: 1 };
        let tick = Tick { instrument: InstrumentId(0), time: Timestamp(1), event: Event::Trade(trade) };
        sequencer.ingest(&[tick]).unwrap()
    }

    fn push(queue: &Queue, upstream: Upstream) -> Pushed {
        queue.push(Item { upstream, taken: Duration::ZERO })
    }

    fn names(items: &VecDeque<Item>) -> String {
        let name = |item: &Item| match item.upstream {
            Upstream::Batch(_) => 'b',
            Upstream::Lagged => 'L',
            _ => 'c',
        };
        items.iter().map(name).collect()
    }

    #[test]
    fn holes_are_marked_where_they_are() {
        let control = Upstream::Feed(FeedOutcome::Ended);
        let batch = batch();
        let queue = Queue::new(size(&batch) * 2);
        assert_eq!(push(&queue, batch.clone()), Pushed::Queued);
        assert!(queue.above_half());
        assert_eq!(push(&queue, batch.clone()), Pushed::Queued);
        assert_eq!(push(&queue, batch.clone()), Pushed::LagBegins);
        assert_eq!(push(&queue, batch.clone()), Pushed::Lagging);
        assert_eq!(push(&queue, control), Pushed::Queued);
        assert_eq!(push(&queue, batch.clone()), Pushed::Lagging);
        let mut taken = VecDeque::new();
        queue.take(&mut taken);
        assert_eq!(names(&taken), "bbLcL");
        assert_eq!(push(&queue, batch.clone()), Pushed::Lagging, "what is worked on still counts");
        for item in taken.drain(..) {
            queue.done(Queue::charge(&item.upstream));
        }
        assert!(!queue.above_half());
        assert_eq!(push(&queue, batch), Pushed::Queued);
        queue.take(&mut taken);
        assert_eq!(names(&taken), "Lb");
    }
}
