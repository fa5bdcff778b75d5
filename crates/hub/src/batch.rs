//! Runs of encoded elements, and the batch that every shard reads.
//!
//! **Invariant:** elements lie one behind the other in the order of their items, so any range of items is one slice.

use std::sync::Arc;

use market::{Channel, ChannelSet, Event, Timestamp};
use wire::Dialect;

use crate::{StreamKey, Upstream};

/// One element of a [`Run`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Whose element
    pub key: StreamKey,
    /// Its sequence number
    pub seq: u64,
}

/// Encoded elements of one dialect, ready to stand behind an array header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// What they are
    pub items: Vec<Item>,
    /// Their bytes, without separation
    pub bytes: Vec<u8>,
}

impl Run {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn push(&mut self, key: StreamKey, seq: u64, element: &[u8]) {
        self.items.push(Item { key, seq });
        self.bytes.extend_from_slice(element);
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
    }
}

/// Encoded elements that can be told apart: a snapshot, or what a client has missed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elements {
    run: Run,
    /// Where each element ends.
    ends: Vec<u32>,
}

impl Elements {
    /// What they are.
    pub fn items(&self) -> &[Item] {
        &self.run.items
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.run.items.len()
    }

    /// How long they are together.
    pub fn bytes(&self) -> usize {
        self.run.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.run.is_empty()
    }

    /// Appends the element that `encode` writes.
    pub(crate) fn push_with(&mut self, key: StreamKey, seq: u64, encode: impl FnOnce(&mut Vec<u8>)) {
        self.run.items.push(Item { key, seq });
        encode(&mut self.run.bytes);
        self.ends.push(self.run.bytes.len() as u32);
    }

    /// The bytes of the element at `index`, which must be below [`Elements::len`].
    pub(crate) fn element(&self, index: usize) -> &[u8] {
        &self.run.bytes[self.end(index)..self.end(index + 1)]
    }

    /// The elements in pieces of at most `bytes_max` bytes, or of one element that is longer.
    pub(crate) fn chunks(&self, bytes_max: usize) -> impl Iterator<Item = (&[Item], &[u8])> {
        let mut begin = 0;
        std::iter::from_fn(move || {
            if begin == self.len() {
                return None;
            }
            let limit = self.end(begin) + bytes_max;
            let fitting = self.ends[begin..].partition_point(|end| *end as usize <= limit);
            let end = begin + fitting.max(1);
            let piece = (&self.run.items[begin..end], &self.run.bytes[self.end(begin)..self.end(end)]);
            begin = end;
            Some(piece)
        })
    }

    /// Where the first `count` elements end.
    fn end(&self, count: usize) -> usize {
        if count == 0 { 0 } else { self.ends[count - 1] as usize }
    }
}

/// Ticks that were sequenced together, encoded once per dialect in use, for every shard.
#[derive(Debug)]
pub struct Batch {
    items: Vec<Item>,
    /// For each dialect, where each element ends.
    ends: [Vec<u32>; Dialect::COUNT],
    bytes: [Vec<u8>; Dialect::COUNT],
    /// The events of books, with the indices of their items: whoever wants them less often has to merge them.
    books: Vec<(u32, Timestamp, Event)>,
    channels: ChannelSet,
    oldest: Timestamp,
    /// The ordinal of the first item, and how far behind it those of all are.
    first_ordinal: u64,
    ordinals: Vec<u32>,
}

impl Batch {
    pub(crate) fn with_capacity(elements: usize) -> Self {
        Self {
            items: Vec::with_capacity(elements),
            ends: [const { Vec::new() }; Dialect::COUNT],
            bytes: [const { Vec::new() }; Dialect::COUNT],
            books: Vec::new(),
            channels: ChannelSet::EMPTY,
            oldest: Timestamp(u64::MAX),
            first_ordinal: 0,
            ordinals: Vec::with_capacity(elements),
        }
    }

    pub(crate) fn push_item(&mut self, key: StreamKey, seq: u64, ordinal: u64, time: Timestamp, event: &Event) {
        if self.items.is_empty() {
            self.first_ordinal = ordinal;
        }
        // A batch is one poll of a feed: it has a few thousand elements.
        self.ordinals.push((ordinal - self.first_ordinal) as u32);
        if matches!(key.channel(), Channel::Book(_)) {
            self.books.push((self.items.len() as u32, time, event.clone()));
        }
        self.items.push(Item { key, seq });
        self.channels.insert(key.channel());
        self.oldest = self.oldest.min(time);
    }

    /// Encodes the newest item with `encode` for `dialect`.
    pub(crate) fn encode_last(&mut self, dialect: Dialect, encode: impl FnOnce(&mut Vec<u8>)) {
        let bytes = &mut self.bytes[dialect.index()];
        encode(bytes);
        self.ends[dialect.index()].push(bytes.len() as u32);
    }

    /// The batch for the shards, unless it is empty.
    pub(crate) fn finish(self) -> Option<Upstream> {
        (!self.is_empty()).then(|| Upstream::Batch(Arc::new(self)))
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What it holds, in the order of sequencing.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The channels that occur in it.
    pub fn channels(&self) -> ChannelSet {
        self.channels
    }

    /// The earliest time of an element in it.
    pub fn oldest(&self) -> Timestamp {
        self.oldest
    }

    /// The memory that its elements take, over all dialects; what a queue of batches is bounded by.
    pub fn bytes(&self) -> usize {
        self.bytes.iter().map(Vec::len).sum::<usize>() + self.items.len() * size_of::<Item>()
    }

    /// The ordinal of the item at `index`.
    pub(crate) fn ordinal(&self, index: usize) -> u64 {
        self.first_ordinal + self.ordinals.get(index).map_or(0, |behind| u64::from(*behind))
    }

    /// The ordinal of the last item.
    pub(crate) fn last_ordinal(&self) -> u64 {
        self.ordinal(self.ordinals.len().saturating_sub(1))
    }

    /// The event of the item at `index` if it is of a book.
    pub(crate) fn book(&self, index: usize) -> Option<(Timestamp, &Event)> {
        let at = self.books.binary_search_by_key(&index, |(item, ..)| *item as usize).ok()?;
        self.books.get(at).map(|(_, time, event)| (*time, event))
    }

    /// All elements as `dialect` writes them.
    pub(crate) fn all(&self, dialect: Dialect) -> &[u8] {
        &self.bytes[dialect.index()]
    }

    /// The element at `index` as `dialect` writes it; empty where the dialect was not in use yet.
    pub(crate) fn element(&self, dialect: Dialect, index: usize) -> &[u8] {
        let ends = &self.ends[dialect.index()];
        let Some(&end) = ends.get(index) else { return &[] };
        let start = if index == 0 { 0 } else { ends[index - 1] };
        &self.bytes[dialect.index()][start as usize..end as usize]
    }
}
