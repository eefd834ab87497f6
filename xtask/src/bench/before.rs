//! Plain topics with two binaries of Weir: one from before something was built, one of now. What nobody asked for must cost nothing.
//!
//! The two take turns, each on directories of its own, for nine rounds; who comes first changes.

use super::broker::{Kind, Programs};
use super::load::{Answer, Load};
use super::results::Results;
use super::rows::{self, Row};
use super::{Options, Part, turns, work};
use crate::Outcome;
use std::collections::BTreeMap;

/// What the rows' names begin with.
const PREFIX: &str = "plain-before-after-";

/// Rows of one broker that stand for the ways of a record in and out.
const PLAIN: [&str; 5] = [
    "produce-1K-all-p1",
    "produce-1K-all-p12",
    "produce-1K-16-producers-p64-4K-batches",
    "consume-1K-p1",
    "consume-1K-p12",
];

/// Names for `--only`.
pub(super) fn names() -> impl Iterator<Item = String> {
    PLAIN.iter().map(|name| format!("{PREFIX}{name}"))
}

/// Answers of the binary from before, and of the one of now.
#[derive(Default)]
pub(super) struct Sides {
    pub(super) before: BTreeMap<(String, Kind), Vec<Answer>>,
    pub(super) now: BTreeMap<(String, Kind), Vec<Answer>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Before,
    Now,
}

/// Repeats all rows with each binary.
pub(super) fn run(
    options: &Options,
    programs: &Programs,
    load: &Load,
    results: &mut Results,
) -> Outcome {
    let Some(before) = &options.before else {
        return Ok(());
    };
    let rows: Vec<_> = rows()
        .filter(|row| options.wants(Part::Queues, &row.name))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let before = Programs {
        weir: std::path::absolute(before)?,
        ..Programs::default()
    };
    let kinds = if options.brokers == Kind::ALL {
        vec![Kind::WeirFsync]
    } else {
        options.kinds(|kind| kind.is_weir() && kind.speaks_kafkas())
    };
    let (mut first, mut second) = (Results::default(), Results::default());
    for round in 1..=options.rounds_of_before() {
        for &kind in &kinds {
            for side in turns(&[Side::Before, Side::Now], round) {
                let (who, programs, side) = match side {
                    Side::Before => ("before", &before, &mut first),
                    Side::Now => ("now", programs, &mut second),
                };
                println!("plain topics, round {round}, {kind}, {who}");
                let brokers = programs.on_fresh_disks(kind, 1)?;
                let running = brokers.start()?;
                load.first(&brokers, "warm-up", 12)?;
                work::measure(&rows, options.quick, &brokers, &running, load, side)?;
                running.stop()?;
            }
        }
    }
    for side in [&mut first, &mut second] {
        results.failures.append(&mut side.failures);
        results.profiles.append(&mut side.profiles);
    }
    results.sides = Sides {
        before: first.answers,
        now: second.answers,
    };
    Ok(())
}

fn rows() -> impl Iterator<Item = Row> {
    let plain = rows::all().filter(|row| PLAIN.contains(&row.name.as_str()));
    plain.map(|row| Row {
        name: format!("{PREFIX}{}", row.name),
        ..row
    })
}
