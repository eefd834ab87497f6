//! The client: `tests/bench/kbench`, which answers with one JSON object.

use super::broker::{Installed, Kind, Running, mortal};
use super::flame::{Profile, Profiler};
use super::folder;
use crate::{Outcome, paths, process};
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

/// What one run of the client measured.
#[derive(Clone, Default)]
pub(super) struct Answer(Map<String, Value>);

impl Answer {
    /// One number, if this kind of run has it.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.as_f64()
    }

    /// With one number more.
    pub(super) fn with(mut self, name: &str, number: Option<f64>) -> Self {
        self.0.insert(name.to_owned(), number.into());
        self
    }

    /// The last line; before it the client may have said how far it is.
    fn parse(said: &str) -> Outcome<Self> {
        let answer = said.lines().last().unwrap_or_default();
        Ok(Self(serde_json::from_str(answer)?))
    }
}

/// The client's program.
pub(super) struct Load {
    program: PathBuf,
    /// The command that takes its place for RocketMQ.
    pub(super) rocketmq: Vec<String>,
    /// Watches the brokers while something is measured.
    profiler: Option<Profiler>,
}

impl Load {
    /// Builds it; Go knows when there is nothing to do.
    pub(super) fn build(profiler: Option<Profiler>) -> Outcome<Self> {
        let program = folder().join("kbench");
        process::run(
            process::command("go")
                .args(["build", "-trimpath", "-o"])
                .arg(&program)
                .arg(".")
                .current_dir(paths::root().join("tests/bench/kbench")),
        )?;
        Ok(Self {
            program,
            rocketmq: Vec::new(),
            profiler,
        })
    }

    fn command(&self, brokers: &Installed, arguments: &str) -> Command {
        let mut command = match self.rocketmq.split_first() {
            Some((program, first)) if brokers.kind == Kind::RocketMq => {
                let mut command = mortal(program);
                command.args(first);
                command
            }
            _ => mortal(&self.program),
        };
        command
            .args(["-address", &brokers.address])
            .args(arguments.split_whitespace());
        command
    }

    /// Runs it against brokers, and waits for its answer; arguments are separated by spaces.
    pub(super) fn run(&self, brokers: &Installed, arguments: &str) -> Outcome<Answer> {
        Answer::parse(&process::output(&mut self.command(brokers, arguments))?)
    }

    /// The same, and what the brokers burned meanwhile is part of the answer.
    pub(super) fn measure(
        &self,
        brokers: &Installed,
        running: &Running,
        arguments: &str,
    ) -> Outcome<Answer> {
        let mut command = self.command(brokers, arguments);
        command.args(["-pids", &running.pids()]);
        match &self.profiler {
            Some(profiler) => {
                Answer::parse(&process::output(&mut profiler.watch(running, &command))?)
            }
            None => Answer::parse(&process::output(&mut command)?),
        }
    }

    /// What the profiler, if there is one, saw while the last thing was measured.
    pub(super) fn profile(&self, row: &str) -> Outcome<Option<Profile>> {
        let profiler = self.profiler.as_ref();
        profiler.map(|profiler| profiler.take(row)).transpose()
    }

    /// Waits until the brokers have acknowledged one record in each partition of a topic, which is made if need be.
    pub(super) fn first(&self, brokers: &Installed, topic: &str, partitions: u32) -> Outcome {
        let arguments = format!("-mode first -topic {topic} -partitions {partitions}");
        self.run(brokers, &arguments).map(|_| ())
    }

    /// Starts it and leaves it running; it may well fail.
    pub(super) fn spawn(&self, brokers: &Installed, arguments: &str) -> Outcome<Child> {
        Ok(self
            .command(brokers, arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?)
    }

    /// Starts it and waits until it says that its load is steady.
    pub(super) fn until_steady(
        &self,
        brokers: &Installed,
        running: &Running,
        arguments: &str,
    ) -> Outcome<Steady> {
        let mut child = self
            .command(brokers, arguments)
            .args(["-pids", &running.pids()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let said = child.stdout.take().ok_or("the client has no output")?;
        let mut steady = Steady {
            child,
            said: BufReader::new(said),
            whom: None,
        };
        let mut line = String::new();
        steady.said.read_line(&mut line)?;
        match line.trim_end().strip_prefix("steady") {
            Some(whom) => {
                steady.whom = whom.trim().parse().ok();
                Ok(steady)
            }
            None => Err(steady.complaint()),
        }
    }
}

/// A client with a steady load. It is killed when it is dropped.
pub(super) struct Steady {
    child: Child,
    said: BufReader<ChildStdout>,
    /// The broker that it spoke of.
    pub(super) whom: Option<usize>,
}

impl Steady {
    /// Tells it to end, if it waits for that, and waits for its answer.
    pub(super) fn finish(mut self) -> Outcome<Answer> {
        drop(self.child.stdin.take());
        let mut answer = String::new();
        self.said.read_to_string(&mut answer)?;
        if self.child.wait()?.success() {
            Answer::parse(&answer)
        } else {
            Err(self.complaint())
        }
    }

    fn complaint(&mut self) -> Box<dyn std::error::Error> {
        let mut complaint = String::new();
        if let Some(mut stderr) = self.child.stderr.take()
            && let Err(error) = stderr.read_to_string(&mut complaint)
        {
            return error.into();
        }
        complaint.trim_end().to_owned().into()
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        // Both fail harmlessly when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
