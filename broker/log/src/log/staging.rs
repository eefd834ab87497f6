//! Batches on their way into the log: judged, given their offsets, not written yet.

use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;
use weir_wire::batch::{
    BatchHeader, BatchView, HEADER_LEN, PATCHED_LEN, PatchedHeader, TimestampType,
};
use weir_wire::{LeaderEpoch, ProducerId};

use super::PartitionLog;
use crate::error::AppendError;
use crate::lanes::{Appended, NotAdmitted, Offered};
use crate::producers::{Arriving, Origin, Remembered, Verdict, Verified};
use crate::segment::NO_TIMESTAMP;

/// Where the checksum lies, and what it covers begins.
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;

/// A batch that has its offsets and waits to be written.
#[derive(Debug)]
pub(super) struct Staged {
    /// What is written instead of the batch's first bytes: 16 of them, the whole header when the time is the log's, or none when
    /// a leader has made it what it is.
    pub(super) head: [u8; HEADER_LEN],
    pub(super) head_len: usize,
    /// The bytes that it came in, and where in them the rest of it is.
    pub(super) bytes: Bytes,
    pub(super) rest: Range<usize>,
    pub(super) header: BatchHeader,
    pub(super) remembered: Option<Remembered>,
}

/// What is written for batches one after the other. Those that lie behind each other in what they came in are one piece.
pub(super) fn pieces(run: &[Staged]) -> Vec<IoSlice<'_>> {
    let mut pieces = Vec::with_capacity(run.len() * 2);
    let mut run = run.iter().peekable();
    while let Some(staged) = run.next() {
        if staged.head_len > 0 {
            pieces.push(IoSlice::new(&staged.head[..staged.head_len]));
        }
        let mut rest = staged.rest.clone();
        while let Some(next) = run.next_if(|next| next.continues(staged, rest.end)) {
            rest.end = next.rest.end;
        }
        pieces.push(IoSlice::new(&staged.bytes[rest]));
    }
    pieces
}

impl Staged {
    /// Whether all of it lies in the bytes that `before` came in, from `at` on.
    fn continues(&self, before: &Self, at: usize) -> bool {
        self.head_len == 0 && self.rest.start == at && std::ptr::eq(&*self.bytes, &*before.bytes)
    }
}

impl PartitionLog {
    /// Judges one batch and assigns its offsets. Nothing is written yet.
    pub(crate) fn stage(
        &mut self,
        batch: Bytes,
        epoch: LeaderEpoch,
        (origin, verified, begins_at_zero): (Origin, Option<Verified>, bool),
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        if let Some(damage) = self.shared.damage() {
            return Err(AppendError::Damaged(damage));
        }
        if let Some(latest) = self.latest_epoch.filter(|latest| epoch < *latest) {
            return Err(AppendError::StaleEpoch { got: epoch, latest });
        }
        let (escort, batch) = match origin {
            Origin::Escorted | Origin::Noted => {
                let (escort, batch) = two_batches(&batch)?;
                (Some(escort), batch)
            }
            Origin::Client | Origin::Coordinator | Origin::Marker { .. } => (None, batch),
        };
        let Arriving { header, marker } = whole_batch(&batch)?;
        if matches!(origin, Origin::Marker { .. }) != marker.is_some()
            || header.attributes.is_control() != marker.is_some()
        {
            let found = "control batches are markers, and markers control batches".to_owned();
            return Err(AppendError::Malformed(found));
        }
        let log_start_offset = self.shared.log_start();
        let arriving = Arriving { header, marker };
        let verdict = self.judge(&arriving, epoch, (origin, verified, begins_at_zero))?;
        if let Verdict::Duplicate {
            base_offset,
            last_offset,
        } = verdict
        {
            return Ok(Appended {
                base_offset,
                last_offset,
                log_append_time: None,
                log_start_offset,
                duplicate: true,
            });
        }
        if matches!(origin, Origin::Client | Origin::Escorted) {
            let escort = escort.as_ref().map(|(escort, bytes)| (escort, bytes.len()));
            self.admit(&header, batch.len(), escort, epoch)?;
        }
        if let Some((header, bytes)) = escort {
            let marker = None;
            self.put(Arriving { header, marker }, bytes, epoch, now_ms);
        }
        let (header, log_append_time) = self.put(arriving, batch, epoch, now_ms);
        Ok(Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time,
            log_start_offset,
            duplicate: false,
        })
    }

    /// Gives a batch its offsets, and has it wait to be written.
    fn put(
        &mut self,
        arriving: Arriving,
        batch: Bytes,
        epoch: LeaderEpoch,
        now_ms: i64,
    ) -> (BatchHeader, Option<i64>) {
        let Arriving { mut header, marker } = arriving;
        header.base_offset = self.staged_end;
        header.leader_epoch = epoch;
        let log_append_time =
            (self.config.timestamp_type == TimestampType::LogAppendTime).then_some(now_ms);
        let (head, head_len) = match log_append_time {
            Some(time) => (stamp(&mut header, &batch, time), HEADER_LEN),
            None => (patch(&header), PATCHED_LEN),
        };
        let remembered = self
            .producers
            .remember(&Arriving { header, marker }, now_ms);
        self.latest_epoch = Some(epoch);
        self.staged_end = header.next_offset();
        self.staged.push(Staged {
            head,
            head_len,
            rest: head_len..batch.len(),
            bytes: batch,
            header,
            remembered,
        });
        (header, log_append_time)
    }
}

impl PartitionLog {
    /// What is to be done with a batch. One of which only refused ones are missing is taken as if they had been appended.
    fn judge(
        &self,
        arriving: &Arriving,
        leader_epoch: LeaderEpoch,
        (origin, verified, begins_at_zero): (Origin, Option<Verified>, bool),
    ) -> Result<Verdict, AppendError> {
        let begins_at_zero = begins_at_zero || self.config.begins_at_zero;
        let check = |arriving: &Arriving| {
            let bounds = (self.config.producers_max, begins_at_zero);
            self.producers.check(arriving, origin, verified, bounds)
        };
        let header = &arriving.header;
        let verdict = check(arriving);
        match verdict.as_ref().err().and_then(AppendError::gap) {
            Some(expected) if self.refusals.leads(header, leader_epoch, expected) => {
                let mut in_order = *arriving;
                in_order.header.base_sequence = expected;
                check(&in_order)
            }
            Some(_) if self.refusals.has(header, leader_epoch) => {
                let why =
                    "the queue was full when this batch came first, and later ones have been taken";
                Err(AppendError::Full(why.into()))
            }
            _ => verdict,
        }
    }

    /// Whether there is room for a client's batch.
    fn admit(
        &mut self,
        header: &BatchHeader,
        bytes: usize,
        escort: Option<(&BatchHeader, usize)>,
        leader_epoch: LeaderEpoch,
    ) -> Result<(), AppendError> {
        let Some(admission) = &self.admission else {
            return Ok(());
        };
        let offsets =
            |header: &BatchHeader| u64::try_from(header.last_offset_delta).unwrap_or(0) + 1;
        let (more, more_bytes) = escort.map_or((0, 0), |(escort, bytes)| (offsets(escort), bytes));
        let offered = Offered {
            leader_epoch,
            end: self.staged_end,
            records: offsets(header) + more,
            bytes: u64::try_from(bytes + more_bytes).unwrap_or(u64::MAX),
        };
        match admission.admit(offered) {
            Ok(()) => {
                self.refusals.taken(header, leader_epoch);
                Ok(())
            }
            Err(NotAdmitted::ForGood(why)) => {
                self.refusals.add(header, leader_epoch);
                Err(AppendError::Full(why))
            }
            Err(NotAdmitted::ForNow(why)) => Err(AppendError::FullForNow(why)),
        }
    }
}

/// A batch and what is in front of it: no marker, and of no producer, or it would be asked what nobody asks of it.
fn two_batches(bytes: &Bytes) -> Result<((BatchHeader, Bytes), Bytes), AppendError> {
    let first = BatchView::split_first(bytes);
    let (view, _) = first.map_err(|error| AppendError::Malformed(error.to_string()))?;
    let escort = bytes.slice(..view.header().total_len());
    let Arriving { header, marker } = whole_batch(&escort)?;
    if marker.is_some() || header.producer_id != ProducerId::NONE {
        let found = "what is in front of a producer's batch is of no producer".to_owned();
        return Err(AppendError::Malformed(found));
    }
    let rest = bytes.slice(escort.len()..);
    Ok(((header, escort), rest))
}

fn whole_batch(batch: &Bytes) -> Result<Arriving, AppendError> {
    let malformed = |found: String| AppendError::Malformed(found);
    let (view, rest) =
        BatchView::split_first(batch).map_err(|error| malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(malformed(format!("{} bytes behind the batch", rest.len())));
    }
    let header = *view.header();
    if header.last_offset_delta < 0 {
        return Err(malformed(format!(
            "last offset delta {}",
            header.last_offset_delta
        )));
    }
    let marker = view
        .end_transaction()
        .map_err(|error| malformed(error.to_string()))?;
    Ok(Arriving { header, marker })
}

fn patch(header: &BatchHeader) -> [u8; HEADER_LEN] {
    let mut head = [0; HEADER_LEN];
    head[..PATCHED_LEN].copy_from_slice(
        &PatchedHeader::assign(header, header.base_offset, header.leader_epoch).to_bytes(),
    );
    head
}

/// The header with the log's time in it. Its checksum covers the records too, so they are read once for it.
fn stamp(header: &mut BatchHeader, batch: &Bytes, now_ms: i64) -> [u8; HEADER_LEN] {
    header.max_timestamp_ms = now_ms.max(NO_TIMESTAMP + 1);
    header.attributes = header
        .attributes
        .with_timestamp_type(TimestampType::LogAppendTime);
    let mut head = header.to_bytes();
    let mut checksum = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    checksum.update(&head[CRC_FROM..]);
    checksum.update(&batch[HEADER_LEN..]);
    header.crc = checksum.finalize() as u32;
    head[CRC_AT..CRC_FROM].copy_from_slice(&header.crc.to_be_bytes());
    head
}
