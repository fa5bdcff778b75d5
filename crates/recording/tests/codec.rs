//! What is written is read back; what is torn loses the torn block; what is damaged is an error.

use std::io::Cursor;
use std::sync::Arc;

use market::{
    AssetClass, Bar, BarInterval, BookDepth, BookUpdate, Channel, Event, Instrument, InstrumentId, Level, Numbered,
    Price, Quote, Side, Size, Status, StatusCode, Symbol, Tick, Ticker, Timestamp, Trade,
};
use proptest::prelude::*;
use recording::{
    BlockKind, Encoder, EncoderOptions, Item, Loss, LossReason, Lost, ReadError, Reader, Session, State, Tail,
};

const INSTRUMENTS: u32 = 3;

fn instrument(id: u32) -> Instrument {
    Instrument {
        id: InstrumentId(id),
        symbol: Symbol::new(&format!("S{id}")).unwrap(),
        price_exponent: -2,
        size_exponent: -8,
        tick_size: Price(25),
        lot_size: Size(1),
        class: AssetClass::Future,
        currency: "USD".into(),
        description: "ünïcode".into(),
    }
}

fn instruments() -> Vec<Instrument> {
    (0..INSTRUMENTS).map(instrument).collect()
}

fn session() -> Session {
    Session { epoch: "0123abcd".into(), part: 1, begun_at: Timestamp(17), writer: "test 1".into() }
}

fn level() -> impl Strategy<Value = Level> {
    (any::<i64>(), any::<u64>()).prop_map(|(price, size)| Level { price: Price(price), size: Size(size) })
}

/// Numbers as a market has them, and any.
fn price() -> impl Strategy<Value = Price> {
    prop_oneof![4 => 9_990i64..10_010, 1 => any::<i64>()].prop_map(Price)
}

fn size() -> impl Strategy<Value = Size> {
    prop_oneof![4 => 0u64..50, 1 => any::<u64>()].prop_map(Size)
}

fn event() -> impl Strategy<Value = Event> {
    let side = prop_oneof![Just(Side::Unknown), Just(Side::Buy), Just(Side::Sell)];
    let trade = (price(), size(), side, any::<u64>())
        .prop_map(|(price, size, side, trade_id)| Event::Trade(Trade { price, size, side, trade_id }));
    let near = || prop::option::of((price(), size()).prop_map(|(price, size)| Level { price, size }));
    let quote = (near(), near()).prop_map(|(bid, ask)| Event::Quote(Quote { bid, ask }));
    let ticker = (prop::array::uniform4(price()), size(), any::<u64>(), any::<u64>()).prop_map(
        |([last, open, high, low], volume, turnover, trade_count)| {
            // Bits that are no number are equal to nothing, themselves included.
            let turnover = Some(f64::from_bits(turnover)).filter(|value| !value.is_nan()).unwrap_or(0.5);
            Event::Ticker(Ticker { last, open, high, low, volume, turnover, trade_count })
        },
    );
    let bar = (prop::array::uniform4(price()), size(), any::<u64>(), any::<bool>(), 0usize..8).prop_map(
        |([open, high, low, close], volume, trade_count, closed, interval)| {
            let interval = BarInterval::ALL[interval];
            Event::Bar(Bar { interval, open, high, low, close, volume, trade_count, closed })
        },
    );
    let code = prop_oneof![Just(StatusCode::PreOpen), Just(StatusCode::Halted), Just(StatusCode::Closed)];
    let status =
        (code, "\\PC{0,12}").prop_map(|(code, reason)| Event::Status(Status { code, reason: Arc::from(reason) }));
    let depth = prop_oneof![Just(BookDepth::Top10), Just(BookDepth::Top50), Just(BookDepth::Full)];
    let levels = || prop::collection::vec(level(), 0..4);
    let book = (depth, levels(), levels(), any::<u32>(), any::<bool>()).prop_map(|(depth, bids, asks, sum, whole)| {
        let update = BookUpdate::new(depth, &bids, &asks, sum);
        if whole { Event::BookSnapshot(update) } else { Event::BookDelta(update) }
    });
    prop_oneof![3 => trade, 3 => quote, 1 => ticker, 1 => bar, 1 => status, 2 => book]
}

/// Elements with numbers that follow each other, and sometimes a book twice, at two depths.
fn elements() -> impl Strategy<Value = Vec<Numbered>> {
    let time = prop_oneof![9 => 1_000u64..2_000, 1 => any::<u64>()];
    let raw = prop::collection::vec((0..INSTRUMENTS, time, event(), any::<bool>()), 0..60);
    raw.prop_map(|raw| {
        let mut seqs = std::collections::HashMap::new();
        let mut out = Vec::new();
        for (instrument, time, event, twice) in raw {
            let shared = match &event {
                Event::BookDelta(update) if twice => Some(Event::BookDelta(update.at_depth(BookDepth::Full))),
                _ => None,
            };
            for event in [Some(event), shared].into_iter().flatten() {
                let seq = seqs.entry((instrument, event.channel())).or_insert(0u64);
                *seq += 1;
                let tick = Tick { instrument: InstrumentId(instrument), time: Timestamp(time), event };
                out.push(Numbered { seq: *seq, tick });
            }
        }
        out
    })
}

fn encoder(block_bytes: usize) -> (Encoder, Vec<u8>) {
    let mut encoder = Encoder::new(EncoderOptions { block_bytes, level: 3 });
    let mut out = Vec::new();
    encoder.begin(&session(), &instruments(), &mut out);
    (encoder, out)
}

/// A file of those elements, and how many were in a whole block at each length of the file.
fn written(elements: &[Numbered], block_bytes: usize, flush_every: usize) -> (Vec<u8>, Vec<(usize, usize)>) {
    let (mut encoder, mut out) = encoder(block_bytes);
    let mut whole = vec![(out.len(), 0)];
    for (index, element) in elements.iter().enumerate() {
        encoder.push(element, Timestamp(1), &mut out);
        if index % flush_every == 0 {
            encoder.flush(Timestamp(1), &mut out);
        }
        if encoder.is_flushed() {
            whole.push((out.len(), index + 1));
        }
    }
    encoder.flush(Timestamp(1), &mut out);
    whole.push((out.len(), elements.len()));
    encoder.finish(Timestamp(2), &mut out);
    (out, whole)
}

fn open(bytes: &[u8]) -> Result<Reader<Cursor<&[u8]>>, ReadError> {
    Reader::open(Cursor::new(bytes))
}

fn items(reader: &mut Reader<Cursor<&[u8]>>) -> Vec<Item> {
    std::iter::from_fn(|| reader.read().unwrap()).collect()
}

fn read(bytes: &[u8]) -> Vec<Numbered> {
    let element = |item| match item {
        Item::Element(element) => element,
        other => panic!("not an element: {other:?}"),
    };
    items(&mut open(bytes).unwrap()).into_iter().map(element).collect()
}

proptest! {
    #[test]
    fn everything_comes_back(elements in elements(), block_bytes in 1usize..4000, flush_every in 1usize..30) {
        let (bytes, _) = written(&elements, block_bytes, flush_every);
        let mut reader = open(&bytes).unwrap();
        prop_assert_eq!(reader.session(), &session());
        prop_assert_eq!(reader.instruments(), instruments());
        prop_assert_eq!(reader.tail(), Tail::Closed);
        prop_assert_eq!(reader.element_count(), elements.len() as u64);
        let want: Vec<Item> = elements.into_iter().map(Item::Element).collect();
        prop_assert_eq!(items(&mut reader), want.clone());
        reader.rewind();
        prop_assert_eq!(items(&mut reader), want);
    }

    #[test]
    fn a_file_cut_anywhere_has_every_whole_block(
        elements in elements(), block_bytes in 1usize..600, cut in any::<prop::sample::Index>(),
    ) {
        let (bytes, whole) = written(&elements, block_bytes, 7);
        let length = cut.index(bytes.len());
        let Some(&(end, count)) = whole.iter().rev().find(|(end, _)| *end <= length) else {
            let error = open(&bytes[..length]).unwrap_err();
            prop_assert!(matches!(error, ReadError::Empty | ReadError::NotARecording), "{}", error);
            return Ok(());
        };
        let reader = open(&bytes[..length]).unwrap();
        if length == end {
            prop_assert_eq!(reader.tail(), Tail::Open);
        } else if end < whole.last().unwrap().0 {
            prop_assert_eq!(reader.tail(), Tail::Torn { offset: end as u64, bytes: (length - end) as u64 });
        }
        prop_assert_eq!(read(&bytes[..length]), &elements[..count]);
    }

    #[test]
    fn a_changed_byte_is_noticed(
        elements in elements(), at in any::<prop::sample::Index>(), change in 1u8..=255,
    ) {
        let (mut bytes, whole) = written(&elements, 300, 7);
        let at = at.index(whole.last().unwrap().0);
        bytes[at] ^= change;
        let Ok(mut reader) = open(&bytes) else { return Ok(()) };
        let mut noticed = reader.tail() != Tail::Closed || reader.damaged_bytes() > 0;
        let mut got = Vec::new();
        loop {
            match reader.read() {
                Ok(Some(Item::Element(element))) => got.push(element),
                Ok(Some(other)) => panic!("{other:?}"),
                Ok(None) => break,
                Err(ReadError::Damaged { .. }) => noticed = true,
                Err(error) => panic!("{error}"),
            }
        }
        prop_assert!(noticed || got == elements);
        // What is read is what was written, in order.
        let mut rest = elements.iter();
        prop_assert!(got.iter().all(|element| rest.any(|written| written == element)));
    }

    #[test]
    fn seeking_finds_what_reading_finds(
        elements in elements(), keyframe_every in 1usize..20, from in prop_oneof![900u64..2_100, any::<u64>()],
    ) {
        let (mut encoder, mut out) = encoder(200);
        let mut state = State::default();
        for (index, element) in elements.iter().enumerate() {
            encoder.push(element, Timestamp(1), &mut out);
            state.apply(element);
            if index % keyframe_every == 0 {
                encoder.state(&state.elements(), Timestamp(1), &mut out);
            }
        }
        encoder.finish(Timestamp(1), &mut out);
        let at = elements.iter().position(|element| element.tick.time >= Timestamp(from));
        let mut want = State::default();
        elements[..at.unwrap_or(elements.len())].iter().for_each(|element| want.apply(element));
        let mut reader = open(&out).unwrap();
        let (got, next) = reader.seek(Timestamp(from)).unwrap();
        prop_assert_eq!(got.elements(), want.elements());
        prop_assert_eq!(next.as_ref(), at.map(|at| &elements[at]));
        let rest: Vec<Item> = elements.iter().skip(at.map_or(usize::MAX, |at| at + 1)).cloned().map(Item::Element).collect();
        prop_assert_eq!(items(&mut reader), rest);
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..400), header in any::<bool>()) {
        if header {
            let (_, begun) = encoder(100);
            bytes.splice(0..0, begun);
        }
        if let Ok(mut reader) = open(&bytes) {
            while let Ok(Some(_)) = reader.read() {}
        }
    }
}

fn trade(seq: u64) -> Numbered {
    let event = Event::Trade(Trade { price: Price(5), size: Size(seq), side: Side::Buy, trade_id: seq });
    Numbered { seq, tick: Tick { instrument: InstrumentId(0), time: Timestamp(seq * 10), event } }
}

#[test]
fn a_loss_is_declared_and_the_state_follows() {
    let (mut encoder, mut out) = encoder(1000);
    encoder.push(&trade(1), Timestamp(1), &mut out);
    let lost = Lost { instrument: InstrumentId(0), channel: Channel::Trades, from_seq: 2, to_seq: 8 };
    let loss = Loss { reason: LossReason::Failed, lost: vec![lost] };
    encoder.loss(&loss, Timestamp(2), &mut out);
    encoder.state(&[trade(8)], Timestamp(2), &mut out);
    encoder.push(&trade(9), Timestamp(3), &mut out);
    encoder.state(&[trade(9)], Timestamp(3), &mut out);
    encoder.push(&trade(10), Timestamp(3), &mut out);
    encoder.finish(Timestamp(4), &mut out);
    let want = [
        Item::Element(trade(1)),
        Item::Loss(loss),
        Item::State(vec![trade(8)]),
        Item::Element(trade(9)),
        Item::Element(trade(10)),
    ];
    assert_eq!(items(&mut open(&out).unwrap()), want);
}

#[test]
fn what_could_not_be_written_is_taken_back() {
    let (mut encoder, mut file) = encoder(1000);
    encoder.push(&trade(1), Timestamp(1), &mut file);
    encoder.flush(Timestamp(1), &mut file);
    let good = encoder.offset();
    assert_eq!(good, file.len() as u64);
    let mut lost = Vec::new();
    encoder.push(&trade(2), Timestamp(1), &mut lost);
    encoder.flush(Timestamp(1), &mut lost);
    encoder.push(&trade(3), Timestamp(1), &mut lost);
    encoder.rewind(good);
    encoder.push(&trade(4), Timestamp(1), &mut file);
    encoder.finish(Timestamp(1), &mut file);
    let mut reader = open(&file).unwrap();
    assert_eq!(reader.tail(), Tail::Closed);
    assert_eq!(items(&mut reader), [Item::Element(trade(1)), Item::Element(trade(4))]);
}

#[test]
fn other_files_and_newer_versions_are_named() {
    assert!(matches!(open(b""), Err(ReadError::NotARecording)));
    assert!(matches!(open(b"DBN\x03 and so on, long enough"), Err(ReadError::NotARecording)));
    let (_, mut bytes) = encoder(100);
    assert!(matches!(open(&bytes[..16]), Err(ReadError::Empty)));
    bytes[8] = 2;
    assert!(matches!(open(&bytes), Err(ReadError::Version(2))));
}

/// The bytes of a small file: docs/recording.md explains them.
#[test]
fn the_layout_is_the_documented_one() {
    let (mut encoder, mut out) = encoder(1000);
    encoder.push(&trade(1), Timestamp(1), &mut out);
    encoder.finish(Timestamp(1), &mut out);
    let reader = open(&out).unwrap();
    let kinds: Vec<_> = reader.blocks().iter().map(|block| (block.kind, block.offset, block.count)).collect();
    let session_end = reader.blocks()[0].end();
    assert_eq!(kinds, [(BlockKind::Session, 16, 3), (BlockKind::Elements, session_end, 1)]);
    let at = session_end as usize;
    assert_eq!(&out[..12], b"\x89TKR\r\n\x1a\n\x01\x00\x00\x00");
    assert_eq!(&out[at..at + 8], b"TKB\x01\x02\x00\x01\x00");
    assert_eq!(out[out.len() - 16..out.len() - 8], *b"TKR-END\n");
}
