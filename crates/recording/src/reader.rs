//! Reads a recording: from its beginning or from a time, element by element.
//!
//! **Invariant:** memory is bounded by one block and the list of the blocks, 80 bytes each, however long the file is; and the
//! elements of a stream come with numbers that follow each other, except behind an [`Item::Loss`] or [`Item::State`].

use std::io::{Read, Seek};

use market::{Channel, ChannelSet, Instrument, Numbered, Timestamp};

use crate::block::{BlockInfo, BlockKind};
use crate::content::{self, Loss, Session};
use crate::elements::ElementReader;
use crate::error::{Broken, ReadError};
use crate::scan::{Tail, content_of, scan};
use crate::state::State;

/// What comes next in a recording.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// An element
    Element(Numbered),
    /// Elements are missing here; the state follows
    Loss(Loss),
    /// What is true of every stream here; at the beginning of a file that goes on with a session, and behind a loss
    State(Vec<Numbered>),
}

/// A recording being read.
pub struct Reader<R> {
    source: R,
    session: Session,
    instruments: Vec<Instrument>,
    blocks: Vec<BlockInfo>,
    /// The latest time of an element in all blocks before the one of that index
    reached: Vec<Timestamp>,
    tail: Tail,
    damaged_bytes: u64,
    /// The next block
    next: usize,
    open: Option<ElementReader>,
    /// Where the open block begins
    offset: u64,
    /// State that is being gathered; a run that is broken is dropped
    run: Option<Vec<Numbered>>,
    /// Whether state is news here; elsewhere it only repeats what is known
    wanted: Wanted,
    memory: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Only if it comes before any element
    FirstState,
    State,
    Elements,
}

impl<R: Read + Seek> Reader<R> {
    /// Finds the blocks and reads the session and all instruments.
    ///
    /// # Errors
    /// [`ReadError`] when it is no recording, or not one block of it is whole.
    pub fn open(mut source: R) -> Result<Self, ReadError> {
        let found = scan(&mut source)?;
        let (mut session, mut instruments) = (None, Vec::new());
        for block in found.blocks.iter().filter(|block| block.kind == BlockKind::Session) {
            let content = content_of(&mut source, block, Vec::new())?;
            let read = content.and_then(|content| content::session(&content, &mut instruments));
            session.get_or_insert(read.map_err(|broken| damaged(block.offset, broken))?);
        }
        let Some(session) = session else { return Err(ReadError::Empty) };
        let mut latest = Timestamp(0);
        let reached = found.blocks.iter().map(|block| {
            let before = latest;
            if block.kind == BlockKind::Elements {
                latest = latest.max(block.last_time);
            }
            before
        });
        Ok(Self {
            source,
            session,
            instruments,
            reached: reached.collect(),
            blocks: found.blocks,
            tail: found.tail,
            damaged_bytes: found.damaged_bytes,
            next: 0,
            open: None,
            offset: 0,
            run: None,
            wanted: Wanted::FirstState,
            memory: Vec::new(),
        })
    }

    /// What is true of the whole file.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// All instruments of the file; the index of each is its id.
    pub fn instruments(&self) -> &[Instrument] {
        &self.instruments
    }

    /// The blocks, in order, without the index.
    pub fn blocks(&self) -> &[BlockInfo] {
        &self.blocks
    }

    /// How the file ends.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// Bytes in the middle of the file that belong to no block.
    pub fn damaged_bytes(&self) -> u64 {
        self.damaged_bytes
    }

    /// The channels that have elements.
    pub fn channels(&self) -> ChannelSet {
        let of_elements =
            self.blocks.iter().filter(|block| matches!(block.kind, BlockKind::Elements | BlockKind::State));
        of_elements.fold(ChannelSet::EMPTY, |set, block| set.union(block.channels))
    }

    /// How many elements there are.
    pub fn element_count(&self) -> u64 {
        self.elements().map(|block| u64::from(block.count)).sum()
    }

    /// The earliest and the latest time of an element.
    pub fn time_range(&self) -> Option<(Timestamp, Timestamp)> {
        let first = self.elements().map(|block| block.first_time).min()?;
        Some((first, self.elements().map(|block| block.last_time).max()?))
    }

    fn elements(&self) -> impl Iterator<Item = &BlockInfo> {
        self.blocks.iter().filter(|block| block.kind == BlockKind::Elements)
    }

    /// Begins anew at the beginning.
    pub fn rewind(&mut self) {
        self.go_to(0);
    }

    /// Goes to the first element at or after which the market's time has reached `from`, and returns the state before it.
    /// The market's time is the latest of all elements so far.
    ///
    /// The nearest state before that point is looked up in the index; only what lies between is read.
    ///
    /// # Errors
    /// [`ReadError`] when a block on the way is damaged.
    pub fn seek(&mut self, from: Timestamp) -> Result<(State, Option<Numbered>), ReadError> {
        // The block that has the point: the last one before which the time has not been reached.
        let target = self.reached.partition_point(|reached| *reached < from).saturating_sub(1);
        let start = (0..=target.min(self.blocks.len().saturating_sub(1))).rev();
        let start = start
            .into_iter()
            .find(|&at| self.blocks.get(at).is_some_and(BlockInfo::begins_state) && self.run_is_whole(at));
        self.go_to(start.unwrap_or(0));
        let mut state = State::default();
        loop {
            match self.read()? {
                None => return Ok((state, None)),
                Some(Item::Loss(_)) => {}
                Some(Item::State(elements)) => {
                    state.clear();
                    for element in &elements {
                        state.apply(element);
                    }
                }
                Some(Item::Element(element)) => {
                    if element.tick.time >= from {
                        return Ok((state, Some(element)));
                    }
                    state.apply(&element);
                }
            }
        }
    }

    fn run_is_whole(&self, begin: usize) -> bool {
        self.blocks[begin..].iter().take_while(|block| block.kind == BlockKind::State).any(BlockInfo::ends_state)
    }

    fn go_to(&mut self, block: usize) {
        self.next = block;
        self.open = None;
        self.run = None;
        self.wanted = Wanted::FirstState;
    }

    /// Has the next state handed over, because what comes before it makes no sense.
    pub fn want_state(&mut self) {
        self.wanted = Wanted::State;
    }

    /// The next element, loss or state; none at the end.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] with the block; reading again goes on behind it.
    pub fn read(&mut self) -> Result<Option<Item>, ReadError> {
        let streams = self.instruments.len() * Channel::COUNT;
        loop {
            if let Some(open) = &mut self.open {
                match open.next() {
                    Ok(Some(element)) => match &mut self.run {
                        Some(run) if run.len() >= streams => {
                            self.close();
                            self.run = None;
                            return Err(damaged(self.offset, Broken("it has more streams than there are")));
                        }
                        Some(run) => run.push(element),
                        None => return Ok(Some(Item::Element(element))),
                    },
                    Ok(None) => {
                        self.close();
                        if let Some(state) = self.end_of_run() {
                            return Ok(Some(Item::State(state)));
                        }
                    }
                    Err(broken) => {
                        self.close();
                        self.run = None;
                        return Err(damaged(self.offset, broken));
                    }
                }
                continue;
            }
            let Some(block) = self.blocks.get(self.next).copied() else { return Ok(None) };
            self.next += 1;
            self.offset = block.offset;
            match block.kind {
                BlockKind::Session | BlockKind::Index => {}
                BlockKind::State if self.wanted == Wanted::Elements => {}
                BlockKind::State => {
                    if block.begins_state() {
                        self.run = Some(Vec::new());
                    }
                    // A run whose begin is missing is of no use.
                    if self.run.is_some() {
                        self.open_block(&block)?;
                    }
                }
                BlockKind::Elements => {
                    self.run = None;
                    self.open_block(&block)?;
                    if self.wanted == Wanted::FirstState {
                        self.wanted = Wanted::Elements;
                    }
                }
                BlockKind::Loss => {
                    self.wanted = Wanted::State;
                    let content = content_of(&mut self.source, &block, Vec::new())?;
                    let loss = content.and_then(|content| content::loss(&content, streams));
                    return loss.map(Item::Loss).map(Some).map_err(|broken| damaged(block.offset, broken));
                }
            }
        }
    }

    /// How many elements of the open block are left; what follows without reading on.
    pub fn left_in_block(&self) -> u32 {
        self.open.as_ref().map_or(0, ElementReader::left)
    }

    fn open_block(&mut self, block: &BlockInfo) -> Result<(), ReadError> {
        let content = content_of(&mut self.source, block, std::mem::take(&mut self.memory))?;
        let open = content.and_then(|content| ElementReader::new(content, block.count, self.instruments.len()));
        self.open = Some(open.map_err(|broken| damaged(block.offset, broken))?);
        Ok(())
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.memory = open.into_content();
        }
    }

    /// The state that was gathered, when it is complete.
    fn end_of_run(&mut self) -> Option<Vec<Numbered>> {
        if self.run.is_some() && self.blocks[self.next - 1].ends_state() {
            self.wanted = Wanted::Elements;
            return self.run.take();
        }
        None
    }
}

fn damaged(offset: u64, Broken(reason): Broken) -> ReadError {
    ReadError::Damaged { offset, reason }
}

impl<R> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("session", &self.session).field("next", &self.next).finish_non_exhaustive()
    }
}
