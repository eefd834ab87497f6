//! Which records of a batch a group is given: those for which its filter holds, and that are not too old for their topic.
//!
//! A group without a filter on a topic without a time to live and an order pays for the look at two `Option`s and a bit; for others batches are inflated, and those
//! of which only a part is given are told to the engine in parts. What is not given is passed over: nobody has it out, nothing counts it.

use std::sync::Arc;

use bytes::Bytes;
use weir_groups::GroupId;
use weir_groups::share::{Content, Fetched};
use weir_log::mutants::Mutant;
use weir_queues::order::KeyHash;
use weir_wire::Offset;
use weir_wire::batch::{BatchHeader, BatchView, Compression, RecordView, TimestampType, batches};

use super::leader::Leader;
use super::settings::Sharing;
use crate::error::{ApiError, ErrorCode};
use crate::queue::trace::Trace;

/// Headers of a message that a condition is shown; a message with more is judged by its first.
const HEADERS_MAX: usize = 256;

/// Uncompressed batches up to this long are judged where they were read: it takes some hundred microseconds.
const BRIEF_BYTES_MAX: usize = 64 << 10;

/// What is asked of each record.
struct Selection {
    sharing: Option<Arc<Sharing>>,
    /// Records from before then are too old.
    since_ms: Option<i64>,
    /// Records of one key go one at a time: each is a part by itself.
    is_ordered: bool,
    /// A defect: each is of a key of its own.
    forgets_keys: bool,
    /// Who is told of those that are too old, and of which group.
    trace: Option<(Arc<Trace>, GroupId)>,
}

/// The batches as the engine is to see them; `None`: as they are.
pub(super) async fn select(
    leader: &Leader,
    found: &[Fetched],
    bytes: &Bytes,
) -> Result<Option<Vec<Fetched>>, ApiError> {
    let sharing = leader.sharing();
    let sharing = sharing.filter(|sharing| sharing.filter.is_some());
    let age_max = leader.partition.config().message_age_max_ms;
    let age_max = age_max.filter(|_| !Mutant::HandOutExpired.is_active());
    if sharing.is_none() && age_max.is_none() && !leader.is_ordered {
        return Ok(None);
    }
    let now_ms = leader.host.clock.now_ms();
    let selection = Selection {
        sharing,
        since_ms: age_max.map(|age| now_ms.saturating_sub_unsigned(age)),
        is_ordered: leader.is_ordered,
        forgets_keys: Mutant::ForgetKeys.is_active(),
        trace: leader
            .partition
            .trace()
            .map(|trace| (trace, leader.key.group.clone())),
    };
    let is_plain =
        |batch: &BatchView<'_>| batch.header().attributes.compression() == Compression::None;
    let is_brief =
        bytes.len() <= BRIEF_BYTES_MAX && batches(bytes).flatten().all(|batch| is_plain(&batch));
    let (found, bytes) = (found.to_vec(), bytes.clone());
    let judge = move || selection.select_all(&found, &bytes);
    let selected = match is_brief {
        true => judge(),
        false => leader.host.blocking(judge).await,
    };
    // Where nothing is given the log is read on and on: others get their turn in between.
    tokio::task::yield_now().await;
    selected.map(Some)
}

impl Selection {
    fn select_all(&self, found: &[Fetched], bytes: &Bytes) -> Result<Vec<Fetched>, ApiError> {
        let mut selected = Vec::with_capacity(found.len());
        for (fetched, batch) in found.iter().zip(batches(bytes)) {
            let mut parts = Parts::default();
            self.select(fetched, &batch.map_err(damaged)?, &mut parts)?;
            selected.append(&mut parts.0);
        }
        Ok(selected)
    }

    fn select(
        &self,
        fetched: &Fetched,
        batch: &BatchView<'_>,
        parts: &mut Parts,
    ) -> Result<(), ApiError> {
        let (base, last) = (fetched.base.0, fetched.last.0);
        if fetched.content != Content::Records {
            parts.put(base, last, Content::Nothing);
            return Ok(());
        }
        // What goes one at a time is looked into.
        if let Some(takes) = self.takes_all(batch.header()) {
            let content = match takes {
                true => Content::Records,
                false => self.expired(base, last),
            };
            parts.put(base, last, content);
            return Ok(());
        }
        let inflated = batch.inflated().map_err(damaged)?;
        // An offset that the batch has no record for is nobody's.
        let mut next = base;
        for record in inflated.iter().map_err(damaged)? {
            let record = record.map_err(damaged)?;
            let at = record.offset.0;
            if at < next || at > last {
                continue;
            }
            parts.put(next, at - 1, Content::Nothing);
            let content = self.content_of(&record);
            match record.key.filter(|_| self.is_ordered) {
                Some(key) if content == Content::Records => {
                    let key = match self.forgets_keys {
                        true => KeyHash(u64::try_from(at).unwrap_or(0)),
                        false => KeyHash::of(key),
                    };
                    parts.put_one(at, key);
                }
                _ => parts.put(at, at, content),
            }
            next = at + 1;
        }
        parts.put(next, last, Content::Nothing);
        Ok(())
    }

    /// Whether all records of a batch are given, or none, where its header tells.
    fn takes_all(&self, header: &BatchHeader) -> Option<bool> {
        let since = self.since_ms?;
        let is_old = is_older(header.max_timestamp_ms, since);
        let is_of_one_time = header.record_count <= 1
            || header.attributes.timestamp_type() == TimestampType::LogAppendTime;
        match self.sharing {
            _ if is_old => Some(false),
            None if is_of_one_time && !self.is_ordered => Some(true),
            _ => None,
        }
    }

    fn expired(&self, first: i64, last: i64) -> Content {
        if let Some((trace, group)) = &self.trace {
            trace.expired(group, Offset(first)..=Offset(last));
        }
        Content::TooOld
    }

    fn content_of(&self, record: &RecordView<'_>) -> Content {
        let is_old = self
            .since_ms
            .is_some_and(|since| is_older(record.timestamp_ms, since));
        if is_old {
            return self.expired(record.offset.0, record.offset.0);
        }
        let filter = self.sharing.as_ref().and_then(|it| it.filter.as_ref());
        match filter.is_none_or(|filter| filter.matches_record(record, HEADERS_MAX)) {
            true => Content::Records,
            false => Content::Nothing,
        }
    }
}

/// -1 is "no timestamp".
fn is_older(timestamp_ms: i64, since_ms: i64) -> bool {
    timestamp_ms >= 0 && timestamp_ms < since_ms
}

/// The parts of one batch, in order.
#[derive(Default)]
struct Parts(Vec<Fetched>);

impl Parts {
    fn put(&mut self, first: i64, last: i64, content: Content) {
        if first > last {
            return;
        }
        let part = Fetched {
            base: Offset(first),
            last: Offset(last),
            content,
            key: None,
        };
        match self.0.last_mut() {
            Some(before) if before.key.is_none() && before.content == content => {
                before.last = part.last;
            }
            _ => self.0.push(part),
        }
    }

    fn put_one(&mut self, at: i64, key: KeyHash) {
        self.0.push(Fetched {
            base: Offset(at),
            last: Offset(at),
            content: Content::Records,
            key: Some(key),
        });
    }
}

fn damaged(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::KafkaStorageError, error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use weir_quorum::configs::SharingConfig;
    use weir_wire::LeaderEpoch;
    use weir_wire::batch::{BatchBuilder, NewHeader, NewRecord};

    use super::*;

    /// Records with these times and regions, from an offset on.
    fn batch(at: i64, records: &[(i64, &str)]) -> Bytes {
        let mut builder = BatchBuilder::new().at(Offset(at), LeaderEpoch(0));
        for (timestamp_ms, region) in records {
            let headers = [NewHeader {
                key: "region",
                value: Some(region.as_bytes()),
            }];
            let record = NewRecord {
                timestamp_ms: *timestamp_ms,
                headers: &headers,
                ..NewRecord::default()
            };
            builder.push(&record).unwrap();
        }
        builder.build()
    }

    fn parts_of(log: &[Bytes], filter: &str, since_ms: Option<i64>) -> Vec<Fetched> {
        let bytes = Bytes::from(log.concat());
        let found: Vec<Fetched> = batches(&bytes)
            .map(|batch| {
                let batch = batch.unwrap();
                Fetched {
                    base: batch.header().base_offset,
                    last: batch.header().last_offset(),
                    content: Content::Records,
                    key: None,
                }
            })
            .collect();
        let config = SharingConfig {
            filter: filter.to_owned(),
            ..SharingConfig::default()
        };
        let selection = Selection {
            sharing: (!filter.is_empty()).then(|| Sharing::of(config)),
            since_ms,
            is_ordered: false,
            forgets_keys: false,
            trace: None,
        };
        selection.select_all(&found, &bytes).unwrap()
    }

    fn selected(log: &[Bytes], filter: &str, since_ms: Option<i64>) -> Vec<(i64, i64, bool)> {
        let plain = |part: Fetched| {
            let is_given = part.content == Content::Records;
            (part.base.0, part.last.0, is_given)
        };
        let parts = parts_of(log, filter, since_ms);
        parts.into_iter().map(plain).collect()
    }

    #[test]
    fn a_batch_is_told_in_parts_where_only_some_of_it_is_given() {
        let log = [
            batch(0, &[(1, "eu"), (1, "eu"), (1, "us"), (1, "eu")]),
            batch(4, &[(1, "eu")]),
        ];
        let parts = selected(&log, "headers.region == 'eu'", None);
        let expected = [(0, 1, true), (2, 2, false), (3, 3, true), (4, 4, true)];
        assert_eq!(parts, expected, "parts of two batches stay apart");
        assert_eq!(
            selected(&log, "headers.region == 'de'", None),
            [(0, 3, false), (4, 4, false)]
        );
    }

    #[test]
    fn what_is_too_old_is_not_given() {
        let log = [
            batch(0, &[(10, "eu"), (30, "eu"), (20, "us")]),
            batch(3, &[(5, "eu"), (6, "eu")]),
            batch(5, &[(40, "eu")]),
            batch(6, &[(-1, "eu")]),
        ];
        let young = [
            (0, 0, false),
            (1, 2, true),
            (3, 4, false),
            (5, 5, true),
            (6, 6, true),
        ];
        assert_eq!(selected(&log, "", Some(20)), young);
        let both = selected(&log[..1], "headers.region == 'eu'", Some(20));
        assert_eq!(both, [(0, 0, false), (1, 1, true), (2, 2, false)]);
        // Why not, is told of each by itself.
        let log = [batch(0, &[(10, "us"), (30, "us"), (5, "eu"), (6, "us")])];
        let parts = parts_of(&log, "headers.region == 'eu'", Some(20));
        let why = parts
            .iter()
            .map(|part| (part.base.0, part.last.0, part.content == Content::TooOld));
        assert_eq!(
            why.collect::<Vec<_>>(),
            [(0, 0, true), (1, 1, false), (2, 3, true)]
        );
    }
}
