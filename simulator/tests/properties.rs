//! What holds for every market, whatever its seed.

use std::time::Duration;

use market::{Event, Instrument, Quote, Side, Tick, Trade};
use proptest::prelude::*;
use simulator::{Config, Next, Scenario, Simulator};

fn configs() -> impl Strategy<Value = Config> {
    let scenario = prop_oneof![3 => Just(Scenario::Market), 1 => Just(Scenario::Uniform)];
    (any::<u64>(), 1usize..300, 0.0f64..6.3, scenario).prop_map(|(seed, symbols, magnitude, scenario)| Config {
        seed,
        symbols,
        rate: 10f64.powf(magnitude),
        scenario,
    })
}

/// What a reader of one instrument's ticks knows.
#[derive(Clone, Default)]
struct Seen {
    quote: Quote,
    /// The quote, less what was traded since.
    left: Quote,
    trade_count: u64,
}

impl Seen {
    /// Takes the tick in and says what is wrong with it.
    fn take(&mut self, instrument: &Instrument, event: &Event) -> Result<(), String> {
        match event {
            Event::Quote(quote) => self.take_quote(instrument, *quote),
            Event::Trade(trade) => self.take_trade(instrument, *trade),
            other => Err(format!("neither quote nor trade: {other:?}")),
        }
    }

    fn take_quote(&mut self, instrument: &Instrument, quote: Quote) -> Result<(), String> {
        let (Some(bid), Some(ask)) = (quote.bid, quote.ask) else { return Err("an empty side".to_owned()) };
        let sound = 0 < bid.price.0
            && bid.price < ask.price
            && [bid, ask].iter().all(|level| level.price.0 % instrument.tick_size.0 == 0)
            && [bid, ask].iter().all(|level| level.size.0 > 0 && level.size.0.is_multiple_of(instrument.lot_size.0));
        if !sound || quote == self.quote || quote == self.left {
            return Err(format!("{quote:?} after {:?}", self.quote));
        }
        (self.quote, self.left) = (quote, quote);
        Ok(())
    }

    fn take_trade(&mut self, instrument: &Instrument, trade: Trade) -> Result<(), String> {
        self.trade_count += 1;
        let passive = match trade.side {
            Side::Buy => self.left.ask.as_mut(),
            Side::Sell => self.left.bid.as_mut(),
            Side::Unknown => None,
        };
        let Some(passive) = passive else { return Err(format!("{trade:?} against nothing")) };
        let sound = trade.price == passive.price
            && (1..=passive.size.0).contains(&trade.size.0)
            && trade.size.0.is_multiple_of(instrument.lot_size.0)
            && trade.trade_id == self.trade_count;
        if !sound {
            return Err(format!("{trade:?} against {passive:?}"));
        }
        // What is left is what the next trade can take.
        passive.size.0 -= trade.size.0;
        Ok(())
    }
}

fn check(simulator: &Simulator, seen: &mut [Seen], ticks: &[Tick]) -> Result<(), String> {
    for tick in ticks {
        let index = tick.instrument.index();
        let instrument = simulator.instruments().get(index).ok_or("unknown instrument")?;
        seen[index].take(instrument, &tick.event).map_err(|wrong| format!("{}: {wrong}", instrument.symbol))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn quotes_and_trades_are_valid(config in configs()) {
        let mut simulator = Simulator::new(config).unwrap();
        let mut ticks = Vec::new();
        simulator.advance(Duration::MAX, 4000, &mut ticks);
        prop_assert_eq!(ticks.len(), 4000);
        let mut seen = vec![Seen::default(); simulator.instruments().len()];
        prop_assert_eq!(check(&simulator, &mut seen, &ticks), Ok(()));
        prop_assert!(ticks.is_sorted_by_key(|tick| tick.time));
    }

    #[test]
    fn any_cut_of_calls_gives_the_same_ticks(
        config in configs(),
        cuts in prop::collection::vec((0u64..40, 0usize..60), 1..80),
    ) {
        let mut whole = Simulator::new(config.clone()).unwrap();
        let mut cut = whole.clone();
        let (mut expected, mut got) = (Vec::new(), Vec::new());
        let mut until = Duration::ZERO;
        for (periods, ticks_max) in cuts {
            until += Duration::from_secs_f64(periods as f64 / config.rate);
            let before = got.len();
            let next = cut.advance(until, ticks_max, &mut got);
            prop_assert!(got.len() - before <= ticks_max);
            let due = Duration::from_nanos(got.last().map_or(0, |tick: &Tick| tick.time.nanos()));
            prop_assert!(due <= until);
            match next {
                Next::Ready => prop_assert_eq!(got.len() - before, ticks_max),
                Next::At(at) => {
                    prop_assert!(at > until);
                    // A clone goes exactly there.
                    let mut ticks = Vec::new();
                    cut.clone().advance(at, 1, &mut ticks);
                    prop_assert_eq!(ticks.first().map(|tick| tick.time.nanos()), Some(at.as_nanos() as u64));
                }
            }
        }
        while cut.advance(until, 7, &mut got) == Next::Ready {}
        let next = whole.advance(until, usize::MAX, &mut expected);
        prop_assert_eq!(got, expected);
        prop_assert!(matches!(next, Next::At(at) if at > until));
    }
}

#[test]
fn weeks_do_not_carry_prices_away() {
    let mut simulator = Simulator::new(Config { seed: 11, symbols: 60, rate: 1.0, ..Config::default() }).unwrap();
    let mut seen = vec![Seen::default(); 60];
    let mut first = vec![None; 60];
    let mut ticks = Vec::new();
    for day in 1..=14 {
        ticks.clear();
        simulator.advance(Duration::from_secs(day * 86_400), usize::MAX, &mut ticks);
        check(&simulator, &mut seen, &ticks).unwrap();
        for tick in &ticks {
            let Event::Quote(Quote { bid: Some(bid), .. }) = tick.event else { continue };
            let first = *first[tick.instrument.index()].get_or_insert(bid.price.0) as f64;
            let change = bid.price.0 as f64 / first - 1.0;
            assert!(
                change.abs() < 0.5,
                "{} by {change} on day {day}",
                simulator.instruments()[tick.instrument.index()].symbol
            );
        }
    }
}

#[test]
fn nothing_is_due_before_the_first_tick_and_nothing_beyond_the_limit() {
    let mut simulator = Simulator::new(Config::default()).unwrap();
    let mut ticks = Vec::new();
    let Next::At(first) = simulator.advance(Duration::ZERO, 10, &mut ticks) else { panic!("due at once") };
    assert!(ticks.is_empty() && !first.is_zero());
    assert_eq!(simulator.advance(first, 0, &mut ticks), Next::Ready);
    assert!(ticks.is_empty());
    simulator.advance(first, 1, &mut ticks);
    assert_eq!(ticks.len(), 1);
}
