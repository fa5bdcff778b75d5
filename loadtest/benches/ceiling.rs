//! How much one core of the load generator can take: `cargo bench -p loadtest`.
//!
//! **Invariant:** it measures the shipped binary (`loadtest ceiling`), so that anyone can repeat it on their machine.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match Command::new(env!("CARGO_BIN_EXE_loadtest")).arg("ceiling").status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        other => {
            eprintln!("the load generator did not finish: {other:?}");
            ExitCode::FAILURE
        }
    }
}
