//! How far groups are behind, asked of the partitions that this broker leads.

use weir_groups::lag;
use weir_log::{FileSlice, ReadError};
use weir_proto::groups::v1 as proto;
use weir_wire::Offset;
use weir_wire::batch::{BatchHeader, Compression, HEADER_LEN, TimestampType, only_batch};

use super::Groups;
use crate::partitions::Partition;

impl Groups {
    /// For each place, in order: the end, the lag, and its age. Absent for partitions that this broker does not lead, or
    /// cannot read now: what is not known is not guessed.
    pub(super) async fn standings(
        &self,
        committed: Vec<proto::Committed>,
    ) -> Vec<proto::StandingResult> {
        let places: Vec<_> = committed
            .iter()
            .map(|place| {
                // The watermark of a new leader may be lower than what an earlier one has told (KIP-207).
                let partition = self.leads(&place.topic, place.partition);
                let partition = partition.filter(|partition| partition.is_established());
                (partition, Offset(place.offset))
            })
            .collect();
        let now_ms = self.shared.host.clock.now_ms();
        // Finding the oldest record that was not read may wait for the disk.
        let found = self.shared.host.blocking(move || {
            let standings = places.into_iter().map(|(partition, committed)| {
                let standing =
                    partition.and_then(|partition| standing(&partition, committed, now_ms).ok());
                proto::StandingResult { standing }
            });
            standings.collect()
        });
        found.await
    }
}

fn standing(
    partition: &Partition,
    committed: Offset,
    now_ms: i64,
) -> Result<proto::Standing, ReadError> {
    let (start, end) = (partition.reader().log_start(), partition.high_watermark());
    let lag = lag(committed, start, end);
    let lag_ms = match lag {
        0 => 0,
        _ => oldest_unread(partition, committed.max(start), end)?
            .map_or(0, |at| now_ms.saturating_sub(at).max(0)),
    };
    Ok(proto::Standing {
        end_offset: end.0,
        lag,
        lag_ms,
    })
}

/// The time of the record at `from`, as closely as its batch tells without being inflated.
pub(crate) fn oldest_unread(
    partition: &Partition,
    from: Offset,
    end: Offset,
) -> Result<Option<i64>, ReadError> {
    let slice = partition.reader().slice(from, end, 1, true)?;
    let Some(header) = header(&slice) else {
        return Ok(None);
    };
    let known = |ms: i64| (ms >= 0).then_some(ms);
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Ok(known(header.max_timestamp_ms));
    }
    let is_first = header.base_offset >= from;
    if is_first || header.attributes.compression() != Compression::None {
        return Ok(known(header.base_timestamp_ms));
    }
    let read = partition.reader().read(from, end, 1, true)?;
    let within = only_batch(&read.bytes)
        .and_then(|batch| batch.records())
        .ok()
        .and_then(|records| {
            records
                .map_while(Result::ok)
                .find(|record| record.offset >= from)
        });
    Ok(known(within.map_or(header.base_timestamp_ms, |record| {
        record.timestamp_ms
    })))
}

/// The header of the first batch of a slice.
fn header(slice: &FileSlice) -> Option<BatchHeader> {
    let mut bytes = [0; HEADER_LEN];
    let mut filled = 0;
    while filled < HEADER_LEN {
        match slice
            .file
            .read_at(&mut bytes[filled..], slice.position + filled as u64)
        {
            Ok(0) | Err(_) => return None,
            Ok(read) => filled += read,
        }
    }
    BatchHeader::parse(&bytes).ok()
}
