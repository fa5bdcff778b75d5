//! What a market looks like from afar: its rate, its bursts, who is active, and that prices move.

use std::time::Duration;

use market::{Event, Tick};
use simulator::{Config, Scenario, Simulator};

fn ticks(config: Config, seconds: f64) -> Vec<Tick> {
    let mut ticks = Vec::new();
    Simulator::new(config).unwrap().advance(Duration::from_secs_f64(seconds), usize::MAX, &mut ticks);
    ticks
}

/// The variance of the counts in windows, divided by their mean: 1 for Poisson arrivals, 0 for a metronome.
fn dispersion<'a>(ticks: impl Iterator<Item = &'a Tick>, seconds: f64, windows: usize) -> f64 {
    let mut counts = vec![0.0; windows];
    for tick in ticks {
        let window = tick.time.nanos() as f64 * 1e-9 / seconds * windows as f64;
        counts[(window as usize).min(windows - 1)] += 1.0;
    }
    let mean = counts.iter().sum::<f64>() / windows as f64;
    counts.iter().map(|count| (count - mean) * (count - mean)).sum::<f64>() / windows as f64 / mean
}

#[test]
fn the_mean_rate_is_as_configured() {
    // Counts vary 16 times as much as Poisson's: the tolerance is about three deviations.
    for (rate, seconds, tolerance) in [(1.0, 20_000.0, 0.09), (1000.0, 200.0, 0.027), (1_000_000.0, 0.5, 0.017)] {
        let made = ticks(Config { rate, ..Config::default() }, seconds).len() as f64;
        let error = made / (rate * seconds) - 1.0;
        assert!(error.abs() < tolerance, "{made} in {seconds} s at {rate} per s");
    }
}

#[test]
fn arrivals_are_bursts_in_all_and_for_each_instrument() {
    for (rate, seconds) in [(1000.0, 100.0), (100_000.0, 2.0)] {
        let ticks = ticks(Config { rate, ..Config::default() }, seconds);
        // Windows of 20 ms, which is longer than quick children take.
        let windows = (seconds / 0.02) as usize;
        let all = dispersion(ticks.iter(), seconds, windows);
        assert!(all > 1.5, "index of dispersion {all} at {rate} per s");
        let first = dispersion(ticks.iter().filter(|tick| tick.instrument.0 == 0), seconds, windows);
        assert!(first > 1.3, "index of dispersion {first} of the most active at {rate} per s");
    }
}

#[test]
fn a_metronome_is_exact() {
    for (rate, symbols) in [(1.0, 3), (1000.0, 1000), (250_000.0, 1000)] {
        let config = Config { rate, symbols, scenario: Scenario::Uniform, ..Config::default() };
        let seconds = 2.0;
        let ticks = ticks(config, seconds);
        assert_eq!(ticks.len(), (rate * seconds) as usize);
        assert!(rate < 10.0 || dispersion(ticks.iter(), seconds, 20) < 0.01);
        for (k, tick) in ticks.iter().enumerate() {
            assert_eq!(tick.instrument.index(), k / 2 % symbols);
            assert_eq!(matches!(tick.event, Event::Quote(_)), k % 2 == 0);
        }
    }
}

#[test]
fn activity_is_like_zipf() {
    let ticks = ticks(Config { rate: 100_000.0, ..Config::default() }, 8.0);
    let mut counts = vec![0.0; 1000];
    for tick in &ticks {
        counts[tick.instrument.index()] += 1.0;
    }
    let harmonic: f64 = (1..=1000).map(|k| 1.0 / f64::from(k)).sum();
    // Ranks 1, 2-3, 4-7, ...: each group has about the same share, as 1 / rank has it.
    for octave in 0..9 {
        let ranks = (1usize << octave)..(2usize << octave);
        let expected: f64 = ranks.clone().map(|k| ticks.len() as f64 / k as f64 / harmonic).sum();
        let got: f64 = ranks.clone().map(|k| counts[k - 1]).sum();
        assert!((got / expected - 1.0).abs() < 0.15, "ranks {ranks:?}: {got} of {expected}");
    }
    assert!(counts.iter().all(|count| *count > 0.0));
}

#[test]
fn one_tick_in_five_is_a_trade() {
    let ticks = ticks(Config { rate: 100_000.0, ..Config::default() }, 2.0);
    let trades = ticks.iter().filter(|tick| matches!(tick.event, Event::Trade(_))).count();
    let share = trades as f64 / ticks.len() as f64;
    assert!((0.19..0.21).contains(&share), "{share}");
}

#[test]
fn the_most_active_prices_move_before_your_eyes() {
    let ticks = ticks(Config::default(), 20.0);
    for rank in 0..10 {
        let mut bids: Vec<i64> = Vec::new();
        for tick in ticks.iter().filter(|tick| tick.instrument.0 == rank) {
            if let Event::Quote(quote) = &tick.event {
                bids.extend(quote.bid.map(|bid| bid.price.0));
            }
        }
        let changes = bids.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes >= 20, "instrument {rank}: {changes} changes of the bid in 20 s");
    }
}
