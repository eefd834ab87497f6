//! What a suite of tests that nobody here wrote has to say, and what it is expected to say.
//!
//! A file in `tests/conformance/expected` has one line for each test: `pass NAME`, or `fail NAME: why` for one that is
//! known to fail, or `skip NAME: why`. A suite with hundreds of tests has `count N` instead of its `pass` lines. What is
//! not as expected fails: a test that ran no more, one that was skipped, and one that passes although it is listed as
//! failing. `docs/compatibility.md` is made of the same files.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::given;
use crate::members::lines_of;

/// How one test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It ran and was content.
    Pass,
    /// It ran and was not.
    Fail,
    /// It did not run.
    Skip,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
        })
    }
}

/// The verdicts of a whole suite, with what is said about those that did not pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    tests: BTreeMap<String, (Verdict, String)>,
    count: Option<usize>,
}

impl Verdicts {
    /// Takes in a line of the form of the files, and says whether it was one.
    pub fn take_line(&mut self, line: &str) -> bool {
        let Some((word, rest)) = line.split_once(' ') else {
            return false;
        };
        let (name, why) = rest.split_once(": ").unwrap_or((rest, ""));
        let verdict = match word {
            "pass" => Verdict::Pass,
            "fail" => Verdict::Fail,
            "skip" => Verdict::Skip,
            "count" => {
                self.count = rest.parse().ok();
                return self.count.is_some();
            }
            _ => return false,
        };
        self.take(name, verdict, why);
        true
    }

    /// Takes in how a test ended. One that ran twice has passed when it passed both times.
    pub fn take(&mut self, name: &str, verdict: Verdict, why: &str) {
        let news = (verdict, why.to_owned());
        self.tests
            .entry(name.to_owned())
            .and_modify(|known| {
                if known.0 == Verdict::Pass {
                    *known = news.clone();
                }
            })
            .or_insert(news);
    }

    /// How many ended like this.
    #[must_use]
    pub fn number_of(&self, verdict: Verdict) -> usize {
        let alike = self.tests.values().filter(|(one, _)| *one == verdict);
        match (verdict, self.count) {
            (Verdict::Pass, Some(count)) => count,
            _ => alike.count(),
        }
    }

    /// The names of those that failed.
    #[must_use]
    pub fn failed(&self) -> Vec<String> {
        let failed = self
            .tests
            .iter()
            .filter(|(_, (verdict, _))| *verdict == Verdict::Fail);
        failed.map(|(name, _)| name.clone()).collect()
    }

    /// Takes over what another run has said.
    pub fn take_all(&mut self, other: Self) {
        self.tests.extend(other.tests);
    }

    /// What differs from these expectations, a sentence each.
    #[must_use]
    pub fn differences(&self, expected: &Self) -> Vec<String> {
        let mut all = Vec::new();
        for (name, (verdict, why)) in &self.tests {
            let wanted = expected.tests.get(name).map(|(wanted, _)| *wanted);
            match (verdict, wanted) {
                (Verdict::Pass, None) if expected.count.is_some() => {}
                (verdict, Some(wanted)) if *verdict == wanted => {}
                (Verdict::Pass, Some(wanted)) => {
                    all.push(format!("{name} passed, although expected to {wanted}"));
                }
                (Verdict::Pass, None) => all.push(format!("{name} passed, and is not listed")),
                (verdict, wanted) => {
                    let wanted = wanted.unwrap_or(Verdict::Pass);
                    all.push(format!("{name}: {verdict}, not {wanted}: {why}"));
                }
            }
        }
        for (name, (verdict, _)) in &expected.tests {
            if !self.tests.contains_key(name) {
                all.push(format!("{name} did not run; it was expected to {verdict}"));
            }
        }
        let (passed, wanted) = (
            self.number_of(Verdict::Pass),
            expected.number_of(Verdict::Pass),
        );
        if passed != wanted {
            all.push(format!("{passed} passed, {wanted} were expected to"));
        }
        all
    }
}

impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, (verdict, why)) in &self.tests {
            match verdict {
                Verdict::Pass => writeln!(f, "pass {name}")?,
                verdict => writeln!(f, "{verdict} {name}: {why}")?,
            }
        }
        Ok(())
    }
}

/// Checks a suite against its file; what it really said goes beside the other things that tests make.
///
/// # Panics
/// When it is not what the file says.
pub fn check(suite: &str, said: &Verdicts) {
    let folder = given::results();
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join(format!("{suite}.txt")), said.to_string()))
        .expect("results are written");
    let differences = said.differences(&expected(suite));
    assert!(
        differences.is_empty(),
        "{suite} is not as {} says:\n  {}",
        file(suite).display(),
        differences.join("\n  ")
    );
    println!(
        "  {suite}: {} passed, {} known to fail, {} skipped",
        said.number_of(Verdict::Pass),
        said.number_of(Verdict::Fail),
        said.number_of(Verdict::Skip)
    );
}

/// Runs a program of scenarios, which writes lines of the files' form, and checks what it said.
///
/// # Panics
/// When it cannot run, does not end well, or says something else than expected.
pub fn scenarios(suite: &str, program: &mut Command) {
    let (mut child, lines) = lines_of(program);
    let mut said = Verdicts::default();
    for line in lines {
        let line = String::from_utf8_lossy(&line);
        if !said.take_line(&line) {
            println!("  {line}");
        }
    }
    let ended = child.wait().expect("it is our child");
    check(suite, &said);
    assert!(ended.success(), "{suite} ended with {ended}");
}

fn file(suite: &str) -> PathBuf {
    given::root().join(format!("tests/conformance/expected/{suite}.txt"))
}

fn expected(suite: &str) -> Verdicts {
    let file = file(suite);
    let text =
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut expected = Verdicts::default();
    for line in text.lines() {
        let comment = line.is_empty() || line.starts_with('#');
        assert!(
            comment || expected.take_line(line),
            "{}: {line:?} is no line of it",
            file.display()
        );
    }
    expected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &str) -> Verdicts {
        let mut verdicts = Verdicts::default();
        for line in lines.lines() {
            assert!(verdicts.take_line(line), "{line}");
        }
        verdicts
    }

    #[test]
    fn what_is_as_expected_is_no_difference() {
        let expected = of("count 2\nskip c: no SCRAM\nfail d: KIP-1");
        let said = of("pass a\npass b\nskip c: not set\nfail d: assertion");
        assert_eq!(said.differences(&expected), Vec::<String>::new());
    }

    #[test]
    fn a_skipped_a_missing_and_an_unexpectedly_passing_test_are_differences() {
        let expected = of("pass a\npass b\nfail c: KIP-1");
        let said = of("skip a: not set\npass c");
        assert_eq!(
            said.differences(&expected),
            [
                "a: skip, not pass: not set",
                "c passed, although expected to fail",
                "b did not run; it was expected to pass",
                "1 passed, 2 were expected to",
            ]
        );
    }

    #[test]
    fn with_a_count_a_test_more_or_less_is_a_difference() {
        let expected = of("count 2");
        assert_eq!(of("pass a\npass b").differences(&expected).len(), 0);
        assert_eq!(of("pass a").differences(&expected).len(), 1);
        assert_eq!(of("pass a\npass b\npass c").differences(&expected).len(), 1);
        assert_eq!(of("pass a\nfail b: no").differences(&expected).len(), 2);
    }

    #[test]
    fn other_lines_are_not_of_the_suite() {
        let mut verdicts = Verdicts::default();
        assert!(!verdicts.take_line("passing through"));
        assert!(!verdicts.take_line(""));
        assert_eq!(verdicts, Verdicts::default());
    }
}
