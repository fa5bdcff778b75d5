//! Bars and statistics against naive recomputation from all trades, at every step.
//!
//! **Invariant:** the naive side keeps every trade and sorts them; it shares no rule with what it checks.

use std::collections::BTreeMap;
use std::time::Duration;

use market::{
    AssetClass, Bar, BarInterval, Bars, Event, Instrument, InstrumentId, Price, RollingTicker, RollingWindow, Side,
    Size, Statistics, Symbol, Ticker, Timestamp, Trade,
};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn trade(price: i64, size: u64) -> Trade {
    Trade { price: Price(price), size: Size(size), side: Side::Buy, trade_id: 0 }
}

/// All trades of an instrument, in order of arrival.
#[derive(Default, Clone)]
struct Naive(Vec<(u64, i64, u64)>);

impl Naive {
    /// Those from `begin` until before `end`, by time and then by arrival.
    fn between(&self, begin: u64, end: u64) -> Vec<(u64, i64, u64)> {
        let mut trades: Vec<_> = self.0.iter().filter(|trade| (begin..end).contains(&trade.0)).copied().collect();
        trades.sort_by_key(|trade| trade.0);
        trades
    }

    fn bars(&self, interval: BarInterval, now: u64) -> Vec<(Timestamp, Bar)> {
        let length = u64::from(interval.seconds()) * SECOND;
        let mut opens: Vec<u64> = self.0.iter().map(|trade| trade.0 / length * length).collect();
        opens.sort_unstable();
        opens.dedup();
        let bar = |at: u64| {
            let trades = self.between(at, at + length);
            let prices = || trades.iter().map(|trade| Price(trade.1));
            Bar {
                interval,
                open: prices().next().unwrap(),
                high: prices().max().unwrap(),
                low: prices().min().unwrap(),
                close: prices().next_back().unwrap(),
                volume: Size(trades.iter().map(|trade| trade.2).sum()),
                trade_count: trades.len() as u64,
                closed: at + length <= now,
            }
        };
        opens.into_iter().map(|at| (Timestamp(at), bar(at))).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// By how much the market's time moves
    Advance(u64),
    /// Instrument, how far from the market's time, price, size
    Trade(u32, i64, i64, u64),
}

fn steps(reach_ns: i64, pause_ns: u64) -> impl Strategy<Value = Vec<Step>> {
    let trade = (0u32..2, -reach_ns..reach_ns / 4, -50i64..50, 0u64..9);
    prop::collection::vec(
        prop_oneof![
            1 => (0..pause_ns).prop_map(Step::Advance),
            3 => trade.prop_map(|(who, away, price, size)| Step::Trade(who, away, price, size)),
            2 => (0u32..2, -1000i64..1, -50i64..50, 1u64..9).prop_map(|(who, away, price, size)| Step::Trade(who, away, price, size)),
        ],
        1..120,
    )
}

const START: u64 = 1_582_329_600 * SECOND;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn bars_are_what_all_trades_make_of_them(steps in steps(20 * SECOND as i64, 9 * SECOND), hourly in any::<bool>()) {
        let scale = if hourly { 700 } else { 1 };
        let mut bars = Bars::new(10_000);
        let mut naive = [Naive::default(), Naive::default()];
        let mut seen: BTreeMap<(u32, BarInterval, Timestamp), Bar> = BTreeMap::new();
        let mut now = START;
        bars.advance(Timestamp(now));
        for step in steps {
            match step {
                Step::Advance(by) => {
                    let before = bars.deadline();
                    now += by * scale;
                    bars.advance(Timestamp(now));
                    prop_assert!(bars.deadline().is_none_or(|deadline| deadline.0 > now));
                    let mut closed = 0;
                    bars.clone().changes(|tick| closed += u32::from(matches!(tick.event, Event::Bar(Bar { closed: true, .. }))));
                    prop_assert!(before.is_some_and(|before| before.0 <= now) || closed == 0, "closed before the deadline");
                }
                Step::Trade(who, away, price, size) => {
                    let time = now.checked_add_signed(away * scale as i64).unwrap();
                    bars.trade(InstrumentId(who), Timestamp(time), &trade(price, size));
                    naive[who as usize].0.push((time, price, size));
                }
            }
            bars.changes(|tick| {
                let Event::Bar(bar) = tick.event else { panic!("{tick:?}") };
                let before = seen.insert((tick.instrument.0, bar.interval, tick.time), bar);
                assert_ne!(before, Some(bar), "nothing new");
            });
            bars.changes(|tick| panic!("{tick:?} again"));
            for (naive, who) in naive.iter().zip(0..) {
                for interval in BarInterval::ALL {
                    let want = naive.bars(interval, now);
                    let got: Vec<_> = bars.history(InstrumentId(who), interval, usize::MAX).collect();
                    prop_assert_eq!(&got, &want, "{:?} of {}", interval, who);
                    // Who only hears of changes knows the same.
                    let heard: Vec<_> = seen.range((who, interval, Timestamp(0))..=(who, interval, Timestamp(u64::MAX)))
                        .map(|((.., opens), bar)| (*opens, *bar)).collect();
                    prop_assert_eq!(&heard, &want);
                    prop_assert_eq!(bars.newest(InstrumentId(who), interval), want.last().copied());
                }
            }
        }
    }

    #[test]
    fn a_bounded_history_is_the_end_of_the_whole(steps in steps(20 * SECOND as i64, 9 * SECOND), history_max in 1usize..8) {
        let (mut bounded, mut whole) = (Bars::new(history_max), Bars::new(usize::MAX));
        let mut now = START;
        for step in steps {
            match step {
                Step::Advance(by) => {
                    now += by;
                    bounded.advance(Timestamp(now));
                    whole.advance(Timestamp(now));
                }
                Step::Trade(_, away, price, size) => {
                    let time = Timestamp(now.checked_add_signed(away).unwrap());
                    let before = bounded.history(InstrumentId(0), BarInterval::S1, 1000).next();
                    let full = bounded.history(InstrumentId(0), BarInterval::S1, 1000).len() == history_max;
                    // What is older than the history is nobody's any more.
                    if full && before.is_some_and(|(opens, _)| time < opens) {
                        let late = bounded.too_old();
                        bounded.trade(InstrumentId(0), time, &trade(price, size));
                        prop_assert!(bounded.too_old() > late);
                        continue;
                    }
                    bounded.trade(InstrumentId(0), time, &trade(price, size));
                    whole.trade(InstrumentId(0), time, &trade(price, size));
                }
            }
            let newest: Vec<_> = whole.history(InstrumentId(0), BarInterval::S1, history_max).collect();
            let kept: Vec<_> = bounded.history(InstrumentId(0), BarInterval::S1, usize::MAX).collect();
            prop_assert_eq!(kept, newest);
        }
        bounded.changes(|_| ());
    }

    #[test]
    fn rolling_statistics_are_those_of_the_window(
        steps in steps(40 * SECOND as i64, 30 * SECOND), length in 1u64..90, slot in 1u64..20,
    ) {
        let window = RollingWindow::new(Duration::from_secs(length), Duration::from_secs(slot));
        let (length, slot) = (length * SECOND, slot.min(length) * SECOND);
        let mut rolling = RollingTicker::new();
        let mut naive = Naive::default();
        let (mut now, mut last) = (START, None::<(u64, i64)>);
        for step in steps {
            let begin = (now / slot * slot - length) / slot * slot;
            prop_assert_eq!(window.begin(Timestamp(now)), Timestamp(begin));
            match step {
                Step::Advance(by) => {
                    let before = naive.between(begin, u64::MAX).len();
                    now += by;
                    let begin = window.begin(Timestamp(now)).0;
                    let expired = rolling.advance(window, Timestamp(now));
                    prop_assert_eq!(expired, naive.between(begin, u64::MAX).len() != before);
                }
                Step::Trade(_, away, price, size) => {
                    let time = now.checked_add_signed(away).unwrap();
                    let counts = rolling.trade(window, Timestamp(now), Timestamp(time), &trade(price, size));
                    prop_assert_eq!(counts, time >= begin);
                    if counts {
                        naive.0.push((time, price, size));
                        if last.is_none_or(|last| time >= last.0) {
                            last = Some((time, price));
                        }
                    }
                }
            }
            let trades = naive.between(window.begin(Timestamp(now)).0, u64::MAX);
            let notional: i64 = trades.iter().map(|trade| trade.1 * trade.2 as i64).sum();
            let volume: u64 = trades.iter().map(|trade| trade.2).sum();
            let want = last.map(|(_, last)| Ticker {
                last: Price(last),
                open: Price(trades.first().map_or(last, |trade| trade.1)),
                high: Price(trades.iter().map(|trade| trade.1).max().unwrap_or(last)),
                low: Price(trades.iter().map(|trade| trade.1).min().unwrap_or(last)),
                volume: Size(volume),
                turnover: notional as f64 / 1000.0,
                trade_count: trades.len() as u64,
            });
            prop_assert_eq!(rolling.ticker(-2, -1), want);
            let average = (volume > 0).then(|| Price((notional as f64 / volume as f64 + 0.5).floor() as i64));
            prop_assert_eq!(rolling.vwap(), average);
            prop_assert_eq!(rolling.change().map(|change| change.0), trades.first().map(|first| last.unwrap().1 - first.1));
        }
    }
}

fn instrument(id: u32) -> Instrument {
    Instrument {
        id: InstrumentId(id),
        symbol: Symbol::new("S").unwrap(),
        price_exponent: -2,
        size_exponent: 0,
        tick_size: Price(1),
        lot_size: Size(1),
        class: AssetClass::Crypto,
        currency: "USD".into(),
        description: String::new(),
    }
}

#[test]
fn the_memory_of_bars_is_bounded_and_what_has_not_traded_takes_none() {
    const HISTORY_MAX: usize = 250;
    let mut bars = Bars::new(HISTORY_MAX);
    bars.trade(InstrumentId(9_999), Timestamp(START), &trade(1, 1));
    let one = bars.bytes();
    assert!(one < 100_000, "{one} bytes for one trade of one instrument of 10,000");
    // Two days with a trade in every second: more than the history holds but for the two longest intervals.
    for second in 0..2 * 86_400 {
        let time = Timestamp(START + second * SECOND);
        bars.advance(time);
        bars.trade(InstrumentId(0), time, &trade(1, 1));
        bars.changes(|_| ());
    }
    let busy = bars.bytes() - one;
    assert!(busy < 105_000, "{busy} bytes for an instrument that trades all the time");
    // Vectors grow to powers of two.
    let bound = Bars::INSTRUMENT_BYTES + BarInterval::ALL.len() * HISTORY_MAX.next_power_of_two() * Bars::BAR_BYTES;
    assert!(busy <= bound && bound < 133_000, "{bound}");
    assert_eq!(bars.history(InstrumentId(0), BarInterval::S1, usize::MAX).len(), HISTORY_MAX);
}

#[test]
fn bars_of_instruments_that_stop_trading_close_too() {
    let mut bars = Bars::new(10);
    for instrument in 0..3 {
        bars.trade(InstrumentId(instrument), Timestamp(START + u64::from(instrument)), &trade(1, 1));
    }
    bars.changes(|_| ());
    assert_eq!(bars.deadline(), Some(Timestamp(START + SECOND)));
    let mut closed = Vec::new();
    // One other instrument goes on; a minute passes in leaps.
    for time in [1, 4, 9, 61].map(|second| Timestamp(START + second * SECOND)) {
        bars.advance(time);
        bars.trade(InstrumentId(3), time, &trade(1, 1));
        bars.changes(|tick| match tick.event {
            Event::Bar(Bar { interval, closed: true, .. }) if tick.instrument.0 < 3 => {
                closed.push((tick.instrument.0, interval));
            }
            Event::Bar(_) => assert_eq!(tick.instrument, InstrumentId(3), "an open bar is said again"),
            other => panic!("{other:?}"),
        });
    }
    closed.sort_unstable();
    let want = [BarInterval::S1, BarInterval::S5, BarInterval::S10, BarInterval::M1];
    assert_eq!(closed, (0..3).flat_map(|id| want.map(|interval| (id, interval))).collect::<Vec<_>>());
}

#[test]
fn a_trade_leaves_after_24_hours_by_the_clock_alone() {
    let mut statistics = Statistics::new(RollingWindow::default());
    let mut at = START + 30 * SECOND;
    statistics.advance(Timestamp(at), |_| ());
    assert!(statistics.trade(&instrument(3), Timestamp(at), &trade(100, 2)).is_some());
    at += 3600 * SECOND;
    statistics.advance(Timestamp(at), |tick| panic!("{tick:?}"));
    let two = statistics.trade(&instrument(3), Timestamp(at), &trade(90, 1)).unwrap();
    assert_eq!(
        (two.high, two.low, two.open, two.volume, two.trade_count),
        (Price(100), Price(90), Price(100), Size(3), 2)
    );
    assert!((two.turnover - 2.9).abs() < 1e-12);

    let mut expired = Vec::new();
    statistics.advance(Timestamp(START + 86_400 * SECOND + 59 * SECOND), |tick| expired.push(tick));
    assert!(expired.is_empty(), "it is still in the window's first minute");
    assert_eq!(statistics.deadline(), Timestamp(START + 86_460 * SECOND));
    statistics.advance(statistics.deadline(), |tick| expired.push(tick));
    let [tick] = expired.as_slice() else { panic!("{expired:?}") };
    assert_eq!((tick.instrument, tick.time), (InstrumentId(3), Timestamp(START + 86_460 * SECOND)));
    let Event::Ticker(ticker) = tick.event else { panic!("{tick:?}") };
    assert_eq!((ticker.high, ticker.open, ticker.trade_count), (Price(90), Price(90), 1));

    statistics.advance(Timestamp(START + 3 * 86_400 * SECOND), |_| ());
    let rolling = statistics.of(InstrumentId(3)).unwrap();
    let empty = rolling.ticker(-2, 0).unwrap();
    assert_eq!((empty.last, empty.high, empty.volume, empty.trade_count), (Price(90), Price(90), Size(0), 0));
    assert_eq!((rolling.vwap(), rolling.change()), (None, None));
}

#[test]
fn sums_that_exceed_64_bits_come_back() {
    let window = RollingWindow::default();
    let mut rolling = RollingTicker::new();
    let (now, later) = (Timestamp(START), Timestamp(START + 7200 * SECOND));
    for _ in 0..3 {
        rolling.trade(window, now, now, &trade(i64::MAX, u64::MAX));
    }
    assert_eq!(rolling.ticker(0, 0).unwrap().volume, Size(u64::MAX));
    rolling.trade(window, now, later, &trade(7, 5));
    rolling.advance(window, Timestamp(later.0 + 86_400 * SECOND));
    let ticker = rolling.ticker(0, 0).unwrap();
    assert_eq!((ticker.volume, ticker.trade_count, rolling.vwap()), (Size(5), 1, Some(Price(7))));
    assert!((ticker.turnover - 35.0).abs() < f64::EPSILON);
}
