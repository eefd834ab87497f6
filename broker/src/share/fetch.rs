//! From the log to the engine: reads what may be handed out, and cuts it to what was.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use weir_groups::MemberId;
use weir_groups::share::{Acquire, AcquireMode, Acquired, Content, Fetched, Place};
use weir_log::mutants::Mutant;
use weir_log::{AbortedTransaction, ReadError};
use weir_wire::batch::{ControlRecord, batches};
use weir_wire::{Offset, Records, RecordsPart};

use super::leader::Leader;
use super::{levels, select};
use crate::error::{ApiError, ErrorCode};
use crate::partitions::Isolation;

/// Bytes of a first read: a few hundred small records. Later ones are twice as large each, up to a bound, for whoever wants
/// more.
const READ_BYTES_MIN: usize = 64 << 10;
const READ_BYTES_MAX: usize = 1 << 20;

/// What a member still wants in this request.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) member: &'a MemberId,
    pub(super) records: i64,
    pub(super) batch_size: i64,
    pub(super) mode: AcquireMode,
    pub(super) bytes: usize,
    /// Nothing was found yet: one batch is given however large it is, or a member would stand before it for ever.
    pub(super) is_first: bool,
    pub(super) isolation: Isolation,
}

/// What is to be done next.
enum Next {
    /// Tell the engine of which levels the log is from there on.
    Follow(Offset),
    /// Read there, if there is something; and whether messages have priorities.
    At(Option<Place>, bool),
}

/// What a member gets of one partition.
#[derive(Debug, Default)]
pub(super) struct Portion {
    pub(super) records: Records,
    pub(super) acquired: Vec<Acquired>,
    /// The end of what may be read that was reached; something is to be had again once it has moved.
    pub(super) waits_above: Option<Offset>,
    /// Behind the last of the batches in it.
    end: Offset,
}

impl Portion {
    /// Whether what is available from `next` on may be put behind what is there. Clients look for what was acquired in the
    /// records in one pass: of a record that is not where they look, they say that there is none, and it is lost. So a
    /// record before the end, which was given back meanwhile, is for the next request.
    fn continues(&self, next: Offset) -> bool {
        next >= self.end
    }

    fn push(&mut self, acquired: Vec<Acquired>, records: Vec<Bytes>, end: Offset) {
        for records in records {
            self.records.push(RecordsPart::Bytes(records));
        }
        self.acquired.extend(acquired);
        self.end = end;
    }
}

/// Hands out what there is, within what is wanted. What goes wrong after something was acquired is for the next request to
/// meet: this one has records to carry.
pub(super) async fn acquire(leader: &Leader, wanted: &mut Wanted<'_>) -> Result<Portion, ApiError> {
    let mut portion = Portion::default();
    match fill(&mut portion, leader, wanted).await {
        Err(error) if portion.acquired.is_empty() => Err(error),
        _ => Ok(portion),
    }
}

async fn fill(
    portion: &mut Portion,
    leader: &Leader,
    wanted: &mut Wanted<'_>,
) -> Result<(), ApiError> {
    let _turn = leader.reading.lock().await;
    let mut read_bytes = READ_BYTES_MIN;
    // Where something was had: the rest is of the same priority, for clients want ascending offsets.
    let mut had: Option<Place> = None;
    while wanted.records > 0 && (wanted.bytes > 0 || wanted.is_first) {
        let log_start = leader.partition.reader().log_start();
        let all = leader.partition.high_watermark();
        let end = leader.partition.readable(wanted.isolation);
        let next = leader.with(|engine, _| {
            engine.log_start_moved(log_start);
            let is_late = Mutant::LookLate.is_active() && engine.next(had.as_ref(), end).is_some();
            match engine.follows_from() {
                Some(from) if from < all && !is_late => Next::Follow(from),
                from => Next::At(engine.next(had.as_ref(), end), from.is_some()),
            }
        })?;
        // It is being loaded.
        let Some(next) = next else { break };
        let (place, is_by_level) = match next {
            Next::Follow(from) => {
                levels::follow(leader, from).await?;
                continue;
            }
            Next::At(Some(place), is_by_level) => (place, is_by_level),
            Next::At(None, is_by_level) => {
                // Everything that may be out is. Of another level there may be something in what comes.
                portion.waits_above = is_by_level.then_some(end);
                break;
            }
        };
        let from = place.read_from;
        if !portion.continues(from) {
            break;
        }
        if from >= end {
            portion.waits_above = Some(end);
            break;
        }
        let bytes_max = read_bytes.min(wanted.bytes);
        let is_first = wanted.is_first;
        let isolation = wanted.isolation;
        let bytes = match read(leader, from, isolation, bytes_max, is_first).await {
            Ok(bytes) => bytes,
            // Retention was faster.
            Err(ReadError::OffsetOutOfRange { start, .. }) if from < start => continue,
            Err(error) => return Err(error.into()),
        };
        if bytes.is_empty() {
            break;
        }
        let (mut found, ends) = look(&bytes)?;
        if isolation == Isolation::ReadCommitted
            && let (Some(first), Some(last)) = (found.first(), found.last())
        {
            let within = first.base..Offset(last.last.0 + 1);
            let aborted = aborted(leader, within).await?;
            leave_out(&mut found, &bytes, aborted);
        }
        let trace = leader.partition.trace();
        if let Some(trace) = trace.clone() {
            let bytes = bytes.clone();
            leader.host.blocking(move || trace.note(&bytes)).await;
        }
        let selected = select::select(leader, &found, &bytes).await?;
        let taken = leader.with(|engine, now| {
            let want = Acquire {
                member: wanted.member,
                records_max: wanted.records,
                batch_size: wanted.batch_size,
                mode: wanted.mode,
                from,
                batches: selected.as_deref().unwrap_or(&found),
            };
            let counts = selected.is_some() || leader.partition.bound().is_some();
            let before = counts.then(|| engine.standing());
            let acquired = engine.acquire(&place, want, now);
            if counts.then(|| engine.standing()) != before {
                // What was passed over is settled, though nobody acknowledges it.
                engine.store_start(&place);
            }
            (
                acquired,
                engine.next(Some(&place), end),
                engine.take_expired(),
            )
        })?;
        let Some((acquired, next, expired)) = taken else {
            break;
        };
        if expired > 0 {
            leader.partition.counters().expired.inc_by(expired);
        }
        if let Some(trace) = &trace {
            trace.delivered(&leader.key.group, wanted.member, &acquired);
        }
        if !acquired.is_empty() {
            let (parts, end) = cut(&bytes, &found, &ends, &acquired);
            wanted.is_first = false;
            let len: usize = parts.iter().map(Bytes::len).sum();
            wanted.bytes = wanted.bytes.saturating_sub(len);
            wanted.records -= count(&acquired);
            portion.push(acquired, parts, end);
            had = Some(place);
        } else if next == Some(place) {
            break;
        }
        if !is_by_level {
            read_bytes = (read_bytes * 2).min(READ_BYTES_MAX);
        }
    }
    Ok(())
}

fn count(acquired: &[Acquired]) -> i64 {
    acquired
        .iter()
        .map(|range| range.last.0 - range.first.0 + 1)
        .sum()
}

/// What the page cache has, on this thread; otherwise from the disk on one that may wait.
async fn read(
    leader: &Leader,
    from: Offset,
    isolation: Isolation,
    bytes_max: usize,
    min_one_batch: bool,
) -> Result<Bytes, ReadError> {
    let partition = &leader.partition;
    let up_to = partition.readable(isolation);
    let reader = partition.reader();
    let read = match reader.try_read(from, up_to, bytes_max, min_one_batch) {
        Err(ReadError::WouldBlock) => {
            let partition = Arc::clone(partition);
            let read = move || partition.read_as(from, isolation, bytes_max, min_one_batch);
            leader.host.blocking(read).await
        }
        read => read,
    };
    Ok(leader.partition.for_consumers(read?.bytes))
}

/// The batches, and where each ends.
fn look(bytes: &Bytes) -> Result<(Vec<Fetched>, Vec<usize>), ApiError> {
    let (mut found, mut ends) = (Vec::new(), Vec::new());
    let mut end = 0;
    for batch in batches(bytes) {
        let batch = batch
            .map_err(|error| ApiError::new(ErrorCode::KafkaStorageError, error.to_string()))?;
        let header = batch.header();
        end += header.total_len();
        ends.push(end);
        found.push(Fetched {
            base: header.base_offset,
            last: header.last_offset(),
            // What has no records takes the place of others.
            content: match header.attributes.is_control() || header.record_count <= 0 {
                true => Content::Nothing,
                false => Content::Records,
            },
            key: None,
        });
    }
    Ok((found, ends))
}

/// The aborted transactions that have a part in a range.
async fn aborted(
    leader: &Leader,
    within: Range<Offset>,
) -> Result<Vec<AbortedTransaction>, ReadError> {
    let (from, to) = (within.start, within.end);
    match leader.partition.reader().try_aborted_transactions(from, to) {
        Err(ReadError::WouldBlock) => {
            let reader = leader.partition.reader().clone();
            let look = move || reader.aborted_transactions(from, to);
            leader.host.blocking(look).await
        }
        found => found,
    }
}

/// Nobody is given what was written in an aborted transaction: from its first offset to the marker that says so.
fn leave_out(found: &mut [Fetched], bytes: &Bytes, aborted: Vec<AbortedTransaction>) {
    let mut aborted = aborted.into_iter().peekable();
    let mut open = BTreeSet::new();
    for (fetched, batch) in found.iter_mut().zip(batches(bytes).flatten()) {
        while let Some(begun) = aborted.next_if(|begun| begun.first_offset <= fetched.last) {
            open.insert(begun.producer_id);
        }
        let header = batch.header();
        if header.attributes.is_control() {
            // A marker that cannot be read ends nothing here; what follows of its producer is left out too.
            if matches!(batch.control(), Ok(Some(ControlRecord::Abort))) {
                open.remove(&header.producer_id);
            }
        } else if header.attributes.is_transactional() && open.contains(&header.producer_id) {
            fetched.content = Content::Nothing;
        }
    }
}

/// The whole batches that have what was acquired, in ascending order, and the offset behind the last.
fn cut(
    bytes: &Bytes,
    found: &[Fetched],
    ends: &[usize],
    acquired: &[Acquired],
) -> (Vec<Bytes>, Offset) {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    let mut end = Offset(0);
    for range in acquired {
        let begin = found.partition_point(|batch| batch.last < range.first);
        let until = found.partition_point(|batch| batch.base <= range.last);
        let from = if begin == 0 { 0 } else { ends[begin - 1] };
        let Some(last) = until.checked_sub(1) else {
            continue;
        };
        end = Offset(found[last].last.0 + 1);
        match parts.last_mut() {
            // In the same batch, or the next one.
            Some((_, to)) if from <= *to => *to = ends[last],
            _ => parts.push((from, ends[last])),
        }
    }
    let parts = parts.into_iter().map(|(from, to)| {
        if (to - from) < bytes.len() / 2 {
            // A small part is not to hold a large buffer.
            Bytes::copy_from_slice(&bytes[from..to])
        } else {
            bytes.slice(from..to)
        }
    });
    (parts.collect(), end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use weir_wire::batch::{Attributes, BatchBuilder, NewRecord, control_batch};
    use weir_wire::{LeaderEpoch, ProducerEpoch, ProducerId};

    use super::*;

    /// A batch of two records at an offset, in a producer's transaction if one is named.
    fn batch(at: i64, producer: Option<i64>) -> Bytes {
        let mut builder = BatchBuilder::new().at(Offset(at), LeaderEpoch(0));
        if let Some(id) = producer {
            builder = builder
                .producer(ProducerId(id), ProducerEpoch(0), 0)
                .attributes(Attributes::default().with_transactional(true));
        }
        builder.push(&NewRecord::default()).unwrap();
        builder.push(&NewRecord::default()).unwrap();
        builder.build()
    }

    fn marker(at: i64, kind: ControlRecord, producer: i64) -> Bytes {
        let epoch = ProducerEpoch(0);
        let marker = control_batch(kind, 0, ProducerId(producer), epoch, 0).unwrap();
        // The base offset precedes the checksum.
        let mut bytes = marker.to_vec();
        bytes[..8].copy_from_slice(&at.to_be_bytes());
        bytes.into()
    }

    #[test]
    fn what_was_written_in_an_aborted_transaction_is_for_nobody() {
        let log = [
            batch(0, None),
            batch(2, Some(7)),
            batch(4, Some(8)),
            batch(6, None),
            marker(8, ControlRecord::Abort, 7),
            batch(9, Some(7)),
            marker(11, ControlRecord::Commit, 8),
            marker(12, ControlRecord::Commit, 7),
        ];
        let bytes = Bytes::from(log.concat());
        let (mut found, ends) = look(&bytes).unwrap();
        assert_eq!(ends.last(), Some(&bytes.len()));
        let aborted = AbortedTransaction {
            producer_id: ProducerId(7),
            first_offset: Offset(2),
        };
        leave_out(&mut found, &bytes, vec![aborted]);
        let given = found
            .iter()
            .filter(|fetched| fetched.content == Content::Records);
        let given: Vec<_> = given.map(|fetched| fetched.base.0).collect();
        assert_eq!(given, [0, 4, 6, 9]);
    }

    #[test]
    fn only_the_batches_that_have_what_was_acquired_are_given() {
        let log = [
            batch(0, None),
            batch(2, None),
            batch(4, None),
            batch(6, None),
        ];
        let bytes = Bytes::from(log.concat());
        let (found, ends) = look(&bytes).unwrap();
        let bases = |part: &Bytes| {
            let (found, _) = look(part).unwrap();
            found.iter().map(|it| it.base.0).collect::<Vec<_>>()
        };
        let acquired = |ranges: &[(i64, i64)]| {
            let ranges = ranges.iter().map(|(first, last)| Acquired {
                first: Offset(*first),
                last: Offset(*last),
                deliveries: 1,
            });
            ranges.collect::<Vec<_>>()
        };
        let (parts, end) = cut(&bytes, &found, &ends, &acquired(&[(3, 4)]));
        assert_eq!(parts.iter().map(bases).collect::<Vec<_>>(), [[2, 4]]);
        assert_eq!(end, Offset(6));
        let (apart, end) = cut(
            &bytes,
            &found,
            &ends,
            &acquired(&[(0, 0), (1, 1), (5, 5), (7, 7)]),
        );
        assert_eq!(
            apart.iter().map(bases).collect::<Vec<_>>(),
            [vec![0], vec![4, 6]]
        );
        assert_eq!(end, Offset(8));
        let (parts, end) = cut(&bytes, &found, &ends, &acquired(&[(3, 4)]));
        let mut portion = Portion::default();
        assert!(portion.continues(Offset(0)));
        portion.push(Vec::new(), parts, end);
        assert!(portion.continues(Offset(6)));
        assert!(!portion.continues(Offset(5)), "it is in there already");
    }
}
