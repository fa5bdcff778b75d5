//! Does a given amount of the hub's work, to have its instructions counted: see `scripts/instructions`.
//!
//! `cargo run --release --package hub --example instructions -- CASE BATCHES` prints how many units of work were done.

#[path = "../benches/plant/mod.rs"]
mod plant;

use plant::Plant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let batches = arguments.get(1).and_then(|text| text.parse().ok());
    let (Some(case), Some(batches)) = (arguments.first(), batches) else {
        eprintln!("usage: instructions CASE BATCHES");
        std::process::exit(2);
    };
    let mut plant = Plant::new(1_000);
    let units = match case.as_str() {
        // A frame of 10 elements to each of 1,000 clients: what one write costs beside the kernel.
        "frame" => {
            for _ in 0..1_000 {
                let key = plant.open();
                plant.subscribe(key, &["*".to_owned()]);
            }
            plant.fan_out(10, batches);
            f64::from(batches) * 1_000.0
        }
        // Elements for clients that share nothing with each other, frames included.
        "delivery" => {
            for _ in 0..1_000 {
                let key = plant.open();
                let symbols = plant.some_symbols(20);
                plant.subscribe(key, &symbols);
            }
            plant.fan_out(100, batches).1
        }
        // A flush of a dashboard that shares nothing with others: 20 symbols in mode latest.
        "conflation" => {
            for _ in 0..1_000 {
                let key = plant.open();
                let symbols = plant.some_symbols(20);
                plant.subscribe_latest(key, &symbols);
            }
            plant.conflate(1_000, batches).1
        }
        // From a tick to an element in a batch, with a session that wants nothing of it.
        "tick" => {
            let key = plant.open();
            plant.subscribe(key, &["S0".to_owned()]);
            plant.fan_out(100, batches);
            f64::from(batches) * 100.0
        }
        // A subscription to 20 symbols that nobody else has in this combination.
        "subscription" => {
            for _ in 0..batches {
                let key = plant.open();
                let symbols = plant.some_symbols(20);
                plant.subscribe(key, &symbols);
            }
            f64::from(batches)
        }
        other => {
            eprintln!("no case {other}: frame, delivery, conflation, tick, subscription");
            std::process::exit(2);
        }
    };
    println!("{units}");
}
