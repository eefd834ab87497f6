//! An idempotent kcat that is fed bit by bit.

use crate::clients::Clients;
use crate::flights::Message;
use std::io::Write;
use std::process::{Child, ChildStdin, Stdio};

/// kcat as a producer. It goes on by itself when brokers come and go.
#[derive(Debug)]
pub struct Kcat {
    child: Child,
    input: Option<ChildStdin>,
}

impl Kcat {
    /// Starts it; it sends nothing yet.
    ///
    /// # Panics
    /// When it cannot run.
    #[must_use]
    pub fn start(clients: &Clients, bootstrap: &str, topic: &str) -> Self {
        let mut child = clients
            .kcat()
            .args(["-P", "-b", bootstrap, "-t", topic, "-K", "\\t"])
            .args([
                "-X",
                "enable.idempotence=true",
                "-X",
                "linger.ms=5",
                "-X",
                "log_level=2",
            ])
            .stdin(Stdio::piped())
            .spawn()
            .expect("kcat runs");
        let input = child.stdin.take();
        Self { child, input }
    }

    /// Hands messages over; waits while its queue is full.
    ///
    /// # Panics
    /// When it has ended.
    pub fn send(&mut self, messages: &[Message]) {
        let mut lines = Vec::with_capacity(messages.len() * 64);
        messages
            .iter()
            .for_each(|message| message.write_line(&mut lines));
        let input = self.input.as_mut().expect("input is open until finish");
        input
            .write_all(&lines)
            .and_then(|()| input.flush())
            .expect("kcat takes messages");
    }

    /// Ends the input and waits until everything is acknowledged.
    ///
    /// # Panics
    /// When something was not.
    pub fn finish(mut self) {
        drop(self.input.take());
        let status = self.child.wait().expect("kcat ends");
        assert!(
            status.success(),
            "kcat could not deliver everything ({status})"
        );
    }
}

impl Drop for Kcat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
