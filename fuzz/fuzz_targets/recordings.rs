//! Any bytes as a recording, DBN or Tardis CSV: no panic, an end, and the same ticks with and without tolerance for bad
//! records as far as the strict reading came.
//!
//! Compressed files are left out: what a decompressor makes of bytes is fuzzed by those who wrote it.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use feed::{Feed, FeedError, OnBadRecord, Progress, ReplayOptions, Speed, open_recordings};
use libfuzzer_sys::fuzz_target;
use market::{Tick, Timestamp};

/// Recordings are opened by name and read twice. Each process overwrites a file of its own, in memory where there is such a
/// file system.
static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("fuzz-recording-{}", std::process::id()))
});

const GZIP: &[u8] = &[0x1F, 0x8B];
const ZSTANDARD: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];

fuzz_target!(|data: &[u8]| {
    if data.starts_with(GZIP) || data.starts_with(ZSTANDARD) {
        return;
    }
    fs::write(&*PATH, data).expect("a temporary file can be written");
    let strict = replay(OnBadRecord::Stop);
    let tolerant = replay(OnBadRecord::Skip);
    fs::remove_file(&*PATH).expect("it is there");
    match (strict, tolerant) {
        (Ok((ticks, outcome)), Ok((more, _))) => {
            assert!(more.starts_with(&ticks));
            assert!(outcome.is_err() || more.len() == ticks.len());
        }
        (Err(strict), Err(tolerant)) => assert_eq!(strict, tolerant),
        // The survey skips nothing, so whether a file can be opened does not depend on it.
        (strict, tolerant) => panic!("opened one way only: {:?}, {:?}", strict.err(), tolerant.err()),
    }
});

/// The ticks of the recording and how it ended, or why it could not be opened.
fn replay(on_bad_record: OnBadRecord) -> Result<(Vec<Tick>, Result<(), FeedError>), String> {
    let options = ReplayOptions { speed: Speed::Max, on_bad_record, ..ReplayOptions::default() };
    let mut feed = open_recordings(&[PATH.clone()], options).map_err(|error| error.to_string())?;
    feed.start(Timestamp(0));
    let mut ticks = Vec::new();
    let outcome = loop {
        match feed.poll(Timestamp(0), 64, &mut ticks) {
            Ok(Progress::Ready) => {}
            Ok(Progress::Ended) => break Ok(()),
            Ok(Progress::Idle { until }) => panic!("idle until {until} at full speed"),
            Ok(Progress::Held) => panic!("held though nobody has said so"),
            Err(error) => break Err(error),
        }
    };
    let known = feed.instruments();
    assert!(ticks.iter().all(|tick| known.get(tick.instrument.index()).is_some_and(|it| it.id == tick.instrument)));
    Ok((ticks, outcome))
}
