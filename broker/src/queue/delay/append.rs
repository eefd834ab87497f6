//! Appends a batch whose records ask for something.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use weir_log::{AppendError, Appended, Origin};
use weir_wire::batch::BatchHeader;
use weir_wire::{LeaderEpoch, Offset, ProducerId};

use super::split::{Wish, split};
use super::stage::{Came, NotEntered, Seen};
use crate::error::ApiError;
use crate::partitions::prepare::Unfit;
use crate::partitions::{Partition, Until};

/// Queues a batch whose records ask for something, in the order of the calls; `done` as in [`Partition::append`], with the twin's offsets.
pub(crate) fn append(
    partition: &Arc<Partition>,
    epoch: LeaderEpoch,
    until: Until,
    (batch, wish): (&Bytes, &Wish),
    now_ms: i64,
    done: impl FnOnce(Result<Appended, Unfit>) + Send + 'static,
) {
    let stage = Arc::clone(partition.delays());
    let bytes_max = usize::try_from(partition.config().max_message_bytes).unwrap_or(0);
    let refuse = |why: AppendError| Err(why.into());
    let for_now = |why: &str| Err(AppendError::FullForNow(why.into()).into());
    let (split, entered, left_out) = loop {
        let Some(seen) = stage.look(epoch, wish, now_ms) else {
            return done(for_now(
                "what is delayed, or came before, is being looked through",
            ));
        };
        let Seen::Known { floor, before } = seen else {
            return done(for_now("a message with the same id is just being appended"));
        };
        match all_are_there(partition, batch, &before) {
            Ok(None) => {}
            Ok(Some(appended)) => {
                partition
                    .counters()
                    .deduplicated
                    .inc_by(before.len() as u64);
                return done(Ok(appended));
            }
            Err(unfit) => return done(Err(unfit)),
        }
        let left_out: BTreeSet<i32> = before.iter().map(|(number, _)| *number).collect();
        let split = match split(batch, wish, &left_out, floor, now_ms, bytes_max) {
            Ok(split) => split,
            Err(unfit) => return done(Err(unfit)),
        };
        match stage.enter(epoch, floor, &split, partition.high_watermark()) {
            Ok(entered) => break (split, entered, left_out.len()),
            // Something was released or appended meanwhile that makes this another batch.
            Err(NotEntered::Late) => {}
            Err(NotEntered::Full(why)) => return done(refuse(AppendError::Full(why))),
        }
    };
    let ticket = entered.ticket();
    let origin = match split.records {
        0 => Origin::Client,
        _ => Origin::Escorted,
    };
    let (records, waits) = (split.records, split.waits);
    let (cancels, ids) = (split.cancels, split.ids);
    let left = Arc::clone(&stage);
    let deduplicated = partition.counters().deduplicated.clone();
    // It does not wait for room: what it is judged by, which messages are due, holds for the moment only.
    let patience = None;
    partition.append_of_client(
        (split.bytes, epoch),
        (origin, None),
        until,
        patience,
        move |result| {
            let came = result.as_ref().ok().filter(|appended| !appended.duplicate);
            let came = came.map(|appended| {
                deduplicated.inc_by(left_out as u64);
                Came {
                    base: Offset(appended.base_offset.0 - records),
                    waits,
                    cancels,
                    told: appended.base_offset,
                    ids,
                    now_ms,
                }
            });
            // Before its producer hears of it: what was cancelled in time is never released.
            left.leave(ticket, came);
            done(result.map_err(Unfit::from));
        },
    );
    drop(entered);
}

/// What the producer of a batch is told of which every record is there already: where the first is. An idempotent producer's is appended
/// all the same, without records, or its next one would not follow.
fn all_are_there(
    partition: &Partition,
    batch: &Bytes,
    before: &[(i32, Offset)],
) -> Result<Option<Appended>, Unfit> {
    let header = BatchHeader::parse(batch).map_err(ApiError::from)?;
    let count = usize::try_from(header.record_count).unwrap_or(0);
    let (Some((_, first)), Some(last)) = (before.first(), before.iter().map(|(_, at)| *at).max())
    else {
        return Ok(None);
    };
    if before.len() < count || header.producer_id != ProducerId::NONE {
        return Ok(None);
    }
    if last >= partition.high_watermark() {
        // It was acknowledged before it was safe, as its producer wished; this one may wish otherwise.
        let why = "a message with the same id is not committed yet";
        return Err(AppendError::FullForNow(why.into()).into());
    }
    Ok(Some(Appended {
        base_offset: *first,
        last_offset: *first,
        log_append_time: None,
        log_start_offset: partition.reader().log_start(),
        duplicate: true,
    }))
}
