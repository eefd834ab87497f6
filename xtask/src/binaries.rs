//! The binaries that people run and that images hold: static, so that an image needs nothing else.

use crate::{Outcome, paths, process};
use std::fmt;
use std::path::{Path, PathBuf};

/// The binaries of one build.
pub(crate) struct Binaries {
    /// The server.
    pub(crate) broker: PathBuf,
    /// The operator, which also runs clusters without Kubernetes.
    pub(crate) operator: PathBuf,
}

/// Builds them.
pub(crate) fn build() -> Outcome<Binaries> {
    let names = ["weir-broker", "weir-operator"];
    let release = release(paths::root(), &paths::target(), &names)?;
    Ok(Binaries {
        broker: release.join("weir-broker"),
        operator: release.join("weir-operator"),
    })
}

/// Builds programs, named as their packages are, of a workspace into a target directory; returns the folder that they are in. The target is named although
/// it is the host's: only then do flags leave procedural macros alone, which cannot be static.
pub(crate) fn release(workspace: &Path, into: &Path, names: &[&str]) -> Outcome<PathBuf> {
    let target = host()?;
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut cargo = process::cargo("build");
    cargo
        .current_dir(workspace)
        .args(["--release", "--target", &target])
        .env("CARGO_TARGET_DIR", into)
        .env(
            "RUSTFLAGS",
            format!("{flags} -C target-feature=+crt-static").trim(),
        );
    for name in names {
        cargo.args(["-p", name, "--bin", name]);
    }
    process::run(&mut cargo)?;
    Ok(into.join(&target).join("release"))
}

/// The triple of this machine: naming it keeps flags away from build scripts and procedural macros.
pub(crate) fn host() -> Outcome<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = process::output(process::command(rustc).arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("rustc -vV names no host")?.to_owned())
}

impl fmt::Display for Binaries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.broker.display(), self.operator.display())
    }
}
