//! Which replicas of this broker may lack what was promised for them, and who has to know.
//!
//! Three kinds: those whose log has lost durable bytes, those that cannot be opened, and, after the machine went down without
//! this process having shut down in good order, those of topics that leave it to the kernel when data reaches the disk. A
//! process that was killed loses nothing that the kernel has; a machine that went down does. The two are told apart by the
//! kernel's boot id, which is kept in the data directory.
//!
//! The file says of which boot the controller knows everything. It is brought up to date only after the controller has been
//! told ([`Member::report_lost`](crate::quorum::Member::report_lost)), and before anything else is done it says that something
//! is owed: a process that is stopped in good order before it could tell leaves logs that look well.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use weir_log::storage::Storage;
use weir_log::{DataDir, OpenError, read_small, replace_small};
use weir_quorum::command::LogEnd;
use weir_quorum::configs::{Durability, TopicConfig};
use weir_quorum::{BrokerId, Image, LeaderEpoch, TopicId};

use crate::partitions::Partitions;
use crate::quorum::Metadata;

/// Beside the metadata: the boot id, and `owed` in a second line while the controller has not been told.
const FILE: &str = "boot";
/// The second line.
const OWED: &str = "owed";

/// What is known of the boots that the data directory has seen.
#[derive(Debug)]
pub(super) struct Boots {
    storage: Arc<dyn Storage>,
    data_dir: PathBuf,
    current: String,
    /// The machine went down without a clean shutdown since the controller last knew everything.
    is_owed: bool,
}

impl Boots {
    /// Reads what the last process left, and notes what this one owes.
    pub(super) fn read(
        storage: &Arc<dyn Storage>,
        data_dir: PathBuf,
        current: &str,
        dirs: &[Arc<DataDir>],
    ) -> Result<Self, OpenError> {
        let bytes = read_small(&**storage, &data_dir.join(FILE))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines();
        let last = lines.next().unwrap_or_default().to_owned();
        let was_owed = lines.next() == Some(OWED);
        let was_clean = dirs.iter().all(|dir| dir.was_clean());
        let boots = Self {
            storage: Arc::clone(storage),
            data_dir,
            current: current.to_owned(),
            is_owed: was_owed || last != current && !was_clean,
        };
        if boots.is_owed && !was_owed {
            boots.write(&format!("{last}\n{OWED}\n"))?;
        }
        Ok(boots)
    }

    /// The partitions that have to be reported. The image must be one in which this broker has registered.
    pub(super) fn lost(
        &self,
        partitions: &Partitions,
        metadata: &Metadata,
    ) -> BTreeSet<(TopicId, i32)> {
        let mut lost: BTreeSet<(TopicId, i32)> = partitions
            .damaged_keys()
            .into_iter()
            .map(|key| (TopicId(key.topic_id.0), key.partition.0))
            .collect();
        if self.is_owed {
            let me = metadata.broker_id();
            lost.extend(left_to_the_kernel(&metadata.image(), metadata, me));
        }
        lost
    }

    /// How far the logs of those partitions reach all the same.
    pub(super) fn ends(partitions: &Partitions, lost: &BTreeSet<(TopicId, i32)>) -> Vec<LogEnd> {
        let all = partitions.all();
        let ends = all.iter().filter_map(|partition| {
            let key = partition.key();
            let (topic, index) = (TopicId(key.topic_id.0), key.partition.0);
            let reader = partition.reader();
            // One without a batch has no epoch, and nothing to offer.
            let leader_epoch = LeaderEpoch(reader.latest_epoch()?.0);
            lost.contains(&(topic, index)).then(|| LogEnd {
                topic,
                index,
                leader_epoch,
                end: reader.log_end().0,
            })
        });
        ends.collect()
    }

    /// The controller knows everything.
    pub(super) fn told(mut self) -> Result<(), OpenError> {
        self.is_owed = false;
        self.write(&format!("{}\n", self.current))
    }

    fn write(&self, text: &str) -> Result<(), OpenError> {
        replace_small(&*self.storage, &self.data_dir, FILE, text.as_bytes())
    }
}

/// The partitions of a broker that were not synced before they were acknowledged.
fn left_to_the_kernel(
    image: &Image,
    metadata: &Metadata,
    me: BrokerId,
) -> BTreeSet<(TopicId, i32)> {
    let topics = image.topics().filter(|topic| {
        let config = TopicConfig::resolve(image, metadata.settings(), topic);
        config.durability != Durability::Fsync
    });
    let held = topics.flat_map(|topic| {
        let partitions = (0..).zip(&topic.partitions);
        let held = partitions.filter(move |(_, partition)| partition.replicas.contains(&me));
        held.map(|(index, _)| (topic.id, index))
    });
    held.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::path::Path;

    use weir_log::storage_sim::SimStorage;

    use super::*;

    /// A start on a disk, in a boot; whether something is owed.
    fn start(disk: &SimStorage, boot: &str) -> (Boots, bool) {
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        let dir = DataDir::open(Arc::clone(&storage), Path::new("/data/log"), 0).unwrap();
        let boots = Boots::read(&storage, PathBuf::from("/data"), boot, &[dir]).unwrap();
        let is_owed = boots.is_owed;
        (boots, is_owed)
    }

    #[test]
    fn a_machine_that_went_down_owes_a_report_until_it_was_made_and_a_killed_process_does_not() {
        let disk = SimStorage::new();
        start(&disk, "one").0.told().unwrap();
        let disk = disk.process_killed();
        assert!(!start(&disk, "one").1, "the kernel has everything");
        let (boots, is_owed) = start(&disk, "two");
        assert!(is_owed);
        drop(boots);
        // Killed, or stopped, before the controller was told.
        let (boots, is_owed) = start(&disk, "two");
        assert!(is_owed);
        boots.told().unwrap();
        assert!(!start(&disk, "two").1);
    }
}
