//! Files that are read again when they have changed.
//!
//! **Invariant:** a change is noticed once, at the look that follows it. Looking costs a call of the kernel for each file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// No file of keys or certificates is larger; anything that is, is not one. 100,000 keys take 30 MB.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Watched {
    paths: Vec<PathBuf>,
    seen: Vec<Stamp>,
    /// What was there at the last look, when that is not what was last reported.
    unsettled: Option<Vec<Stamp>>,
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    file: u64,
}

impl Watched {
    /// Looks at the files for the first time. To be called before they are read, so that no change is missed.
    pub(crate) fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths: Vec<PathBuf> = paths.into_iter().collect();
        let seen = stamps(&paths);
        Self { paths, seen, unsettled: None }
    }

    /// Whether a file has changed since this was last asked.
    pub(crate) fn changed(&mut self) -> bool {
        let now = stamps(&self.paths);
        let changed = now != self.seen;
        self.seen = now;
        changed
    }

    /// Whether a file has changed, and none between this look and the one before: for files that belong together and are
    /// written one after the other.
    pub(crate) fn changed_and_settled(&mut self) -> bool {
        let now = stamps(&self.paths);
        if now == self.seen {
            self.unsettled = None;
            return false;
        }
        if self.unsettled.as_ref() == Some(&now) {
            self.unsettled = None;
            self.seen = now;
            return true;
        }
        self.unsettled = Some(now);
        false
    }
}

/// All of a file.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("it has {length} bytes, more than any such file"));
    }
    fs::read(path).map_err(|error| error.to_string())
}

/// Says so in the log when others can read a file of secrets.
#[cfg(unix)]
pub(crate) fn warn_if_readable_by_others(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "others can read this file of keys");
    }
}

/// Says so in the log when others can read a file of secrets.
#[cfg(not(unix))]
pub(crate) fn warn_if_readable_by_others(_path: &Path) {}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    paths.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok();
    Stamp {
        modified: metadata.as_ref().and_then(|metadata| metadata.modified().ok()),
        bytes: metadata.as_ref().map_or(0, fs::Metadata::len),
        file: metadata.as_ref().map_or(0, number),
    }
}

/// Tells a file from the one that is put in its place by a rename.
#[cfg(unix)]
fn number(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn number(_metadata: &fs::Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_belong_together_are_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        let write = |index: usize, text: &str| fs::write(&paths[index], text).unwrap();
        write(0, "1");
        write(1, "1");
        let mut watched = Watched::new(paths.clone());
        assert!(!watched.changed_and_settled());
        write(0, "22");
        assert!(!watched.changed_and_settled(), "the other one may follow");
        write(1, "22");
        assert!(!watched.changed_and_settled());
        assert!(watched.changed_and_settled());
        assert!(!watched.changed_and_settled(), "once");
        fs::remove_file(&paths[0]).unwrap();
        assert!(watched.changed(), "a file that is gone has changed");
        assert!(!watched.changed());
    }
}
