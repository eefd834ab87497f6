//! A share group whose members come and go, `tests/clients/java/Share.java`, and what was confirmed to it.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use crate::lock::lock;
use crate::members::lines_of;

/// A record, by partition and offset.
pub type Record = (i32, i64);

/// The running members.
#[derive(Debug)]
pub struct Sharers {
    child: Child,
    state: Arc<Mutex<Confirmed>>,
    reading: Option<JoinHandle<()>>,
}

/// What the broker said of acknowledgements. It takes one only from who holds the record, so none may be confirmed twice.
#[derive(Debug, Default)]
pub struct Confirmed {
    done: BTreeSet<Record>,
    /// Acknowledged, and nobody told whether that arrived.
    unknown: BTreeSet<Record>,
    broken: Option<String>,
}

impl Confirmed {
    fn take(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let words: Vec<&str> = text.split(' ').collect();
        let place =
            |partition: &str, offset: &str| Some((partition.parse().ok()?, offset.parse().ok()?));
        let taken = match words[..] {
            ["done", partition, offset] => place(partition, offset).map(|record| {
                if !self.done.insert(record) {
                    self.broken = Some(format!("record {record:?} was confirmed twice"));
                }
            }),
            ["unknown", partition, offset] => place(partition, offset).map(|record| {
                self.unknown.insert(record);
            }),
            _ => None,
        };
        if taken.is_none() {
            self.broken = Some(format!("it said {text:?}"));
        }
    }

    /// How many of these records nobody has acknowledged.
    #[must_use]
    pub fn left_of(&self, records: &BTreeSet<Record>) -> usize {
        records
            .iter()
            .filter(|one| !self.done.contains(one) && !self.unknown.contains(one))
            .count()
    }
}

impl Sharers {
    /// Starts the program.
    ///
    /// # Panics
    /// When it cannot run.
    #[must_use]
    pub fn start(mut program: Command) -> Self {
        let (child, lines) = lines_of(&mut program);
        let state = Arc::new(Mutex::new(Confirmed::default()));
        let taking = Arc::clone(&state);
        let reading = thread::spawn(move || {
            for line in lines {
                lock(&taking).take(&line);
            }
        });
        Self {
            child,
            state,
            reading: Some(reading),
        }
    }

    /// How many of these records nobody has acknowledged.
    ///
    /// # Panics
    /// When a promise is broken.
    #[must_use]
    pub fn left_of(&self, records: &BTreeSet<Record>) -> usize {
        self.checked().left_of(records)
    }

    /// That no promise is broken, and that the program runs.
    ///
    /// # Panics
    /// When it is not so.
    pub fn check_alive(&mut self) {
        let ended = self.child.try_wait().expect("it is our child");
        drop(self.checked());
        assert!(
            ended.is_none(),
            "the share group's members ended: {ended:?}"
        );
    }

    /// Ends it; says how many records were confirmed, and of how many more it is not known.
    ///
    /// # Panics
    /// When a promise is broken, or something was confirmed that is not one of these records.
    #[must_use]
    pub fn stop(mut self, records: &BTreeSet<Record>) -> (usize, usize) {
        let input = self.child.stdin.as_mut().expect("input is open");
        let told = writeln!(input, "stop").and_then(|()| input.flush());
        assert!(told.is_ok(), "the share group's members do not listen");
        if let Some(reading) = self.reading.take() {
            reading.join().expect("lines are read");
        }
        let state = self.checked();
        let strange = state.done.difference(records).next();
        assert!(
            strange.is_none(),
            "confirmed and never produced: {strange:?}"
        );
        (
            state.done.len(),
            state.unknown.difference(&state.done).count(),
        )
    }

    fn checked(&self) -> MutexGuard<'_, Confirmed> {
        let state = lock(&self.state);
        if let Some(broken) = &state.broken {
            panic!("share group: {broken}");
        }
        state
    }
}

impl Drop for Sharers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &str) -> Confirmed {
        let mut confirmed = Confirmed::default();
        lines
            .lines()
            .for_each(|line| confirmed.take(line.as_bytes()));
        confirmed
    }

    #[test]
    fn what_is_confirmed_twice_is_found_and_what_may_have_been_lost_on_the_way_is_not() {
        assert!(
            told("done 0 1\ndone 0 2\nunknown 0 3\ndone 0 3")
                .broken
                .is_none()
        );
        assert!(told("done 0 1\ndone 1 1\ndone 0 1").broken.is_some());
        assert!(told("perhaps 0 1").broken.is_some());
    }

    #[test]
    fn what_nobody_acknowledged_is_left() {
        let all = BTreeSet::from([(0, 1), (0, 2), (0, 3)]);
        assert_eq!(told("done 0 1\nunknown 0 3").left_of(&all), 1);
    }
}
