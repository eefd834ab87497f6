//! The checkpoint file: for each partition up to where it is certainly on disk.
//!
//! Text, so that a person can read it; replaced as a whole; its last line is a checksum of the others. It tells a torn tail,
//! which is cut, from damage to what was durable, which is reported: so a checkpoint that cannot be read is an error and
//! never taken for none.

use std::fmt::Write as _;
use std::path::Path;

use uuid::Uuid;
use weir_wire::{Offset, PartitionIndex, TopicId};

use super::{Mark, PartitionKey};
use crate::error::OpenError;
use crate::files::{self, FileError};
use crate::storage::Storage;

pub(super) const FILE: &str = "log-checkpoint";
const HEADER: &str = "weir-log-checkpoint 1";

/// What a checkpoint file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) clean: bool,
    pub(super) marks: Vec<(PartitionKey, Mark)>,
}

/// The file for these marks.
pub(super) fn contents(clean: bool, marks: &[(PartitionKey, Mark)]) -> String {
    let mut text = format!("{HEADER}\nclean {clean}\n");
    for (key, mark) in marks {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{} {} {} {} {}",
            key.topic_id, key.partition, mark.end, mark.segment, mark.position
        );
    }
    let _ = writeln!(
        text,
        "crc32c {:08x}",
        crc_fast::crc32_iscsi(text.as_bytes())
    );
    text
}

pub(super) fn write(storage: &dyn Storage, dir: &Path, contents: &str) -> Result<(), FileError> {
    files::replace(storage, dir, FILE, contents.as_bytes())
}

pub(super) fn read(storage: &dyn Storage, dir: &Path) -> Result<Checkpoint, OpenError> {
    let path = dir.join(FILE);
    let Some(bytes) = files::read_whole(storage, &path)? else {
        return Ok(Checkpoint::default());
    };
    parse(&bytes).ok_or_else(|| OpenError::Unreadable {
        path,
        found: "not a checkpoint that was written here, or a damaged one; without it a torn tail cannot be told from lost \
                data. Removing it makes the next start check everything and cut what is not whole"
            .to_owned(),
    })
}

fn parse(bytes: &[u8]) -> Option<Checkpoint> {
    let text = std::str::from_utf8(bytes).ok()?;
    let checksum_at = text.rfind("crc32c ")?;
    let (checked, last) = text.split_at_checked(checksum_at)?;
    let stored = u32::from_str_radix(last.strip_prefix("crc32c ")?.strip_suffix('\n')?, 16).ok()?;
    if stored != crc_fast::crc32_iscsi(checked.as_bytes()) {
        return None;
    }
    let mut lines = checked.lines();
    if lines.next()? != HEADER {
        return None;
    }
    let clean = lines.next()?.strip_prefix("clean ")?.parse().ok()?;
    let marks = lines.map(parse_mark).collect::<Option<Vec<_>>>()?;
    Some(Checkpoint { clean, marks })
}

fn parse_mark(line: &str) -> Option<(PartitionKey, Mark)> {
    let mut fields = line.split(' ');
    let key = PartitionKey {
        topic_id: TopicId(Uuid::try_parse(fields.next()?).ok()?),
        partition: PartitionIndex(fields.next()?.parse().ok()?),
    };
    let mark = Mark {
        end: Offset(fields.next()?.parse().ok()?),
        segment: Offset(fields.next()?.parse().ok()?),
        position: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some((key, mark))
}
