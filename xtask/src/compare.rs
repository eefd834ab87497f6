//! `docs/compare.md` says of what Weir does which test shows it: each of these exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::{Outcome, paths};

/// Where tests are.
const PLACES: [&str; 5] = ["broker", "crds", "operator", "tests", "xtask"];

/// Fails when a "yes" names no test, or one that does not exist.
pub(crate) fn run() -> Outcome {
    let mut tests = BTreeSet::new();
    for place in PLACES {
        collect(&paths::root().join(place), &mut tests)?;
    }
    let page = fs::read_to_string(paths::root().join("docs/compare.md"))?;
    let mut wrong = Vec::new();
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let mut cells = row.split('|').map(str::trim).skip(1);
        let (what, ours) = (
            cells.next().unwrap_or_default(),
            cells.next().unwrap_or_default(),
        );
        match ours.strip_prefix("yes") {
            None => {}
            Some(why) => match why.split('`').nth(1) {
                Some(test) if tests.contains(test) => {}
                Some(test) => wrong.push(format!("{what:?} names {test}, which is no test")),
                None => wrong.push(format!("{what:?} names no test")),
            },
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("docs/compare.md: {}", wrong.join("; ")).into())
}

/// The names of functions in the Rust files below a folder, what cargo built left out.
fn collect(folder: &Path, names: &mut BTreeSet<String>) -> Outcome {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, names)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let after = text.lines().zip(text.lines().skip(1));
            let is_test = |line: &str| {
                ["#[test", "#[tokio::test"]
                    .iter()
                    .any(|begin| line.trim().starts_with(begin))
            };
            let tests = after.filter(|(before, _)| is_test(before));
            let named = tests.filter_map(|(_, line)| {
                let (_, name) = line.split_once("fn ")?;
                Some(name.split_once('(')?.0.to_owned())
            });
            names.extend(named);
        }
    }
    Ok(())
}
