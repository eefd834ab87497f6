//! A producer that tells which of its messages were acknowledged, run by `tests/clients/producer.py`.

use crate::clients::Clients;
use crate::members::lines_of;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How long it may go without an acknowledgement: longer than any broker takes to come back.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A running producer.
#[derive(Debug)]
pub struct Producer {
    child: Child,
    lines: Receiver<Vec<u8>>,
    acknowledged: BTreeMap<usize, (i32, i64)>,
}

impl Producer {
    /// Starts it; it sends nothing yet.
    ///
    /// # Panics
    /// When it cannot run.
    #[must_use]
    pub fn start(clients: &Clients, bootstrap: &str, topic: &str) -> Self {
        let mut script = clients.script("producer.py");
        script.args([bootstrap, topic, &clients.flights()]);
        let (child, lines) = lines_of(&mut script);
        Self {
            child,
            lines,
            acknowledged: BTreeMap::new(),
        }
    }

    /// Lets it send so many more messages.
    ///
    /// # Panics
    /// When it has ended.
    pub fn allow(&mut self, more: u64) {
        self.tell(&format!("more {more}"));
    }

    /// Waits until so many more messages are acknowledged.
    ///
    /// # Panics
    /// When the producer ends or is silent for too long.
    pub fn follow(&mut self, more: u64) {
        for _ in 0..more {
            self.next();
        }
    }

    /// Where each acknowledged message is, by its number.
    #[must_use]
    pub fn acknowledged(&mut self) -> &BTreeMap<usize, (i32, i64)> {
        while let Ok(line) = self.lines.try_recv() {
            self.take(&line);
        }
        &self.acknowledged
    }

    /// Lets it end when everything is acknowledged; returns how many messages it sent.
    ///
    /// # Panics
    /// When something is not acknowledged, or acknowledged in two places.
    #[must_use]
    pub fn finish(self) -> usize {
        self.finish_with(|_| {})
    }

    /// As [`finish`](Self::finish); `judge` sees where each message was acknowledged.
    ///
    /// # Panics
    /// As there.
    #[must_use]
    pub fn finish_with(mut self, judge: impl FnOnce(&BTreeMap<usize, (i32, i64)>)) -> usize {
        self.tell("stop");
        loop {
            if let Some(sent) = self.next() {
                assert_eq!(
                    self.acknowledged.len(),
                    sent,
                    "messages acknowledged of those sent"
                );
                judge(&self.acknowledged);
                return sent;
            }
        }
    }

    fn tell(&mut self, order: &str) {
        let input = self.child.stdin.as_mut().expect("input is open");
        writeln!(input, "{order}")
            .and_then(|()| input.flush())
            .expect("the producer listens");
    }

    fn next(&mut self) -> Option<usize> {
        match self.lines.recv_timeout(SILENCE_MAX) {
            Ok(line) => self.take(&line),
            Err(RecvTimeoutError::Timeout) => {
                panic!(
                    "no acknowledgement for {} s after {} of them",
                    SILENCE_MAX.as_secs(),
                    self.acknowledged.len()
                )
            }
            Err(RecvTimeoutError::Disconnected) => panic!("the producer ended: a message failed"),
        }
    }

    /// Takes in a line; says how many were sent in all when that was the last.
    fn take(&mut self, line: &[u8]) -> Option<usize> {
        let text = String::from_utf8_lossy(line);
        if let Some(sent) = text.strip_prefix("sent ") {
            return Some(sent.parse().expect("a count"));
        }
        let words: Vec<&str> = text.split(' ').collect();
        let [number, partition, offset] = words[..] else {
            panic!("producer.py said {text:?}")
        };
        let place = (
            partition.parse().expect("a partition"),
            offset.parse().expect("an offset"),
        );
        let before = self
            .acknowledged
            .insert(number.parse().expect("a number"), place);
        assert_eq!(before, None, "message {number} was acknowledged twice");
        None
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
