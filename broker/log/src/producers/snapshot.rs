//! State snapshots: producers and leader epochs as of an offset, so that a start reads few headers.
//!
//! Derived from the log, like an index, but for producers whose batches are gone: a snapshot that is missing, torn, of another offset or of
//! an older form is as good as none, and the one before it stays until the next is on disk. All numbers big-endian: `"WEIRSNP2"`, offset, count and (epoch, start) of epochs, count and producers (id, epoch,
//! coordinator epoch, last seen, last timestamp, start of the open transaction or -1, last marker or -1, count of batches, each
//! base sequence, last offset delta, base offset), count and segments with aborted transactions (first offset, count and hash of
//! what their files hold), CRC32C of all before.

use bytes::{Buf, BufMut};
use weir_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::producer::{BATCHES_KEPT, SeenBatch};
use super::{Producer, Producers};
use crate::aborted::Tally;
use crate::epochs::Epochs;

const MAGIC: &[u8; 8] = b"WEIRSNP2";
const EPOCH_LEN: usize = 12;
const PRODUCER_LEN_MIN: usize = 47;
const BATCH_LEN: usize = 16;
const TALLY_LEN: usize = 20;
/// As many of a producer's newest batches as Kafka remembers, and builds from before the first feature level that take no snapshot with more.
const BATCHES_WRITTEN: usize = 5;

/// The state of a partition just before the batch at `at`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) at: Offset,
    pub(crate) epochs: Epochs,
    pub(crate) producers: Producers,
    /// The segments that have aborted transactions, and what their files hold.
    pub(crate) aborted: Vec<(Offset, Tally)>,
}

pub(crate) fn encode(
    at: Offset,
    epochs: &Epochs,
    producers: &Producers,
    aborted: &[(Offset, Tally)],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_slice(MAGIC);
    bytes.put_i64(at.0);
    bytes.put_u32(epochs.starts().len() as u32);
    for (epoch, start) in epochs.starts() {
        bytes.put_i32(epoch.0);
        bytes.put_i64(start.0);
    }
    bytes.put_u32(producers.by_id.len() as u32);
    for (id, producer) in &producers.by_id {
        bytes.put_i64(id.0);
        bytes.put_i16(producer.epoch.0);
        bytes.put_i32(producer.coordinator_epoch);
        bytes.put_i64(producer.last_seen_ms);
        bytes.put_i64(producer.last_timestamp_ms);
        bytes.put_i64(producer.transaction.unwrap_or(Offset::NONE).0);
        bytes.put_i64(producer.last_marker.0);
        let batches = producer.batches();
        let newest = &batches[batches.len().saturating_sub(BATCHES_WRITTEN)..];
        bytes.put_u8(newest.len() as u8);
        for batch in newest {
            bytes.put_i32(batch.base_sequence);
            bytes.put_i32(batch.last_offset_delta);
            bytes.put_i64(batch.base_offset.0);
        }
    }
    bytes.put_u32(aborted.len() as u32);
    for (base, tally) in aborted {
        bytes.put_i64(base.0);
        bytes.put_u32(tally.count);
        bytes.put_u64(tally.hash);
    }
    let checksum = crc_fast::crc32_iscsi(&bytes);
    bytes.put_u32(checksum);
    bytes
}

/// `None` for anything that [`encode`] did not make.
pub(crate) fn decode(bytes: &[u8]) -> Option<Snapshot> {
    let (checked, mut checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    if checksum.get_u32() != crc_fast::crc32_iscsi(checked) {
        return None;
    }
    let mut rest = checked.strip_prefix(MAGIC)?;
    let at = Offset(rest.try_get_i64().ok()?);
    let epochs = decode_epochs(&mut rest)?;
    let producers = decode_producers(&mut rest)?;
    let aborted = decode_aborted(&mut rest)?;
    rest.is_empty().then_some(Snapshot {
        at,
        epochs,
        producers,
        aborted,
    })
}

fn decode_aborted(rest: &mut &[u8]) -> Option<Vec<(Offset, Tally)>> {
    (0..counted(rest, TALLY_LEN)?)
        .map(|_| {
            let base = Offset(rest.try_get_i64().ok()?);
            let count = rest.try_get_u32().ok()?;
            let hash = rest.try_get_u64().ok()?;
            Some((base, Tally { count, hash }))
        })
        .collect()
}

fn decode_epochs(rest: &mut &[u8]) -> Option<Epochs> {
    let count = counted(rest, EPOCH_LEN)?;
    let starts = (0..count)
        .map(|_| {
            Some((
                LeaderEpoch(rest.try_get_i32().ok()?),
                Offset(rest.try_get_i64().ok()?),
            ))
        })
        .collect::<Option<Vec<_>>>()?;
    Epochs::from_starts(starts)
}

fn decode_producers(rest: &mut &[u8]) -> Option<Producers> {
    let mut producers = Producers::default();
    for _ in 0..counted(rest, PRODUCER_LEN_MIN)? {
        let id = ProducerId(rest.try_get_i64().ok()?);
        producers.put(id, Some(decode_producer(rest)?));
    }
    Some(producers)
}

fn decode_producer(rest: &mut &[u8]) -> Option<Producer> {
    let mut producer = Producer::new(ProducerEpoch(rest.try_get_i16().ok()?));
    producer.coordinator_epoch = rest.try_get_i32().ok()?;
    producer.last_seen_ms = rest.try_get_i64().ok()?;
    producer.last_timestamp_ms = rest.try_get_i64().ok()?;
    producer.transaction = Some(Offset(rest.try_get_i64().ok()?)).filter(|first| first.0 >= 0);
    producer.last_marker = Offset(rest.try_get_i64().ok()?);
    let count = usize::from(rest.try_get_u8().ok()?);
    if count > BATCHES_KEPT || rest.len() < count * BATCH_LEN {
        return None;
    }
    for _ in 0..count {
        producer.push(SeenBatch {
            base_sequence: rest.get_i32(),
            last_offset_delta: rest.get_i32(),
            base_offset: Offset(rest.get_i64()),
        });
    }
    Some(producer)
}

/// A count of things that take at least so many bytes each.
fn counted(rest: &mut &[u8], each: usize) -> Option<usize> {
    let count = usize::try_from(rest.try_get_u32().ok()?).ok()?;
    (count <= rest.len() / each).then_some(count)
}
