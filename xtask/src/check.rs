//! What needs no running: formatting, lints, documentation, and that generated files are what would be generated.

use crate::process::{cargo, run as go};
use crate::{Outcome, compare, promtool, table, test::Tally, wire};
use std::process::Command;

/// All of it, stopping at the first thing that is not as it should be.
pub(crate) fn run() -> Outcome {
    stage("", &mut Tally::default())
}

/// The same, counted.
pub(crate) fn stage(_filter: &str, tally: &mut Tally) -> Outcome {
    for (what, mut command) in checks() {
        println!("-- {what}");
        tally.count(go(&mut command))?;
    }
    println!("-- the tables of clients are what the suites are expected to say");
    tally.count(table::run(true))?;
    println!("-- what Weir is said to do beside others has its tests");
    tally.count(compare::run())?;
    println!("-- alerts fire when they should");
    tally.count(promtool::run())?;
    println!("-- the Kafka codec is what its definitions say");
    tally.count(wire::run(true))
}

fn checks() -> Vec<(&'static str, Command)> {
    let mut format = cargo("fmt");
    format.args(["--all", "--check"]);
    let mut lints = cargo("clippy");
    // The stories name a cluster or binaries that they need, so they are no default targets: named here one by one.
    lints.args([
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]);
    let mut stories = cargo("clippy");
    stories
        .args([
            "-p",
            "weir-tests",
            "--test",
            "kube",
            "--test",
            "conformance",
            "--test",
            "faults",
            "--test",
            "soak",
            "--locked",
            "--quiet",
        ])
        .args(["--", "-D", "warnings"]);
    let mut documentation = cargo("doc");
    documentation
        .args([
            "--workspace",
            "--no-deps",
            "--locked",
            "--quiet",
            "--document-private-items",
        ])
        .env("RUSTDOCFLAGS", "-D warnings");
    let mut manifests = cargo("run");
    manifests.args([
        "--quiet",
        "--locked",
        "-p",
        "weir-crds",
        "--bin",
        "crdgen",
        "--",
        "--check",
    ]);
    let mut watching = cargo("run");
    watching.args([
        "--quiet",
        "--locked",
        "-p",
        "weir-operator",
        "--bin",
        "watchgen",
        "--",
        "--check",
    ]);
    vec![
        ("formatting", format),
        ("lints", lints),
        ("lints of the stories", stories),
        ("documentation", documentation),
        ("manifests are what the Rust types say", manifests),
        (
            "alerts, dashboards and metrics are what the Rust says",
            watching,
        ),
    ]
}
