//! Transactions in tests: their batches and markers, and what a log says of them by being read as a whole.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use weir_wire::batch::{
    Attributes, BatchBuilder, BatchView, ControlRecord, NewRecord, PATCHED_LEN, control_batch,
};
use weir_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::{EPOCH, Outcome, ReadBack, split};
use crate::{
    AbortedTransaction, Append, AppendError, Appended, LogReader, Origin, PartitionHandle, Verified,
};

/// A batch of a transaction; as a coordinator's it carries no sequence (-1).
pub(crate) fn transactional(producer: i64, epoch: i16, sequence: i32, count: usize) -> Bytes {
    let mut builder = BatchBuilder::new()
        .producer(ProducerId(producer), ProducerEpoch(epoch), sequence)
        .attributes(Attributes::default().with_transactional(true));
    for record in 0..count {
        // A few keys, for compaction.
        let key = [producer as u8 % 3, record as u8];
        builder
            .push(&NewRecord {
                timestamp_ms: 1_000,
                key: Some(&key),
                value: Some(&[b'v'; 20]),
                headers: &[],
            })
            .unwrap();
    }
    builder.build()
}

/// The end of a transaction.
pub(crate) fn marker(producer: i64, epoch: i16, is_commit: bool) -> Bytes {
    let kind = if is_commit {
        ControlRecord::Commit
    } else {
        ControlRecord::Abort
    };
    control_batch(kind, 0, ProducerId(producer), ProducerEpoch(epoch), 1_000).unwrap()
}

/// Queues a batch of a transaction as a coordinator's own, vouched for.
pub(crate) fn send_transactional(
    handle: &PartitionHandle,
    batch: &Bytes,
) -> Outcome<Result<Appended, AppendError>> {
    let verified = Some(Verified {
        since: Offset(i64::MAX),
        begins_at_zero: false,
    });
    send_as(handle, batch, Origin::Coordinator, verified, EPOCH)
}

/// Queues a marker of a transaction of version 1.
pub(crate) fn send_marker(
    handle: &PartitionHandle,
    batch: &Bytes,
) -> Outcome<Result<Appended, AppendError>> {
    let origin = Origin::Marker {
        transaction_version: 1,
    };
    send_as(handle, batch, origin, None, EPOCH)
}

pub(crate) fn send_as(
    handle: &PartitionHandle,
    batch: &Bytes,
    origin: Origin,
    verified: Option<Verified>,
    leader_epoch: LeaderEpoch,
) -> Outcome<Result<Appended, AppendError>> {
    let outcome: Outcome<_> = Outcome::default();
    let left = outcome.clone();
    handle.append(Append {
        batch: batch.clone(),
        leader_epoch,
        origin,
        verified,
        begins_at_zero: false,
        done: Box::new(move |result| *left.lock().unwrap() = Some(result)),
    });
    outcome
}

/// A batch as it was before it was taken apart.
pub(crate) fn whole(body: &Bytes) -> Bytes {
    let mut whole = vec![0; PATCHED_LEN];
    whole.extend_from_slice(body);
    let length = (whole.len() - 12) as i32;
    whole[8..12].copy_from_slice(&length.to_be_bytes());
    Bytes::from(whole)
}

/// What a log's batches say of its transactions, in the plainest way.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Producer and first offset of those that are open.
    pub(crate) open: BTreeMap<i64, i64>,
    /// Producer, first offset and marker of those that were aborted.
    pub(crate) aborted: Vec<(i64, i64, i64)>,
}

impl Told {
    fn by(log: &[ReadBack]) -> Self {
        let mut told = Self::default();
        for (base, _, body) in log {
            let bytes = whole(body);
            let (batch, _) = BatchView::split_first(&bytes).unwrap();
            let producer = batch.header().producer_id.0;
            match batch.end_transaction().unwrap() {
                Some(end) => {
                    if let Some(first) = told.open.remove(&producer)
                        && !end.is_commit
                    {
                        told.aborted.push((producer, first, base.0));
                    }
                }
                None if batch.header().attributes.is_transactional() => {
                    told.open.entry(producer).or_insert(base.0);
                }
                None => {}
            }
        }
        told
    }
}

/// All batches of a log's files, also those before its start.
fn everything(reader: &LogReader) -> Vec<ReadBack> {
    let shared = reader.shared();
    let mut found = Vec::new();
    for segment in shared.segments().iter() {
        let file = segment.file(&shared.dir, &shared.path).unwrap();
        let mut bytes = vec![0; segment.size() as usize];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        found.extend(split(&Bytes::from(bytes)));
    }
    found
}

/// The batches with records that a consumer hands on which reads only what is committed, as Kafka's own does it, from some small
/// fetches.
fn seen(reader: &LogReader, start: i64, stable: i64) -> Vec<i64> {
    let mut seen = Vec::new();
    let mut at = Offset(start);
    while at < Offset(stable) {
        let read = reader.read(at, Offset(stable), 400, true).unwrap();
        let mut ahead = reader.aborted_transactions(at, read.next_offset).unwrap();
        ahead.reverse();
        let mut aborted = BTreeSet::new();
        for (base, last, body) in split(&read.bytes) {
            while let Some(one) = ahead.pop_if(|one| one.first_offset <= last) {
                aborted.insert(one.producer_id);
            }
            let bytes = whole(&body);
            let (batch, _) = BatchView::split_first(&bytes).unwrap();
            let header = batch.header();
            match batch.end_transaction().unwrap() {
                Some(end) if !end.is_commit => {
                    aborted.remove(&header.producer_id);
                }
                Some(_) => {}
                None => {
                    let is_left_out = header.attributes.is_transactional()
                        && aborted.contains(&header.producer_id);
                    if !is_left_out && header.record_count > 0 && last >= Offset(start) {
                        seen.push(base.0);
                    }
                }
            }
        }
        assert!(read.next_offset > at, "nothing at {at} below {stable}");
        at = read.next_offset;
    }
    seen
}

/// The same by looking ahead: a batch is committed when the next marker of its producer says so.
fn committed(log: &[ReadBack], start: i64, stable: i64) -> Vec<i64> {
    let mut committed = Vec::new();
    let mut fates: BTreeMap<i64, bool> = BTreeMap::new();
    for (base, last, body) in log.iter().rev() {
        let bytes = whole(body);
        let (batch, _) = BatchView::split_first(&bytes).unwrap();
        let header = batch.header();
        if let Some(end) = batch.end_transaction().unwrap() {
            fates.insert(header.producer_id.0, end.is_commit);
            continue;
        }
        let is_read = last.0 >= start && last.0 < stable && header.record_count > 0;
        let is_committed = !header.attributes.is_transactional()
            || fates.get(&header.producer_id.0).copied().unwrap_or(false);
        if is_read && is_committed {
            committed.push(base.0);
        }
    }
    committed.reverse();
    committed
}

/// What a reader says of its log's transactions must be what the log says.
pub(crate) fn check(reader: &LogReader, what: &str) {
    let log = everything(reader);
    let (start, end) = (reader.log_start().0, reader.log_end().0);
    let begins = log.first().map_or(end, |(base, ..)| base.0);
    let told = Told::by(&log);
    let first_open = told.open.values().min().copied();
    let expected = first_open.unwrap_or(end).clamp(start, end);
    let stable = reader.last_stable(Offset(end)).0;
    let open = reader.open_transactions();
    // Of what retention has removed only the state is left that was made of it.
    assert!(
        stable <= expected && stable >= start,
        "{what}: {stable}, {expected}"
    );
    assert!(open >= told.open.len(), "{what}: {open} open");
    if begins == 0 {
        assert_eq!(stable, expected, "{what}: last stable offset");
        assert_eq!(open, told.open.len(), "{what}: open");
    }
    assert_eq!(
        seen(reader, start, stable),
        committed(&log, start, stable),
        "{what}: what a consumer sees"
    );
    let is_compacted = reader
        .shared()
        .segments()
        .iter()
        .any(|segment| segment.generation > 0);
    if is_compacted {
        // Compaction leaves less of a transaction than was written.
        return;
    }
    let mut spans = vec![(start, stable)];
    for (base, last, _) in &log {
        spans.push((base.0, last.0 + 1));
        spans.push((base.0, stable));
    }
    for (from, to) in spans {
        let (from, to) = (from.max(start), to.min(stable));
        let found = reader
            .aborted_transactions(Offset(from), Offset(to))
            .unwrap();
        assert!(
            found.is_sorted_by_key(|aborted| aborted.first_offset),
            "{what}: {found:?}"
        );
        // What began before the log does is of no concern to who reads it, and may be told or not.
        let within: Vec<_> = found
            .iter()
            .filter(|aborted| aborted.first_offset.0 >= begins)
            .copied()
            .collect();
        let mut expected: Vec<_> = told
            .aborted
            .iter()
            .filter(|(_, first, marker)| from < to && *first < to && *marker >= from)
            .map(|(producer, first, _)| AbortedTransaction {
                producer_id: ProducerId(*producer),
                first_offset: Offset(*first),
            })
            .collect();
        expected.sort_by_key(|aborted| aborted.first_offset);
        // Of one that began before the log does the log tells a later beginning.
        let known_better = |aborted: &&AbortedTransaction| {
            found.iter().any(|found| {
                found.producer_id == aborted.producer_id && found.first_offset.0 < begins
            })
        };
        expected.retain(|aborted| within.contains(aborted) || !known_better(&aborted));
        assert_eq!(within, expected, "{what}: {from}..{to}");
    }
}
