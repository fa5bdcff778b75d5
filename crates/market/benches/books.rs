//! What order books, bars and statistics cost on one core, and what a book of two `BTreeMap`s would.
//!
//! **Invariant:** both kinds of books get the very same changes and must come to the same best prices.

mod cpu_clock;

use std::collections::BTreeMap;
use std::hint::black_box;

use cpu_clock::CpuClock;
use market::{
    AssetClass, Bars, Book, BookSide, BookSource, BookViews, Crossing, Instrument, InstrumentId, Level, OrderBook,
    Price, RollingWindow, Side, Size, Statistics, Symbol, Timestamp, Trade,
};

const CHANGES: usize = 2_000_000;

fn main() {
    println!("{:<64} {:>14} {:>9}", "one core", "per CPU s", "ns each");
    for (levels, away, name) in [
        (20, Away::Near, "20 levels a side, changes near the best"),
        (500, Away::Near, "500 levels a side, changes near the best"),
        (500, Away::Anywhere, "500 levels a side, changes anywhere"),
        (10_000, Away::Near, "10,000 levels a side, changes near the best"),
        (10_000, Away::Anywhere, "10,000 levels a side, changes anywhere"),
    ] {
        compare(1, levels, away, &format!("1 book, {name}"));
    }
    compare(1000, 50, Away::Near, "1,000 books, 50 levels a side, changes near the best");
    compare(1000, 500, Away::Near, "1,000 books, 500 levels a side, changes near the best");
    println!();
    whole_way(1, 500);
    whole_way(1000, 100);
    orders();
    println!();
    trades();
}

#[derive(Clone, Copy)]
enum Away {
    /// Geometric: half of the changes within about four levels of the best
    Near,
    Anywhere,
}

#[derive(Clone, Copy)]
struct Change {
    book: u32,
    side: BookSide,
    price: i64,
    size: u64,
}

/// xorshift64*: the same changes in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}

/// All levels of all books, and then changes: a third of them removes a level.
fn changes(books: usize, levels: u64, away: Away) -> (Vec<Change>, Vec<Change>) {
    let mut random = Random(88_172_645_463_325_252);
    let at = |side, away: u64| if side == BookSide::Bid { -1 - away as i64 } else { away as i64 };
    let mut fill = Vec::new();
    for book in 0..books as u32 {
        for side in BookSide::ALL {
            fill.extend((0..levels).rev().map(|away| Change { book, side, price: at(side, away), size: 5 }));
        }
    }
    let changes = (0..CHANGES).map(|_| {
        let side = BookSide::ALL[random.below(2) as usize];
        let away = match away {
            Away::Near => (u64::from(random.next().leading_zeros()) * 4 + random.below(4)).min(levels - 1),
            Away::Anywhere => random.below(levels),
        };
        let size = if random.below(3) == 0 { 0 } else { 1 + random.below(1000) };
        Change { book: random.below(books as u64) as u32, side, price: at(side, away), size }
    });
    (fill, changes.collect())
}

fn compare(books: usize, levels: u64, away: Away, name: &str) {
    let (fill, changes) = changes(books, levels, away);
    let mut ours = vec![Book::new(); books];
    let mut naive = vec![[BTreeMap::<i64, u64>::new(), BTreeMap::new()]; books];
    for change in &fill {
        ours[change.book as usize].set(change.side, Price(change.price), Size(change.size));
        naive[change.book as usize][change.side as usize].insert(change.price, change.size);
    }
    let naive_set = |books: &mut [[BTreeMap<i64, u64>; 2]], change: &Change| {
        let side = &mut books[change.book as usize][change.side as usize];
        if change.size == 0 {
            side.remove(&change.price);
        } else {
            side.insert(change.price, change.size);
        }
    };
    let naive_best = |book: &[BTreeMap<i64, u64>; 2]| {
        let bid = book[0].last_key_value().map(|(price, _)| *price);
        (bid, book[1].first_key_value().map(|(price, _)| *price))
    };
    let best = |book: &Book| BookSide::ALL.map(|side| book.best(side).map(|level| level.price.0));

    let mut other = ours.clone();
    measure(&format!("{name}: change and best"), CHANGES, || {
        for change in &changes {
            let book = &mut other[change.book as usize];
            book.set(change.side, Price(change.price), Size(change.size));
            black_box(best(book));
        }
    });
    let mut other_naive = naive.clone();
    measure("  the same with BTreeMap", CHANGES, || {
        for change in &changes {
            naive_set(&mut other_naive, change);
            black_box(naive_best(&other_naive[change.book as usize]));
        }
    });
    for (book, naive) in other.iter().zip(&other_naive) {
        let (bid, ask) = naive_best(naive);
        assert_eq!(best(book), [bid, ask]);
    }
    measure("  change and ten best of both sides", CHANGES, || {
        for change in &changes {
            let book = &mut ours[change.book as usize];
            book.set(change.side, Price(change.price), Size(change.size));
            for side in BookSide::ALL {
                black_box(book.levels(side).take(10).map(|level| level.size.0).sum::<u64>());
            }
        }
    });
    measure("  the same with BTreeMap", CHANGES, || {
        for change in &changes {
            naive_set(&mut naive, change);
            let [bids, asks] = &naive[change.book as usize];
            black_box(bids.values().rev().take(10).sum::<u64>() + asks.values().take(10).sum::<u64>());
        }
    });
}

/// From a change to what is sequenced: a delta with its checksum, cut for three depths.
fn whole_way(books: usize, levels: u64) {
    let (fill, changes) = changes(books, levels, Away::Near);
    let mut sources = vec![BookSource::new(Crossing::Refused); books];
    let mut views = vec![BookViews::new(); books];
    for source in &mut sources {
        source.begin_snapshot();
    }
    for change in &fill {
        sources[change.book as usize].set(change.side, Price(change.price), Size(change.size));
    }
    let mut elements = 0u64;
    for (source, views) in sources.iter_mut().zip(&mut views) {
        let event = source.commit().expect("not crossed").expect("a snapshot");
        views.apply(&event, |_| ()).expect("a full book");
    }
    let mut both = (sources.clone(), views);
    measure(&format!("{books} books of {levels} levels: delta and checksum"), CHANGES, || {
        for change in &changes {
            let source = &mut sources[change.book as usize];
            source.set(change.side, Price(change.price), Size(change.size));
            black_box(source.commit().expect("not crossed"));
        }
    });
    measure("  and elements of book.10, book.50 and book.full", CHANGES, || {
        for change in &changes {
            let source = &mut both.0[change.book as usize];
            source.set(change.side, Price(change.price), Size(change.size));
            if let Some(event) = source.commit().expect("not crossed") {
                let views = &mut both.1[change.book as usize];
                views
                    .apply(&event, |element| {
                        elements += u64::from(matches!(black_box(element), market::Event::BookDelta(_)));
                    })
                    .expect("full");
            }
        }
    });
    // A naive publisher: copies the fifty best before and after, compares, and formats the checksum's text.
    let (fill, changes) = (fill, &changes[..CHANGES / 20]);
    let mut naive = vec![[BTreeMap::<i64, u64>::new(), BTreeMap::new()]; books];
    for change in &fill {
        naive[change.book as usize][change.side as usize].insert(change.price, change.size);
    }
    let top = |side: BookSide, levels: &BTreeMap<i64, u64>, count: usize| -> Vec<Level> {
        let level = |(price, size): (&i64, &u64)| Level { price: Price(*price), size: Size(*size) };
        match side {
            BookSide::Bid => levels.iter().rev().take(count).map(level).collect(),
            BookSide::Ask => levels.iter().take(count).map(level).collect(),
        }
    };
    measure("  the same with BTreeMap, copies and text", changes.len(), || {
        for change in changes {
            let book = &mut naive[change.book as usize];
            let before = top(change.side, &book[change.side as usize], 50);
            if change.size == 0 {
                book[change.side as usize].remove(&change.price);
            } else {
                book[change.side as usize].insert(change.price, change.size);
            }
            let after = top(change.side, &book[change.side as usize], 50);
            for count in [10, 50] {
                let [before, after] = [&before, &after].map(|levels| &levels[..count.min(levels.len())]);
                black_box(after.iter().filter(|level| !before.contains(level)).count());
                black_box(before.iter().filter(|old| !after.iter().any(|new| new.price == old.price)).count());
            }
            let mut text = String::new();
            for side in [BookSide::Ask, BookSide::Bid] {
                for level in top(side, &book[side as usize], 10) {
                    text += &level.price.0.to_string();
                    text += &level.size.0.to_string();
                }
            }
            black_box(crc32fast::hash(text.as_bytes()));
        }
    });
}

/// Market by order: half of the actions add, the other half takes the oldest back.
fn orders() {
    let mut random = Random(7);
    let mut book = OrderBook::new(Crossing::Allowed);
    book.begin_snapshot();
    let mut price = |side| {
        let away = i64::from(random.next().leading_zeros() * 4) + random.below(4) as i64;
        if side == BookSide::Bid { -1 - away } else { away }
    };
    for id in 0..10_000 {
        let side = BookSide::ALL[id as usize % 2];
        book.add(id, side, Price(price(side)), Size(3)).expect("new");
    }
    book.commit().expect("may cross");
    let actions: Vec<_> =
        (10_000..10_000 + CHANGES as u64 / 2).map(|id| (id, price(BookSide::ALL[id as usize % 2]))).collect();
    measure("1 book of 10,000 orders: order, delta and checksum", CHANGES, || {
        for (id, price) in actions {
            book.add(id, BookSide::ALL[id as usize % 2], Price(price), Size(1 + id % 7)).expect("new");
            black_box(book.commit().expect("may cross"));
            let oldest = id - 10_000;
            let size = book.order_size(oldest).expect("still there");
            book.cancel(oldest, size).expect("still there");
            black_box(book.commit().expect("may cross"));
        }
    });
}

/// Trades of 1,000 instruments, 20,000 in a second.
fn trades() {
    const INSTRUMENTS: u32 = 1000;
    let instrument = |id| Instrument {
        id: InstrumentId(id),
        symbol: Symbol::new("X").expect("a symbol"),
        price_exponent: -2,
        size_exponent: 0,
        tick_size: Price(1),
        lot_size: Size(1),
        class: AssetClass::Equity,
        currency: "USD".into(),
        description: String::new(),
    };
    let instruments: Vec<_> = (0..INSTRUMENTS).map(instrument).collect();
    let mut random = Random(3);
    let start = 1_700_000_000_000_000_000;
    let trades: Vec<_> = (0..CHANGES as u64)
        .map(|n| {
            let (price, size) = (Price(10_000 + random.below(100) as i64), Size(1 + random.below(50)));
            let trade = Trade { price, size, side: Side::Buy, trade_id: n };
            (random.below(INSTRUMENTS.into()) as usize, Timestamp(start + n * 50_000), trade)
        })
        .collect();
    for (burst, name) in
        [(1, "each trade by itself"), (64, "handed over after every 64 trades"), (20_000, "handed over every second")]
    {
        let mut bars = Bars::new(250);
        let mut made = 0u64;
        measure(&format!("bars of 8 intervals, {name}"), trades.len(), || {
            for burst in trades.chunks(burst) {
                for (index, time, trade) in burst {
                    bars.advance(*time);
                    bars.trade(instruments[*index].id, *time, trade);
                }
                bars.changes(|tick| made += u64::from(black_box(tick).time.0 > 0));
            }
        });
        let each = bars.bytes() as f64 / f64::from(INSTRUMENTS) / 1000.0;
        println!(
            "  {:.1} elements of bars a trade; {each:.1} kB an instrument in the end",
            made as f64 / trades.len() as f64
        );
    }
    let mut statistics = Statistics::new(RollingWindow::default());
    measure("statistics of 24 hours", trades.len(), || {
        for (index, time, trade) in &trades {
            statistics.advance(*time, |tick| drop(black_box(tick)));
            black_box(statistics.trade(&instruments[*index], *time, trade));
        }
    });
    // A day of one instrument, in which every trade expires again: 100 s between trades of slots of a minute.
    let mut statistics = Statistics::new(RollingWindow::default());
    measure("statistics of 24 hours, with as many trades expiring", trades.len(), || {
        for ((_, _, trade), n) in trades.iter().zip(0u64..) {
            let time = Timestamp(start + n * 100_000_000_000);
            statistics.advance(time, |tick| drop(black_box(tick)));
            black_box(statistics.trade(&instruments[0], time, trade));
        }
    });
}

fn measure(name: &str, count: usize, work: impl FnOnce()) {
    let clock = CpuClock::start();
    work();
    let seconds = clock.elapsed().as_secs_f64();
    println!("{name:<64} {:>14.0} {:>9.1}", count as f64 / seconds, seconds * 1e9 / count as f64);
}
