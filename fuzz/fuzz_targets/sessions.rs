//! Any bytes as a recording of this program: no panic, an end, no memory without bound, and what is read can be written and
//! read again as it was.
//!
//! Checksums are not looked at while fuzzing, so that changed bytes get as far as the content.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use market::{Numbered, Timestamp};
use recording::{Encoder, EncoderOptions, Item, ReadError, Reader};

/// A book of many levels may occur in each of many elements at no cost; reading them all would only take time.
const ELEMENTS_MAX: usize = 10_000;
const SOUGHT_BYTES_MAX: u64 = 1 << 17;

fuzz_target!(|data: &[u8]| {
    let Ok(mut reader) = Reader::open(Cursor::new(data)) else { return };
    let mut elements: Vec<Numbered> = Vec::new();
    let mut errors = 0;
    while elements.len() < ELEMENTS_MAX && errors < 100 {
        match reader.read() {
            Ok(None) => break,
            Ok(Some(Item::Element(element))) => elements.push(element),
            Ok(Some(Item::Loss(_) | Item::State(_))) => {}
            Err(ReadError::Damaged { .. }) => errors += 1,
            Err(error) => panic!("memory cannot fail: {error}"),
        }
    }
    // What seeking reads is not bounded by a number of elements but by the file.
    if reader.blocks().iter().map(|block| u64::from(block.content_bytes)).sum::<u64>() < SOUGHT_BYTES_MAX {
        let middle = reader.time_range().map_or(Timestamp(0), |(first, last)| Timestamp(first.0 / 2 + last.0 / 2));
        let _ = reader.seek(middle);
    }
    let known = reader.instruments().len();
    assert!(elements.iter().all(|element| element.tick.instrument.index() < known));

    let mut encoder = Encoder::new(EncoderOptions { block_bytes: 4096, level: 1 });
    let mut again = Vec::new();
    encoder.begin(reader.session(), reader.instruments(), &mut again);
    for element in &elements {
        encoder.push(element, Timestamp(0), &mut again);
    }
    encoder.finish(Timestamp(0), &mut again);
    let mut reader = Reader::open(Cursor::new(&again[..])).expect("it was just written");
    for element in &elements {
        let Ok(Some(Item::Element(read))) = reader.read() else { panic!("{element:?} is not read again") };
        // As text, because numbers that are none are equal to nothing.
        assert_eq!(format!("{read:?}"), format!("{element:?}"));
    }
});
