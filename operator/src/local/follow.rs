//! Tells when one of the files changes.
//!
//! Directories are watched, not files: editors write a new file and rename it over the old one. Without such notices (an exotic file
//! system) the files' times are looked at instead.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// An editor may write a file in several steps; they are over by then.
const SETTLE: Duration = Duration::from_millis(100);
/// Where there are no notices.
const POLL: Duration = Duration::from_secs(1);

/// Notices of changes.
pub(super) struct Changes {
    notices: mpsc::Receiver<()>,
    files: Vec<PathBuf>,
    known: Vec<Option<SystemTime>>,
    watching: bool,
    _watcher: Option<RecommendedWatcher>,
}

/// Follows files. Standard input is not followed.
pub(super) fn files(files: &[PathBuf]) -> Changes {
    let files: Vec<PathBuf> = files
        .iter()
        .filter(|file| *file != Path::new("-"))
        .cloned()
        .collect();
    // One notice that waits says as much as many.
    let (sender, notices) = mpsc::channel(1);
    let watcher = watch(&files, sender);
    let known = files.iter().map(|file| modified(file)).collect();
    Changes {
        notices,
        known,
        files,
        watching: watcher.is_some(),
        _watcher: watcher,
    }
}

fn watch(files: &[PathBuf], sender: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let notice = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // Full means that a notice waits already.
            let _ = sender.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(notice).ok()?;
    for file in files {
        let directory = file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or_else(|| Path::new("."));
        watcher.watch(directory, RecursiveMode::NonRecursive).ok()?;
    }
    Some(watcher)
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file)
        .and_then(|metadata| metadata.modified())
        .ok()
}

impl Changes {
    /// Completes after a file may have changed. Dropping it loses nothing.
    pub(super) async fn changed(&mut self) {
        loop {
            if self.watching {
                if self.notices.recv().await.is_none() {
                    self.watching = false;
                }
                tokio::time::sleep(SETTLE).await;
                let _ = self.notices.try_recv();
            } else {
                tokio::time::sleep(POLL).await;
            }
            // The directory holds other files too.
            let now: Vec<Option<SystemTime>> =
                self.files.iter().map(|file| modified(file)).collect();
            if now != self.known {
                self.known = now;
                return;
            }
        }
    }
}
