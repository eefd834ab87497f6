//! Exchanges segments for the one that was written from them, and removes what was exchanged.

use std::path::Path;
use std::sync::Arc;

use weir_wire::Offset;

use crate::dir::{COMPACTED_FILE, DELETED_SUFFIX, TEMPORARY_SUFFIX};
use crate::files::{FileError, SYNCING, replace};
use crate::segment::Segment;
use crate::shared::{Beside, EditSegments, Shared};

/// Puts `new`, which lies whole under its temporary name, in the place of `old`. `false` when these are no longer what they
/// were: the log was cut, retention took them, the partition is closed.
pub(super) fn swap(
    shared: &Shared,
    old: &[Arc<Segment>],
    new: Segment,
    truncations: u64,
) -> Result<bool, FileError> {
    let mut edit = shared.edit_segments();
    let mut segments = (*shared.segments()).clone();
    let first = segments
        .iter()
        .position(|segment| old.first().is_some_and(|old| Arc::ptr_eq(segment, old)));
    let found = first.filter(|first| {
        let there = segments.get(*first..first + old.len());
        there.is_some_and(|there| {
            there
                .iter()
                .zip(old)
                .all(|(there, old)| Arc::ptr_eq(there, old))
        })
    });
    let stands = !shared.is_closed() && !shared.is_gone() && shared.truncations() == truncations;
    let Some(first) = found.filter(|_| stands) else {
        return Ok(false);
    };
    let path = new.log_path(&shared.path);
    let temporary = with_suffix(&path, TEMPORARY_SUFFIX);
    shared
        .dir
        .storage()
        .rename(&temporary, &path)
        .map_err(FileError::of("renaming", &temporary))?;
    segments.splice(first..first + old.len(), [Arc::new(new)]);
    edit.set(segments);
    edit.superseded.extend(old.iter().cloned());
    Ok(true)
}

/// Removes what was exchanged, after the exchange is durable.
pub(super) fn tidy(shared: &Shared) -> Result<(), FileError> {
    let storage = &**shared.dir.storage();
    let old: Vec<_> = shared.edit_segments().superseded.clone();
    if old.is_empty() {
        return Ok(());
    }
    storage
        .sync_dir(&shared.path)
        .map_err(FileError::of(SYNCING, &shared.path))?;
    for segment in old {
        let path = segment.log_path(&shared.path);
        let deleted = with_suffix(&path, DELETED_SUFFIX);
        {
            // Removing much takes long, and is not done under the lock; renaming is.
            let mut edit = shared.edit_segments();
            let place = edit
                .superseded
                .iter()
                .position(|other| Arc::ptr_eq(other, &segment));
            let Some(place) = place else { continue };
            edit.superseded.remove(place);
            if shared.is_closed() || is_name_of_another(shared, &segment) {
                continue;
            }
            match storage.rename(&path, &deleted) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                renamed => renamed.map_err(FileError::of("renaming", &path))?,
            }
            // Later these might be the files of another segment of this name.
            remove(shared, &segment.index_path(&shared.path))?;
            remove(shared, &segment.aborted_path(&shared.path))?;
        }
        segment.forget_files(&shared.dir);
        remove(shared, &deleted)?;
    }
    Ok(())
}

/// The same at once, before the log is cut: what is left of the past must not be taken for what comes after the cut.
pub(crate) fn remove_superseded(
    shared: &Shared,
    edit: &mut EditSegments<'_>,
) -> Result<(), FileError> {
    if edit.superseded.is_empty() {
        return Ok(());
    }
    shared
        .dir
        .storage()
        .sync_dir(&shared.path)
        .map_err(FileError::of(SYNCING, &shared.path))?;
    for segment in std::mem::take(&mut *edit.superseded) {
        segment.forget_files(&shared.dir);
        if !is_name_of_another(shared, &segment) {
            remove(shared, &segment.log_path(&shared.path))?;
            remove(shared, &segment.index_path(&shared.path))?;
            remove(shared, &segment.aborted_path(&shared.path))?;
        }
    }
    Ok(())
}

/// Whether a segment that is part of the log has the name of one that is not any more: the log was cut and has grown again.
pub(crate) fn is_name_of_another(shared: &Shared, segment: &Segment) -> bool {
    let name = (segment.base, segment.generation);
    shared
        .segments()
        .iter()
        .any(|live| (live.base, live.generation) == name)
}

pub(crate) fn remove(shared: &Shared, path: &Path) -> Result<(), FileError> {
    match shared.dir.storage().remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::of("removing", path)(error))
        }
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Remembers up to where no key occurs twice.
pub(crate) fn store_compacted_to(
    shared: &Shared,
    _beside: &mut Beside,
    to: Offset,
) -> Result<(), FileError> {
    replace(
        &**shared.dir.storage(),
        &shared.path,
        COMPACTED_FILE,
        format!("{to}\n").as_bytes(),
    )?;
    shared.set_compacted_to(to);
    Ok(())
}
