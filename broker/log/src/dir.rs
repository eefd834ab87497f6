//! A data directory: which partitions lie in it, and the checkpoint of what is certainly on disk.
//!
//! ```text
//! <dir>/log-checkpoint                    durable ends of all partitions, and whether the last shutdown was clean
//! <dir>/<topic id>-<partition>/           one partition
//!     partition.metadata                  its topic's name, id and its number, for people and for finding strays
//!     log-start                           the first readable offset, when it was ever moved
//!     00000000000000000000.log            a segment, named by its first offset
//!     00000000000000000000.index          its sparse index (offset, position, time), derived and never trusted
//!     00000000000000123456.snapshot       producers and leader epochs as of an offset, derived
//!     *.deleted                           on its way out
//! <dir>/<topic id>-<partition>.deleted/   on its way out
//! ```
//!
//! Directories carry the topic's id, not its name: a topic made anew can never meet the files of the old one, and a
//! name of 249 characters leaves no room for a suffix.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_wire::{PartitionIndex, TopicId};

use crate::error::OpenError;
use crate::storage::Storage;

/// Which partition, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition's number in the topic.
    pub partition: PartitionIndex,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

/// A partition and what its topic is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMeta {
    /// Which one.
    pub key: PartitionKey,
    /// The topic's name, kept with the data for people.
    pub topic: String,
}

/// One directory that holds partitions. Open it once for each process; partitions are opened in it through
/// [`Lanes::open`](crate::Lanes::open).
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
}

impl DataDir {
    /// Opens or makes the directory, reads its checkpoint and marks it as in use, so that a kill is seen as one.
    ///
    /// `reserve_bytes` of the file system are left for checkpoints, snapshots and the quorum: appends are refused with
    /// [`AppendError::NoSpace`](crate::AppendError::NoSpace) before they would eat into it.
    pub fn open(
        storage: Arc<dyn Storage>,
        path: &Path,
        reserve_bytes: u64,
    ) -> Result<Arc<Self>, OpenError> {
        let _ = (storage, path, reserve_bytes);
        todo!()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last process that used it shut down cleanly.
    #[must_use]
    pub fn was_clean(&self) -> bool {
        todo!()
    }

    /// The partitions that lie here, open or not.
    pub fn partitions(&self) -> Result<Vec<PartitionMeta>, OpenError> {
        todo!()
    }
}
