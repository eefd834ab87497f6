//! The alert rules, tried with Prometheus' own tool: each fires when it should, and not otherwise.

use crate::{Outcome, paths, process};
use std::fs;
use std::path::PathBuf;

/// What the chart installs.
const RULES: &str = "charts/weir-operator/files/alerts.yaml";
/// What it is tried with.
const TESTS: &str = "operator/tests/alerts.yaml";

/// Checks the rules, and runs their tests.
pub(crate) fn run() -> Outcome {
    let promtool = promtool()?;
    process::run(process::command(&promtool).args(["check", "rules", RULES]))?;
    process::run(process::command(&promtool).args(["test", "rules", TESTS]))
}

fn promtool() -> Outcome<PathBuf> {
    program("promtool")
}

/// Prometheus itself.
pub(crate) fn prometheus() -> Outcome<PathBuf> {
    program("prometheus")
}

/// The one on `PATH`, or that of Debian's package, unpacked: installed, the package would start a server.
fn program(name: &str) -> Outcome<PathBuf> {
    if let Some(there) = paths::program(name) {
        return Ok(there);
    }
    let folder = paths::target().join("promtool");
    let program = folder.join("usr/bin").join(name);
    if program.is_file() {
        return Ok(program);
    }
    println!("fetching {name} (Debian's package prometheus)");
    fs::create_dir_all(&folder)?;
    process::run(
        process::command("apt-get")
            .args(["download", "-qq", "prometheus"])
            .current_dir(&folder),
    )?;
    for entry in fs::read_dir(&folder)? {
        let archive = entry?.path();
        if archive
            .extension()
            .is_some_and(|extension| extension == "deb")
        {
            let unpack = process::run(
                process::command("dpkg-deb")
                    .arg("--extract")
                    .args([&archive, &folder]),
            );
            fs::remove_file(&archive)?;
            unpack?;
        }
    }
    if program.is_file() {
        Ok(program)
    } else {
        Err(format!("Debian's package prometheus has no {name}").into())
    }
}
