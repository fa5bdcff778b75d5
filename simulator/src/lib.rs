//! A market that exists only in a seed: instruments, quotes and trades that look alive and never differ twice.
//!
//! **Invariant:** the ticks are a function of the [`Config`] alone. The same seed gives the same bytes on every platform
//! with IEEE 754 doubles: the generator is ChaCha8 (`rand_chacha`), keyed and read in ways this crate spells out itself;
//! arithmetic uses only operations that IEEE 754 rounds correctly (`+ - * / sqrt floor`, which Rust neither fuses nor
//! reorders) and the logarithm and exponential of the crate `libm`, which are plain Rust. `rand_distr` was not taken,
//! because it calls the platform's mathematics as soon as any crate of the build enables `num-traits/std`. Floating
//! point stays inside the model: published prices and sizes are integers that are counted in whole ticks and lots.
//!
//! | part | what it does |
//! | --- | --- |
//! | `catalog` | names, tick sizes, lots, typical spreads and sizes of up to 10,000 instruments, most active first |
//! | `arrivals` | when the next tick comes and whose it is: a Hawkes process with Zipf marks, or a metronome |
//! | `fair_value` | what each underlying is worth: mean-reverting, with volatility in clusters and common factors |
//! | `top_of_book` | what is quoted around that value and traded against the quotes |
//! | `script` | what happens when in the scenarios with order books; files of the same form |
//! | `venue` | order books for those scenarios: orders, matching, agents |
//! | `text` | ticks and instruments as lines of CSV or JSON |
//!
//! What is *not* here: a clock. Virtual time goes in and ticks come out; pacing is the caller's.

mod arrivals;
mod catalog;
mod config;
mod fair_value;
mod random;
mod script;
mod simulation;
pub mod text;
mod top_of_book;
mod venue;

pub use config::{Config, ConfigError, Scenario, UnknownScenario};
pub use script::{Script, ScriptError};
pub use simulation::{Next, Simulator};
