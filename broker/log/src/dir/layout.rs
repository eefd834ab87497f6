//! The names of files and directories, and the contents of the smallest ones.

use std::fmt::Write as _;

use uuid::Uuid;
use weir_wire::{Offset, PartitionIndex, TopicId};

use super::{PartitionKey, PartitionMeta};

pub(crate) const METADATA_FILE: &str = "partition.metadata";
pub(crate) const LOG_START_FILE: &str = "log-start";
pub(crate) const COMPACTED_FILE: &str = "compacted-to";
pub(crate) const DELETED_SUFFIX: &str = ".deleted";
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

/// A segment's file. One that compaction wrote has a name of its own, so that whoever opens it by an older one does not get
/// other bytes than were meant.
pub(crate) fn log_name(base: Offset, generation: u32) -> String {
    segment_name(base, generation, "log")
}

/// A segment's index.
pub(crate) fn index_name(base: Offset, generation: u32) -> String {
    segment_name(base, generation, "index")
}

fn segment_name(base: Offset, generation: u32, extension: &str) -> String {
    match generation {
        0 => format!("{:020}.{extension}", base.0),
        _ => format!("{:020}.c{generation}.{extension}", base.0),
    }
}

/// The first offset and the generation in a segment's name with this extension.
pub(crate) fn segment_of(name: &str, extension: &str) -> Option<(Offset, u32)> {
    let stem = name.strip_suffix(extension)?.strip_suffix('.')?;
    let (digits, generation) = match stem.split_once(".c") {
        Some((digits, generation)) => (digits, generation.parse().ok()?),
        None => (stem, 0),
    };
    let base = Offset(digits.parse().ok()?);
    (segment_name(base, generation, extension) == name).then_some((base, generation))
}

/// A segment's aborted transactions.
pub(crate) fn aborted_name(base: Offset, generation: u32) -> String {
    segment_name(base, generation, "aborted")
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
