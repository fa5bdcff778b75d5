//! Finds the blocks of a file: by its index, or one header after the other where there is none.
//!
//! **Invariant:** the blocks found are in order and do not overlap, and each lies wholly within the file.

use std::io::{Read, Seek, SeekFrom};

use crate::block::{
    BLOCK_HEADER_BYTES, BLOCK_MAGIC, BlockInfo, BlockKind, COMPRESSED, CONTENT_BYTES_MAX, FILE_HEADER_BYTES,
    TRAILER_BYTES, check_file_header, index_offset, is_checksum,
};
use crate::content;
use crate::error::{Broken, ReadError};

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// With its index: the recorder came to its end
    Closed,
    /// Behind a whole block, without an index: the recorder was ended, or still writes
    Open,
    /// Within a block, which is lost
    Torn {
        /// Where that block begins
        offset: u64,
        /// How many bytes there are of it
        bytes: u64,
    },
}

/// The blocks of a file, without its index.
pub(crate) struct Scan {
    pub(crate) blocks: Vec<BlockInfo>,
    pub(crate) tail: Tail,
    /// Bytes between blocks that are none
    pub(crate) damaged_bytes: u64,
}

/// How much is looked through at a time for the next block.
const SEARCH_BYTES: usize = 64 << 10;

pub(crate) fn scan<R: Read + Seek>(source: &mut R) -> Result<Scan, ReadError> {
    let length = source.seek(SeekFrom::End(0)).map_err(|error| io(0, error))?;
    let mut header = [0; FILE_HEADER_BYTES];
    if length < FILE_HEADER_BYTES as u64 {
        // What there is must be the beginning of one.
        let mut begun = vec![0; length as usize];
        read_at(source, 0, &mut begun)?;
        let begun = !begun.is_empty() && (crate::MAGIC.starts_with(&begun) || begun.starts_with(&crate::MAGIC));
        return Err(if begun { ReadError::Empty } else { ReadError::NotARecording });
    }
    read_at(source, 0, &mut header)?;
    check_file_header(&header)?;
    if let Some(blocks) = by_index(source, length)? {
        return Ok(Scan { blocks, tail: Tail::Closed, damaged_bytes: 0 });
    }
    by_headers(source, length)
}

/// The blocks as the index has them; none when there is no index that fits.
fn by_index<R: Read + Seek>(source: &mut R, length: u64) -> Result<Option<Vec<BlockInfo>>, ReadError> {
    let Some(trailer_offset) = length.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
    let mut trailer = [0; TRAILER_BYTES];
    read_at(source, trailer_offset, &mut trailer)?;
    let Some(offset) = index_offset(&trailer) else { return Ok(None) };
    let Ok(block) = header_at(source, offset, length)? else { return Ok(None) };
    if block.kind != BlockKind::Index || block.end() != trailer_offset {
        return Ok(None);
    }
    let Ok(content) = content_of(source, &block, Vec::new())? else { return Ok(None) };
    let Ok(blocks) = content::index(&content) else { return Ok(None) };
    let mut end = FILE_HEADER_BYTES as u64;
    for block in &blocks {
        if block.offset != end {
            return Ok(None);
        }
        end = block.end();
    }
    Ok((end == offset).then_some(blocks))
}

fn by_headers<R: Read + Seek>(source: &mut R, length: u64) -> Result<Scan, ReadError> {
    let (mut blocks, mut damaged_bytes) = (Vec::new(), 0);
    let mut offset = FILE_HEADER_BYTES as u64;
    let mut tail = Tail::Open;
    while offset < length {
        if let Ok(block) = header_at(source, offset, length)? {
            offset = block.end();
            if block.kind != BlockKind::Index {
                blocks.push(block);
            }
            continue;
        }
        let Some(next) = search(source, offset + 1, length)? else {
            // Also what is left of an index whose trailer was torn.
            tail = Tail::Torn { offset, bytes: length - offset };
            break;
        };
        damaged_bytes += next - offset;
        offset = next;
    }
    // After a loss of power the file may have its length and not its content.
    while let Some(last) = blocks.last()
        && content_of(source, last, Vec::new())?.is_err()
    {
        tail = Tail::Torn { offset: last.offset, bytes: length - last.offset };
        blocks.pop();
    }
    Ok(Scan { blocks, tail, damaged_bytes })
}

/// The header of the block that begins there, if one does and is wholly within the file.
fn header_at<R: Read + Seek>(source: &mut R, offset: u64, length: u64) -> Result<Result<BlockInfo, Broken>, ReadError> {
    let mut header = [0; BLOCK_HEADER_BYTES];
    if offset.checked_add(BLOCK_HEADER_BYTES as u64).is_none_or(|end| end > length) {
        return Ok(Err(Broken("it breaks off")));
    }
    read_at(source, offset, &mut header)?;
    Ok(BlockInfo::read(offset, &header)
        .and_then(|block| if block.end() <= length { Ok(block) } else { Err(Broken("it breaks off")) }))
}

/// Where the next block begins, at or after `offset`.
fn search<R: Read + Seek>(source: &mut R, offset: u64, length: u64) -> Result<Option<u64>, ReadError> {
    let mut buffer = vec![0; SEARCH_BYTES];
    let mut begin = offset;
    while begin < length {
        let bytes = (length - begin).min(SEARCH_BYTES as u64) as usize;
        read_at(source, begin, &mut buffer[..bytes])?;
        for at in 0..bytes {
            if buffer[at..bytes].starts_with(&BLOCK_MAGIC) && header_at(source, begin + at as u64, length)?.is_ok() {
                return Ok(Some(begin + at as u64));
            }
        }
        if bytes < SEARCH_BYTES {
            break;
        }
        // So that one which lies across the border is seen.
        begin += (SEARCH_BYTES - BLOCK_MAGIC.len()) as u64;
    }
    Ok(None)
}

/// The content of a block, decompressed, in the memory of `content`.
pub(crate) fn content_of<R: Read + Seek>(
    source: &mut R,
    block: &BlockInfo,
    mut content: Vec<u8>,
) -> Result<Result<Vec<u8>, Broken>, ReadError> {
    let mut stored = vec![0; block.stored_bytes as usize];
    read_at(source, block.offset + BLOCK_HEADER_BYTES as u64, &mut stored)?;
    if !is_checksum(block.checksum, &stored) {
        return Ok(Err(Broken("the checksum of its content is wrong")));
    }
    if block.flags & COMPRESSED == 0 {
        let whole = block.stored_bytes == block.content_bytes;
        return Ok(if whole { Ok(stored) } else { Err(Broken("its lengths contradict each other")) });
    }
    content.clear();
    content.resize(block.content_bytes.min(CONTENT_BYTES_MAX) as usize, 0);
    match zstd::bulk::decompress_to_buffer(&stored, &mut content[..]) {
        Ok(length) if length == content.len() => Ok(Ok(content)),
        Ok(_) => Ok(Err(Broken("its content is shorter than its header says"))),
        Err(_) => Ok(Err(Broken("its content cannot be decompressed"))),
    }
}

pub(crate) fn read_at<R: Read + Seek>(source: &mut R, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
    source.seek(SeekFrom::Start(offset)).map_err(|error| io(offset, error))?;
    source.read_exact(buffer).map_err(|error| io(offset, error))
}

fn io(offset: u64, source: std::io::Error) -> ReadError {
    ReadError::Io { offset, source }
}
