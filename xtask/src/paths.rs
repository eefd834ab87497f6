//! Where things are: the workspace, what cargo builds, and what outlives a checkout.

use std::env;
use std::path::{Path, PathBuf};

/// The version that binaries and images carry.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// Cargo's target directory, where everything that a task makes goes too.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// What is worth keeping between checkouts, because it takes minutes to make.
pub(crate) fn cache() -> PathBuf {
    let home =
        || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache");
    env::var_os("XDG_CACHE_HOME")
        .map_or_else(home, PathBuf::from)
        .join("weir")
}

/// A program on `PATH`, or where Debian keeps what only root runs.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}
