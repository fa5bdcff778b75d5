//! What connections cost while they are silent, while a message comes in, and after it has.

mod client;

use allocation_counter::measure;
use client::*;
use proptest::prelude::*;
use websocket::{Inflater, Reader, ReaderConfig, deflate::Params};

const LIMIT: usize = 64 * 1024;

fn feed(reader: &mut Reader, inflater: &mut Inflater, stream: &[u8]) {
    let _ = reader.feed(stream, inflater, &mut |_| ());
}

/// Heap that stays in use after `stream` was fed to a reader, beyond what the shared inflater keeps.
fn kept_after(compression: Option<Params>, stream: &[u8]) -> i64 {
    let mut inflater = Inflater::new();
    feed(&mut Reader::new(ReaderConfig::default(), compression), &mut inflater, stream);
    let mut reader = Reader::new(ReaderConfig::default(), compression);
    measure(|| feed(&mut reader, &mut inflater, stream)).bytes_current
}

#[test]
fn an_idle_reader_is_small_and_owns_no_heap() {
    println!("a reader has {} bytes", size_of::<Reader>());
    assert!(size_of::<Reader>() < 200);
    assert_eq!(measure(|| std::mem::forget(Reader::new(ReaderConfig::default(), None))).bytes_total, 0);
    assert_eq!(measure(|| std::mem::forget(Reader::new(ReaderConfig::default(), Some(WITH_CONTEXT)))).bytes_total, 0);
}

#[test]
fn a_message_gives_its_memory_back() {
    assert_eq!(kept_after(None, &frame(FIN | TEXT, &vec![b'x'; LIMIT])), 0);
    let fragments =
        [frame(BINARY, &vec![1; 40_000]), frame(FIN | PING, &[2; 125]), frame(FIN | CONTINUATION, &vec![3; 20_000])];
    assert_eq!(kept_after(None, &fragments.concat()), 0);
    assert_eq!(kept_after(Some(STATELESS), &frame(FIN | RSV1 | TEXT, &deflate(&vec![b'x'; LIMIT]))), 0);
    assert_eq!(kept_after(None, &[frame(BINARY, &vec![1; 40_000]), frame(FIN | CLOSE, b"")].concat()), 0);
    assert_eq!(kept_after(None, &[frame(BINARY, &vec![1; 40_000]), frame(FIN | RSV3 | PING, b"")].concat()), 0);
}

#[test]
fn a_message_costs_what_has_come_of_it_and_not_what_is_announced() {
    let mut announced = header(FIN | BINARY, LIMIT);
    assert_eq!(kept_after(None, &announced), 0);
    announced.extend([0; 100]);
    let kept = kept_after(None, &announced);
    println!("100 bytes of a message of {LIMIT} cost {kept} bytes");
    assert!(kept < 1024, "{kept}");
    let half_a_ping = &frame(FIN | PING, &[1; 125])[..60];
    assert!(kept_after(None, half_a_ping) < 256);
}

#[test]
fn a_client_that_keeps_its_context_costs_one_decoder() {
    let kept = kept_after(Some(WITH_CONTEXT), &frame(FIN | RSV1 | TEXT, &deflate(b"hello")));
    println!("a decoder has {kept} bytes");
    assert!((30_000..60_000).contains(&kept), "{kept}");
    let closed = [frame(FIN | RSV1 | TEXT, &deflate(b"hello")), frame(FIN | CLOSE, b"")].concat();
    assert_eq!(kept_after(Some(WITH_CONTEXT), &closed), 0);
}

#[test]
fn a_bomb_allocates_no_more_than_a_message_may_have() {
    let bomb = frame(FIN | RSV1 | BINARY, &deflate(&vec![0; 6_000_000]));
    assert!(bomb.len() < LIMIT, "it must pass for what it seems to be");
    let mut inflater = Inflater::new();
    let warm_up = frame(FIN | RSV1 | TEXT, &deflate(b"warm"));
    feed(&mut Reader::new(ReaderConfig::default(), Some(STATELESS)), &mut inflater, &warm_up);
    let mut reader = Reader::new(ReaderConfig::default(), Some(STATELESS));
    let mut outcome = Ok(());
    let info = measure(|| outcome = reader.feed(&bomb, &mut inflater, &mut |_| ()));
    println!("a bomb of {} bytes that inflates to 6 MB costs {} bytes for a moment", bomb.len(), info.bytes_max);
    assert_eq!(outcome.map_err(|violation| violation.code), Err(1009));
    assert!(info.bytes_max < 3 * LIMIT as u64, "{}", info.bytes_max);
    drop(reader);
    assert!(info.bytes_current < 1024, "{}", info.bytes_current);
}

proptest! {
    #[test]
    fn no_stream_allocates_more_than_the_limits_allow(
        frames in prop::collection::vec((any::<u8>(), 0_usize..70_000, any::<u8>()), 0..20),
    ) {
        let stream: Vec<u8> = frames.iter().flat_map(|&(first, len, fill)| frame(first & 0x83, &vec![fill & 0x7F; len])).collect();
        let mut inflater = Inflater::new();
        let mut reader = Reader::new(ReaderConfig::default(), None);
        let info = measure(|| feed(&mut reader, &mut inflater, &stream));
        // A text's buffer doubles, and while it does so the old one and the fragment are there too.
        prop_assert!(info.bytes_max < 5 * LIMIT as u64, "{}", info.bytes_max);
    }
}
