//! From a machine's entries to the batches that are appended.

use bytes::Bytes;
use weir_groups::transactions::Version;
use weir_groups::{Entry, Marker, Outcome, Producer, StoredRecord};
use weir_log::{Origin, Verified};
use weir_wire::Offset;
use weir_wire::batch::{
    Attributes, BatchBuilder, BatchError, ControlRecord, NewRecord, control_batch,
};

/// Bytes that a record takes beside its key and value, at most: lengths, deltas, attributes and the number of headers.
const RECORD_OVERHEAD: usize = 32;

/// A batch, and what the log is to know of it.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) bytes: Bytes,
    pub(super) origin: Origin,
    pub(super) verified: Option<Verified>,
}

/// The entries in batches of at most `bytes_max` each, one record at least. A batch holds records of one transaction, or
/// records of none, or one marker.
pub(super) fn batches(
    entries: &[Entry],
    now_ms: i64,
    bytes_max: usize,
) -> Result<Vec<Batch>, BatchError> {
    let mut out = Out {
        batches: Vec::new(),
        batch: BatchBuilder::new(),
        pending: None,
    };
    for entry in entries {
        match entry {
            Entry::Record(record) => out.push(record, None, now_ms, bytes_max)?,
            Entry::Together(records) => {
                let bytes = entry.bytes() + records.len() * RECORD_OVERHEAD;
                if out.batch.len() + bytes > bytes_max {
                    out.close();
                }
                for record in records {
                    out.push(record, None, now_ms, bytes_max)?;
                }
            }
            Entry::Pending(producer, record) => {
                out.push(record, Some(*producer), now_ms, bytes_max)?;
            }
            Entry::Marker(marker, version) => {
                out.close();
                out.batches.push(marker_batch(marker, *version, now_ms)?);
            }
        }
    }
    out.close();
    Ok(out.batches)
}

/// A record that says nothing. It has no key, so that compaction does not keep it, and readers of internal topics pass over it.
pub(super) fn nothing(now_ms: i64) -> Result<Batch, BatchError> {
    let mut batch = BatchBuilder::new();
    batch.push(&NewRecord {
        timestamp_ms: now_ms,
        ..NewRecord::default()
    })?;
    Ok(Batch {
        bytes: batch.build(),
        origin: Origin::Coordinator,
        verified: None,
    })
}

struct Out {
    batches: Vec<Batch>,
    batch: BatchBuilder,
    /// Whose transaction the records of `batch` are part of.
    pending: Option<Producer>,
}

impl Out {
    fn push(
        &mut self,
        record: &StoredRecord,
        pending: Option<Producer>,
        now_ms: i64,
        bytes_max: usize,
    ) -> Result<(), BatchError> {
        let is_full = self.batch.len() + record.bytes() + RECORD_OVERHEAD > bytes_max;
        if is_full || self.pending != pending {
            self.close();
            self.pending = pending;
        }
        if self.batch.is_empty() {
            self.batch = builder(pending);
        }
        self.batch.push(&NewRecord {
            timestamp_ms: now_ms,
            key: Some(&record.key),
            value: record.value.as_deref(),
            headers: &[],
        })
    }

    fn close(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        // The machine has seen every marker that is before it in the log, and lets nothing pass that comes too late.
        let verified = self.pending.map(|_| Verified {
            since: Offset(i64::MAX),
            begins_at_zero: false,
        });
        self.batches.push(Batch {
            bytes: std::mem::take(&mut self.batch).build(),
            origin: Origin::Coordinator,
            verified,
        });
    }
}

fn builder(pending: Option<Producer>) -> BatchBuilder {
    let builder = BatchBuilder::new();
    match pending {
        None => builder,
        // Without a sequence: a coordinator's appends are ordered by itself.
        Some(producer) => builder
            .producer(producer.id, producer.epoch, -1)
            .attributes(Attributes::default().with_transactional(true)),
    }
}

fn marker_batch(marker: &Marker, version: Version, now_ms: i64) -> Result<Batch, BatchError> {
    let kind = match marker.outcome {
        Outcome::Commit => ControlRecord::Commit,
        Outcome::Abort => ControlRecord::Abort,
    };
    let Producer { id, epoch } = marker.producer;
    Ok(Batch {
        bytes: control_batch(kind, marker.coordinator_epoch, id, epoch, now_ms)?,
        origin: Origin::Marker {
            transaction_version: version.level(),
        },
        verified: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use weir_wire::batch::only_batch;

    use weir_wire::{ProducerEpoch, ProducerId};

    use super::*;

    fn record(key: u8) -> StoredRecord {
        StoredRecord {
            key: Bytes::from(vec![key; 20]),
            value: Some(Bytes::from(vec![0; 80])),
        }
    }

    #[test]
    fn a_batch_is_of_one_transaction_or_none() {
        let producer = |id| Producer {
            id: ProducerId(id),
            epoch: ProducerEpoch(3),
        };
        let marker = Marker {
            producer: producer(1),
            outcome: Outcome::Abort,
            coordinator_epoch: 9,
        };
        let entries = [
            record(0).into(),
            Entry::Pending(producer(1), record(1)),
            Entry::Pending(producer(1), record(2)),
            Entry::Pending(producer(2), record(3)),
            Entry::Marker(marker, Version::V2),
            record(4).into(),
        ];
        let batches = batches(&entries, 5, 100_000).unwrap();
        let found: Vec<_> = batches
            .iter()
            .map(|batch| {
                let view = only_batch(&batch.bytes).unwrap();
                view.check_produced().unwrap();
                let header = view.header();
                let attributes = header.attributes;
                assert_eq!(header.base_sequence, -1);
                (
                    header.producer_id.0,
                    header.record_count,
                    attributes.is_transactional(),
                    view.control().unwrap(),
                )
            })
            .collect();
        let expected = [
            (-1, 1, false, None),
            (1, 2, true, None),
            (2, 1, true, None),
            (1, 1, true, Some(ControlRecord::Abort)),
            (-1, 1, false, None),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn records_are_cut_into_batches_within_the_bound_and_keep_their_order() {
        let records: Vec<Entry> = (0..100u8).map(|key| record(key).into()).collect();
        let batches = batches(&records, 5, 1_000).unwrap();
        assert!(batches.len() > 10);
        let mut keys = Vec::new();
        for batch in &batches {
            assert!(batch.bytes.len() <= 1_000);
            let view = only_batch(&batch.bytes).unwrap();
            view.check_produced().unwrap();
            keys.extend(
                view.records()
                    .unwrap()
                    .map(|record| record.unwrap().key.unwrap()[0]),
            );
        }
        assert_eq!(keys, (0..100).collect::<Vec<u8>>());
    }

    #[test]
    fn a_record_above_the_bound_has_a_batch_of_its_own() {
        let record = Entry::Record(StoredRecord {
            key: Bytes::from(vec![1; 2_000]),
            value: None,
        });
        let found = batches(&[record.clone(), record], 5, 1_000).unwrap();
        assert_eq!(found.len(), 2);
        assert!(batches(&[], 5, 1_000).unwrap().is_empty());
    }

    #[test]
    fn records_that_hold_together_are_in_one_batch_if_it_can_have_them() {
        let together = |count: u8, bytes: usize| {
            let records = (0..count).map(|number| StoredRecord {
                key: Bytes::from(vec![number; bytes]),
                value: None,
            });
            Entry::Together(records.collect())
        };
        let lengths = |entries: &[Entry]| {
            let batches = batches(entries, 5, 1_000).unwrap();
            let counts = batches.iter().map(|batch| {
                let view = only_batch(&batch.bytes).unwrap();
                view.check_produced().unwrap();
                view.records().unwrap().count()
            });
            counts.collect::<Vec<_>>()
        };
        assert_eq!(lengths(&[together(5, 80), together(5, 80)]), [5, 5]);
        assert_eq!(lengths(&[together(2, 20), together(2, 20)]), [4]);
        assert_eq!(
            lengths(&[together(2, 20), together(20, 80)])
                .iter()
                .sum::<usize>(),
            22
        );
    }
}
