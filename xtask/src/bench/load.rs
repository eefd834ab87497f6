//! The client: `tests/bench/kbench`, which answers with one JSON object.

use super::broker::{Installed, mortal};
use super::folder;
use crate::{Outcome, paths, process};
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::process::{Child, Stdio};

/// What one run of the client measured.
#[derive(Clone)]
pub(super) struct Answer(Map<String, Value>);

impl Answer {
    /// One number, if this kind of run has it.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.as_f64()
    }
}

/// The client's program.
pub(super) struct Load {
    program: PathBuf,
}

impl Load {
    /// Builds it; Go knows when there is nothing to do.
    pub(super) fn build() -> Outcome<Self> {
        let program = folder().join("kbench");
        process::run(
            process::command("go")
                .args(["build", "-trimpath", "-o"])
                .arg(&program)
                .arg(".")
                .current_dir(paths::root().join("tests/bench/kbench")),
        )?;
        Ok(Self { program })
    }

    /// Runs it against a broker whose process has this id, and waits for its answer.
    pub(super) fn run(
        &self,
        broker: &Installed,
        pid: u32,
        arguments: &[String],
    ) -> Outcome<Answer> {
        let said = process::output(
            mortal(&self.program)
                .args(["-address", &broker.address, "-pid", &pid.to_string()])
                .args(arguments),
        )?;
        Ok(Answer(serde_json::from_str(&said)?))
    }

    /// Waits until the broker has acknowledged one record in each partition of a topic, which is made if need be.
    pub(super) fn first(&self, broker: &Installed, topic: &str, partitions: u32) -> Outcome {
        let arguments = ["-mode", "first", "-topic", topic, "-partitions"].map(str::to_owned);
        let arguments = [&arguments[..], &[partitions.to_string()]].concat();
        self.run(broker, 0, &arguments).map(|_| ())
    }

    /// Starts it and leaves it running; it may well fail.
    pub(super) fn spawn(&self, broker: &Installed, arguments: &[String]) -> Outcome<Child> {
        Ok(mortal(&self.program)
            .args(["-address", &broker.address])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?)
    }
}

/// Arguments of the client, separated by spaces.
pub(super) fn words(arguments: &str) -> Vec<String> {
    arguments.split_whitespace().map(str::to_owned).collect()
}
