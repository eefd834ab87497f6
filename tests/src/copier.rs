//! A topic that is copied in transactions by Kafka's Java clients, `tests/clients/java/Copy.java`.

use std::io::Write;
use std::process::{Child, Command};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::members::lines_of;

/// How long the rest may take, once nothing more is written: a transaction of a copier that lost its broker may have to time out.
const LIMIT: Duration = Duration::from_secs(120);

/// The running copiers.
#[derive(Debug)]
pub struct Copier {
    child: Child,
    lines: Receiver<Vec<u8>>,
}

/// How many transactions there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transactions {
    /// Those that were committed.
    pub committed: u64,
    /// Those that were not, on purpose or for another reason.
    pub aborted: u64,
}

impl Copier {
    /// Starts the program.
    ///
    /// # Panics
    /// When it cannot run.
    #[must_use]
    pub fn start(mut program: Command) -> Self {
        let (child, lines) = lines_of(&mut program);
        Self { child, lines }
    }

    /// Waits until a transaction is committed.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn wait_until_begun(&self) {
        let line = self.lines.recv_timeout(LIMIT);
        let line = line.unwrap_or_else(|error| panic!("the copiers do not begin: {error}"));
        assert_eq!(String::from_utf8_lossy(&line), "begun");
    }

    /// That it runs.
    ///
    /// # Panics
    /// When it does not.
    pub fn check_alive(&mut self) {
        let ended = self.child.try_wait().expect("it is our child");
        assert!(ended.is_none(), "the copiers ended: {ended:?}");
    }

    /// Lets it end when everything is copied.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn finish(mut self) -> Transactions {
        let input = self.child.stdin.as_mut().expect("input is open");
        let told = writeln!(input, "stop").and_then(|()| input.flush());
        assert!(told.is_ok(), "the copiers do not listen any more");
        let line = self.lines.recv_timeout(LIMIT).unwrap_or_else(|error| {
            panic!("the copiers do not come to the end of what there is: {error}")
        });
        let text = String::from_utf8_lossy(&line).into_owned();
        let counts: Option<Vec<u64>> = text
            .strip_prefix("copied ")
            .and_then(|counts| counts.split(' ').map(|count| count.parse().ok()).collect());
        match counts.as_deref() {
            Some([committed, aborted]) => Transactions {
                committed: *committed,
                aborted: *aborted,
            },
            _ => panic!("the copiers said {text:?}"),
        }
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
