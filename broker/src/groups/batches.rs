//! From a coordinator's records to the batches that are appended.

use bytes::Bytes;
use weir_groups::StoredRecord;
use weir_wire::batch::{BatchBuilder, BatchError, NewRecord};

/// Bytes that a record takes beside its key and value, at most: lengths, deltas, attributes and the number of headers.
const RECORD_OVERHEAD: usize = 32;

/// The records in batches of at most `bytes_max` each, one record at least.
pub(super) fn batches(
    records: &[StoredRecord],
    now_ms: i64,
    bytes_max: usize,
) -> Result<Vec<Bytes>, BatchError> {
    let mut batches = Vec::new();
    let mut batch = BatchBuilder::new();
    for record in records {
        if !batch.is_empty() && batch.len() + record.bytes() + RECORD_OVERHEAD > bytes_max {
            batches.push(std::mem::take(&mut batch).build());
        }
        batch.push(&NewRecord {
            timestamp_ms: now_ms,
            key: Some(&record.key),
            value: record.value.as_deref(),
            headers: &[],
        })?;
    }
    if !batch.is_empty() {
        batches.push(batch.build());
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use weir_wire::batch::only_batch;

    use super::*;

    #[test]
    fn records_are_cut_into_batches_within_the_bound_and_keep_their_order() {
        let records: Vec<StoredRecord> = (0..100u8)
            .map(|number| StoredRecord {
                key: Bytes::from(vec![number; 20]),
                value: Some(Bytes::from(vec![0; 80])),
            })
            .collect();
        let batches = batches(&records, 5, 1_000).unwrap();
        assert!(batches.len() > 10);
        let mut keys = Vec::new();
        for batch in &batches {
            assert!(batch.len() <= 1_000);
            let view = only_batch(batch).unwrap();
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
        let record = StoredRecord {
            key: Bytes::from(vec![1; 2_000]),
            value: None,
        };
        let found = batches(&[record.clone(), record], 5, 1_000).unwrap();
        assert_eq!(found.len(), 2);
        assert!(batches(&[], 5, 1_000).unwrap().is_empty());
    }
}
