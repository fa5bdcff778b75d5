//! Has the crate rebuilt when the dashboard's build changes, which the embedding macro alone does not see.

use std::path::Path;

fn main() {
    let dist = Path::new("../../web/dist");
    // Cargo treats a path that is missing as always changed, so an empty folder saves rebuilds. A source tree that cannot
    // be written to is fine too.
    let _ = std::fs::create_dir_all(dist);
    println!("cargo::rerun-if-changed={}", dist.display());
    println!("cargo::rerun-if-changed=build.rs");
}
