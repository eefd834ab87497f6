//! A consumer group of confluent-kafka, run by `tests/clients/members.py` and checked as it goes.

use crate::clients::Clients;
use crate::history::{Event, History};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that may wait to be checked: enough to read ahead of the check, a few megabytes.
const LINES_WAITING_MAX: usize = 50_000;

/// How often members commit: often enough that a crash finds commits in the middle of partitions.
const COMMIT_EVERY_MESSAGES: u32 = 1_000;

/// Members in a running process.
#[derive(Debug)]
pub struct Members {
    child: Child,
    lines: Receiver<Vec<u8>>,
}

impl Members {
    /// Starts `count` members of a group.
    ///
    /// # Panics
    /// When the client cannot run.
    #[must_use]
    pub fn start(clients: &Clients, bootstrap: &str, topic: &str, group: &str, count: u32) -> Self {
        let mut script = clients.script("members.py");
        script.args([
            bootstrap,
            topic,
            group,
            &count.to_string(),
            &COMMIT_EVERY_MESSAGES.to_string(),
        ]);
        let (child, lines) = lines_of(&mut script);
        Self { child, lines }
    }

    /// Feeds the history with what the members see until `enough` says so.
    ///
    /// # Panics
    /// When a promise is broken, the members end, or `limit` passes.
    pub fn follow(
        &mut self,
        history: &mut History,
        limit: Duration,
        what: &str,
        mut enough: impl FnMut(&History) -> bool,
    ) {
        let start = Instant::now();
        while !enough(history) {
            let left = limit.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => take(history, &line),
                Err(RecvTimeoutError::Timeout) => panic!(
                    "waited {} s in vain: {what}; {} messages seen, {} partitions owned",
                    limit.as_secs(),
                    history.seen().len(),
                    history.owned()
                ),
                Err(RecvTimeoutError::Disconnected) => panic!("the members ended while {what}"),
            }
        }
    }

    /// Ends them as kill -9 would, and takes in what they had said.
    ///
    /// # Panics
    /// When a promise is broken.
    pub fn crash(mut self, history: &mut History) {
        self.tell("crash");
        for line in self.lines.iter() {
            take(history, &line);
        }
        history.crash();
    }

    /// Ends them in good order: they commit, then leave the group.
    ///
    /// # Panics
    /// When a promise is broken.
    pub fn stop(mut self, history: &mut History) {
        self.tell("stop");
        for line in self.lines.iter() {
            take(history, &line);
        }
    }

    fn tell(&mut self, word: &str) {
        let input = self.child.stdin.as_mut().expect("input is open");
        writeln!(input, "{word}")
            .and_then(|()| input.flush())
            .expect("the members listen");
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn take(history: &mut History, line: &[u8]) {
    let event = Event::of_line(line)
        .unwrap_or_else(|| panic!("members.py said {:?}", String::from_utf8_lossy(line)));
    if let Event::Assigned(..) | Event::Lost(..) | Event::Uncommitted = event {
        println!("  member {}", String::from_utf8_lossy(line));
    }
    history
        .take(event)
        .unwrap_or_else(|broken| panic!("{broken}"));
}

/// Starts a program and reads its lines in a thread of their own; the last, if it was cut off, is left out.
///
/// # Panics
/// When it cannot run.
pub fn lines_of(command: &mut Command) -> (Child, Receiver<Vec<u8>>) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the client runs");
    let mut output = BufReader::new(child.stdout.take().expect("output is piped"));
    let (sender, lines) = sync_channel(LINES_WAITING_MAX);
    thread::spawn(move || {
        loop {
            let mut line = Vec::new();
            match output.read_until(b'\n', &mut line) {
                Ok(_) if line.last() == Some(&b'\n') => {
                    line.pop();
                    if sender.send(line).is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    });
    (child, lines)
}
