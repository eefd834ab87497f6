//! `make test`: stages in order, each with what it is for and how long it may take on two cores.
//!
//! The first stage that fails ends the run and says how to run it alone. A budget that is passed is reported and fails
//! nothing: machines differ.

use crate::process::{cargo, command, lines, run as go};
use crate::{
    Outcome, before, bench, binaries, check, clients, fuzz, images, kube, paths, prerequisites,
    promtool, sim, soak,
};
use std::process::Command;
use std::time::{Duration, Instant};

struct Stage {
    name: &'static str,
    what: &'static str,
    budget_minutes: u64,
    run: fn(filter: &str, tally: &mut Tally) -> Outcome,
}

const STAGES: [Stage; 10] = [
    Stage {
        name: "machine",
        what: "what the tests need is here, or is installed",
        budget_minutes: 2,
        run: machine,
    },
    Stage {
        name: "check",
        what: "formatting, lints, documentation, generated files",
        budget_minutes: 8,
        run: check::stage,
    },
    Stage {
        name: "unit",
        what: "unit and property tests",
        budget_minutes: 10,
        run: unit,
    },
    Stage {
        name: "sim",
        what: "whole clusters from one seed each, under every fault; and that every mutant is found",
        budget_minutes: 9,
        run: simulation,
    },
    Stage {
        name: "fuzz",
        what: "frames, every message in every version, and batches, 15 seconds each",
        budget_minutes: 4,
        run: fuzz,
    },
    Stage {
        name: "build",
        what: "static binaries and images",
        budget_minutes: 10,
        run: build,
    },
    Stage {
        name: "conformance",
        what: "other people's clients and kill -9, without Kubernetes",
        budget_minutes: 8,
        run: conformance,
    },
    Stage {
        name: "faults",
        what: "brokers killed, frozen, cut off, filled up and wiped under load of three clients",
        budget_minutes: 3,
        run: faults,
    },
    Stage {
        name: "soak",
        what: "everything that clients do at once, while brokers are killed; `make soak` does it for an hour",
        budget_minutes: 3,
        run: soak::stage,
    },
    Stage {
        name: "kube",
        what: "stories on a real Kubernetes",
        budget_minutes: 18,
        run: kubernetes,
    },
];

/// What was tested, in the end.
#[derive(Default)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    /// Tests that said so of themselves, with why.
    skipped: u64,
    /// Tests of Rust among them, which are what a filter chooses from.
    of_rust: u64,
}

impl Tally {
    /// Counts one thing that went well or did not.
    pub(crate) fn count(&mut self, outcome: Outcome) -> Outcome {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(_) => self.failed += 1,
        }
        outcome
    }

    /// Runs tests of Rust and counts what they report; a run that fails without reporting a failed test counts as one.
    pub(crate) fn tests(&mut self, command: &mut Command) -> Outcome {
        let failed_before = self.failed;
        let mut skipped = 0;
        let outcome = lines(command, |line| {
            skipped += u64::from(line.starts_with("skipped: "));
            if let Some(result) = line.strip_prefix("test result: ") {
                let number = |what: &str| {
                    let part = result
                        .split([';', '.'])
                        .find(|part| part.trim_end().ends_with(what));
                    part.and_then(|part| part.split_whitespace().next()?.parse::<u64>().ok())
                        .unwrap_or(0)
                };
                let (passed, failed) = (number(" passed"), number(" failed"));
                self.of_rust += passed + failed;
                // As far as cargo knows they have passed.
                self.passed += passed.saturating_sub(skipped);
                self.skipped += std::mem::take(&mut skipped);
                self.failed += failed;
            }
        });
        if outcome.is_err() && self.failed == failed_before {
            self.failed += 1;
        }
        outcome
    }
}

/// Prints the stages.
pub(crate) fn list() {
    for stage in &STAGES {
        println!("{:12} {}", stage.name, stage.what);
    }
}

/// Runs all stages, or those named.
pub(crate) fn run(only: &[String], filter: &str) -> Outcome {
    if let Some(unknown) = only
        .iter()
        .find(|name| STAGES.iter().all(|stage| stage.name != name.as_str()))
    {
        let names: Vec<_> = STAGES.iter().map(|stage| stage.name).collect();
        return Err(format!(
            "no stage is called {unknown:?}; there are {}",
            names.join(", ")
        )
        .into());
    }
    let start = Instant::now();
    let mut tally = Tally::default();
    let mut report = Vec::new();
    let mut outcome = Ok(());
    for stage in STAGES
        .iter()
        .filter(|stage| only.is_empty() || only.iter().any(|name| name == stage.name))
    {
        println!(
            "\n==== {}: {} (budget {} min)",
            stage.name, stage.what, stage.budget_minutes
        );
        let began = Instant::now();
        let skipped_before = tally.skipped;
        let done = (stage.run)(filter, &mut tally);
        let over = if began.elapsed() > Duration::from_secs(stage.budget_minutes * 60) {
            ", over its budget"
        } else {
            ""
        };
        let skipped = match tally.skipped - skipped_before {
            0 => String::new(),
            count => format!(", {count} skipped"),
        };
        let verdict = if done.is_ok() { "ok" } else { "FAILED" };
        report.push(format!(
            "{:12} {verdict:6} {:>5} s{skipped}{over}",
            stage.name,
            began.elapsed().as_secs()
        ));
        if let Err(error) = done {
            outcome = Err(format!(
                "stage {name} failed: {error}\nto run it alone: cargo xtask test --only {name}",
                name = stage.name
            )
            .into());
            break;
        }
    }
    println!("\n==== {} s in all", start.elapsed().as_secs());
    report.iter().for_each(|line| println!("{line}"));
    if outcome.is_ok() && !filter.is_empty() && tally.of_rust == 0 {
        outcome = Err(format!("no test has {filter:?} in its name").into());
    }
    if let Err(error) = &outcome {
        println!("{error}");
        tally.failed = tally.failed.max(1);
    }
    print!("{} passed, {} failed", tally.passed, tally.failed);
    match tally.skipped {
        0 => println!(),
        count => println!(", {count} skipped"),
    }
    outcome.map_err(|_: Box<dyn std::error::Error>| "the tests failed".into())
}

fn machine(_filter: &str, tally: &mut Tally) -> Outcome {
    tally.count(prerequisites::ensure())
}

fn unit(filter: &str, tally: &mut Tally) -> Outcome {
    let mut tests = cargo("test");
    tests.args(["--workspace", "--locked", "--quiet", "--no-fail-fast"]);
    if !filter.is_empty() {
        tests.arg(filter);
    }
    tally.tests(&mut tests)
}

fn simulation(_filter: &str, tally: &mut Tally) -> Outcome {
    tally.count(sim::stage())
}

fn fuzz(_filter: &str, tally: &mut Tally) -> Outcome {
    tally.count(fuzz::run(15, false))
}

fn build(_filter: &str, tally: &mut Tally) -> Outcome {
    tally.count(images::write_all().map(|_| ()))
}

fn conformance(filter: &str, tally: &mut Tally) -> Outcome {
    let built = binaries::build()?;
    let mut tests = stories("conformance", 1, filter)?;
    tests
        .env("WEIR_BROKER_BINARY", built.broker)
        .env("WEIR_OPERATOR_BINARY", built.operator)
        .env("WEIR_KAFKA_JARS", bench::kafka_jars()?)
        .env("WEIR_TOOLS_JARS", clients::kafka_tools()?)
        .env("WEIR_NODE_MODULES", clients::node_modules()?)
        .env("WEIR_RESULTS", paths::target().join("conformance"));
    tally.tests(&mut tests)
}

fn faults(filter: &str, tally: &mut Tally) -> Outcome {
    tally.tests(&mut on_brokers("faults", filter)?)
}

/// Stories of real brokers, to which the test does things, with the clients of `tests/clients`.
pub(crate) fn on_brokers(name: &str, filter: &str) -> Outcome<Command> {
    let built = binaries::build()?;
    let mut tests = stories(name, 1, filter)?;
    tests
        .env("WEIR_BROKER_BINARY", built.broker)
        .env("WEIR_KAFKA_JARS", bench::kafka_jars()?);
    Ok(tests)
}

fn kubernetes(filter: &str, tally: &mut Tally) -> Outcome {
    let images = images::write_all()?;
    let clients = clients::write_image()?;
    let archives = [images.broker, images.operator, images.before, clients];
    let operator = binaries::build()?.operator;
    let prometheus = promtool::prometheus()?;
    let mut tests = stories("kube", STORIES_AT_ONCE, filter)?;
    tests
        // Of which `kubectl weir` is made.
        .env("WEIR_OPERATOR_BINARY", operator)
        .env("WEIR_PROMETHEUS", prometheus);
    if let Some(revision) = images.before_is {
        tests.env(before::VARIABLE, revision);
    }
    if std::env::var_os("KUBECONFIG").is_some() {
        kube::load_elsewhere(&archives)?;
        return tally.tests(&mut tests);
    }

    let cluster = kube::Cluster::of_tests();
    if cluster.is_up() {
        cluster.down()?; // what an interrupted run left
    }
    cluster.up()?;
    cluster.load(&archives)?;
    let outcome = tally.tests(
        tests
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("PATH", cluster.path()),
    );
    if outcome.is_err() {
        println!("---- what the cluster looks like now");
        let mut describe = command("tests/kube/describe.sh");
        let _ = go(describe
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("PATH", cluster.path()));
    }
    if outcome.is_err() && std::env::var_os("KEEP").is_some() {
        println!(
            "KEEP is set, so the cluster stays up:\n{}",
            cluster.environment()
        );
        return outcome;
    }
    cluster.down()?;
    outcome
}

/// Stories on Kubernetes mostly wait; those that cannot have company come first, one after the other.
const STORIES_AT_ONCE: usize = 2;

/// Tests that need more than cargo gives them, speaking as they go.
fn stories(name: &str, at_once: usize, filter: &str) -> Outcome<Command> {
    let mut tests = cargo("test");
    tests
        .args(["-p", "weir-tests", "--locked", "--test", name, "--"])
        .arg(format!("--test-threads={at_once}"))
        .args(["--nocapture", filter])
        // What a story says when it fails is what matters, not the frames of its runtime.
        .env("RUST_BACKTRACE", "0")
        .env("WEIR_FLIGHTS", clients::flights()?)
        .env("WEIR_PYTHON", clients::python()?);
    Ok(tests)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_test_that_says_that_it_is_skipped_has_not_passed() {
        let said = "skipped: nodes: they are not ours\\ntest result: ok. 3 passed; 0 failed; 0 ignored\\n\
                    test result: ok. 2 passed; 0 failed; 0 ignored\\n";
        let mut tally = Tally::default();
        tally.tests(command("printf").arg(said)).unwrap();
        assert_eq!((tally.passed, tally.skipped, tally.failed), (4, 1, 0));
        assert_eq!(tally.of_rust, 5, "a filter has found them all");
    }
}
