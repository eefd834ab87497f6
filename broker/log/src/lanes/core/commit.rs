//! Group commit: one write for each partition, then one sync for all.

use std::sync::Arc;

use super::LaneCore;
use crate::dir::DataDir;
use crate::error::Fatal;
use crate::files::{FileError, SYNCING};
use crate::lanes::command::Slot;
use crate::log::SyncWork;
use crate::mutants::Mutant;

/// From so many dirty files on the whole file system is synced at once. Measured on ext4: 64 dirty files one after another
/// 13 to 21 ms (0.2 to 0.3 ms each), one `syncfs` for all of them 1.8 to 2.5 ms: they meet at about eight.
const SYNC_FILE_SYSTEM_FROM: usize = 9;

/// The same where there are partitions that do not sync what they write: `syncfs` would wait for all of that as well, up
/// to what the kernel lets become dirty. 256 files one after another take some 70 ms, which 70 MB of dirty pages take too.
const SYNC_FILE_SYSTEM_FROM_WHEN_SHARED: usize = 256;

impl LaneCore {
    /// Writes what one partition has staged.
    pub(super) fn write_one(&mut self, slot: Slot, now_ms: i64) -> Result<(), Fatal> {
        match self.partitions.get_mut(&slot) {
            Some(partition) => partition.write(now_ms),
            None => Ok(()),
        }
    }

    pub(super) fn write_all(&mut self, now_ms: i64) {
        let slots: Vec<Slot> = self.touched.iter().copied().collect();
        for slot in slots {
            if self.failed {
                return;
            }
            if let Err(fatal) = self.write_one(slot, now_ms) {
                self.fail(&fatal);
                return;
            }
            if let Some(partition) = self.partitions.get_mut(&slot) {
                partition.tell_written();
            }
        }
    }

    /// Whether something was written whose promise wants a sync.
    pub(in crate::lanes) fn owes_sync(&self) -> bool {
        let mut touched = self.touched.iter();
        touched.any(|slot| {
            let partition = self.partitions.get(slot);
            partition.is_some_and(|partition| partition.foreground_sync().is_some())
        })
    }

    /// Syncs what was written by partitions that promise it, then tells.
    pub(super) fn sync_all(&mut self) {
        if self.failed {
            return;
        }
        let works: Vec<(Slot, SyncWork)> = self
            .touched
            .iter()
            .filter_map(|slot| Some((*slot, self.partitions.get(slot)?.foreground_sync()?)))
            .collect();
        if let Err(error) = sync(&works)
            && !Mutant::IgnoreFailedSync.is_active()
        {
            self.fail(&error.into());
            return;
        }
        for (slot, work) in &works {
            if let Some(partition) = self.partitions.get_mut(slot) {
                partition.synced(work);
            }
        }
    }
}

impl LaneCore {
    /// Makes durable what all partitions hold, whatever they promise, so that they can be closed without a sync each.
    pub(super) fn sync_everything(&mut self, now_ms: i64) -> Result<(), Fatal> {
        let slots: Vec<Slot> = self.partitions.keys().copied().collect();
        for slot in slots {
            self.write_one(slot, now_ms)?;
        }
        let works: Vec<(Slot, SyncWork)> = self
            .partitions
            .iter()
            .filter_map(|(slot, partition)| Some((*slot, partition.sync_work()?)))
            .collect();
        sync(&works)?;
        for (slot, work) in &works {
            if let Some(partition) = self.partitions.get_mut(slot) {
                partition.synced(work);
            }
        }
        Ok(())
    }
}

fn sync(works: &[(Slot, SyncWork)]) -> Result<(), FileError> {
    let mut dirs: Vec<Arc<DataDir>> = Vec::new();
    for (_, work) in works {
        let dir = &work.shared().dir;
        if !dirs.iter().any(|other| Arc::ptr_eq(other, dir)) {
            dirs.push(Arc::clone(dir));
        }
    }
    for dir in dirs {
        let here = || {
            works
                .iter()
                .map(|(_, work)| work)
                .filter(|work| Arc::ptr_eq(&work.shared().dir, &dir))
        };
        let files: usize = here().map(SyncWork::file_count).sum();
        let many = if dir.has_unsynced_writers() {
            SYNC_FILE_SYSTEM_FROM_WHEN_SHARED
        } else {
            SYNC_FILE_SYSTEM_FROM
        };
        if files >= many {
            dir.storage()
                .sync_file_system(dir.path())
                .map_err(FileError::of(SYNCING, dir.path()))?;
        } else {
            here().try_for_each(SyncWork::run)?;
        }
    }
    Ok(())
}
