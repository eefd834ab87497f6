//! High watermarks as they were some seconds ago, on disk.
//!
//! After a restart nobody may be there who could say what is committed; what was committed before still is. So consumers of a
//! partition below its minimum read on, coordinators load, and a follower is not cut below what anybody has seen. A
//! watermark that is older than the truth is always right, so the file is written now and then, and a line that is damaged is
//! left out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use uuid::Uuid;
use weir_log::storage::Storage;
use weir_log::{OpenError, PartitionKey, read_small, replace_small};
use weir_wire::{Offset, PartitionIndex, TopicId};

/// The file's name in the data directory.
const NAME: &str = "high-watermarks";

/// The watermarks of partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watermarks(pub(super) BTreeMap<PartitionKey, Offset>);

impl Watermarks {
    /// As they were written last. Blocks.
    pub fn read(storage: &dyn Storage, data_dir: &Path) -> Result<Self, OpenError> {
        let bytes = read_small(storage, &data_dir.join(NAME))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        Ok(Self(text.lines().filter_map(line).collect()))
    }

    /// Replaces what was written last. Blocks.
    pub fn write(&self, storage: &dyn Storage, data_dir: &Path) -> Result<(), OpenError> {
        replace_small(storage, data_dir, NAME, self.to_text().as_bytes())
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        for (key, offset) in &self.0 {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{} {} {}", key.topic_id.0, key.partition.0, offset.0);
        }
        text
    }
}

fn line(line: &str) -> Option<(PartitionKey, Offset)> {
    let mut words = line.split(' ');
    let topic_id = TopicId(words.next()?.parse::<Uuid>().ok()?);
    let partition = PartitionIndex(words.next()?.parse().ok()?);
    let offset = Offset(words.next()?.parse().ok()?);
    let key = PartitionKey {
        topic_id,
        partition,
    };
    words.next().is_none().then_some((key, offset))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use weir_log::storage_sim::SimStorage;

    use super::*;

    #[test]
    fn watermarks_are_read_as_they_were_written_and_damaged_lines_left_out() {
        let storage = SimStorage::new();
        let dir = Path::new("/data");
        storage.create_dir_all(dir).unwrap();
        assert_eq!(
            Watermarks::read(&storage, dir).unwrap(),
            Watermarks::default()
        );
        let key = |topic, partition| PartitionKey {
            topic_id: TopicId(Uuid::from_u128(topic)),
            partition: PartitionIndex(partition),
        };
        let all = Watermarks(BTreeMap::from([
            (key(1, 0), Offset(7)),
            (key(1, 1), Offset(0)),
            (key(9, 3), Offset(1 << 40)),
        ]));
        all.write(&storage, dir).unwrap();
        assert_eq!(Watermarks::read(&storage, dir).unwrap(), all);
        let damaged = format!("{}\0\0\nno line\n{}", "x", all.to_text());
        replace_small(&storage, dir, NAME, damaged.as_bytes()).unwrap();
        assert_eq!(Watermarks::read(&storage, dir).unwrap(), all);
    }
}
