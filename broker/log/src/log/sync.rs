//! What of a partition has to be synced, and what follows from it having been.

use std::path::PathBuf;
use std::sync::Arc;

use weir_wire::Offset;

use super::PartitionLog;
use crate::dir::{METADATA_FILE, Mark};
use crate::files::{FileError, SYNCING};
use crate::mutants::Mutant;
use crate::shared::Shared;
use crate::storage::File;

/// A sync to be done: after it, everything below `mark` is on disk.
#[derive(Debug)]
pub(crate) struct SyncWork {
    files: Vec<(PathBuf, Arc<dyn File>)>,
    /// New segments have no durable names yet.
    directory: bool,
    /// Nor has the partition's directory.
    parent: bool,
    shared: Arc<Shared>,
    mark: Mark,
    rolls: u64,
    truncations: u64,
}

impl SyncWork {
    /// How many files would be synced one by one.
    pub(crate) fn file_count(&self) -> usize {
        self.files.len() + usize::from(self.directory) + usize::from(self.parent)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Syncs file by file.
    pub(crate) fn run(&self) -> Result<(), FileError> {
        match self.sync() {
            // Its directory has been taken away meanwhile: there is nothing left to be on disk.
            Err(error) if error.is_not_found() && self.shared.is_gone() => Ok(()),
            result => result,
        }
    }

    fn sync(&self) -> Result<(), FileError> {
        for (path, file) in &self.files {
            file.sync_data().map_err(FileError::of(SYNCING, path))?;
        }
        if Mutant::NoDirectorySync.is_active() {
            return Ok(());
        }
        if self.directory {
            let path = &self.shared.path;
            self.shared
                .dir
                .storage()
                .sync_dir(path)
                .map_err(FileError::of(SYNCING, path))?;
        }
        if self.parent {
            let path = self.shared.dir.path();
            self.shared
                .dir
                .storage()
                .sync_dir(path)
                .map_err(FileError::of(SYNCING, path))?;
        }
        Ok(())
    }
}

impl PartitionLog {
    /// What has to be synced for the log to be on disk up to its end; `None` when it is.
    pub(crate) fn sync_work(&self) -> Option<SyncWork> {
        let end = self.shared.log_end();
        let directory = self.rolls != self.rolls_synced;
        if self.shared.synced_end() >= end && !directory {
            return None;
        }
        let mut files: Vec<_> = self
            .unsynced_closed
            .iter()
            .map(|(segment, file)| (segment.log_path(&self.shared.path), Arc::clone(file)))
            .collect();
        files.push((
            self.active.log_path(&self.shared.path),
            Arc::clone(&self.active_file),
        ));
        if let Some(metadata) = &self.made {
            files.push((self.shared.path.join(METADATA_FILE), Arc::clone(metadata)));
        }
        Some(SyncWork {
            files,
            directory,
            parent: self.made.is_some(),
            shared: Arc::clone(&self.shared),
            mark: Mark {
                end,
                segment: self.active.base,
                position: self.active.size(),
            },
            rolls: self.rolls,
            truncations: self.shared.truncations(),
        })
    }

    /// The work was done. Says up to where the log is on disk now.
    pub(crate) fn synced(&mut self, work: &SyncWork) -> Offset {
        if work.truncations != self.shared.truncations() {
            // What was synced has been cut since, and truncation syncs by itself.
            return self.shared.synced_end();
        }
        self.rolls_synced = self.rolls_synced.max(work.rolls);
        if work.parent {
            self.made = None;
        }
        if work.mark.end > self.shared.synced_end() {
            self.shared.set_synced_end(work.mark.end);
        }
        if work.mark.end >= self.shared.mark.get().end {
            self.shared.mark.set(work.mark);
        }
        let on_disk = self.shared.synced_end();
        let dir = Arc::clone(&self.shared.dir);
        self.unsynced_closed.retain(|(segment, _)| {
            let keep = segment.end() > on_disk;
            if !keep {
                segment.forget_files(&dir);
            }
            keep
        });
        on_disk
    }

    /// Whether closed segments wait for a sync that no append will ask for.
    pub(crate) fn has_unsynced_closed(&self) -> bool {
        !self.unsynced_closed.is_empty()
    }
}
