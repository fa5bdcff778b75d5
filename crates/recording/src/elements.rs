//! Elements in columns: how a block of them is made and taken apart.
//!
//! **Invariant:** within a block the numbers of a stream follow each other without a hole, so only the first is written; who
//! has a hole begins a new block.

use std::sync::Arc;

use market::{Channel, ChannelSet, InstrumentId, Numbered, Tick, Timestamp};
use rustc_hash::FxHashMap;

use crate::bytes::{Input, put_text, put_unsigned};
use crate::error::Broken;
use crate::layout::{self, COLUMNS, Column, Columns, Context, Shared};

/// A block of elements in the making.
#[derive(Debug, Default)]
pub(crate) struct ElementWriter {
    columns: Written,
    /// Index and next number of each stream
    streams: FxHashMap<(InstrumentId, Channel), (u64, u64)>,
    contexts: FxHashMap<InstrumentId, Context>,
    shared: Shared,
    facts: Facts,
}

/// What the header says of a block of elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) count: u32,
    pub(crate) channels: ChannelSet,
    pub(crate) first_time: Timestamp,
    pub(crate) last_time: Timestamp,
}

impl Default for Facts {
    fn default() -> Self {
        Self { count: 0, channels: ChannelSet::EMPTY, first_time: Timestamp(u64::MAX), last_time: Timestamp(0) }
    }
}

#[derive(Debug, Default)]
struct Written([Vec<u8>; COLUMNS]);

impl Columns for Written {
    #[inline]
    fn unsigned(&mut self, column: Column, value: u64) -> Result<u64, Broken> {
        put_unsigned(value, &mut self.0[column as usize]);
        Ok(value)
    }

    fn fixed(&mut self, column: Column, value: u64) -> Result<u64, Broken> {
        self.0[column as usize].extend_from_slice(&value.to_le_bytes());
        Ok(value)
    }

    fn word(&mut self, column: Column, value: u32) -> Result<u32, Broken> {
        self.0[column as usize].extend_from_slice(&value.to_le_bytes());
        Ok(value)
    }

    fn text(&mut self, column: Column, value: &str) -> Result<Arc<str>, Broken> {
        put_text(value, &mut self.0[column as usize]);
        Ok(Arc::from(""))
    }

    fn length(&mut self, _: Column, length: u64) -> Result<usize, Broken> {
        Ok(length as usize)
    }
}

/// The element does not follow on the one before of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hole;

impl ElementWriter {
    /// Appends an element.
    pub(crate) fn push(&mut self, element: &Numbered) -> Result<(), Hole> {
        let Tick { instrument, time, ref event } = element.tick;
        let channel = event.channel();
        let next_index = self.streams.len() as u64;
        let stream = self.streams.entry((instrument, channel)).or_insert_with(|| {
            let out = &mut self.columns.0[Column::Streams as usize];
            put_unsigned(instrument.0.into(), out);
            out.push(layout::channel_code(channel));
            put_unsigned(element.seq, out);
            (next_index, element.seq)
        });
        if stream.1 != element.seq {
            return Err(Hole);
        }
        stream.1 = element.seq.wrapping_add(1);
        put_unsigned(stream.0, &mut self.columns.0[Column::Route as usize]);
        let context = self.contexts.entry(instrument).or_default();
        // Writing takes whatever it is given.
        let _ = layout::transfer(&mut self.columns, &mut self.shared, context, time, event);
        let facts = &mut self.facts;
        facts.count += 1;
        facts.channels.insert(channel);
        facts.first_time = facts.first_time.min(time);
        facts.last_time = facts.last_time.max(time);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.facts.count == 0
    }

    /// How long the content is so far.
    pub(crate) fn bytes(&self) -> usize {
        self.columns.0.iter().map(Vec::len).sum::<usize>()
    }

    /// Appends the content to `out` and begins anew.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> Facts {
        for column in &mut self.columns.0 {
            out.extend_from_slice(&(column.len() as u32).to_le_bytes());
        }
        for column in &mut self.columns.0 {
            out.extend_from_slice(column);
            column.clear();
        }
        self.streams.clear();
        self.contexts.clear();
        self.shared = Shared::default();
        std::mem::take(&mut self.facts)
    }
}

/// A block of elements being read.
#[derive(Debug)]
pub(crate) struct ElementReader {
    content: Vec<u8>,
    /// What is unread of each column
    unread: [(usize, usize); COLUMNS],
    streams: Vec<StreamHead>,
    contexts: FxHashMap<InstrumentId, Context>,
    shared: Shared,
    left: u32,
}

#[derive(Debug, Clone, Copy)]
struct StreamHead {
    instrument: InstrumentId,
    channel: Channel,
    next: u64,
}

struct Unread<'a> {
    content: &'a [u8],
    unread: &'a mut [(usize, usize); COLUMNS],
}

impl<'a> Unread<'a> {
    #[inline]
    fn read<T>(&mut self, column: Column, read: impl FnOnce(&mut Input<'a>) -> Result<T, Broken>) -> Result<T, Broken> {
        let (begin, end) = &mut self.unread[column as usize];
        let mut input = Input(&self.content[*begin..*end]);
        let value = read(&mut input)?;
        *begin = *end - input.0.len();
        Ok(value)
    }
}

impl Columns for Unread<'_> {
    #[inline]
    fn unsigned(&mut self, column: Column, _: u64) -> Result<u64, Broken> {
        self.read(column, Input::unsigned)
    }

    fn fixed(&mut self, column: Column, _: u64) -> Result<u64, Broken> {
        self.read(column, Input::u64)
    }

    fn word(&mut self, column: Column, _: u32) -> Result<u32, Broken> {
        self.read(column, Input::u32)
    }

    fn text(&mut self, column: Column, _: &str) -> Result<Arc<str>, Broken> {
        self.read(column, |input| input.text().map(Arc::from))
    }

    fn length(&mut self, column: Column, length: u64) -> Result<usize, Broken> {
        let (begin, end) = self.unread[column as usize];
        let length = usize::try_from(length).ok().filter(|length| *length <= end - begin);
        length.ok_or(Broken("a book has more levels than the block has bytes"))
    }
}

impl ElementReader {
    /// Begins to read a content of `count` elements of instruments below `instruments`.
    pub(crate) fn new(content: Vec<u8>, count: u32, instruments: usize) -> Result<Self, Broken> {
        let mut lengths = Input(&content);
        let mut unread = [(0, 0); COLUMNS];
        let mut begin = COLUMNS * 4;
        for column in &mut unread {
            let end = begin + lengths.u32()? as usize;
            *column = (begin, end);
            begin = end;
        }
        if begin != content.len() {
            return Err(Broken("its columns are not as long as it is"));
        }
        let (begin, end) = std::mem::take(&mut unread[Column::Streams as usize]);
        let mut input = Input(&content[begin..end]);
        let mut streams = Vec::new();
        while !input.is_empty() {
            let instrument = InstrumentId(input.small()?);
            if instrument.index() >= instruments {
                return Err(Broken("an element is of an instrument that is not known"));
            }
            let channel = layout::channel(input.u8()?.into())?;
            streams.push(StreamHead { instrument, channel, next: input.unsigned()? });
        }
        let (contexts, shared) = (FxHashMap::default(), Shared::default());
        Ok(Self { content, unread, streams, contexts, shared, left: count })
    }

    /// The next element; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Numbered>, Broken> {
        if self.left == 0 {
            let whole = self.unread.iter().all(|(begin, end)| begin == end);
            return if whole { Ok(None) } else { Err(Broken("it has more bytes than its elements take")) };
        }
        self.left -= 1;
        let mut columns = Unread { content: &self.content, unread: &mut self.unread };
        let index = columns.unsigned(Column::Route, 0)?;
        let stream = usize::try_from(index).ok().and_then(|index| self.streams.get_mut(index));
        let stream = stream.ok_or(Broken("an element is of a stream that is not in the block"))?;
        let seq = stream.next;
        stream.next = seq.wrapping_add(1);
        let instrument = stream.instrument;
        let context = self.contexts.entry(instrument).or_default();
        let blank = layout::blank(stream.channel);
        let (time, event) = layout::transfer(&mut columns, &mut self.shared, context, Timestamp(0), &blank)?;
        Ok(Some(Numbered { seq, tick: Tick { instrument, time, event } }))
    }

    /// How many elements are left.
    pub(crate) fn left(&self) -> u32 {
        self.left
    }

    /// The memory of the content, to be used again.
    pub(crate) fn into_content(self) -> Vec<u8> {
        self.content
    }
}
