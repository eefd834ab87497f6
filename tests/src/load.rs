//! A producer that goes on at a steady rate while things happen to brokers, and what was acknowledged to it.
//!
//! The programs are `tests/clients/producer.py` (librdkafka), `java/Produce.java` and `go/load`; all take the same orders and
//! write the same lines. A thread reads them as they come, so that a program never waits for its test.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::members::lines_of;

/// Where each acknowledged message is, by its number.
pub type Acknowledged = BTreeMap<usize, (i32, i64)>;

/// How long the last messages may take in the end: brokers may just have come back.
const LIMIT: Duration = Duration::from_secs(90);

/// A running producer.
#[derive(Debug)]
pub struct Load {
    name: String,
    child: Child,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    acknowledged: Acknowledged,
    partitions: BTreeMap<i32, Progress>,
    /// How many it sent, once it has ended well.
    sent: Option<usize>,
    /// It ended, or said what it should not.
    broken: Option<String>,
}

/// What was acknowledged of one partition.
#[derive(Clone, Copy, Debug)]
struct Progress {
    count: u64,
    last: Instant,
    silence: Duration,
}

/// How far each partition was at some moment.
#[derive(Clone, Debug)]
pub struct Mark(BTreeMap<i32, u64>);

impl Load {
    /// Starts a program, and lets it send so many messages each second.
    ///
    /// # Panics
    /// When it cannot run.
    #[must_use]
    pub fn start(name: &str, mut program: Command, messages_per_second: u32) -> Self {
        let (child, lines) = lines_of(&mut program);
        let shared = Arc::new(Shared::default());
        let reading = Arc::clone(&shared);
        thread::spawn(move || {
            for line in lines {
                let mut state = reading.lock();
                if let Err(wrong) = state.take(&line) {
                    state.broken = Some(wrong);
                }
                reading.changed.notify_all();
            }
            let mut state = reading.lock();
            if state.sent.is_none() && state.broken.is_none() {
                state.broken = Some("it ended: a message failed".to_owned());
            }
            reading.changed.notify_all();
        });
        let mut load = Self {
            name: name.to_owned(),
            child,
            shared,
        };
        load.tell(&format!("rate {messages_per_second}"));
        load
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How far it is now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let state = self.shared.lock();
        Mark(
            state
                .partitions
                .iter()
                .map(|(partition, progress)| (*partition, progress.count))
                .collect(),
        )
    }

    /// Waits until `more` messages of at least `partitions` partitions are acknowledged since the mark.
    ///
    /// # Panics
    /// When it takes longer than `limit`, or the program ended.
    pub fn wait_for(&self, mark: &Mark, more: u64, partitions: usize, limit: Duration, when: &str) {
        let behind = |state: &State| {
            let gone_on = state.partitions.iter().filter(|(partition, progress)| {
                let before = mark.0.get(partition).copied().unwrap_or(0);
                progress.count >= before + more
            });
            state.broken.is_none() && gone_on.count() < partitions
        };
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), limit, |state| behind(state))
            .unwrap_or_else(PoisonError::into_inner);
        self.check(&state);
        assert!(
            !behind(&state),
            "{}: {when}, fewer than {partitions} partitions went on within {} s: acknowledged since then {:?}",
            self.name,
            limit.as_secs(),
            state
                .partitions
                .iter()
                .map(|(partition, progress)| {
                    let before = mark.0.get(partition).copied().unwrap_or(0);
                    (*partition, progress.count - before)
                })
                .collect::<Vec<_>>()
        );
    }

    /// Panics when it has ended, or said what it should not.
    ///
    /// # Panics
    /// Then.
    pub fn check_alive(&self) {
        self.check(&self.shared.lock());
    }

    fn check(&self, state: &State) {
        if let Some(broken) = &state.broken {
            panic!("{}: {broken}", self.name);
        }
    }

    /// The longest time that any partition went without an acknowledgement, since this was last asked.
    #[must_use]
    pub fn longest_silence(&self) -> Duration {
        let mut state = self.shared.lock();
        let longest = state.partitions.values_mut().map(|progress| {
            let silence = progress.silence.max(progress.last.elapsed());
            progress.silence = Duration::ZERO;
            progress.last = Instant::now();
            silence
        });
        longest.max().unwrap_or_default()
    }

    /// How many messages are acknowledged.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.lock().acknowledged.len()
    }

    /// Where each message that is acknowledged so far is.
    #[must_use]
    pub fn acknowledged(&self) -> Acknowledged {
        self.shared.lock().acknowledged.clone()
    }

    /// Lets it end when everything is acknowledged; returns where each message is.
    ///
    /// # Panics
    /// When something is not acknowledged.
    #[must_use]
    pub fn finish(mut self) -> Acknowledged {
        self.tell("stop");
        let waiting = |state: &State| state.sent.is_none() && state.broken.is_none();
        let (mut state, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), LIMIT, |state| waiting(state))
            .unwrap_or_else(PoisonError::into_inner);
        self.check(&state);
        assert_eq!(
            Some(state.acknowledged.len()),
            state.sent,
            "{}: messages acknowledged of those sent",
            self.name
        );
        std::mem::take(&mut state.acknowledged)
    }

    fn tell(&mut self, order: &str) {
        let input = self.child.stdin.as_mut().expect("input is open");
        let told = writeln!(input, "{order}").and_then(|()| input.flush());
        assert!(told.is_ok(), "{} does not listen any more", self.name);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(line);
        if let Some(sent) = text.strip_prefix("sent ") {
            self.sent = Some(sent.parse().map_err(|_| format!("it said {text:?}"))?);
            return Ok(());
        }
        let words: Option<Vec<i64>> = text.split(' ').map(|word| word.parse().ok()).collect();
        let Some([number, partition, offset]) = words.as_deref() else {
            return Err(format!("it said {text:?}"));
        };
        let (Ok(number), Ok(partition)) = (usize::try_from(*number), i32::try_from(*partition))
        else {
            return Err(format!("it said {text:?}"));
        };
        if let Some(before) = self.acknowledged.insert(number, (partition, *offset)) {
            return Err(format!(
                "message {number} was acknowledged twice, first at {before:?}"
            ));
        }
        let now = Instant::now();
        let progress = self.partitions.entry(partition).or_insert(Progress {
            count: 0,
            last: now,
            silence: Duration::ZERO,
        });
        progress.count += 1;
        progress.silence = progress.silence.max(now - progress.last);
        progress.last = now;
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
