//! The newest snapshot on disk: one file, replaced as a whole.

use std::io;
use std::path::Path;

use weir_log::storage::Storage;

use super::files;
use super::types::{Snapshot, SnapshotMeta};

const NAME: &str = "snapshot";

/// Writes a snapshot, durably.
pub(crate) fn write(
    storage: &dyn Storage,
    dir: &Path,
    meta: &SnapshotMeta,
    data: &[u8],
) -> io::Result<()> {
    let meta = serde_json::to_vec(meta)?;
    let mut bytes = Vec::with_capacity(meta.len() + data.len() + 8);
    bytes.extend_from_slice(&(meta.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&meta);
    bytes.extend_from_slice(data);
    files::replace(storage, dir, NAME, &files::seal(&bytes))
}

/// The newest snapshot, if there is one. It was synced before it got its name, so damage is damage.
pub(crate) fn read(storage: &dyn Storage, dir: &Path) -> io::Result<Option<Snapshot>> {
    let path = dir.join(NAME);
    let Some(sealed) = files::read(storage, &path)? else {
        return Ok(None);
    };
    let damaged = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "the quorum's snapshot {} is damaged. Restore the disk, or replace it: with an empty data directory this \
                 broker joins anew and gets the metadata from the others",
                path.display()
            ),
        )
    };
    let bytes = files::unseal(&sealed).ok_or_else(damaged)?;
    let (len, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| damaged())?;
    let (meta, data) = rest.split_at_checked(len).ok_or_else(damaged)?;
    let meta: SnapshotMeta = serde_json::from_slice(meta)?;
    Ok(Some(Snapshot {
        meta,
        snapshot: Box::new(data.to_vec()),
    }))
}
