//! What was measured, by row and by broker.

use super::before::Sides;
use super::broker::Kind;
use super::flame::Profile;
use super::load::Answer;
use crate::Outcome;
use std::collections::BTreeMap;

/// Everything that was measured, and what failed.
#[derive(Default)]
pub(super) struct Results {
    pub(super) answers: BTreeMap<(String, Kind), Vec<Answer>>,
    pub(super) facts: BTreeMap<(&'static str, Kind), Vec<f64>>,
    /// CPU seconds for each GB of the bare loop.
    pub(super) bare: BTreeMap<&'static str, Vec<f64>>,
    pub(super) profiles: Vec<(Kind, Profile)>,
    /// Of plain topics with two binaries.
    pub(super) sides: Sides,
    pub(super) failures: Vec<String>,
}

impl Results {
    pub(super) fn measured(&mut self, row: &str, kind: Kind, answer: Answer) {
        const SHOWN: [&str; 29] = [
            "mb_s",
            "in_per_s",
            "out_per_s",
            "through_per_s",
            "redelivered",
            "bytes_each",
            "released_per_s",
            "late_p50_ms",
            "late_p99_ms",
            "late_max_ms",
            "taken",
            "beyond",
            "refused_per_s",
            "refused_but_there",
            "rate",
            "p50_ms",
            "p99_ms",
            "p999_ms",
            "before_acknowledged_p99_ms",
            "during_acknowledged_p99_ms",
            "late_mb_s",
            "moved_s",
            "moved_mb_s",
            "gap_ms",
            "lost",
            "doubled",
            "broker_cpu_s",
            "client_cpu_s",
            "broker_rss_mib",
        ];
        let shown = SHOWN
            .iter()
            .filter_map(|name| Some(format!("{name} {}", answer.number(name)?)));
        println!("  {row:<26} {}", shown.collect::<Vec<_>>().join("  "));
        self.answers
            .entry((row.to_owned(), kind))
            .or_default()
            .push(answer);
    }

    pub(super) fn fact(&mut self, row: &'static str, kind: Kind, value: f64) {
        println!("  {row:<26} {value:.3}");
        self.facts.entry((row, kind)).or_default().push(value);
    }

    pub(super) fn bare(&mut self, row: &'static str, seconds_per_gb: f64) {
        println!("  {row:<26} {seconds_per_gb:.3} s/GB");
        self.bare.entry(row).or_default().push(seconds_per_gb);
    }

    pub(super) fn profiled(&mut self, kind: Kind, profile: Profile) {
        println!("  {:<26} {}", profile.row, profile.picture.display());
        self.profiles.push((kind, profile));
    }

    pub(super) fn failed(&mut self, row: &str, kind: Kind, error: &dyn std::error::Error) {
        println!("  {row:<26} FAILED: {error}");
        self.failures.push(format!("{kind}, {row}: {error}"));
    }

    /// An error if anything failed.
    pub(super) fn verdict(&self) -> Outcome {
        if self.failures.is_empty() {
            Ok(())
        } else {
            Err(format!("what failed:\n{}", self.failures.join("\n")).into())
        }
    }
}
