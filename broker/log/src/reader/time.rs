//! Finds records by their time.

use std::sync::Arc;

use weir_wire::Offset;
use weir_wire::batch::BatchView;

use super::TimestampOffset;
use crate::error::ReadError;
use crate::files::{FileError, Wait};
use crate::seek::Sought;
use crate::segment::{Newest, Segment};
use crate::shared::{Shared, segment_at};
use crate::storage::File;
use crate::walk::Placed;

/// The first record at or after a time. Timestamps need not grow with offsets; the first batch in offset order counts.
pub(super) fn first_at_or_after(
    shared: &Shared,
    timestamp: i64,
    up_to: Offset,
) -> Result<Option<TimestampOffset>, ReadError> {
    let segments = shared.segments();
    let log_start = shared.log_start();
    for segment in &segments[segment_at(&segments, log_start)..] {
        if segment.base >= up_to {
            break;
        }
        let file = segment.file(&shared.dir, &shared.path)?;
        let sought = Sought {
            segment,
            file: &*file,
            wait: Wait::Yes,
        };
        if newest_of(shared, &sought)? < timestamp {
            continue;
        }
        let mut start = shared.start(&sought, |entry| entry.max_timestamp_before < timestamp)?;
        while let Some(placed) = shared.walk_until(&sought, start, |placed| {
            placed.header.max_timestamp_ms >= timestamp
        })? {
            if placed.header.base_offset >= up_to {
                return Ok(None);
            }
            let found = in_batch(shared, segment, &*file, &placed, timestamp, log_start)?;
            if let Some(found) = found {
                return Ok(Some(found).filter(|found| found.offset < up_to));
            }
            start.position = placed.end_position();
            start.offset = placed.header.next_offset();
        }
    }
    Ok(None)
}

/// The first record with the greatest timestamp of all.
pub(super) fn newest(shared: &Shared, up_to: Offset) -> Result<Option<TimestampOffset>, ReadError> {
    let segments = shared.segments();
    let log_start = shared.log_start();
    let mut best: Option<(i64, Arc<Segment>, Placed)> = None;
    for segment in &segments[segment_at(&segments, log_start)..] {
        if segment.base >= up_to {
            break;
        }
        let file = segment.file(&shared.dir, &shared.path)?;
        let sought = Sought {
            segment,
            file: &*file,
            wait: Wait::Yes,
        };
        let least = best.as_ref().map_or(i64::MIN, |(timestamp, ..)| *timestamp);
        if best.is_some() && newest_of(shared, &sought)? <= least {
            continue;
        }
        if let Some((timestamp, placed)) = newest_batch(shared, &sought, log_start..up_to, least)? {
            best = Some((timestamp, Arc::clone(segment), placed));
        }
    }
    // Records without a time are none that were asked for.
    let Some((timestamp, segment, placed)) = best.filter(|(timestamp, ..)| *timestamp >= 0) else {
        return Ok(None);
    };
    let file = segment.file(&shared.dir, &shared.path)?;
    in_batch(shared, &segment, &*file, &placed, timestamp, log_start)
}

/// The first batch within `offsets` whose greatest timestamp is the segment's greatest there, when that is above `least`.
fn newest_batch(
    shared: &Shared,
    sought: &Sought<'_>,
    offsets: std::ops::Range<Offset>,
    least: i64,
) -> Result<Option<(i64, Placed)>, ReadError> {
    // Entries whose time is below the segment's greatest lie before the batch that has it, so the walk is short; unless
    // that batch is at or after the bound, and the whole segment has to be looked at.
    let greatest = newest_of(shared, sought)?;
    let near = shared.start(sought, |entry| entry.max_timestamp_before < greatest)?;
    // What compaction has emptied says a time that no record has.
    let found = shared.walk_until(sought, near, |placed| {
        placed.header.max_timestamp_ms >= greatest && placed.header.record_count > 0
    })?;
    if let Some(placed) = found
        && placed.header.next_offset() <= offsets.end
        && placed.header.base_offset >= offsets.start
    {
        return Ok((greatest > least).then_some((greatest, placed)));
    }
    let mut best = None;
    let mut best_timestamp = least;
    let mut at = crate::seek::Start {
        position: 0,
        offset: sought.segment.base,
    };
    while let Some(placed) = shared.walk_until(sought, at, |_| true)? {
        if placed.header.base_offset >= offsets.end {
            break;
        }
        let within = placed.header.next_offset() > offsets.start && placed.header.record_count > 0;
        if within && (best.is_none() || placed.header.max_timestamp_ms > best_timestamp) {
            best_timestamp = placed.header.max_timestamp_ms;
            best = Some((best_timestamp, placed));
        }
        at.position = placed.end_position();
        at.offset = placed.header.next_offset();
    }
    Ok(best)
}

/// A segment's greatest timestamp, looked up once.
fn newest_of(shared: &Shared, sought: &Sought<'_>) -> Result<i64, ReadError> {
    match sought.segment.newest() {
        Newest::Certain(timestamp) | Newest::Hint(timestamp) => Ok(timestamp),
        Newest::Unknown => {
            let timestamp = shared.newest_hint(sought)?;
            sought.segment.set_newest(Newest::Hint(timestamp));
            Ok(timestamp)
        }
    }
}

/// The first record at or after a time in a batch that has one; `None` when that lies before the log's start.
fn in_batch(
    shared: &Shared,
    segment: &Segment,
    file: &dyn File,
    placed: &Placed,
    timestamp: i64,
    log_start: Offset,
) -> Result<Option<TimestampOffset>, ReadError> {
    let header = &placed.header;
    let mut bytes = vec![0; header.total_len()];
    let read = file
        .read_at(&mut bytes, placed.position)
        .map_err(FileError::of("reading", &segment.log_path(&shared.path)))?;
    bytes.truncate(read);
    let corrupt = |error: &dyn std::fmt::Display| {
        let found = error.to_string();
        let error = crate::walk::WalkError::Bad {
            position: placed.position,
            expected: header.base_offset,
            found,
        };
        shared.walk_error(segment, error)
    };
    let (batch, _) = BatchView::split_first(&bytes).map_err(|error| corrupt(&error))?;
    let inflated = match batch.inflated() {
        Ok(inflated) => inflated,
        // Nobody looked inside when it was appended. The batch is as near as can be.
        Err(_) => {
            return Ok(Some(TimestampOffset {
                offset: header.base_offset.max(log_start),
                timestamp: header.max_timestamp_ms,
                leader_epoch: header.leader_epoch,
            }));
        }
    };
    for record in inflated.iter().map_err(|error| corrupt(&error))? {
        let record = record.map_err(|error| corrupt(&error))?;
        if record.timestamp_ms >= timestamp && record.offset >= log_start {
            return Ok(Some(TimestampOffset {
                offset: record.offset,
                timestamp: record.timestamp_ms,
                leader_epoch: header.leader_epoch,
            }));
        }
    }
    Ok(None)
}
