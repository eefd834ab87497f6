//! The binaries that people run and that images hold: static, so that an image needs nothing else.

use crate::{Outcome, paths, process};
use std::fmt;
use std::path::PathBuf;

/// The binaries of one build.
pub(crate) struct Binaries {
    /// The server.
    pub(crate) broker: PathBuf,
    /// The operator, which also runs clusters without Kubernetes.
    pub(crate) operator: PathBuf,
}

/// Builds them. The target is named although it is the host's: only then do flags leave procedural macros alone, which
/// cannot be static.
pub(crate) fn build() -> Outcome<Binaries> {
    let target = host()?;
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    process::run(
        process::cargo("build")
            .args(["--release", "--target", &target])
            .args(["-p", "weir-broker", "--bin", "weir-broker"])
            .args(["-p", "weir-operator", "--bin", "weir-operator"])
            .env(
                "RUSTFLAGS",
                format!("{flags} -C target-feature=+crt-static").trim(),
            ),
    )?;
    let release = paths::target().join(&target).join("release");
    Ok(Binaries {
        broker: release.join("weir-broker"),
        operator: release.join("weir-operator"),
    })
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
