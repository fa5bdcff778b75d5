//! The files of a recording on disk.
//!
//! **Invariant:** a file has whole blocks and nothing else for as long as the process lives: what could be written only in part
//! is cut off again.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use market::Timestamp;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct RecordingFile {
    pub(super) path: PathBuf,
    file: File,
    /// How long it is
    length: u64,
}

impl RecordingFile {
    /// Creates the file at `path`, or one in that folder. It must not exist: two sessions in one file make no sense.
    pub(super) fn create(path: &Path, begun_at: Timestamp, part: u32) -> io::Result<Self> {
        let path = if path.is_dir() { path.join(name(begun_at, part)) } else { path.to_owned() };
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        Ok(Self { path, file, length: 0 })
    }

    /// Appends whole blocks; all of them or none.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.file.set_len(self.length)?;
                self.file.seek(SeekFrom::Start(self.length))?;
                Err(error)
            }
        }
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

/// `20260131T093000.000000000Z-0001.tpr`: files sort by session and then by part.
fn name(begun_at: Timestamp, part: u32) -> String {
    let time: String = begun_at.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{time}-{part:04}.tpr")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_part() {
        assert_eq!(name(Timestamp(1_719_840_600_000_000_001), 2), "20240701T133000.000000001Z-0002.tpr");
    }
}
