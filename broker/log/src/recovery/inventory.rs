//! What lies in a partition's directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_wire::Offset;

use crate::dir::{
    COMPACTED_FILE, DELETED_SUFFIX, DataDir, LOG_START_FILE, Mark, PartitionMeta, TEMPORARY_SUFFIX,
    aborted_name, index_name, log_name, offset_of, segment_of, snapshot_name,
};
use crate::error::OpenError;
use crate::files::{FileError, SYNCING, Wait, read_whole};
use crate::index::last_entry;
use crate::segment::Segment;
use crate::shared::{Segments, Shared};
use crate::storage::{File, OpenMode, Storage};
use crate::walk::{Walk, WalkError};

/// A segment's files.
#[derive(Clone, Copy, Debug)]
struct SegmentFiles {
    base: Offset,
    generation: u32,
    len: u64,
    index_len: u64,
}

impl SegmentFiles {
    /// The offset after the last whole batch, by the headers: of a segment that compaction wrote, where it ends.
    fn end(&self, dir: &DataDir, partition: &Path) -> Result<Offset, OpenError> {
        let path = partition.join(log_name(self.base, self.generation));
        let file = dir
            .storage()
            .open(&path, OpenMode::Read)
            .map_err(FileError::of("opening", &path))?;
        let start = self.last_indexed(dir, partition, &*file);
        let (position, offset) = start.unwrap_or((0, self.base));
        let mut walk = Walk::new(&*file, position, self.len, offset, Wait::Yes);
        loop {
            match walk.next() {
                Ok(Some(_)) => {}
                Ok(None) | Err(WalkError::Bad { .. }) => return Ok(walk.expected()),
                Err(WalkError::Io(error)) => {
                    return Err(FileError::of("reading", &path)(error).into());
                }
            }
        }
    }

    /// Where the last index entry says that a batch begins, if one does.
    fn last_indexed(
        &self,
        dir: &DataDir,
        partition: &Path,
        file: &dyn File,
    ) -> Option<(u64, Offset)> {
        let path = partition.join(index_name(self.base, self.generation));
        let index = dir.storage().open(&path, OpenMode::Read).ok()?;
        let (position, offset) = last_entry(&*index, self.index_len, self.base)?;
        let batch = Walk::new(file, position, self.len, offset, Wait::Yes).next();
        batch.ok().flatten().map(|_| (position, offset))
    }

    fn remove(&self, dir: &DataDir, partition: &Path) -> Result<(), OpenError> {
        for name in [
            log_name(self.base, self.generation),
            index_name(self.base, self.generation),
            aborted_name(self.base, self.generation),
        ] {
            remove(&**dir.storage(), &partition.join(name))?;
        }
        Ok(())
    }
}

fn remove(storage: &dyn Storage, path: &Path) -> Result<(), OpenError> {
    match storage.remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::of("removing", path)(error).into())
        }
        _ => Ok(()),
    }
}

/// The files of one partition that count.
#[derive(Debug)]
pub(super) struct Inventory {
    path: PathBuf,
    /// The metadata's file, when the directory was made just now.
    pub(super) made: Option<Arc<dyn File>>,
    segments: Vec<SegmentFiles>,
    pub(super) log_start: Offset,
    /// Below it no key occurs twice.
    pub(super) compacted_to: Offset,
    pub(super) snapshots: Vec<Offset>,
}

impl Inventory {
    /// Looks, and removes what was on its way out. Makes the directory when it is not there.
    pub(super) fn take(dir: &DataDir, meta: &PartitionMeta) -> Result<Self, OpenError> {
        let path = dir.partition_path(meta.key);
        let storage = &**dir.storage();
        let made = if dir.is_made(meta)? {
            None
        } else {
            Some(dir.make_partition(meta)?)
        };
        let mut inventory = Self {
            path,
            made,
            segments: Vec::new(),
            log_start: Offset::ZERO,
            compacted_to: Offset::ZERO,
            snapshots: Vec::new(),
        };
        let names = storage
            .list(&inventory.path)
            .map_err(FileError::of("listing", &inventory.path))?;
        inventory.log_start = inventory.read_log_start(dir)?;
        for name in &names {
            let path = inventory.path.join(name);
            if name.ends_with(DELETED_SUFFIX) || name.ends_with(TEMPORARY_SUFFIX) {
                remove(storage, &path)?;
            } else if let Some((base, generation)) = segment_of(name, "log") {
                let len = inventory.file_len(dir, name)?;
                let index = index_name(base, generation);
                let index_len = if names.contains(&index) {
                    inventory.file_len(dir, &index)?
                } else {
                    0
                };
                inventory.segments.push(SegmentFiles {
                    base,
                    generation,
                    len,
                    index_len,
                });
            } else if let Some((base, generation)) =
                segment_of(name, "index").or_else(|| segment_of(name, "aborted"))
            {
                // Left behind when its segment was removed or replaced.
                if !names.contains(&log_name(base, generation)) {
                    remove(storage, &path)?;
                }
            } else if let Some(at) = offset_of(name, "snapshot") {
                inventory.snapshots.push(at);
            }
        }
        inventory.segments.sort_by_key(|files| files.base);
        inventory.drop_superseded(dir)?;
        inventory.drop_segments_before_start(dir)?;
        inventory.compacted_to = inventory.read_compacted_to(dir)?;
        Ok(inventory)
    }

    fn file_len(&self, dir: &DataDir, name: &str) -> Result<u64, OpenError> {
        let path = self.path.join(name);
        let file = dir
            .storage()
            .open(&path, OpenMode::Read)
            .map_err(FileError::of("opening", &path))?;
        Ok(file.len().map_err(FileError::of("measuring", &path))?)
    }

    fn read_log_start(&self, dir: &DataDir) -> Result<Offset, OpenError> {
        let path = self.path.join(LOG_START_FILE);
        let Some(bytes) = read_whole(&**dir.storage(), &path)? else {
            return Ok(Offset::ZERO);
        };
        let text = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.strip_suffix('\n'));
        text.and_then(|text| text.parse().ok())
            .map(Offset)
            .ok_or_else(|| OpenError::Unreadable {
                path,
                found: "not an offset".to_owned(),
            })
    }

    /// Retention had moved the log's start beyond these.
    fn drop_segments_before_start(&mut self, dir: &DataDir) -> Result<(), OpenError> {
        let start = self.log_start;
        let before = self
            .segments
            .partition_point(|segment| segment.base <= start)
            .saturating_sub(1);
        for segment in self.segments.drain(..before) {
            segment.remove(dir, &self.path)?;
        }
        Ok(())
    }

    /// Compaction had replaced these: a file of a higher generation is whole once it has its name, and takes the place of all
    /// those of lower ones that begin before it ends. The contents say where that is: a truncation may have moved it.
    fn drop_superseded(&mut self, dir: &DataDir) -> Result<(), OpenError> {
        if self.segments.iter().all(|files| files.generation == 0) {
            return Ok(());
        }
        let mut kept: Vec<SegmentFiles> = Vec::with_capacity(self.segments.len());
        let mut dropped = false;
        for files in std::mem::take(&mut self.segments) {
            let mut is_superseded = false;
            while let Some(before) = kept.last().copied() {
                let overlap = before.base == files.base
                    || before.generation > files.generation
                        && before.end(dir, &self.path)? > files.base;
                if !overlap {
                    break;
                }
                dropped = true;
                if before.generation > files.generation {
                    is_superseded = true;
                    break;
                }
                before.remove(dir, &self.path)?;
                kept.pop();
            }
            if is_superseded {
                files.remove(dir, &self.path)?;
            } else {
                kept.push(files);
            }
        }
        self.segments = kept;
        if dropped {
            // What is gone must not come back once the log has been cut and has gone on.
            dir.storage()
                .sync_dir(&self.path)
                .map_err(FileError::of(SYNCING, &self.path))?;
        }
        Ok(())
    }

    /// Derived: one that cannot be read costs a compaction.
    fn read_compacted_to(&self, dir: &DataDir) -> Result<Offset, OpenError> {
        let bytes = read_whole(&**dir.storage(), &self.path.join(COMPACTED_FILE))?;
        let text = bytes
            .as_deref()
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        let offset = text.and_then(|text| text.strip_suffix('\n')?.parse().ok());
        Ok(Offset(offset.unwrap_or(0)))
    }

    pub(super) fn is_new(&self) -> bool {
        self.segments.is_empty()
    }

    pub(super) fn first_base(&self) -> Offset {
        self.segments
            .first()
            .map_or(self.log_start, |segment| segment.base)
    }

    /// Makes the first segment when there is none, not durably. Says whether it did.
    pub(super) fn ensure_segment(&mut self, dir: &DataDir) -> Result<bool, OpenError> {
        if !self.segments.is_empty() {
            return Ok(false);
        }
        let base = self.log_start;
        let path = self.path.join(log_name(base, 0));
        dir.storage()
            .open(&path, OpenMode::Create)
            .map_err(FileError::of("making", &path))?;
        self.segments.push(SegmentFiles {
            base,
            generation: 0,
            len: 0,
            index_len: 0,
        });
        Ok(true)
    }

    /// Whether the last segment's file ends where the mark says.
    pub(super) fn ends_at(&self, mark: Mark) -> bool {
        let begins = self.first_base() <= self.log_start;
        begins
            && self
                .segments
                .last()
                .is_some_and(|last| last.base == mark.segment && last.len == mark.position)
    }

    /// The segments as far as is known yet: each ends where the next begins, the last one somewhere.
    pub(super) fn segments(&self, dir: &DataDir) -> Segments {
        let ends = self
            .segments
            .iter()
            .skip(1)
            .map(|next| next.base)
            .chain(self.segments.last().map(|last| last.base));
        self.segments
            .iter()
            .zip(ends)
            .map(|(files, end)| {
                Arc::new(Segment::new(
                    dir,
                    (files.base, files.generation),
                    files.len,
                    end,
                    files.index_len,
                ))
            })
            .collect()
    }

    /// Removes a segment that turned out not to be part of the log.
    pub(super) fn remove_segment(
        &mut self,
        shared: &Shared,
        segment: &Segment,
    ) -> Result<(), OpenError> {
        segment.forget_files(&shared.dir);
        self.segments.retain(|files| files.base != segment.base);
        let storage = shared.dir.storage();
        let path = segment.log_path(&shared.path);
        storage
            .remove_file(&path)
            .map_err(FileError::of("removing", &path))?;
        for derived in [
            segment.index_path(&shared.path),
            segment.aborted_path(&shared.path),
        ] {
            match storage.remove_file(&derived) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(FileError::of("removing", &derived)(error).into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Snapshots of a future that did not happen must not meet the one that will.
    pub(super) fn drop_snapshots_beyond(
        &mut self,
        dir: &DataDir,
        end: Offset,
    ) -> Result<(), OpenError> {
        let beyond: Vec<_> = self.snapshots.extract_if(.., |at| *at > end).collect();
        for at in &beyond {
            let path = self.path.join(snapshot_name(*at));
            dir.storage()
                .remove_file(&path)
                .map_err(FileError::of("removing", &path))?;
        }
        if !beyond.is_empty() {
            dir.storage()
                .sync_dir(&self.path)
                .map_err(FileError::of(SYNCING, &self.path))?;
        }
        Ok(())
    }
}
