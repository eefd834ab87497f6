//! Buckets in memory: what is far takes little.

use std::collections::BTreeMap;

use weir_wire::Offset;

use super::{Bucket, Entry};
use crate::Millis;

/// A bucket grows by this part of itself, so that little is allocated for nothing.
const GROWS_BY: usize = 8;

/// What lies in buckets, each in the order of its coming.
#[derive(Clone, Debug, Default)]
pub(super) struct Packed {
    buckets: BTreeMap<Bucket, Pack>,
}

/// One bucket: for each message the time since the bucket's begin, and how far its offset is from that of the one before; both as varints.
#[derive(Clone, Debug)]
struct Pack {
    bytes: Vec<u8>,
    last: Offset,
    oldest: Offset,
}

impl Packed {
    pub(super) fn put(&mut self, bucket: Bucket, entries: &[Entry]) {
        let pack = self.buckets.entry(bucket).or_insert_with(|| Pack {
            bytes: Vec::new(),
            last: Offset(0),
            oldest: Offset(i64::MAX),
        });
        for entry in entries {
            let mut room = [0; 20];
            let step = entry.at.0.wrapping_sub(pack.last.0);
            let mut length = varint(&mut room, entry.due.0.saturating_sub(bucket.start.0));
            length += varint(&mut room[length..], zigzag(step));
            if pack.bytes.capacity() - pack.bytes.len() < length {
                pack.bytes
                    .reserve_exact(length.max(pack.bytes.len() / GROWS_BY));
            }
            pack.bytes.extend_from_slice(&room[..length]);
            pack.last = entry.at;
            pack.oldest = pack.oldest.min(entry.at);
        }
    }

    /// All that a bucket has, which is gone from here.
    pub(super) fn take(&mut self, bucket: Bucket) -> Vec<Entry> {
        let Some(pack) = self.buckets.remove(&bucket) else {
            return Vec::new();
        };
        let (mut at, mut last) = (0, 0_i64);
        let mut entries = Vec::new();
        while at < pack.bytes.len() {
            let due = take_varint(&pack.bytes, &mut at);
            let step = take_varint(&pack.bytes, &mut at);
            last = last.wrapping_add(unzigzag(step));
            entries.push(Entry {
                due: Millis(bucket.start.0.saturating_add(due)),
                at: Offset(last),
            });
        }
        entries
    }

    pub(super) fn oldest(&self) -> Option<Offset> {
        self.buckets.values().map(|pack| pack.oldest).min()
    }

    pub(super) fn bytes(&self) -> usize {
        self.buckets
            .values()
            .map(|pack| pack.bytes.capacity())
            .sum()
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Writes seven bits in a byte, the low ones first; says how many bytes.
fn varint(out: &mut [u8], mut value: u64) -> usize {
    let mut length = 0;
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        out[length] = if value == 0 { low } else { low | 0x80 };
        length += 1;
        if value == 0 {
            return length;
        }
    }
}

fn take_varint(bytes: &[u8], at: &mut usize) -> u64 {
    let (mut value, mut shift) = (0, 0);
    while let Some(byte) = bytes.get(*at) {
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 || shift > 63 {
            break;
        }
    }
    value
}
