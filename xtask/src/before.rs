//! The broker that tests of upgrades begin with, where `WEIR_UPGRADE_FROM` asks for that of an earlier revision: what is in the repository under that name,
//! in a folder and with a target directory of its own, so that nothing of this build is built again.

use crate::{Outcome, binaries, paths, process};
use std::fs;
use std::path::{Path, PathBuf};

/// A revision of this repository, as git understands it.
pub(crate) const VARIABLE: &str = "WEIR_UPGRADE_FROM";

/// The broker of an earlier revision.
pub(crate) struct Before {
    /// The commit.
    pub(crate) revision: String,
    /// The program.
    pub(crate) broker: PathBuf,
}

/// Checks out and builds what is asked for, if anything is. Minutes the first time.
pub(crate) fn build() -> Outcome<Option<Before>> {
    let Some(asked) = std::env::var(VARIABLE).ok().filter(|it| !it.is_empty()) else {
        return Ok(None);
    };
    let revision = commit(&asked)?;
    let place = paths::target().join("before").join(&revision);
    let source = place.join("source");
    if !source.exists() {
        check_out(&revision, &source)?;
    }
    println!("{VARIABLE}: building the broker of {revision}");
    let release = binaries::release(&source, &place.join("target"), &["weir-broker"])
        .map_err(|error| format!("{VARIABLE}: the broker of {asked}: {error}"))?;
    Ok(Some(Before {
        revision,
        broker: release.join("weir-broker"),
    }))
}

fn commit(asked: &str) -> Outcome<String> {
    let mut git = process::command("git");
    git.args(["rev-parse", "--verify", "--end-of-options"])
        .arg(format!("{asked}^{{commit}}"));
    let found = process::output(&mut git);
    found.map_err(|error| {
        format!("{VARIABLE}: {asked:?} is no revision of this repository\n{error}").into()
    })
}

/// Under its name there is only what is complete.
fn check_out(revision: &str, source: &Path) -> Outcome {
    let partial = source.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?; // what an interrupted run left
    }
    fs::create_dir_all(&partial)?;
    let archive = partial.with_extension("tar");
    process::run(
        process::command("git")
            .args(["archive", "--output"])
            .arg(&archive)
            .arg(revision),
    )?;
    process::run(
        process::command("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(&partial),
    )?;
    fs::remove_file(&archive)?;
    fs::rename(&partial, source)?;
    Ok(())
}
