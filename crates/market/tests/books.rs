//! Books against a naive model: two `BTreeMap`s that are rebuilt and compared at every step.
//!
//! **Invariant:** the model shares nothing with the books but the events that go in.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use market::{
    Book, BookConflation, BookDepth, BookError, BookSide, BookSource, BookUpdate, BookViews, Crossing, Event, Level,
    OrderBook, Price, Size,
};
use proptest::prelude::*;

/// Levels by price, of both sides.
#[derive(Clone, Debug, Default, PartialEq)]
struct Naive([BTreeMap<i64, u64>; 2]);

impl Naive {
    fn set(&mut self, side: BookSide, price: i64, size: u64) {
        if size == 0 {
            self.0[side as usize].remove(&price);
        } else {
            self.0[side as usize].insert(price, size);
        }
    }

    /// Best first.
    fn levels(&self, side: BookSide, count: usize) -> Vec<(i64, u64)> {
        let all = self.0[side as usize].iter().map(|(price, size)| (*price, *size));
        match side {
            BookSide::Bid => all.rev().take(count).collect(),
            BookSide::Ask => all.take(count).collect(),
        }
    }

    fn cut(&self, count: usize) -> Self {
        Self(BookSide::ALL.map(|side| self.levels(side, count).into_iter().collect()))
    }

    /// As the protocol words it.
    fn checksum(&self) -> u32 {
        let mut text = String::new();
        for side in [BookSide::Ask, BookSide::Bid] {
            for (price, size) in self.levels(side, 10) {
                let _ = write!(text, "{price}{size}");
            }
        }
        crc32fast::hash(text.as_bytes())
    }

    /// As a client does it; a deletion of what is not there is wrong.
    fn apply(&mut self, event: &Event) {
        let (update, is_delta) = match event {
            Event::BookSnapshot(update) => {
                *self = Self::default();
                (update, false)
            }
            Event::BookDelta(update) => (update, true),
            other => panic!("no book event: {other:?}"),
        };
        for (side, level) in update.iter() {
            let held = self.0[side as usize].get(&level.price.0).copied().unwrap_or(0);
            assert!(is_delta || level.size.0 > 0, "a snapshot with an empty level");
            assert_ne!(held, level.size.0, "a level that says nothing new: {side:?} {level:?}");
            self.set(side, level.price.0, level.size.0);
        }
    }
}

fn of(book: &Book) -> Naive {
    let mut naive = Naive::default();
    for side in BookSide::ALL {
        for level in book.levels(side) {
            naive.set(side, level.price.0, level.size.0);
        }
        assert!(book.levels(side).map(|level| level.price).is_sorted_by(|a, b| match side {
            BookSide::Bid => a > b,
            BookSide::Ask => a < b,
        }));
        assert_eq!(book.levels(side).len(), book.len(side));
    }
    naive
}

fn update(event: &Event) -> &BookUpdate {
    match event {
        Event::BookSnapshot(update) | Event::BookDelta(update) => update,
        other => panic!("no book event: {other:?}"),
    }
}

const DEPTHS: [(BookDepth, usize); 3] = [(BookDepth::Top10, 10), (BookDepth::Top50, 50), (BookDepth::Full, usize::MAX)];

/// What happens to a source in one event.
#[derive(Clone, Debug)]
enum Step {
    Snapshot(Vec<(BookSide, i64, u64)>),
    Changes(Vec<(BookSide, i64, u64)>),
    Withdraw,
}

/// Changes of levels: near prices, so that levels are hit again, and enough of them for every depth.
fn changes(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(BookSide, i64, u64)>> {
    let side = prop::sample::select(BookSide::ALL.to_vec());
    let size = prop_oneof![2 => Just(0u64), 5 => 1u64..5, 1 => any::<u64>()];
    let change = (side, 0i64..90, size).prop_map(|(side, away, size)| match side {
        BookSide::Bid => (side, -1 - away, size),
        BookSide::Ask => (side, away, size),
    });
    prop::collection::vec(change, count)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => changes(0..150).prop_map(Step::Snapshot),
        14 => changes(1..2).prop_map(Step::Changes),
        6 => changes(0..8).prop_map(Step::Changes),
        1 => changes(50..120).prop_map(Step::Changes),
        1 => Just(Step::Withdraw),
    ];
    (changes(0..220), prop::collection::vec(step, 0..60)).prop_map(|(first, mut steps)| {
        steps.insert(0, Step::Snapshot(first));
        steps
    })
}

/// One event of a source, and the model after it.
fn step(source: &mut BookSource, naive: &mut Naive, step: &Step) -> Option<Event> {
    let changes = match step {
        Step::Withdraw => {
            *naive = Naive::default();
            return source.withdraw();
        }
        Step::Snapshot(changes) => {
            *naive = Naive::default();
            source.begin_snapshot();
            changes
        }
        Step::Changes(changes) => changes,
    };
    let stale = source.is_stale();
    for &(side, price, size) in changes {
        source.set(side, Price(price), Size(size));
        if !stale {
            naive.set(side, price, size);
        }
    }
    source.commit().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whoever_joins_at_any_moment_has_the_same_book(steps in steps()) {
        let mut source = BookSource::new(Crossing::Refused);
        let mut views = BookViews::new();
        let mut naive = Naive::default();
        // One client of each depth that joined before each step.
        let mut clients: [Vec<Naive>; 3] = Default::default();
        for change in &steps {
            for ((depth, _), joined) in DEPTHS.iter().zip(&mut clients) {
                let mut client = Naive::default();
                if let Some(snapshot) = views.snapshot(*depth) {
                    client.apply(&snapshot);
                    prop_assert_eq!(update(&snapshot).checksum(), client.checksum());
                }
                joined.push(client);
            }
            let before = naive.clone();
            let event = step(&mut source, &mut naive, change);
            prop_assert_eq!(event.is_none(), naive == before && !matches!(change, Step::Snapshot(_))
                && !matches!((change, &event), (Step::Withdraw, Some(_))));
            let mut elements = Vec::new();
            if let Some(event) = &event {
                views.apply(event, |element| elements.push(element)).unwrap();
                prop_assert_eq!(elements.last(), Some(event));
            }
            for ((depth, count), joined) in DEPTHS.iter().zip(&mut clients) {
                let mine: Vec<_> = elements.iter().filter(|element| update(element).depth() == *depth).collect();
                prop_assert!(mine.len() <= 1);
                let want = naive.cut(*count);
                for client in joined.iter_mut() {
                    for element in &mine {
                        client.apply(element);
                        prop_assert_eq!(update(element).checksum(), want.checksum());
                    }
                    prop_assert_eq!(&*client, &want);
                }
                // All are the same from here on.
                joined.truncate(3);
            }
            prop_assert_eq!(of(views.book()), naive.clone());
            prop_assert_eq!(of(source.book()), naive.clone());
            prop_assert_eq!(source.book().checksum(), naive.checksum());
        }
    }

    #[test]
    fn merged_events_do_what_they_did_one_by_one(steps in steps(), cuts in prop::collection::vec(1usize..12, 1..20)) {
        let mut source = BookSource::new(Crossing::Refused);
        let mut views = BookViews::new();
        let mut naive = Naive::default();
        let mut merged: [(BookConflation, Book); 3] = Default::default();
        let mut cuts = cuts.into_iter().cycle();
        let mut left = 1;
        for change in &steps {
            if let Some(event) = step(&mut source, &mut naive, change) {
                views.apply(&event, |element| {
                    let depth = update(&element).depth();
                    for (_, (conflation, _)) in DEPTHS.iter().zip(&mut merged).filter(|(each, _)| each.0 == depth) {
                        conflation.push(&element);
                    }
                }).unwrap();
            }
            left -= 1;
            if left == 0 {
                left = cuts.next().unwrap();
                for ((_, count), (conflation, book)) in DEPTHS.iter().zip(&mut merged) {
                    let was_empty = conflation.is_empty();
                    let event = conflation.take();
                    prop_assert_eq!(event.is_none(), was_empty);
                    if let Some(event) = event {
                        book.apply(&event);
                        prop_assert_eq!(update(&event).checksum(), book.checksum());
                    }
                    prop_assert_eq!(of(book), naive.cut(*count));
                }
            }
        }
    }

    #[test]
    fn orders_add_up_to_levels(actions in prop::collection::vec((0u8..8, 0u64..12, any::<bool>(), -3i64..3, 0u64..9), 0..200)) {
        let mut book = OrderBook::new(Crossing::Allowed);
        prop_assert_eq!(book.add(1, BookSide::Bid, Price(1), Size(1)), Ok(()));
        prop_assert_eq!((book.order_count(), book.commit()), (0, Ok(None)));
        book.begin_snapshot();
        prop_assert!(matches!(book.commit(), Ok(Some(Event::BookSnapshot(_)))));
        let mut orders: BTreeMap<u64, (BookSide, i64, u64)> = BTreeMap::new();
        let mut client = Naive::default();
        for (action, id, bid, price, size) in actions {
            let side = if bid { BookSide::Bid } else { BookSide::Ask };
            let held = orders.get(&id).copied();
            match action {
                0..=2 => {
                    let want = match held {
                        _ if size == 0 => Err(BookError::EmptyOrder(id)),
                        Some(_) => Err(BookError::DuplicateOrder(id)),
                        None => { orders.insert(id, (side, price, size)); Ok(()) }
                    };
                    prop_assert_eq!(book.add(id, side, Price(price), Size(size)), want);
                }
                3..=4 => {
                    let want = match held {
                        None => Err(BookError::UnknownOrder(id)),
                        Some((.., held)) if held < size =>
                            Err(BookError::OrderTooSmall { order: id, size: Size(held), cancelled: Size(size) }),
                        Some((.., held)) if held == size => { orders.remove(&id); Ok(()) }
                        Some((side, price, held)) => { orders.insert(id, (side, price, held - size)); Ok(()) }
                    };
                    prop_assert_eq!(book.cancel(id, Size(size)), want);
                }
                5 => {
                    let want = match held {
                        _ if size == 0 => Err(BookError::EmptyOrder(id)),
                        Some((other, ..)) if other != side => Err(BookError::SideChanged(id)),
                        _ => { orders.insert(id, (side, price, size)); Ok(()) }
                    };
                    prop_assert_eq!(book.modify(id, side, Price(price), Size(size)), want);
                }
                6 => {
                    if let Some(event) = book.commit().unwrap() {
                        client.apply(&event);
                        prop_assert_eq!(update(&event).checksum(), client.checksum());
                    }
                    prop_assert_eq!(of(book.book()), client.clone());
                }
                _ => {}
            }
            let mut want = Naive::default();
            for (side, price, size) in orders.values() {
                *want.0[*side as usize].entry(*price).or_default() += size;
            }
            prop_assert_eq!(of(book.book()), want);
            prop_assert_eq!(book.order_count(), orders.len());
            prop_assert_eq!(book.order_size(id), orders.get(&id).map(|order| Size(order.2)));
        }
    }
}

#[test]
fn the_checksum_is_the_common_crc_32() {
    let mut book = Book::new();
    book.set(BookSide::Ask, Price(1234), Size(56));
    book.set(BookSide::Bid, Price(7), Size(89));
    assert_eq!(book.checksum(), 0xcbf4_3926, "the check value of CRC-32 for 123456789");
}

fn level(price: i64, size: u64) -> Level {
    Level { price: Price(price), size: Size(size) }
}

#[test]
fn a_crossed_book_is_withdrawn_and_recovers_with_the_next_snapshot() {
    let mut source = BookSource::new(Crossing::Refused);
    let mut views = BookViews::new();
    let mut elements = Vec::new();
    source.begin_snapshot();
    source.set(BookSide::Bid, Price(99), Size(1));
    source.set(BookSide::Ask, Price(100), Size(1));
    let first = source.commit().unwrap().unwrap();
    views.apply(&first, |element| elements.push(element)).unwrap();
    assert_eq!(elements.len(), 3);

    source.set(BookSide::Bid, Price(100), Size(1));
    assert_eq!(source.commit(), Err(BookError::Crossed { bid: Price(100), ask: Price(100) }));
    let withdrawn = source.withdraw().unwrap();
    assert!(source.is_stale() && source.withdraw().is_none() && source.quote() == market::Quote::default());
    elements.clear();
    views.apply(&withdrawn, |element| elements.push(element)).unwrap();
    assert!(elements.len() == 3 && elements.iter().all(|element| update(element).is_empty()));

    // Until then nothing is believed.
    source.set(BookSide::Bid, Price(1), Size(1));
    assert_eq!((source.commit(), source.snapshot()), (Ok(None), None));
    source.begin_snapshot();
    source.set(BookSide::Bid, Price(98), Size(7));
    let recovered = source.commit().unwrap().unwrap();
    views.apply(&recovered, |_| ()).unwrap();
    assert_eq!(views.snapshot(BookDepth::Full), Some(recovered));
}

#[test]
fn an_auction_may_be_crossed() {
    let mut source = BookSource::new(Crossing::Allowed);
    source.begin_snapshot();
    source.set(BookSide::Bid, Price(101), Size(1));
    source.set(BookSide::Ask, Price(100), Size(1));
    assert!(source.commit().unwrap().is_some());
}

#[test]
fn impossible_updates_make_the_views_stale() {
    let good = Event::BookSnapshot(BookUpdate::new(BookDepth::Full, &[level(1, 1)], &[level(2, 1)], 0));
    for (bids, asks, depth, error) in [
        (vec![level(1, 0)], vec![], BookDepth::Full, BookError::Disordered { price: Price(1) }),
        (vec![level(1, 1), level(2, 1)], vec![], BookDepth::Full, BookError::Disordered { price: Price(1) }),
        (vec![], vec![level(5, 1), level(5, 1)], BookDepth::Full, BookError::Disordered { price: Price(5) }),
        (vec![], vec![level(5, 1)], BookDepth::Top10, BookError::Depth(10)),
    ] {
        let mut views = BookViews::new();
        let mut elements = Vec::new();
        let bad = Event::BookSnapshot(BookUpdate::new(depth, &bids, &asks, 0));
        assert_eq!(views.apply(&bad, |element| elements.push(element)), Err(error));
        assert!(elements.is_empty(), "nothing was known, so there is nothing to take back");
        views.apply(&good, |_| ()).unwrap();
        assert_eq!(views.apply(&bad, |element| elements.push(element)), Err(error));
        assert_eq!(elements.len(), 3);
        assert!(views.is_stale() && views.snapshot(BookDepth::Top10).is_none());
        let delta = Event::BookDelta(BookUpdate::new(BookDepth::Full, &[level(1, 1)], &[], 0));
        views.apply(&delta, |element| panic!("{element:?} while stale")).unwrap();
    }
}

#[test]
fn levels_that_overflow_or_underflow_are_refused() {
    let mut source = BookSource::new(Crossing::Allowed);
    source.begin_snapshot();
    source.add(BookSide::Bid, Price(1), Size(u64::MAX)).unwrap();
    assert_eq!(source.add(BookSide::Bid, Price(1), Size(1)), Err(BookError::Overflow { price: Price(1) }));
    let error = BookError::LevelTooSmall { price: Price(2), size: Size(0), taken: Size(1) };
    assert_eq!(source.take(BookSide::Ask, Price(2), Size(1)), Err(error));
    assert_eq!(source.book().size_at(BookSide::Bid, Price(1)), Size(u64::MAX));
}
