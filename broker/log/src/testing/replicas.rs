//! Leaders and followers in tests: batches as a leader has them, and what two logs must agree on.

use bytes::Bytes;
use weir_wire::batch::{BatchHeader, PatchedHeader, batches, filler};
use weir_wire::{LeaderEpoch, Offset};

use super::{Outcome, Rig, batch_of};
use crate::producers::{Arriving, Producers};
use crate::{
    AppendError, Ends, KnownProducers, LaneError, LogReader, PartitionHandle, ProducerState,
    Replicate,
};

/// A batch as its leader has it.
pub(crate) fn placed(batch: &Bytes, base: i64, epoch: i32) -> Bytes {
    let header = BatchHeader::parse(batch).unwrap();
    let patched = PatchedHeader::assign(&header, Offset(base), LeaderEpoch(epoch)).to_bytes();
    Bytes::from([patched.as_slice(), &batch[patched.len()..]].concat())
}

/// Batches one after the other, from `base` on.
pub(crate) fn placed_all(all: &[Bytes], base: i64, epoch: i32) -> Bytes {
    let mut at = base;
    let mut bytes = Vec::new();
    for batch in all {
        let batch = placed(batch, at, epoch);
        at = BatchHeader::parse(&batch).unwrap().next_offset().0;
        bytes.extend_from_slice(&batch);
    }
    Bytes::from(bytes)
}

/// A batch without records, as compaction leaves it, that takes up so many offsets.
pub(crate) fn without_records(offsets: i64) -> Bytes {
    let first = BatchHeader::parse(&super::batch(1)).unwrap();
    filler(&first, Offset(first.base_offset.0 + offsets - 1))
}

/// Queues batches of a leader.
pub(crate) fn send_replica(
    handle: &PartitionHandle,
    batches: Bytes,
) -> Outcome<Result<Offset, AppendError>> {
    let outcome: Outcome<_> = Outcome::default();
    let left = outcome.clone();
    handle.replicate(Replicate {
        batches,
        done: Box::new(move |result| *left.lock().unwrap() = Some(result)),
    });
    outcome
}

impl Rig {
    /// Takes a leader's batches over, and takes turns.
    pub(crate) fn replicate(
        &mut self,
        handle: &PartitionHandle,
        batches: Bytes,
    ) -> Result<Offset, AppendError> {
        let outcome = send_replica(handle, batches);
        self.settle();
        outcome.lock().unwrap().take().unwrap()
    }

    pub(crate) fn reset(
        &mut self,
        handle: &PartitionHandle,
        start: i64,
    ) -> Result<Offset, LaneError> {
        self.reset_knowing(handle, start, KnownProducers::default())
    }

    pub(crate) fn reset_knowing(
        &mut self,
        handle: &PartitionHandle,
        start: i64,
        producers: KnownProducers,
    ) -> Result<Offset, LaneError> {
        let outcome: Outcome<_> = Outcome::default();
        let left = outcome.clone();
        handle.reset(Offset(start), producers, move |result| {
            *left.lock().unwrap() = Some(result)
        });
        self.settle();
        outcome.lock().unwrap().take().unwrap()
    }

    pub(crate) fn ends(&mut self, handle: &PartitionHandle) -> Ends {
        let outcome: Outcome<_> = Outcome::default();
        let left = outcome.clone();
        handle.ends(move |result| *left.lock().unwrap() = Some(result));
        self.settle();
        outcome.lock().unwrap().take().unwrap().unwrap()
    }

    pub(crate) fn producers(&mut self, handle: &PartitionHandle) -> Vec<ProducerState> {
        let outcome: Outcome<_> = Outcome::default();
        let left = outcome.clone();
        handle.producers(move |result| *left.lock().unwrap() = Some(result));
        self.settle();
        outcome.lock().unwrap().take().unwrap().unwrap()
    }

    pub(crate) fn producers_before(
        &mut self,
        handle: &PartitionHandle,
        start: i64,
    ) -> KnownProducers {
        let outcome: Outcome<_> = Outcome::default();
        let left = outcome.clone();
        handle.producers_before(Offset(start), move |result| {
            *left.lock().unwrap() = Some(result)
        });
        self.settle();
        outcome.lock().unwrap().take().unwrap().unwrap()
    }
}

/// What a leader knows of a producer that wrote one record, just before `start`.
pub(crate) fn known_of(producer: i64, start: i64) -> KnownProducers {
    let batch = placed(&batch_of(producer, 0, 0, 1), (start - 1).max(0), 0);
    let arriving = Arriving {
        header: BatchHeader::parse(&batch).unwrap(),
        marker: None,
    };
    let mut producers = Producers::default();
    producers.remember(&arriving, i64::MAX);
    KnownProducers(producers)
}

/// All of a log's bytes, headers too, from the batch that holds its start on.
pub(crate) fn all_bytes(reader: &LogReader) -> Bytes {
    let mut at = reader.log_start();
    let mut bytes = Vec::new();
    while at < reader.log_end() {
        let read = reader.read(at, reader.log_end(), 1 << 20, true).unwrap();
        assert!(read.next_offset > at);
        bytes.extend_from_slice(&read.bytes);
        at = read.next_offset;
    }
    Bytes::from(bytes)
}

/// The headers of all batches from the one that holds the log's start on, which must be whole.
pub(crate) fn headers(reader: &LogReader) -> Vec<BatchHeader> {
    let bytes = all_bytes(reader);
    let mut found = Vec::new();
    for batch in batches(&bytes) {
        let batch = batch.unwrap();
        batch.check().unwrap();
        found.push(*batch.header());
    }
    found
}

/// A log's history must be what its batches say.
pub(crate) fn check_history(reader: &LogReader, what: &str) {
    let mut expected: Vec<(LeaderEpoch, Offset)> = Vec::new();
    for header in headers(reader) {
        if expected
            .last()
            .is_none_or(|(epoch, _)| *epoch < header.leader_epoch)
        {
            let begins = header.base_offset.max(reader.log_start());
            expected.push((header.leader_epoch, begins));
        }
    }
    let (starts, end) = reader.history();
    assert_eq!(end, reader.log_end(), "{what}");
    assert_eq!(starts, reader.epoch_starts(), "{what}");
    // Of a log without batches the epoch may be known that its end lies in.
    if !expected.is_empty() {
        assert_eq!(starts, expected, "{what}: epochs");
    }
}

/// Where a follower's log agrees with its leader's, and may go on from.
pub(crate) fn agreed_end(follower: &LogReader, leader: &LogReader) -> Offset {
    let (starts, mut end) = follower.history();
    for (epoch, start) in starts.into_iter().rev() {
        match leader.epoch_end(epoch) {
            Some(known) if known.epoch == epoch => return end.min(known.end_offset),
            _ => end = start,
        }
    }
    follower.log_start()
}
