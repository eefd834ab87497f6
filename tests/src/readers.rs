//! A consumer group whose members come and go while other things happen: `tests/clients/members.py`, checked by a thread as it goes.

use std::io::Write;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use crate::clients::Clients;
use crate::history::{Event, History};
use crate::lock::lock;
use crate::members::lines_of;

/// How often members commit: often enough that a fault finds commits on their way.
const COMMIT_EVERY_MESSAGES: u32 = 200;

/// What members run with, whatever their group is: brokers are frozen and cut off, and a client is to look elsewhere within seconds.
const PROPERTIES: [&str; 3] = [
    "socket.timeout.ms=2500",
    "socket.connection.setup.timeout.ms=1000",
    "reconnect.backoff.max.ms=500",
];

/// A group, and all that it saw.
#[derive(Debug)]
pub struct Readers {
    name: String,
    child: Child,
    state: Arc<Mutex<State>>,
    reading: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    history: History,
    /// The first promise that was broken.
    broken: Option<String>,
    has_stopped: bool,
}

impl Readers {
    /// Starts `count` members of a group with these further properties of librdkafka.
    ///
    /// # Panics
    /// When the client cannot run.
    #[must_use]
    pub fn start(
        clients: &Clients,
        bootstrap: &str,
        topic: &str,
        group: &str,
        count: u32,
        properties: &[&str],
    ) -> Self {
        let mut script = clients.script("members.py");
        script
            .args([bootstrap, topic, group, &count.to_string()])
            .arg(COMMIT_EVERY_MESSAGES.to_string())
            .args(PROPERTIES)
            .args(properties);
        let (child, lines) = lines_of(&mut script);
        let state = Arc::new(Mutex::new(State::default()));
        let taking = Arc::clone(&state);
        let reading = thread::spawn(move || {
            for line in lines {
                lock(&taking).take(&line);
            }
        });
        Self {
            name: group.to_owned(),
            child,
            state,
            reading: Some(reading),
        }
    }

    /// Another member comes.
    ///
    /// # Panics
    /// When the program has ended.
    pub fn join(&mut self) {
        self.tell("join");
    }

    /// The member leaves that is there longest.
    ///
    /// # Panics
    /// When the program has ended.
    pub fn leave(&mut self) {
        self.tell("leave");
    }

    /// How many messages the group has seen.
    ///
    /// # Panics
    /// When a promise is broken.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.checked().history.seen().len()
    }

    /// How many partitions have an owner.
    ///
    /// # Panics
    /// When a promise is broken.
    #[must_use]
    pub fn owned(&self) -> usize {
        self.checked().history.owned()
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
            "{}: the members ended: {ended:?}",
            self.name
        );
    }

    /// Ends it in good order; returns what the group saw.
    ///
    /// # Panics
    /// When a promise is broken.
    #[must_use]
    pub fn stop(mut self) -> History {
        self.tell("stop");
        if let Some(reading) = self.reading.take() {
            reading.join().expect("lines are read");
        }
        let mut state = self.checked();
        assert!(
            state.has_stopped,
            "{}: the members did not end well",
            self.name
        );
        std::mem::take(&mut state.history)
    }

    fn checked(&self) -> MutexGuard<'_, State> {
        let state = lock(&self.state);
        if let Some(broken) = &state.broken {
            panic!("{}: {broken}", self.name);
        }
        state
    }

    fn tell(&mut self, word: &str) {
        let input = self.child.stdin.as_mut().expect("input is open");
        let told = writeln!(input, "{word}").and_then(|()| input.flush());
        assert!(told.is_ok(), "{}: the members do not listen", self.name);
    }
}

impl State {
    fn take(&mut self, line: &[u8]) {
        if self.broken.is_some() {
            return;
        }
        let event = Event::of_line(line);
        self.has_stopped |= event == Some(Event::Stopped);
        let taken = event.map_or_else(
            || Err(format!("it said {:?}", String::from_utf8_lossy(line))),
            |event| self.history.take(event),
        );
        self.broken = taken.err();
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
