//! The engine against a model of the server, over connections that are cut anywhere.
//!
//! **Invariant:** whatever is cut, forgotten or started anew, a stream in mode `every` shows each number once, in order and
//! with the value that the server gave it, or a gap that names it; and books are the server's. A failure prints its seed;
//! `CLIENT_SIMULATION_SEEDS` runs more of them.
//!
//! The model is written from the protocol's document, with the encoders of `wire`, which others hold to their bytes.

mod model;

use model::World;

/// How many worlds are run.
const SEEDS: u64 = 150;

#[test]
fn every_number_comes_once_or_is_named_by_a_gap() {
    let seeds = std::env::var("CLIENT_SIMULATION_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS);
    let (mut cuts, mut gaps, mut delivered, mut epochs, mut books) = (0, 0, 0, 0, 0);
    for seed in 0..seeds {
        let mut world = World::new(seed);
        world.run();
        cuts += world.cuts;
        epochs += world.server.epoch;
        gaps += world.gaps;
        delivered += world.delivered;
        books += world.books_compared;
    }
    println!(
        "{seeds} worlds: {cuts} cuts, {epochs} restarts, {delivered} elements delivered, {gaps} gaps, {books} books compared"
    );
    assert!(
        cuts > seeds && epochs > 0 && gaps > 0 && delivered > 1000 && books > seeds / 4,
        "the worlds are too quiet"
    );
}
