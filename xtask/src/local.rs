//! `make run`: Weir without Kubernetes, from the same manifests.

use crate::{Outcome, binaries, process};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

/// Builds Weir and becomes `weir-operator local`, which stays until Ctrl-C; with `ONCE=1` until it has proven itself.
pub(crate) fn run(files: &[PathBuf]) -> Outcome {
    let built = binaries::build()?;
    let quickstart = [PathBuf::from("examples/quickstart.yaml")];
    let files = if files.is_empty() { &quickstart } else { files };
    let mut local = process::command(&built.operator);
    local.arg("local");
    for file in files {
        local.arg("-f").arg(std::path::absolute(file)?);
    }
    local.env("WEIR_BROKER_BINARY", &built.broker);
    Err(format!("cannot run {}: {}", built.operator.display(), local.exec()).into())
}
