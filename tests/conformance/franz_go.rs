//! franz-go's own integration tests: consumers in groups of every kind, share groups, transactions end to end.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use weir_tests::broker::Broker;
use weir_tests::given;
use weir_tests::members::lines_of;
use weir_tests::suite::{self, Verdict, Verdicts};

/// What is run; `tests/conformance/franz-go/go.mod` says in which version.
const PACKAGE: &str = "github.com/twmb/franz-go/pkg/kgo";

/// Go ends the suite itself when it takes longer; Apache Kafka needs 139 seconds on two cores.
const TIMEOUT: &str = "10m";

/// Lines of a failed test that are shown: the last ones say what it was.
const LINES_SHOWN: usize = 12;

#[test]
fn franz_go_passes_its_own_tests() {
    let mut said = run(&[]);
    // All of them run at once, and some wait for each other's load to pass: what fails has one more attempt, by itself.
    let failed = said.failed();
    if !failed.is_empty() {
        println!("  failed among all others, and run again by themselves: {failed:?}");
        said.take_all(run(&["-run", &format!("^({})$", failed.join("|"))]));
    }
    suite::check("franz-go", &said);
}

/// Runs the tests, those that `which` says, on a broker of their own.
fn run(which: &[&str]) -> Verdicts {
    let broker = Broker::start("");
    let mut go = Command::new("go");
    go.current_dir(given::root().join("tests/conformance/franz-go"))
        .args(["test", "-json", "-count=1", "-timeout", TIMEOUT])
        .args(which)
        .arg(PACKAGE)
        .env("KGO_SEEDS", broker.address())
        .env("KGO_TEST_RF", "1")
        .env("KGO_TEST_STABLE_FETCH", "true")
        .env("KGO_LOG_LEVEL", "none");
    let (mut child, lines) = lines_of(&mut go);
    let mut said = Verdicts::default();
    let mut words: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines {
        let event: Value = serde_json::from_slice(&line).unwrap_or_default();
        let Some(test) = event["Test"].as_str() else {
            continue;
        };
        let (top, is_part) = test
            .split_once('/')
            .map_or((test, false), |(top, _)| (top, true));
        if let Some(output) = event["Output"].as_str() {
            words
                .entry(top.to_owned())
                .or_default()
                .push(output.to_owned());
        }
        let verdict = match event["Action"].as_str() {
            Some("pass") => Verdict::Pass,
            Some("fail") => Verdict::Fail,
            Some("skip") => Verdict::Skip,
            _ => continue,
        };
        if !is_part {
            let output = words.remove(top).unwrap_or_default();
            said.take(top, verdict, &last_words(&output));
        }
    }
    child.wait().expect("go ends");
    said
}

/// What a test wrote before it ended, without Go's own marks, on one line.
fn last_words(output: &[String]) -> String {
    let marks = ["=== ", "--- PASS", "    --- PASS"];
    let lines: Vec<_> = output
        .iter()
        .filter(|line| !marks.iter().any(|mark| line.starts_with(mark)))
        .map(|line| line.trim())
        .collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join(" | ")
}
