//! The scenarios with order books: trades, quotes, books and bars agree to the last unit, scenarios do what they say, and
//! prices look like prices.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use StatusCode::{Auction, Closed, Halted, PreOpen, Trading};
use market::{
    BarInterval, Bars, Book, BookSide, Event, InstrumentId, Price, Side, Size, StatusCode, Tick, Timestamp, Trade,
};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use simulator::{Config, Next, Scenario, Script, Simulator, text};

const WITH_BOOKS: [Scenario; 6] =
    [Scenario::Calm, Scenario::Busy, Scenario::Open, Scenario::FlashCrash, Scenario::Halt, Scenario::Thin];

fn market(scenario: Scenario, symbols: usize, rate: f64, seconds: u64) -> (Simulator, Vec<Tick>) {
    let mut simulator = Simulator::new(Config { seed: 7, symbols, rate, scenario }).unwrap();
    let mut ticks = Vec::new();
    simulator.advance(Duration::from_secs(seconds), usize::MAX, &mut ticks);
    (simulator, ticks)
}

/// What a client of one instrument knows.
#[derive(Default)]
struct Seen {
    book: Book,
    status: Option<StatusCode>,
    /// Trades since the last event of the book
    trades: Vec<Trade>,
    trade_count: u64,
    volume: u64,
    /// Whether the book's best has changed and the quote has yet to say so
    owes_quote: bool,
}

impl Seen {
    /// Takes a tick in and says what is wrong with it.
    fn take(&mut self, event: &Event) -> Result<(), String> {
        if self.owes_quote && !matches!(event, Event::Quote(_)) {
            return Err(format!("{event:?} instead of a quote"));
        }
        match event {
            Event::Trade(trade) => self.take_trade(*trade),
            Event::BookSnapshot(update) | Event::BookDelta(update) => {
                let before = self.book.clone();
                self.book.apply(event);
                if self.book.checksum() != update.checksum() {
                    return Err("another checksum".into());
                }
                self.owes_quote = before.quote() != self.book.quote();
                if self.status == Some(StatusCode::Trading) {
                    self.book.check_not_crossed().map_err(|error| error.to_string())?;
                }
                self.check_trades(&before, event)
            }
            Event::Quote(quote) if *quote == self.book.quote() && self.owes_quote => {
                self.owes_quote = false;
                Ok(())
            }
            Event::Status(status) => {
                self.status = Some(status.code);
                Ok(())
            }
            other => Err(format!("{other:?} with {:?}", self.book.quote())),
        }
    }

    fn take_trade(&mut self, trade: Trade) -> Result<(), String> {
        self.trade_count += 1;
        self.volume += trade.size.0;
        self.trades.push(trade);
        if trade.trade_id == self.trade_count && trade.size.0 > 0 { Ok(()) } else { Err(format!("{trade:?}")) }
    }

    /// What was traded is what is gone from the other side, level by level, beginning with the best.
    fn check_trades(&mut self, before: &Book, event: &Event) -> Result<(), String> {
        let trades = std::mem::take(&mut self.trades);
        let Some(first) = trades.first() else { return Ok(()) };
        let wrong = || Err(format!("{trades:?} do not make {event:?}"));
        let lots = |book: &Book, side| book.levels(side).map(|level| u128::from(level.size.0)).sum::<u128>();
        if first.side == Side::Unknown {
            // The one trade of an auction takes as much from both sides.
            let taken = BookSide::ALL.map(|side| lots(before, side) - lots(&self.book, side));
            let is_right = trades.len() == 1 && taken == [u128::from(first.size.0); 2];
            return if is_right { Ok(()) } else { wrong() };
        }
        let passive = if first.side == Side::Buy { BookSide::Ask } else { BookSide::Bid };
        let mut expected = before.clone();
        for (trade, level) in trades.iter().zip(before.levels(passive)) {
            if trade.side != first.side || trade.price != level.price || trade.size > level.size {
                return wrong();
            }
            expected.set(passive, level.price, Size(level.size.0 - trade.size.0));
        }
        if expected == self.book { Ok(()) } else { wrong() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn everything_agrees_to_the_last_unit(
        seed in any::<u64>(), scenario in prop::sample::select(WITH_BOOKS.to_vec()), symbols in 1usize..40, fast in any::<bool>(),
    ) {
        let rate = if fast { 2000.0 } else { 40.0 };
        let mut simulator = Simulator::new(Config { seed, symbols, rate, scenario }).unwrap();
        let mut seen: Vec<Seen> = std::iter::repeat_with(Seen::default).take(symbols).collect();
        let mut bars = Bars::new(1000);
        let mut ticks = Vec::new();
        simulator.advance(Duration::MAX, 15_000, &mut ticks);
        prop_assert!(ticks.is_sorted_by_key(|tick| tick.time));
        for tick in &ticks {
            let index = tick.instrument.index();
            let result = seen[index].take(&tick.event);
            prop_assert_eq!(result, Ok(()), "{} at {}", &simulator.instruments()[index].symbol, tick.time);
            if let Event::Trade(trade) = &tick.event {
                bars.trade(tick.instrument, tick.time, trade);
            }
        }
        for (seen, id) in seen.iter().zip(0..) {
            let day: u64 = bars.history(InstrumentId(id), BarInterval::D1, 10).map(|(_, bar)| bar.volume.0).sum();
            prop_assert_eq!(day, seen.volume);
            let lot = simulator.instruments()[id as usize].lot_size.0;
            for level in BookSide::ALL.into_iter().flat_map(|side| seen.book.levels(side)) {
                prop_assert!(level.price.0 > 0 && level.size.0 % lot == 0);
                prop_assert_eq!(level.price.0 % simulator.instruments()[id as usize].tick_size.0, 0);
            }
        }
    }

    #[test]
    fn any_cut_of_calls_gives_the_same_ticks(
        seed in any::<u64>(), scenario in prop::sample::select(WITH_BOOKS.to_vec()),
        cuts in prop::collection::vec((0u64..3000, 0usize..40), 1..60),
    ) {
        let mut whole = Simulator::new(Config { seed, symbols: 12, rate: 300.0, scenario }).unwrap();
        let mut cut = whole.clone();
        let (mut expected, mut got) = (Vec::new(), Vec::new());
        let mut until = Duration::ZERO;
        for (millis, ticks_max) in cuts {
            until += Duration::from_millis(millis);
            let before = got.len();
            match cut.advance(until, ticks_max, &mut got) {
                Next::Ready => prop_assert_eq!(got.len() - before, ticks_max),
                Next::At(at) => prop_assert!(at > until && got.len() - before <= ticks_max),
            }
        }
        while cut.advance(until, 7, &mut got) == Next::Ready {}
        whole.advance(until, usize::MAX, &mut expected);
        prop_assert_eq!(got, expected);
    }
}

/// The bytes of a seed, pinned: whoever changes them on purpose changes these and says so in the change log.
#[test]
fn a_scenario_of_a_seed_has_this_digest() {
    let digests = WITH_BOOKS.map(|scenario| {
        let (simulator, ticks) = market(scenario, 30, 400.0, 100);
        let mut lines = String::new();
        for tick in &ticks {
            text::tick_csv(&simulator.instruments()[tick.instrument.index()], tick, &mut lines);
        }
        let mut hex = String::new();
        for byte in &Sha256::digest(lines)[..8] {
            let _ = write!(hex, "{byte:02x}");
        }
        format!("{scenario} {} {hex}", ticks.len())
    });
    let expected = [
        "calm 25631 a38570bb2cf10e1b",
        "busy 117545 e52c8cc2d516d53b",
        "open 138518 9f0704bb3de1a7c4",
        "flash-crash 124224 80999b51a71884c6",
        "halt 47258 20f3a625e060717f",
        "thin 13059 cf2c4a57ee6a7f1a",
    ];
    assert_eq!(digests, expected);
}

/// The middle of the quotes of an instrument at each whole second.
fn middles(ticks: &[Tick], instrument: u32, seconds: usize) -> Vec<f64> {
    let mut middles = vec![f64::NAN; seconds];
    for tick in ticks.iter().filter(|tick| tick.instrument.0 == instrument) {
        if let Event::Quote(quote) = &tick.event
            && let (Some(bid), Some(ask)) = (quote.bid, quote.ask)
            && let Some(middle) = middles.get_mut((tick.time.nanos() / 1_000_000_000) as usize)
        {
            *middle = (bid.price.0 + ask.price.0) as f64 / 2.0;
        }
    }
    for second in 1..seconds {
        if middles[second].is_nan() {
            middles[second] = middles[second - 1];
        }
    }
    middles.into_iter().filter(|middle| !middle.is_nan()).collect()
}

fn returns(middles: &[f64], step: usize) -> Vec<f64> {
    let points: Vec<f64> = middles.iter().copied().step_by(step).collect();
    points.windows(2).map(|pair| libm::log(pair[1] / pair[0])).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The covariance of one series with another, divided by their deviations.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let length = a.len().min(b.len());
    let (a, b) = (&a[a.len() - length..], &b[b.len() - length..]);
    let (mean_a, mean_b) = (mean(a), mean(b));
    let sum = |of: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| of(x - mean_a, y - mean_b)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

fn autocorrelation(values: &[f64], lag: usize) -> f64 {
    correlation(&values[..values.len() - lag], &values[lag..])
}

#[test]
fn returns_have_fat_tails_and_volatility_comes_in_clusters() {
    const SECONDS: usize = 3000;
    let (_, ticks) = market(Scenario::Busy, 1, 60.0, SECONDS as u64);
    let returns = returns(&middles(&ticks, 0, SECONDS), 1);
    let variance = mean(&returns.iter().map(|r| r * r).collect::<Vec<_>>());
    let kurtosis = mean(&returns.iter().map(|r| r.powi(4)).collect::<Vec<_>>()) / (variance * variance);
    assert!(kurtosis > 4.0, "a normal distribution has 3, this has {kurtosis}");
    let absolute: Vec<f64> = returns.iter().map(|r| r.abs()).collect();
    for lag in [1, 5, 10, 20] {
        let clustered = autocorrelation(&absolute, lag);
        assert!(clustered > 0.04, "absolute returns, lag {lag}: {clustered}");
    }
    for lag in [5, 10, 20] {
        let predictable = autocorrelation(&returns, lag);
        assert!(predictable.abs() < 0.08, "returns, lag {lag}: {predictable}");
    }
}

#[test]
fn instruments_of_a_group_move_together() {
    const SECONDS: usize = 1500;
    let (simulator, ticks) = market(Scenario::Busy, 8, 200.0, SECONDS as u64);
    let index = |symbol: &str| simulator.instruments().iter().position(|i| i.symbol.as_str() == symbol).unwrap() as u32;
    let moves = |symbol| returns(&middles(&ticks, index(symbol), SECONDS), 20);
    let same = correlation(&moves("BTC-USD"), &moves("BTC-USDT"));
    assert!(same > 0.8, "the same coin in two currencies: {same}");
    let group = correlation(&moves("AAPL"), &moves("ESZ6"));
    assert!(group > 0.15, "a share and the index: {group}");
}

#[test]
fn orders_excite_each_other() {
    let (_, ticks) = market(Scenario::Calm, 20, 1000.0, 60);
    let mut counts = vec![0.0; 1200];
    for tick in ticks.iter().filter(|tick| matches!(tick.event, Event::BookDelta(_))) {
        counts[(tick.time.nanos() / 50_000_000).min(1199) as usize] += 1.0;
    }
    let expected = mean(&counts);
    let dispersion = mean(&counts.iter().map(|c| (c - expected) * (c - expected)).collect::<Vec<_>>()) / expected;
    assert!(dispersion > 2.0, "the counts of a Poisson process have 1, these {dispersion}");
}

/// Of the first instrument, at every hundredth event: its spreads, and what is on a side within each of so many usual spreads.
fn shape(scenario: Scenario) -> (f64, Vec<f64>) {
    const BUCKETS: usize = 24;
    let (_, ticks) = market(scenario, 1, 100.0, 400);
    let mut book = Book::new();
    let (mut spreads, mut depths, mut samples) = (Vec::new(), vec![0.0; BUCKETS], 0);
    for (number, tick) in ticks.iter().enumerate() {
        book.apply(&tick.event);
        let quote = book.quote();
        let (Some(bid), Some(ask)) = (quote.bid, quote.ask) else { continue };
        spreads.push((ask.price.0 - bid.price.0) as f64);
        if number % 100 == 99 {
            samples += 1;
            for level in book.levels(BookSide::Bid) {
                let away = ((bid.price.0 - level.price.0) / 50) as usize;
                if let Some(depth) = depths.get_mut(away) {
                    *depth += level.size.0 as f64;
                }
            }
        }
    }
    (mean(&spreads), depths.into_iter().map(|depth| depth / f64::from(samples)).collect())
}

#[test]
fn books_are_deepest_some_way_from_the_best_and_thin_out_far_away() {
    let (spread, depths) = shape(Scenario::Calm);
    let part = |range: std::ops::Range<usize>| mean(&depths[range]);
    assert!(part(1..8) > 1.2 * part(18..24), "{depths:?}");
    assert!(depths[0] < depths.iter().sum::<f64>() / 3.0, "{depths:?}");
    assert!(spread >= 1.0);
    let (thin_spread, thin_depths) = shape(Scenario::Thin);
    assert!(thin_spread > 2.0 * spread, "{thin_spread} and {spread}");
    assert!(2.0 * thin_depths.iter().sum::<f64>() < depths.iter().sum());
}

#[test]
fn a_flash_crash_falls_and_comes_back() {
    let (_, ticks) = market(Scenario::FlashCrash, 3, 200.0, 200);
    for instrument in 0..3 {
        let middles = middles(&ticks, instrument, 200);
        let (before, after) = (middles[55], middles[195]);
        let low = middles.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(low / before < 0.96, "{instrument}: {low} of {before}");
        assert!((after / before - 1.0).abs() < 0.02, "{instrument}: {after} of {before}");
        let lowest = middles.iter().position(|middle| *middle <= low).unwrap();
        assert!((65..110).contains(&lowest), "{instrument}: at {lowest} s");
    }
}

/// The phases of an instrument, with their times in seconds.
fn phases(ticks: &[Tick], instrument: u32) -> Vec<(u64, StatusCode)> {
    let of = ticks.iter().filter(|tick| tick.instrument.0 == instrument);
    of.filter_map(|tick| match &tick.event {
        Event::Status(status) => Some((tick.time.nanos() / 1_000_000_000, status.code)),
        _ => None,
    })
    .collect()
}

fn trades(ticks: &[Tick], instrument: u32) -> Vec<(u64, Trade)> {
    let of = ticks.iter().filter(|tick| tick.instrument.0 == instrument);
    of.filter_map(|tick| match tick.event {
        Event::Trade(trade) => Some((tick.time.nanos() / 1_000_000_000, trade)),
        _ => None,
    })
    .collect()
}

#[test]
fn nothing_is_traded_in_a_halt_and_an_auction_ends_it() {
    let (_, ticks) = market(Scenario::Halt, 3, 200.0, 200);
    for instrument in 0..3 {
        let want = [(0, Trading), (45, Halted), (75, Auction), (90, Trading)];
        assert_eq!(phases(&ticks, instrument), want);
        let trades = trades(&ticks, instrument);
        assert!(trades.iter().all(|(second, _)| !(45..90).contains(second)));
        let (_, first_after) = trades.iter().find(|(second, _)| *second >= 90).unwrap();
        assert_eq!(first_after.side, Side::Unknown, "the trade of the auction");
    }
}

#[test]
fn an_opening_has_one_price_and_then_a_burst() {
    let (_, ticks) = market(Scenario::Open, 3, 200.0, 200);
    let trades = trades(&ticks, 0);
    let (second, auction) = trades[0];
    assert_eq!((second, auction.side), (20, Side::Unknown));
    assert!(trades[1..].iter().all(|(_, trade)| trade.side != Side::Unknown));
    let count = |from, to| trades.iter().filter(|(second, _)| (from..to).contains(second)).count();
    assert!(count(20, 40) > 2 * count(150, 170), "{} and {}", count(20, 40), count(150, 170));
}

#[test]
fn scripts_reach_the_symbols_they_name() {
    let script = Script::parse(
        "repeat_seconds = 30.0\n\
         [[at]]\nseconds = 0\nsymbols = [\"AAPL\", \"NONE\"]\nphase = \"pre_open\"\n\
         [[at]]\nseconds = 5\nsymbols = [\"AAPL\"]\nphase = \"trading\"\n\
         [[at]]\nseconds = 20\nphase = \"closed\"\nreason = \"good \\\"night\\\"\"\n",
    );
    let config = Config { seed: 3, symbols: 2, rate: 200.0, ..Config::default() };
    let mut simulator = Simulator::scripted(config, script.unwrap()).unwrap();
    let mut ticks = Vec::new();
    assert_eq!(simulator.instruments()[1].symbol.as_str(), "AAPL");
    simulator.advance(Duration::from_secs(36), usize::MAX, &mut ticks);
    assert_eq!(phases(&ticks, 0), [(0, Trading), (20, Closed), (30, Trading)]);
    let round = [(0, Trading), (0, PreOpen), (5, Trading), (20, Closed)];
    let again = [(30, Trading), (30, PreOpen), (35, Trading)];
    assert_eq!(phases(&ticks, 1), [&round[..], &again].concat());
    // When all is closed, all orders are gone, and nothing happens.
    let mut books: BTreeMap<u32, Book> = BTreeMap::new();
    for tick in ticks.iter().filter(|tick| tick.time < Timestamp(30_000_000_000)) {
        books.entry(tick.instrument.0).or_default().apply(&tick.event);
        assert!(tick.time.nanos() <= 20_000_000_000);
    }
    assert!(books.len() == 2 && books.values().all(Book::is_empty));
    let lines = |print: fn(&market::Instrument, &Tick, &mut String)| {
        let mut lines = String::new();
        let instruments = simulator.instruments();
        for tick in &ticks {
            print(&instruments[tick.instrument.index()], tick, &mut lines);
        }
        lines
    };
    assert!(lines(text::tick_json).contains(r#""code":"closed","reason":"good \"night\"""#));
    assert!(lines(text::tick_csv).lines().all(|line| line.split(',').count() == 11));
}

#[test]
fn the_rate_is_about_as_configured() {
    // One instrument starts with a book; the seed's day is what it is.
    let (_, ticks) = market(Scenario::Calm, 50, 2000.0, 60);
    let rate = ticks.len() as f64 / 60.0;
    assert!((700.0..1300.0).contains(&rate), "half of 2000 is asked for, {rate} came");
    assert!(
        ticks
            .iter()
            .any(|tick| matches!(tick.event, Event::Quote(quote) if quote.bid.is_some_and(|bid| bid.price > Price(0))))
    );
}
