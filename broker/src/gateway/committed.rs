//! What one who reads what is committed takes of a fetched partition.

use std::collections::BTreeSet;

use weir_wire::batch::{BatchHeader, ControlRecord, RecordView, RewriteError, batches};
use weir_wire::messages::fetch_response::PartitionDataView;

/// Gives `take` each record from offset `from` on that is part of no aborted transaction, with its batch. Says where to read on. The fetch was for what
/// is committed.
///
/// # Errors
/// What `take` says; when a batch cannot be read.
pub(crate) fn committed<E: From<RewriteError>>(
    data: &PartitionDataView<'_>,
    from: i64,
    mut take: impl FnMut(&BatchHeader, &RecordView<'_>) -> Result<(), E>,
) -> Result<i64, E> {
    let aborted = data.aborted_transactions.iter().flat_map(|all| all.iter());
    let mut aborted: Vec<_> = aborted
        .map(|aborted| (aborted.first_offset, aborted.producer_id))
        .collect();
    aborted.sort_unstable();
    let mut aborted = aborted.into_iter().peekable();
    let mut open = BTreeSet::new();
    let mut next = from;
    for batch in batches(data.records.unwrap_or_default()) {
        // The last one may be cut off.
        let Ok(batch) = batch else { break };
        let header = batch.header();
        let last = header.last_offset().0;
        while let Some((_, producer)) = aborted.next_if(|(first, _)| *first <= last) {
            open.insert(producer);
        }
        if header.attributes.is_control() {
            if matches!(batch.control(), Ok(Some(ControlRecord::Abort))) {
                open.remove(&header.producer_id.0);
            }
        } else if !(header.attributes.is_transactional() && open.contains(&header.producer_id.0)) {
            let inflated = batch.inflated().map_err(RewriteError::from)?;
            for record in inflated.iter().map_err(RewriteError::from)? {
                let record = record.map_err(RewriteError::from)?;
                if record.offset.0 >= from {
                    take(header, &record)?;
                }
            }
        }
        next = next.max(last + 1);
    }
    Ok(next)
}
