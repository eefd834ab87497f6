//! Small files that are replaced as a whole: after a crash one finds the old contents or the new, never a mixture.

use std::io::{self, IoSlice};
use std::path::Path;

use weir_log::storage::{OpenMode, Storage};

/// Replaces the file `name` in `dir` by `bytes`, durably.
pub(crate) fn replace(
    storage: &dyn Storage,
    dir: &Path,
    name: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    if storage.exists(&new)? {
        storage.remove_file(&new)?;
    }
    let file = storage.open(&new, OpenMode::Create)?;
    file.write_all_vectored_at(&[IoSlice::new(bytes)], 0)?;
    file.sync_data()?;
    storage.rename(&new, &dir.join(name))?;
    storage.sync_dir(dir)
}

/// The whole of a file; `None` when it is not there.
pub(crate) fn read(storage: &dyn Storage, path: &Path) -> io::Result<Option<Vec<u8>>> {
    if !storage.exists(path)? {
        return Ok(None);
    }
    let file = storage.open(path, OpenMode::Read)?;
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let mut read = 0;
    while read < len {
        match file.read_at(&mut bytes[read..], read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Makes a directory and those above it that are missing, durably.
pub(crate) fn make_dir(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    let mut made = vec![path];
    for above in path.ancestors().skip(1) {
        if above.as_os_str().is_empty() || storage.exists(above)? {
            break;
        }
        made.push(above);
    }
    storage.create_dir_all(path)?;
    // An entry lasts when the directory that holds it is synced. The last one's also when it was there before: whoever
    // made it may have been killed in between.
    for parent in made.into_iter().filter_map(Path::parent) {
        storage.sync_dir(if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        })?;
    }
    storage.sync_dir(path)
}

/// CRC-32C of a file's contents.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    // The 32-bit algorithms fill the lower half.
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Puts a checksum before `bytes`.
pub(crate) fn seal(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(bytes.len() + 4);
    sealed.extend_from_slice(&crc32c(bytes).to_le_bytes());
    sealed.extend_from_slice(bytes);
    sealed
}

/// Takes off the checksum that [`seal`] put on; `None` when it does not fit.
pub(crate) fn unseal(sealed: &[u8]) -> Option<&[u8]> {
    let (crc, bytes) = sealed.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*crc) == crc32c(bytes)).then_some(bytes)
}
