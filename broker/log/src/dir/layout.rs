//! The names of files and directories, and the contents of the smallest ones.

use std::fmt::Write as _;

use uuid::Uuid;
use weir_wire::{Offset, PartitionIndex, TopicId};

use super::{PartitionKey, PartitionMeta};

pub(crate) const METADATA_FILE: &str = "partition.metadata";
pub(crate) const LOG_START_FILE: &str = "log-start";
pub(crate) const DELETED_SUFFIX: &str = ".deleted";
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

/// A segment's file.
pub(crate) fn log_name(base: Offset) -> String {
    format!("{:020}.log", base.0)
}

/// A segment's index.
pub(crate) fn index_name(base: Offset) -> String {
    format!("{:020}.index", base.0)
}

/// A state snapshot.
pub(crate) fn snapshot_name(at: Offset) -> String {
    format!("{:020}.snapshot", at.0)
}

/// The offset in a name with this extension.
pub(crate) fn offset_of(name: &str, extension: &str) -> Option<Offset> {
    let (digits, found) = name.split_once('.')?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || found != extension {
        return None;
    }
    digits.parse().ok().map(Offset)
}

pub(super) fn parse_dir_name(name: &str) -> Option<PartitionKey> {
    let (topic_id, partition) = name.rsplit_once('-')?;
    let topic_id = TopicId(Uuid::try_parse(topic_id).ok()?);
    let partition = PartitionIndex(partition.parse().ok().filter(|number| *number >= 0)?);
    Some(PartitionKey {
        topic_id,
        partition,
    })
}

pub(super) fn metadata(meta: &PartitionMeta) -> Vec<u8> {
    let mut text = String::from("version: 1\n");
    // Writing to a String does not fail.
    let _ = writeln!(text, "topic: {}", meta.topic);
    let _ = writeln!(text, "topic_id: {}", meta.key.topic_id);
    let _ = writeln!(text, "partition: {}", meta.key.partition);
    text.into_bytes()
}

pub(super) fn parse_metadata(bytes: &[u8], key: PartitionKey) -> Option<PartitionMeta> {
    let text = std::str::from_utf8(bytes).ok()?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let same = field("version")? == "1"
        && field("topic_id")? == key.topic_id.to_string()
        && field("partition")? == key.partition.to_string();
    same.then_some(PartitionMeta {
        key,
        topic: field("topic")?.to_owned(),
    })
}
