//! Makes the bytes of a recording.
//!
//! **Invariant:** what is appended to the caller's buffer are whole blocks, in order; whoever writes them with one write each
//! and crashes leaves at most one block torn.
//!
//! The caller writes the bytes and says when. If it cannot, it puts the file back to where it was whole and says so with
//! [`Encoder::rewind`]; what was lost is declared with [`Encoder::loss`], and the state after it lets readers go on.

use market::{ChannelSet, Instrument, Numbered, Timestamp};

use crate::block::{self, BlockInfo, BlockKind, COMPRESSED, CONTENT_BYTES_MAX, RUN_BEGINS, RUN_ENDS};
use crate::content::{self, Loss, Session};
use crate::elements::{ElementWriter, Facts};

/// How blocks are made.
#[derive(Debug, Clone, Copy)]
pub struct EncoderOptions {
    /// A block is closed when its content is that long
    pub block_bytes: usize,
    /// The level of Zstandard
    pub level: i32,
}

impl Default for EncoderOptions {
    fn default() -> Self {
        // A quarter of a megabyte is some 20,000 elements: enough for columns to compress well, little enough to be read at
        // once. Levels above 3 take several times as long for a few percent.
        Self { block_bytes: 256 << 10, level: 3 }
    }
}

/// See the module.
pub struct Encoder {
    options: EncoderOptions,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    open: ElementWriter,
    content: Vec<u8>,
    blocks: Vec<BlockInfo>,
    /// Where the next block begins
    offset: u64,
}

/// Entries that an index may have: what fits into the content of a block.
const INDEX_ENTRIES_MAX: usize = CONTENT_BYTES_MAX as usize / (8 + block::BLOCK_HEADER_BYTES);

impl Encoder {
    /// An encoder for a file that is yet to be begun.
    pub fn new(options: EncoderOptions) -> Self {
        Self {
            options,
            // Without a compressor blocks are stored as they are.
            compressor: zstd::bulk::Compressor::new(options.level).ok(),
            open: ElementWriter::default(),
            content: Vec::new(),
            blocks: Vec::new(),
            offset: 0,
        }
    }

    /// Begins a file: its header and the session with its instruments.
    pub fn begin(&mut self, session: &Session, instruments: &[Instrument], out: &mut Vec<u8>) {
        self.blocks.clear();
        self.open = ElementWriter::default();
        block::put_file_header(out);
        self.offset = block::FILE_HEADER_BYTES as u64;
        self.instruments(session, instruments, session.begun_at, out);
    }

    /// Names instruments; before the first element of each.
    pub fn instruments(&mut self, session: &Session, instruments: &[Instrument], now: Timestamp, out: &mut Vec<u8>) {
        self.flush(now, out);
        let mut rest = instruments;
        loop {
            let (these, others) = rest.split_at(rest.len().min(content::INSTRUMENTS_PER_BLOCK));
            content::put_session(session, these, &mut self.content);
            self.block(BlockKind::Session, 0, &of_count(these.len()), now, out);
            rest = others;
            if rest.is_empty() {
                return;
            }
        }
    }

    /// Takes in an element. A block is closed when it is long enough, or when the element does not follow on the one before.
    pub fn push(&mut self, element: &Numbered, now: Timestamp, out: &mut Vec<u8>) {
        if self.open.push(element).is_err() {
            self.flush(now, out);
            // In an empty block nothing is before it.
            let _ = self.open.push(element);
        }
        if self.open.bytes() >= self.options.block_bytes {
            self.flush(now, out);
        }
    }

    /// Closes the block of elements that is open.
    pub fn flush(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        if !self.open.is_empty() {
            let facts = self.open.finish(&mut self.content);
            self.block(BlockKind::Elements, 0, &facts, now, out);
        }
    }

    /// Whether no elements wait for their block to be closed.
    pub fn is_flushed(&self) -> bool {
        self.open.is_empty()
    }

    /// Writes the state of all streams, a run of blocks: readers may begin here.
    pub fn state(&mut self, elements: &[Numbered], now: Timestamp, out: &mut Vec<u8>) {
        self.flush(now, out);
        let mut begins = RUN_BEGINS;
        for element in elements {
            // Each stream occurs once, so there is no hole.
            let _ = self.open.push(element);
            if self.open.bytes() >= self.options.block_bytes {
                let facts = self.open.finish(&mut self.content);
                self.block(BlockKind::State, std::mem::take(&mut begins), &facts, now, out);
            }
        }
        let facts = self.open.finish(&mut self.content);
        self.block(BlockKind::State, begins | RUN_ENDS, &facts, now, out);
    }

    /// Declares what is missing here. The state of all streams is to follow.
    pub fn loss(&mut self, loss: &Loss, now: Timestamp, out: &mut Vec<u8>) {
        self.flush(now, out);
        content::put_loss(loss, &mut self.content);
        self.block(BlockKind::Loss, 0, &of_count(loss.lost.len()), now, out);
    }

    /// Ends the file with an index. A file of more blocks than an index can have goes without: readers look for them.
    pub fn finish(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        self.flush(now, out);
        if self.blocks.len() <= INDEX_ENTRIES_MAX {
            let index_offset = self.offset;
            content::put_index(&self.blocks, &mut self.content);
            self.block(BlockKind::Index, 0, &of_count(self.blocks.len()), now, out);
            block::put_trailer(index_offset, out);
        }
    }

    /// Where the next block will begin: how long the file is with all that has been handed out.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes back what was handed out behind `offset`, because it could not be written, and the elements of the open block.
    pub fn rewind(&mut self, offset: u64) {
        self.blocks.retain(|block| block.end() <= offset);
        self.open = ElementWriter::default();
        self.offset = offset;
    }

    /// Appends a block with what stands in `content`, which is empty afterwards.
    fn block(&mut self, kind: BlockKind, flags: u16, facts: &Facts, now: Timestamp, out: &mut Vec<u8>) {
        let compressed = self.compressor.as_mut().and_then(|compressor| compressor.compress(&self.content).ok());
        let compressed = compressed.filter(|compressed| compressed.len() < self.content.len());
        let (stored, flags) = match &compressed {
            Some(compressed) => (&compressed[..], flags | COMPRESSED),
            None => (&self.content[..], flags),
        };
        let block = BlockInfo {
            offset: self.offset,
            kind,
            stored_bytes: stored.len() as u32,
            content_bytes: self.content.len() as u32,
            count: facts.count,
            channels: facts.channels,
            first_time: facts.first_time,
            last_time: facts.last_time,
            written_at: now,
            flags,
            checksum: crc32fast::hash(stored),
        };
        block.write(out);
        out.extend_from_slice(stored);
        self.offset = block.end();
        self.blocks.push(block);
        self.content.clear();
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("options", &self.options).field("offset", &self.offset).finish_non_exhaustive()
    }
}

fn of_count(count: usize) -> Facts {
    Facts { count: count as u32, channels: ChannelSet::EMPTY, first_time: Timestamp(0), last_time: Timestamp(0) }
}
