//! What the hub itself costs, without sockets: per delivery as clients and symbols grow, per change of a subscription, per
//! tick that nobody wants. The columns should be flat.
//!
//! `cargo bench --package hub --bench fanout`

mod plant;

use std::time::Instant;

use market::{InstrumentId, Tick};
use plant::{Plant, tick};

const RUNS: usize = 5;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    println!("clients on one lane of everything, batches of 100 ticks");
    println!("  clients   ns per frame   ns per delivery");
    for clients in [10, 100, 1_000, 10_000, 100_000] {
        let mut plant = Plant::new(1_000);
        for _ in 0..clients {
            let key = plant.open();
            plant.subscribe(key, &["*".to_owned()]);
        }
        let batches = (1_000_000 / clients).clamp(3, 10_000);
        let run = |_| {
            let (took, deliveries) = plant.fan_out(100, batches);
            let frames = f64::from(batches) * f64::from(clients);
            (took.as_nanos() as f64 / frames, took.as_nanos() as f64 / deliveries)
        };
        let (frame, delivery): (Vec<f64>, Vec<f64>) = (0..RUNS).map(run).unzip();
        println!("  {clients:>7} {:>14.1} {:>17.2}", median(frame), median(delivery));
    }

    println!("1,000 clients, each with 20 symbols of its own, batches of 100 ticks");
    println!("  symbols   ns per delivery   ns per tick");
    for symbols in [20, 100, 1_000, 10_000] {
        let mut plant = Plant::new(symbols);
        for _ in 0..1_000 {
            let key = plant.open();
            let wanted = plant.some_symbols(20);
            plant.subscribe(key, &wanted);
        }
        let run = |_| {
            let (took, deliveries) = plant.fan_out(100, 200);
            (took.as_nanos() as f64 / deliveries, took.as_nanos() as f64 / 20_000.0)
        };
        let (delivery, tick): (Vec<f64>, Vec<f64>) = (0..RUNS).map(run).unzip();
        println!("  {symbols:>7} {:>17.1} {:>13.0}", median(delivery), median(tick));
    }

    println!("dashboards in mode latest, each with 20 of 1,000 symbols of its own, 1,000 ticks per interval");
    println!("  clients   ns per delivery");
    for clients in [100, 1_000, 10_000] {
        let mut plant = Plant::new(1_000);
        for _ in 0..clients {
            let key = plant.open();
            let wanted = plant.some_symbols(20);
            plant.subscribe_latest(key, &wanted);
        }
        let run = |_| {
            let (took, deliveries) = plant.conflate(1_000, (20_000 / clients).clamp(4, 50));
            took.as_nanos() as f64 / deliveries
        };
        println!("  {clients:>7} {:>17.1}", median((0..RUNS).map(run).collect()));
    }

    println!("so many sessions, each with 20 of 10,000 symbols: what one more change costs, in ns");
    println!("  sessions   subscribe 20   one more symbol   one less   leave   a tick that nobody wants");
    for sessions in [100, 1_000, 10_000, 100_000] {
        let mut plant = Plant::new(10_000);
        for _ in 0..sessions {
            let key = plant.open();
            let wanted = plant.some_symbols(20);
            plant.subscribe(key, &wanted);
        }
        let mut costs: [Vec<f64>; 4] = Default::default();
        for _ in 0..200 {
            let key = plant.open();
            let mut timed = |plant: &mut Plant, which: usize, act: &mut dyn FnMut(&mut Plant)| {
                let begin = Instant::now();
                act(plant);
                costs[which].push(begin.elapsed().as_nanos() as f64);
            };
            let wanted = plant.some_symbols(20);
            timed(&mut plant, 0, &mut |plant| plant.subscribe(key, &wanted));
            let other = plant.some_symbols(1);
            timed(&mut plant, 1, &mut |plant| plant.subscribe(key, &other));
            let less = format!(r#"{{"op":"unsubscribe","channels":["trades","quotes"],"symbols":["{}"]}}"#, other[0]);
            timed(&mut plant, 2, &mut |plant| plant.command(key, &less));
            let now = plant.now();
            timed(&mut plant, 3, &mut |plant| plant.shard.lost(now, key, &mut plant.sink));
        }
        // Quotes of the last symbol are cancelled by all who had them, so its ticks are looked up and dropped.
        let mut lonely = Plant::new(10_000);
        let key = lonely.open();
        lonely.subscribe(key, &["S0".to_owned()]);
        let ticks: Vec<Tick> = (0..10_000).map(|n| tick(InstrumentId(1 + n % 9_999), n)).collect();
        let batch = lonely.sequencer.ingest(&ticks).expect("trades and quotes are wanted");
        let now = lonely.now();
        let begin = Instant::now();
        lonely.shard.upstream(now, batch, &mut lonely.sink);
        lonely.shard.flush(now, &mut lonely.sink);
        let unwanted = begin.elapsed().as_nanos() as f64 / 10_000.0;
        let [subscribe, more, less, leave] = costs.map(median);
        println!("  {sessions:>8} {subscribe:>14.0} {more:>17.0} {less:>10.0} {leave:>7.0} {unwanted:>26.1}");
    }
}
