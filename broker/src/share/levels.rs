//! Where messages have priorities: tells the engine of which level each message of the log is, before any of it is handed out.
//!
//! The log is read once from the start of the group on, up to its high watermark, when a share-partition begins, and behind that as it
//! grows: twice what others pay for reading. Batches are inflated for it; what is remembered is in [`weir_queues::priority::Levels`].

use std::sync::Arc;

use bytes::Bytes;
use weir_groups::share::Windows;
use weir_log::ReadError;
use weir_queues::priority::{HEADER, Level};
use weir_wire::Offset;
use weir_wire::batch::{BatchView, RecordView, batches};

use super::leader::Leader;
use crate::error::{ApiError, ErrorCode};
use crate::partitions::Isolation;

/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;
/// Uncompressed bytes that are looked at where they were read: it takes some hundred microseconds.
const BRIEF_BYTES_MAX: usize = 64 << 10;

/// Up to an offset messages are of a level, or nothing is there for consumers.
type Run = (Offset, Option<Level>);

/// Tells an engine that is not served yet of all that there is.
pub(super) async fn follow_all(leader: &Leader, engine: &mut Windows) -> Result<(), ApiError> {
    while let Some(from) = engine.follows_from() {
        let runs = read(leader, from).await?;
        if runs.is_empty() {
            break;
        }
        engine.follow(&runs);
        engine.log_start_moved(leader.partition.reader().log_start());
    }
    Ok(())
}

/// Tells a leader's engine of what has come. Whoever reads the log for it sees to that first.
pub(super) async fn follow(leader: &Leader, from: Offset) -> Result<(), ApiError> {
    let runs = read(leader, from).await?;
    if runs.is_empty() {
        let why = format!("nothing is at offset {from}, which is before the high watermark");
        return Err(ApiError::new(ErrorCode::KafkaStorageError, why));
    }
    leader.with(|engine, _| engine.follow(&runs))?;
    Ok(())
}

/// What is in the log from an offset on; nothing, where it ends there.
async fn read(leader: &Leader, from: Offset) -> Result<Vec<Run>, ApiError> {
    let partition = &leader.partition;
    let end = partition.high_watermark();
    if from >= end {
        return Ok(Vec::new());
    }
    let reader = partition.reader();
    let bytes = match reader.try_read(from, end, READ_BYTES, true) {
        Ok(read) => Ok(read.bytes),
        Err(ReadError::WouldBlock) => {
            let partition = Arc::clone(partition);
            let read =
                move || partition.read_as(from, Isolation::ReadUncommitted, READ_BYTES, true);
            leader.host.blocking(read).await.map(|read| read.bytes)
        }
        Err(error) => Err(error),
    };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        // Retention was faster.
        Err(ReadError::OffsetOutOfRange { start, .. }) if from < start => {
            return Ok(vec![(Offset(start.0 - 1), None)]);
        }
        Err(error) => return Err(error.into()),
    };
    if bytes.len() <= BRIEF_BYTES_MAX {
        return levels(&bytes, from);
    }
    leader.host.blocking(move || levels(&bytes, from)).await
}

/// The levels of what is in these batches from an offset on.
fn levels(bytes: &Bytes, from: Offset) -> Result<Vec<Run>, ApiError> {
    let mut runs = Runs {
        next: from.0,
        runs: Vec::new(),
    };
    for batch in batches(bytes) {
        runs.push(&batch.map_err(damaged)?)?;
    }
    Ok(runs.runs)
}

struct Runs {
    next: i64,
    runs: Vec<Run>,
}

impl Runs {
    fn push(&mut self, batch: &BatchView<'_>) -> Result<(), ApiError> {
        let header = batch.header();
        if !header.attributes.is_control() {
            let inflated = batch.inflated().map_err(damaged)?;
            for record in inflated.iter().map_err(damaged)? {
                let record = record.map_err(damaged)?;
                if record.offset.0 >= self.next {
                    self.put(record.offset.0 - 1, None);
                    self.put(record.offset.0, Some(level(&record)));
                }
            }
        }
        self.put(header.last_offset().0, None);
        Ok(())
    }

    fn put(&mut self, last: i64, level: Option<Level>) {
        if last < self.next {
            return;
        }
        self.next = last + 1;
        match self.runs.last_mut() {
            Some(before) if before.1 == level => before.0 = Offset(last),
            _ => self.runs.push((Offset(last), level)),
        }
    }
}

/// Of two headers of one name the last counts, as everywhere.
fn level(record: &RecordView<'_>) -> Level {
    let headers = record.headers.iter();
    let said = headers.filter(|header| header.key == HEADER).last();
    Level::of_header(said.and_then(|header| header.value))
}

fn damaged(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::KafkaStorageError, error.to_string())
}
