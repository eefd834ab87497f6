//! Reads a shard's partition from its start into a machine.

use std::sync::Arc;

use tokio::sync::Notify;
use weir_groups::{Machine, Marker, Outcome, Producer, Replayed, StoredError};
use weir_log::{Batches, ReadError};
use weir_wire::Offset;
use weir_wire::batch::{BatchError, BatchHeader, BatchView, ControlRecord, batches};

use crate::host::Host;
use crate::partitions::Partition;

/// Bytes of one read: large enough that a log of 100 MiB takes a hundred reads, small enough to be decoded within a few
/// milliseconds, after which other tasks have their turn.
const READ_BYTES: usize = 1 << 20;

/// Why a shard cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was read is not whole.
    #[error("at offset {at}: {error}")]
    Batch { at: Offset, error: BatchError },
    /// What was read is not what a machine writes.
    #[error("at offset {at}: {error}")]
    Record { at: Offset, error: StoredError },
}

/// Everything in the log, up to where it ends now. What is not below the high watermark yet is waited for: it may be the
/// end of an earlier machine's appends.
pub(super) async fn load<M: Machine>(
    host: &Host,
    partition: &Arc<Partition>,
) -> Result<M::Loader, LoadError> {
    let end = partition.reader().log_end();
    let mut loader = M::Loader::default();
    let mut next = partition.reader().log_start();
    while next < end {
        if next >= partition.high_watermark() {
            let wake = Arc::new(Notify::new());
            let _place = partition.wake_above(next, &wake);
            wake.notified().await;
        }
        let read = read(host, partition, next).await?;
        next = if read.bytes.is_empty() {
            next
        } else {
            read.next_offset
        };
        replay::<M>(&mut loader, &read.bytes)?;
        tokio::task::yield_now().await;
    }
    Ok(loader)
}

async fn read(host: &Host, partition: &Arc<Partition>, from: Offset) -> Result<Batches, LoadError> {
    match partition.try_read(from, READ_BYTES, true) {
        Err(ReadError::WouldBlock) => {
            let partition = Arc::clone(partition);
            let read = host.blocking(move || partition.read(from, READ_BYTES, true));
            Ok(read.await?)
        }
        read => Ok(read?),
    }
}

fn replay<M: Machine>(loader: &mut M::Loader, bytes: &[u8]) -> Result<(), LoadError> {
    for batch in batches(bytes) {
        let batch = batch.map_err(|error| LoadError::Batch {
            at: Offset::NONE,
            error,
        })?;
        let header = *batch.header();
        let at = header.base_offset;
        let failed = |error| LoadError::Batch { at, error };
        batch.check().map_err(failed)?;
        if header.attributes.is_control() {
            if let Some(marker) = marker(&batch, &header).map_err(failed)? {
                let replayed = M::replay(loader, Replayed::Marker(marker));
                replayed.map_err(|error| LoadError::Record { at, error })?;
            }
            continue;
        }
        let pending = header
            .attributes
            .is_transactional()
            .then(|| producer(&header));
        for record in batch.records().map_err(failed)? {
            let record = record.map_err(failed)?;
            let Some(key) = record.key else { continue };
            let replayed = M::replay(
                loader,
                Replayed::Record {
                    key,
                    value: record.value,
                    pending,
                },
            );
            replayed.map_err(|error| LoadError::Record {
                at: record.offset,
                error,
            })?;
        }
    }
    Ok(())
}

fn producer(header: &BatchHeader) -> Producer {
    Producer {
        id: header.producer_id,
        epoch: header.producer_epoch,
    }
}

/// What a control batch says about a transaction, if it does.
fn marker(batch: &BatchView<'_>, header: &BatchHeader) -> Result<Option<Marker>, BatchError> {
    let outcome = match batch.control()? {
        Some(ControlRecord::Commit) => Outcome::Commit,
        Some(ControlRecord::Abort) => Outcome::Abort,
        _ => return Ok(None),
    };
    let record = batch.records()?.next().transpose()?;
    // Two bytes of version, then the coordinator's epoch.
    let epoch = record
        .and_then(|record| record.value)
        .and_then(|value| value.get(2..6))
        .and_then(|epoch| epoch.try_into().ok())
        .map_or(-1, i32::from_be_bytes);
    Ok(Some(Marker {
        producer: producer(header),
        outcome,
        coordinator_epoch: epoch,
    }))
}
