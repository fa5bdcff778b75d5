//! Holds the direction of dependencies: crates that decide know no I/O.
//!
//! **Invariant:** no async runtime and no HTTP stack is reachable from the pure crates by normal dependencies, on the
//! platform that the test is run on and with the features that this workspace uses.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

const PURE: [&str; 6] = ["hub", "market", "recording", "wire", "websocket", "simulator"];
const FORBIDDEN: [&str; 12] = [
    "tokio",
    "hyper",
    "hyper-util",
    "axum",
    "axum-core",
    "mio",
    "async-std",
    "smol",
    "async-io",
    "polling",
    "tower",
    "socket2",
];

/// Package ids by the ids that depend on them, and names by ids.
struct Graph {
    names: BTreeMap<String, String>,
    dependencies: BTreeMap<String, Vec<String>>,
}

/// What cargo prints.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).output().expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// The platform of cargo, for which a build has downloaded what it needs; of other platforms it has nothing.
fn host() -> String {
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("cargo names its platform").to_owned()
}

fn graph() -> Graph {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    // Not `--offline`: what is there is not asked for anyway, and a build of this package alone has not downloaded what
    // only the tests of others need.
    let printed = cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        &host(),
        "--manifest-path",
        manifest,
    ]);
    let metadata: Value = serde_json::from_str(&printed).expect("cargo writes JSON");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let names = list(&metadata["packages"]).into_iter().map(|package| (text(&package["id"]), text(&package["name"])));
    let is_normal = |dependency: &Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
    let dependencies = list(&metadata["resolve"]["nodes"]).into_iter().map(|node| {
        let normal = list(&node["deps"]).into_iter().filter(is_normal).map(|dependency| text(&dependency["pkg"]));
        (text(&node["id"]), normal.collect())
    });
    Graph { names: names.collect(), dependencies: dependencies.collect() }
}

impl Graph {
    /// The names of everything below the workspace's package `name`, itself included.
    fn reachable(&self, name: &str) -> BTreeSet<&str> {
        let root = self.names.iter().find(|(id, n)| *n == name && id.starts_with("path+"));
        let mut open = vec![root.unwrap_or_else(|| panic!("no package {name}")).0];
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(&self.dependencies[id]);
            }
        }
        seen.into_iter().map(|id| self.names[id].as_str()).collect()
    }
}

#[test]
fn crates_that_decide_know_no_io() {
    let graph = graph();
    for name in PURE {
        let reachable = graph.reachable(name);
        let found: Vec<_> = FORBIDDEN.iter().filter(|forbidden| reachable.contains(**forbidden)).collect();
        assert!(found.is_empty(), "{name} pulls in {found:?}");
    }
    // The test can see what it looks for.
    assert!(graph.reachable("gateway").contains("tokio"));
}

#[test]
fn dependencies_point_downwards() {
    let graph = graph();
    for (name, above) in [
        ("market", &["wire", "websocket", "hub", "feed", "gateway", "simulator", "tickerplant"][..]),
        ("wire", &["websocket", "hub", "feed", "gateway", "simulator", "tickerplant"]),
        ("websocket", &["market", "wire", "hub", "feed", "gateway", "simulator", "tickerplant"]),
        ("hub", &["feed", "gateway", "simulator", "tickerplant"]),
        ("feed", &["hub", "gateway", "websocket", "tickerplant"]),
        ("simulator", &["wire", "websocket", "hub", "feed", "gateway", "tickerplant"]),
        ("gateway", &["tickerplant"]),
        ("tickerplant-client", &["websocket", "hub", "feed", "gateway", "simulator", "tickerplant"]),
    ] {
        let reachable = graph.reachable(name);
        let found: Vec<_> = above.iter().filter(|above| reachable.contains(**above)).collect();
        assert!(found.is_empty(), "{name} depends on {found:?}");
    }
}
