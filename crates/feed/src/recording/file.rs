//! Opens a recording: finds out its compression and its format.
//!
//! **Invariant:** the content decides, not the name. The name only serves to word the error when the two disagree.
//!
//! A recording is read twice, once to survey it and once per pass to replay it, so pipes are refused.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::databento::DatabentoReader;
use super::record::ReadRecords;
use super::tardis::TardisReader;
use crate::FeedError;

/// Bytes of a recording, decompressed.
pub(super) type Bytes = Box<dyn BufRead + Send>;

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Enough for a few hundred records at a time; more does not read faster.
const BUFFER_BYTES: usize = 64 * 1024;

/// Opens the recording at `path` at its first record.
///
/// # Errors
/// [`FeedError::Unreadable`] or [`FeedError::Unsupported`].
pub(super) fn open(path: &Path) -> Result<Box<dyn ReadRecords>, FeedError> {
    let unreadable = |error: io::Error| unreadable(path, error.to_string());
    // Before opening, which waits for a writer where it is a pipe.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(unsupported(path, "it is not a regular file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = decompress(path, file)?;
    // The first four bytes may take several reads of a decompressor; `BufRead` hands out what the first one brought,
    // and no decompressor here brings less than that unless the file ends.
    let start = bytes.fill_buf().map_err(unreadable)?;
    if start.is_empty() {
        return Err(unsupported(path, "it is empty"));
    }
    if start.starts_with(b"DBN") {
        return Ok(Box::new(DatabentoReader::open(path, bytes)?));
    }
    if named(path, ".dbn") || named(path, ".dbn.zst") {
        return Err(unsupported(path, "it does not begin as DBN does"));
    }
    Ok(Box::new(TardisReader::open(path, bytes)?))
}

fn decompress(path: &Path, file: File) -> Result<Bytes, FeedError> {
    let mut raw = BufReader::with_capacity(BUFFER_BYTES, file);
    let start = raw.fill_buf().map_err(|error| unreadable(path, error.to_string()))?;
    if start.starts_with(&ZSTD_MAGIC) {
        let decoder = zstd::Decoder::with_buffer(raw).map_err(|error| unreadable(path, error.to_string()))?;
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)));
    }
    if start.starts_with(&GZIP_MAGIC) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, flate2::bufread::MultiGzDecoder::new(raw))));
    }
    for (ending, what) in [(".zst", "Zstandard"), (".gz", "gzip")] {
        if named(path, ending) {
            return Err(unreadable(path, format!("it is not {what} data, as its name says")));
        }
    }
    Ok(Box::new(raw))
}

fn named(path: &Path, ending: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().to_ascii_lowercase().ends_with(ending))
}

pub(super) fn unreadable(path: &Path, reason: impl Into<String>) -> FeedError {
    FeedError::Unreadable { path: path.display().to_string(), reason: reason.into() }
}

pub(super) fn unsupported(path: &Path, reason: impl Into<String>) -> FeedError {
    FeedError::Unsupported { path: path.display().to_string(), reason: reason.into() }
}

/// What came of reading exactly so many bytes.
pub(super) enum Filled {
    /// All of them
    Whole,
    /// The file ended before the first
    Nothing,
    /// The file ended after some
    Part,
}

/// Fills `buffer`. Unlike [`Read::read_exact`] it tells the end of the file from a decompressor's own error about it.
pub(super) fn fill(bytes: &mut Bytes, buffer: &mut [u8]) -> io::Result<Filled> {
    let mut filled = 0;
    while filled < buffer.len() {
        match bytes.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(if filled == 0 { Filled::Nothing } else { Filled::Part }),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Filled::Whole)
}
