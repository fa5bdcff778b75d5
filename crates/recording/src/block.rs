//! The header of a block, of a file, and the trailer: what can be told without reading any content.
//!
//! **Invariant:** a header is believed only when its checksum is right, and then its lengths are within bounds, so nobody
//! allocates what damaged bytes ask for.

use market::{ChannelSet, Timestamp};

use crate::bytes::Input;
use crate::error::{Broken, ReadError};
use crate::layout;
use crate::{MAGIC, VERSION};

/// The bytes of a file's header.
pub(crate) const FILE_HEADER_BYTES: usize = 16;
/// The bytes of a block's header.
pub(crate) const BLOCK_HEADER_BYTES: usize = 64;
/// The bytes of the trailer behind the index.
pub(crate) const TRAILER_BYTES: usize = 24;

pub(crate) const BLOCK_MAGIC: [u8; 4] = *b"TKB\x01";
const TRAILER_MAGIC: [u8; 8] = *b"TKR-END\n";

/// The longest content of a block, as it is stored and as it is read. One element of a book takes at most 19 bytes a level, so
/// a book of 800,000 levels fits; blocks of elements are closed long before.
pub(crate) const CONTENT_BYTES_MAX: u32 = 16 << 20;

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockKind {
    /// The session and instruments
    Session = 1,
    /// What was sequenced, in order
    Elements = 2,
    /// The state of all streams, to begin from
    State = 3,
    /// Which elements are missing here
    Loss = 4,
    /// Where the blocks are
    Index = 5,
}

impl BlockKind {
    const ALL: [Self; 5] = [Self::Session, Self::Elements, Self::State, Self::Loss, Self::Index];

    /// The name for people.
    pub const fn name(self) -> &'static str {
        ["session", "elements", "state", "loss", "index"][self as usize - 1]
    }
}

/// What the header of a block tells, and where the block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockInfo {
    /// Where it begins in the file
    pub offset: u64,
    /// What it is
    pub kind: BlockKind,
    /// How long its content is in the file
    pub stored_bytes: u32,
    /// How long its content is when it is decompressed
    pub content_bytes: u32,
    /// How many elements, instruments, ranges or entries it has
    pub count: u32,
    /// The channels of its elements
    pub channels: ChannelSet,
    /// The earliest time of an element
    pub first_time: Timestamp,
    /// The latest time of an element
    pub last_time: Timestamp,
    /// The recorder's clock when the block was closed
    pub written_at: Timestamp,
    pub(crate) flags: u16,
    pub(crate) checksum: u32,
}

/// The content is compressed with Zstandard.
pub(crate) const COMPRESSED: u16 = 1;
/// A block of state that begins a run.
pub(crate) const RUN_BEGINS: u16 = 2;
/// A block of state that ends a run; without it the run is not whole.
pub(crate) const RUN_ENDS: u16 = 4;
const FLAGS: u16 = COMPRESSED | RUN_BEGINS | RUN_ENDS;

impl BlockInfo {
    /// Where the next block begins.
    pub fn end(&self) -> u64 {
        self.offset + BLOCK_HEADER_BYTES as u64 + u64::from(self.stored_bytes)
    }

    /// Whether it begins the state of all streams.
    pub fn begins_state(&self) -> bool {
        self.kind == BlockKind::State && self.flags & RUN_BEGINS != 0
    }

    /// Whether the state of all streams is complete with it.
    pub fn ends_state(&self) -> bool {
        self.kind == BlockKind::State && self.flags & RUN_ENDS != 0
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&BLOCK_MAGIC);
        out.push(self.kind as u8);
        out.push(0);
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.stored_bytes.to_le_bytes());
        out.extend_from_slice(&self.content_bytes.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&layout::channel_bits(self.channels).to_le_bytes());
        out.extend_from_slice(&self.first_time.0.to_le_bytes());
        out.extend_from_slice(&self.last_time.0.to_le_bytes());
        out.extend_from_slice(&self.written_at.0.to_le_bytes());
        out.extend_from_slice(&self.checksum.to_le_bytes());
        let checksum = crc32fast::hash(&out[begin..]);
        out.extend_from_slice(&checksum.to_le_bytes());
    }

    pub(crate) fn read(offset: u64, bytes: &[u8; BLOCK_HEADER_BYTES]) -> Result<Self, Broken> {
        let (told, checksum) = bytes.split_at(BLOCK_HEADER_BYTES - 4);
        let mut input = Input(told);
        if input.take(4)? != BLOCK_MAGIC {
            return Err(Broken("it does not begin as a block does"));
        }
        if !is_checksum(Input(checksum).u32()?, told) {
            return Err(Broken("the checksum of its header is wrong"));
        }
        let kind = input.u8()?;
        let kind =
            BlockKind::ALL.into_iter().find(|known| *known as u8 == kind).ok_or(Broken("its kind is unknown"))?;
        input.u8()?;
        let flags = input.u16()?;
        let (stored_bytes, content_bytes, count) = (input.u32()?, input.u32()?, input.u32()?);
        input.u32()?;
        let channels = layout::channels(input.u64()?).ok_or(Broken("its channels are unknown"))?;
        let times = [input.u64()?, input.u64()?, input.u64()?].map(Timestamp);
        let [first_time, last_time, written_at] = times;
        let checksum = input.u32()?;
        if flags & !FLAGS != 0 {
            return Err(Broken("it has unknown flags"));
        }
        if stored_bytes > CONTENT_BYTES_MAX || content_bytes > CONTENT_BYTES_MAX {
            return Err(Broken("it is longer than a block can be"));
        }
        Ok(Self {
            offset,
            kind,
            stored_bytes,
            content_bytes,
            count,
            channels,
            first_time,
            last_time,
            written_at,
            flags,
            checksum,
        })
    }
}

/// Appends the header of a file.
pub(crate) fn put_file_header(out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&0u16.to_le_bytes());
    let checksum = crc32fast::hash(&out[begin..]);
    out.extend_from_slice(&checksum.to_le_bytes());
}

pub(crate) fn check_file_header(bytes: &[u8; FILE_HEADER_BYTES]) -> Result<(), ReadError> {
    let mut input = Input(bytes);
    let wrong = |_| ReadError::NotARecording;
    if input.take(MAGIC.len()).map_err(wrong)? != MAGIC {
        return Err(ReadError::NotARecording);
    }
    let version = input.u16().map_err(wrong)?;
    if version != VERSION {
        return Err(ReadError::Version(version));
    }
    input.u16().map_err(wrong)?;
    let checksum = input.u32().map_err(wrong)?;
    if is_checksum(checksum, &bytes[..FILE_HEADER_BYTES - 4]) {
        Ok(())
    } else {
        Err(ReadError::Damaged { offset: 0, reason: "the checksum of the file's header is wrong" })
    }
}

/// Appends the trailer: where the index is.
pub(crate) fn put_trailer(index_offset: u64, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&index_offset.to_le_bytes());
    out.extend_from_slice(&TRAILER_MAGIC);
    out.extend_from_slice(&0u32.to_le_bytes());
    let checksum = crc32fast::hash(&out[begin..]);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// Where the index is, if those are a trailer.
pub(crate) fn index_offset(bytes: &[u8; TRAILER_BYTES]) -> Option<u64> {
    let (told, checksum) = bytes.split_at(TRAILER_BYTES - 4);
    let mut input = Input(told);
    let offset = input.u64().ok()?;
    let known = input.take(TRAILER_MAGIC.len()).ok()? == TRAILER_MAGIC;
    (known && is_checksum(Input(checksum).u32().ok()?, told)).then_some(offset)
}

/// Whether that is the checksum of the bytes. A fuzzer cannot guess one, so while fuzzing any will do.
pub(crate) fn is_checksum(checksum: u32, bytes: &[u8]) -> bool {
    cfg!(fuzzing) || checksum == crc32fast::hash(bytes)
}
