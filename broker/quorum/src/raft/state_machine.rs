//! openraft's state machine: applies committed batches to the image and publishes it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;
use weir_log::storage::Storage;

use super::blocking::Blocking;
use super::snapshot_file;
use super::types::{
    Applied, Batch, Entry, LogId, Snapshot, SnapshotMeta, StorageError, StorageIoError,
    StoredMembership, TypeConfig,
};
use crate::image::Image;
use crate::record;

/// The image and what Raft has to know beside it.
#[derive(Debug)]
pub(crate) struct StateMachine {
    image: Arc<Image>,
    applied: Option<LogId>,
    membership: StoredMembership,
    published: watch::Sender<Arc<Image>>,
    snapshots: Snapshots,
}

/// Where snapshots are kept.
#[derive(Clone, Debug)]
struct Snapshots {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    blocking: Blocking,
}

impl StateMachine {
    /// Begins with the newest snapshot in `dir`, or with nothing.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        dir: &Path,
        blocking: Blocking,
        published: watch::Sender<Arc<Image>>,
    ) -> io::Result<Self> {
        let snapshots = Snapshots {
            storage,
            dir: dir.to_owned(),
            blocking,
        };
        let mut machine = Self {
            image: Arc::default(),
            applied: None,
            membership: StoredMembership::default(),
            published,
            snapshots,
        };
        if let Some(snapshot) = snapshot_file::read(&*machine.snapshots.storage, dir)? {
            machine.take(&snapshot.meta, &snapshot.snapshot)?;
        }
        Ok(machine)
    }

    /// The last entry that the newest snapshot held when this was opened.
    pub(crate) fn applied_index(&self) -> Option<u64> {
        self.applied.map(|id| id.index)
    }

    /// The image that a snapshot holds.
    pub(crate) fn image_of(meta: &SnapshotMeta, data: &[u8]) -> io::Result<Image> {
        let text = std::str::from_utf8(data).map_err(io::Error::other)?;
        let frame = record::decode(text).map_err(io::Error::other)?;
        let index = meta.last_log_id.map_or(0, |id| id.index);
        Image::from_snapshot(index, frame.revision, &frame.records).map_err(io::Error::other)
    }

    fn take(&mut self, meta: &SnapshotMeta, data: &[u8]) -> io::Result<()> {
        self.image = Arc::new(Self::image_of(meta, data)?);
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.published.send_replace(self.image.clone());
        Ok(())
    }

    /// Applies what was committed as one entry.
    pub(crate) fn apply_batch(
        image: &mut Image,
        index: u64,
        batch: &Batch,
    ) -> Result<Applied, io::Error> {
        let frame = record::decode(&batch.0).map_err(io::Error::other)?;
        if frame.revision != image.revision() {
            image.apply_in_place(index, &[]).map_err(io::Error::other)?;
            return Ok(Applied::Stale);
        }
        image
            .apply_in_place(index, &frame.records)
            .map_err(io::Error::other)?;
        Ok(Applied::Yes)
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut image = Image::clone(&self.image);
        let mut results = Vec::new();
        for entry in entries {
            let index = entry.log_id.index;
            let applied = match entry.payload {
                EntryPayload::Normal(batch) => Self::apply_batch(&mut image, index, &batch),
                EntryPayload::Blank => image
                    .apply_in_place(index, &[])
                    .map(|()| Applied::Yes)
                    .map_err(io::Error::other),
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    image
                        .apply_in_place(index, &[])
                        .map(|()| Applied::Yes)
                        .map_err(io::Error::other)
                }
            };
            results.push(applied.map_err(|error| StorageIoError::apply(entry.log_id, &error))?);
            self.applied = Some(entry.log_id);
        }
        self.image = Arc::new(image);
        self.published.send_replace(self.image.clone());
        Ok(results)
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        SnapshotBuilder {
            image: self.image.clone(),
            applied: self.applied,
            membership: self.membership.clone(),
            snapshots: self.snapshots.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Vec<u8>>,
    ) -> Result<(), StorageError> {
        let wrong = |error: io::Error| {
            StorageError::from(StorageIoError::write_snapshot(
                Some(meta.signature()),
                &error,
            ))
        };
        // Understood first: a snapshot that this version cannot read must not replace one that it can.
        self.take(meta, &snapshot).map_err(wrong)?;
        self.snapshots
            .write(meta.clone(), *snapshot)
            .await
            .map_err(wrong)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let Snapshots {
            storage,
            dir,
            blocking,
        } = self.snapshots.clone();
        let read = blocking
            .run(move || snapshot_file::read(&*storage, &dir))
            .await;
        read.map_err(|error| StorageIoError::read_snapshot(None, &error).into())
    }
}

impl Snapshots {
    async fn write(&self, meta: SnapshotMeta, data: Vec<u8>) -> io::Result<()> {
        let Self {
            storage,
            dir,
            blocking,
        } = self.clone();
        blocking
            .run(move || snapshot_file::write(&*storage, &dir, &meta, &data))
            .await
    }
}

/// Makes a snapshot of one image, beside everything else that goes on.
#[derive(Debug)]
pub(crate) struct SnapshotBuilder {
    image: Arc<Image>,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: Snapshots,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: self.applied.map_or_else(String::new, |id| {
                format!("{}-{}", id.leader_id.term, id.index)
            }),
        };
        let data = record::encode(self.image.revision(), &self.image.snapshot()).into_bytes();
        let written = self.snapshots.write(meta.clone(), data.clone()).await;
        written.map_err(|error| StorageIoError::write_snapshot(Some(meta.signature()), &error))?;
        Ok(Snapshot {
            meta,
            snapshot: Box::new(data),
        })
    }
}
