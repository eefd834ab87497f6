//! What readers get, and what they do when an index or a disk lies to them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use weir_wire::batch::{BatchBuilder, BatchHeader, Compression, HEADER_LEN, NewRecord, only_batch};
use weir_wire::{LeaderEpoch, Offset};

use crate::storage::{File, OpenMode, Storage};
use crate::storage_sim::{Operation, SimStorage};
use crate::testing::{Random, Rig, batch, batch_at, read_all, send, split};
use crate::{EpochEnd, LogConfig, LogReader, PartitionHandle, ReadError};

/// Many entries in the index for few batches.
fn dense() -> LogConfig {
    LogConfig {
        segment_bytes: 4_000,
        index_interval_bytes: 100,
        ..LogConfig::default()
    }
}

fn filled(storage: &SimStorage, config: &LogConfig, batches: usize) -> (Rig, PartitionHandle) {
    let mut rig = Rig::new(storage);
    let (opened, _) = rig.open(config);
    let mut random = Random::new(3);
    for _ in 0..batches {
        rig.append(&opened.handle, &batch(1 + random.below(4) as usize))
            .unwrap();
    }
    (rig, opened.handle)
}

fn index_files(rig: &Rig) -> Vec<PathBuf> {
    let path = rig.partition_path(0);
    let names = rig.storage.list(&path).unwrap();
    names
        .into_iter()
        .filter(|name| name.ends_with(".index"))
        .map(|name| path.join(name))
        .collect()
}

fn overwrite(rig: &Rig, path: &Path, change: impl Fn(&mut [u8])) {
    let file = rig.storage.open(path, OpenMode::Write).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    change(&mut bytes);
    file.write_all_vectored_at(&[std::io::IoSlice::new(&bytes)], 0)
        .unwrap();
}

#[test]
fn every_offset_is_found_in_the_batch_that_holds_it() {
    let (_rig, handle) = filled(&SimStorage::new(), &dense(), 200);
    let reader = handle.reader();
    assert!(reader.size_bytes() > 3 * 4_000);
    let all = read_all(reader, 1 << 20);
    for (base, last, body) in &all {
        for offset in base.0..=last.0 {
            let found = reader
                .read(Offset(offset), reader.log_end(), 1, true)
                .unwrap();
            assert_eq!(found.base_offset, *base);
            assert_eq!(found.next_offset, last.next());
            assert_eq!(split(&found.bytes), [(*base, *last, body.clone())]);
        }
    }
}

#[test]
fn a_batch_above_the_limit_is_returned_whole_or_not_at_all() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    rig.append(&opened.handle, &batch(1)).unwrap();
    rig.append(&opened.handle, &batch_at(&[1], 300_000))
        .unwrap();
    let reader = opened.handle.reader();
    let whole = reader.read(Offset(1), Offset(2), 10, true).unwrap();
    assert!(whole.bytes.len() > 300_000);
    assert_eq!(split(&whole.bytes).len(), 1);
    let none = reader.read(Offset(1), Offset(2), 10, false).unwrap();
    assert!(none.bytes.is_empty());
    assert_eq!(none.next_offset, Offset(1));
    let first = reader.read(Offset(0), Offset(2), 1_000, true).unwrap();
    assert_eq!(first.next_offset, Offset(1));
}

#[test]
fn nothing_at_or_above_the_bound_is_returned() {
    let (_rig, handle) = filled(&SimStorage::new(), &LogConfig::default(), 50);
    let reader = handle.reader();
    let all = read_all(reader, 1 << 20);
    for (base, last, _) in &all[1..] {
        let found = reader.read(Offset(0), *base, 1 << 20, true).unwrap();
        assert_eq!(found.next_offset, *base);
        let within = reader.read(*base, *last, 1 << 20, true).unwrap();
        assert!(
            within.bytes.is_empty(),
            "a batch that reaches the bound is not below it"
        );
    }
}

#[test]
fn outside_of_the_log_is_out_of_range_and_its_end_is_empty() {
    let (mut rig, handle) = filled(&SimStorage::new(), &LogConfig::default(), 10);
    let end = handle.reader().log_end();
    let beyond = handle.reader().read(end.next(), end.next(), 100, true);
    assert!(matches!(beyond, Err(ReadError::OffsetOutOfRange { .. })));
    assert!(
        handle
            .reader()
            .read(end, end, 100, true)
            .unwrap()
            .bytes
            .is_empty()
    );
    assert!(handle.reader().slice(end, end, 100, true).unwrap().len == 0);
    rig.delete_records(&handle, 3);
    let before = handle.reader().read(Offset(2), end, 100, true);
    assert!(matches!(
        before,
        Err(ReadError::OffsetOutOfRange {
            start: Offset(3),
            ..
        })
    ));
    assert!(
        handle
            .reader()
            .read(Offset(3), end, 100, true)
            .unwrap()
            .next_offset
            > Offset(3)
    );
}

#[test]
fn a_reader_that_must_not_wait_is_told_so() {
    let storage = SimStorage::new();
    let (_rig, handle) = filled(&storage, &dense(), 100);
    let reader = handle.reader();
    assert!(
        reader
            .try_read(Offset(0), reader.log_end(), 500, true)
            .is_ok()
    );
    let end = reader.log_end();
    assert!(reader.try_slice(Offset(0), end, 500, true).is_ok());
    storage.evict_page_cache();
    let cold = reader.try_read(Offset(0), reader.log_end(), 500, true);
    assert!(matches!(cold, Err(ReadError::WouldBlock)));
    let cold = reader.try_slice(Offset(0), end, 500, true);
    assert!(matches!(cold, Err(ReadError::WouldBlock)));
    let waited_for = reader.slice(Offset(0), end, 500, true).unwrap();
    assert!(waited_for.try_bytes().is_some());
    assert!(reader.try_slice(Offset(0), end, 500, true).is_ok());
    storage.evict_page_cache();
    reader.read(Offset(0), reader.log_end(), 500, true).unwrap();
    assert!(
        reader
            .try_read(Offset(0), reader.log_end(), 500, true)
            .is_ok()
    );
}

#[test]
fn a_slice_of_the_file_holds_the_same_bytes_as_a_read() {
    let (_rig, handle) = filled(&SimStorage::new(), &dense(), 200);
    let reader = handle.reader();
    let mut random = Random::new(5);
    let mut tails = 0;
    for _ in 0..200 {
        let end = reader.log_end().0 as u64;
        let from = Offset(random.below(end) as i64);
        let up_to = Offset(random.below(end + 1) as i64);
        let max_bytes = random.below(3_000) as usize;
        let min_one = random.below(2) == 0;
        let read = reader.read(from, up_to, max_bytes, min_one).unwrap();
        let slice = reader.slice(from, up_to, max_bytes, min_one).unwrap();
        let mut bytes = vec![0; slice.len as usize];
        slice.file.read_at(&mut bytes, slice.position).unwrap();
        assert_eq!(
            Bytes::from(bytes),
            read.bytes,
            "{from} {up_to} {max_bytes} {min_one}"
        );
        assert_eq!(slice.next_offset, read.next_offset);
        let at_hand = reader.try_slice(from, up_to, max_bytes, min_one).unwrap();
        assert_eq!((at_hand.position, at_hand.len), (slice.position, slice.len));
        if let Some(tail) = reader
            .try_read_tail(from, up_to, max_bytes, min_one)
            .unwrap()
        {
            tails += 1;
            assert_eq!(tail.bytes, read.bytes, "{from} {up_to} {max_bytes}");
            assert_eq!(tail.next_offset, read.next_offset);
        }
    }
    assert!(
        tails > 50,
        "{tails} reads of 200 were near enough to the end"
    );
}

/// Losing data 7: an index that points elsewhere is made anew, and never believed.
#[test]
fn an_index_that_lies_is_rebuilt_and_never_believed() {
    let storage = SimStorage::new();
    let (mut rig, handle) = filled(&storage, &dense(), 200);
    let all = read_all(handle.reader(), 1 << 20);
    rig.close(&handle);
    let honest: Vec<_> = index_files(&rig)
        .iter()
        .map(|path| contents(&rig, path))
        .collect();
    let lies: [fn(&mut [u8]); 5] = [
        // Says that batches lie further on than they do.
        |bytes| {
            bytes
                .chunks_mut(16)
                .for_each(|entry| entry[3] = entry[3].saturating_sub(3))
        },
        // Jumps ahead, as if thousands of offsets had gone by.
        |bytes| {
            bytes
                .chunks_mut(16)
                .for_each(|entry| entry[2] = entry[2].wrapping_add(1))
        },
        // Points into the middle of batches.
        |bytes| bytes.chunks_mut(16).for_each(|entry| entry[7] ^= 0x15),
        |bytes| bytes.fill(0),
        |bytes| bytes.fill(0xFF),
    ];
    for lie in lies {
        let (opened, _) = rig.open(&dense());
        for (path, honest) in index_files(&rig).iter().zip(&honest) {
            overwrite(&rig, path, |bytes| {
                bytes.copy_from_slice(&honest[..bytes.len()]);
                lie(bytes);
            });
        }
        let reader = opened.handle.reader();
        for (base, last, body) in &all {
            let found = reader.read(*last, reader.log_end(), 1, true).unwrap();
            assert_eq!(split(&found.bytes), [(*base, *last, body.clone())]);
        }
        rig.close(&opened.handle);
    }
}

#[test]
fn a_rebuilt_index_is_as_good_as_the_first() {
    let storage = SimStorage::new();
    let (mut rig, handle) = filled(&storage, &dense(), 200);
    rig.close(&handle);
    let before: Vec<_> = index_files(&rig)
        .iter()
        .map(|path| contents(&rig, path))
        .collect();
    assert!(before.iter().all(|bytes| bytes.len() > 16 * 10));
    for path in index_files(&rig) {
        overwrite(&rig, &path, |bytes| {
            bytes.chunks_mut(16).for_each(|entry| entry[7] ^= 0x15)
        });
    }
    let (opened, _) = rig.open(&dense());
    for (base, ..) in read_all(opened.handle.reader(), 1) {
        opened
            .handle
            .reader()
            .read(base, Offset(i64::MAX), 1, true)
            .unwrap();
    }
    rig.close(&opened.handle);
    let after: Vec<_> = index_files(&rig)
        .iter()
        .map(|path| contents(&rig, path))
        .collect();
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        // The first life counts the interval from the segment's first batch, as the rebuild does.
        assert!(after.len().abs_diff(before.len()) <= 16);
    }
}

fn contents(rig: &Rig, path: &Path) -> Vec<u8> {
    let file = rig.storage.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn a_log_without_indexes_is_read_all_the_same() {
    let storage = SimStorage::new();
    let (mut rig, handle) = filled(&storage, &dense(), 200);
    let all = read_all(handle.reader(), 1 << 20);
    rig.close(&handle);
    for path in index_files(&rig) {
        storage.remove_file(&path).unwrap();
    }
    let (opened, _) = rig.open(&dense());
    assert_eq!(read_all(opened.handle.reader(), 1), all);
}

#[test]
fn a_header_that_is_not_what_was_written_is_corrupt_and_named() {
    let storage = SimStorage::new();
    let (rig, handle) = filled(&storage, &LogConfig::default(), 20);
    let log = rig.partition_path(0).join("00000000000000000000.log");
    let reader = handle.reader();
    let second = read_all(reader, 1 << 20)[1].0;
    let position = reader
        .read(Offset(0), second, 1 << 20, true)
        .unwrap()
        .bytes
        .len() as u64;
    assert!(storage.flip_bit(&log, (position + 7) * 8));
    let Err(ReadError::Corrupt(damage)) = reader.read(second, reader.log_end(), 100, true) else {
        unreachable!("the flipped bit was not seen")
    };
    assert_eq!(damage.offsets.start, second);
    assert!(
        reader.read(Offset(0), second, 1 << 20, true).is_ok(),
        "what is before it can be read"
    );
}

#[test]
fn a_disk_that_does_not_read_is_an_error_and_nothing_else() {
    let storage = SimStorage::new();
    let (_rig, handle) = filled(&storage, &LogConfig::default(), 20);
    storage.fail_next(Operation::Read, ".log", 1);
    assert!(matches!(
        handle.reader().read(Offset(0), Offset(1), 100, true),
        Err(ReadError::Io { .. })
    ));
    assert!(
        handle
            .reader()
            .read(Offset(0), handle.reader().log_end(), 100, true)
            .is_ok()
    );
}

#[test]
fn a_read_does_not_pin_much_more_than_it_returns() {
    let (_rig, handle) = filled(&SimStorage::new(), &LogConfig::default(), 200);
    let found = handle
        .reader()
        .read(Offset(0), Offset(4), 1 << 20, true)
        .unwrap();
    assert!(!found.bytes.is_empty());
    let len = found.bytes.len();
    // A buffer that nobody else holds can be taken back, and shows its size.
    let buffer = found.bytes.try_into_mut().unwrap();
    assert!(
        buffer.capacity() <= 2 * len,
        "{} bytes held for {len}",
        buffer.capacity()
    );
}

fn naive_first(all: &[(i64, i64)], timestamp: i64, up_to: i64) -> Option<(i64, i64)> {
    all.iter()
        .copied()
        .find(|(offset, at)| *at >= timestamp && *offset < up_to)
}

fn timed(rig: &mut Rig, handle: &PartitionHandle, seed: u64) -> Vec<(i64, i64)> {
    let mut random = Random::new(seed);
    let mut all = Vec::new();
    for number in 0..120 {
        let timestamps: Vec<i64> = (0..1 + random.below(3))
            .map(|_| number * 10 + random.below(60) as i64)
            .collect();
        let appended = rig.append(handle, &batch_at(&timestamps, 10)).unwrap();
        all.extend(
            timestamps
                .iter()
                .enumerate()
                .map(|(at, time)| (appended.base_offset.0 + at as i64, *time)),
        );
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_are_found_by_time_as_by_looking_at_all(seed in any::<u32>(), reopen in any::<bool>()) {
        let mut rig = Rig::new(&SimStorage::new());
        let (mut opened, _) = rig.open(&dense());
        let all = timed(&mut rig, &opened.handle, u64::from(seed));
        if reopen {
            rig.close(&opened.handle);
            opened = rig.open(&dense()).0;
        }
        let reader: &LogReader = opened.handle.reader();
        for timestamp in (0..1_300).step_by(7) {
            for up_to in [all.len() as i64, all.len() as i64 / 2] {
                let found = reader.offset_for_timestamp(timestamp, Offset(up_to)).unwrap();
                let found = found.map(|found| (found.offset.0, found.timestamp));
                // The bound is on whole answers: the first match decides, and counts only below the bound.
                let expected = naive_first(&all, timestamp, i64::MAX).filter(|(offset, _)| *offset < up_to);
                prop_assert_eq!(found, expected, "time {} below {}", timestamp, up_to);
            }
        }
        let greatest = all.iter().map(|(_, at)| *at).max().unwrap();
        let newest = reader.max_timestamp(Offset(all.len() as i64)).unwrap().unwrap();
        let expected = all.iter().find(|(_, at)| *at == greatest).unwrap();
        prop_assert_eq!((newest.offset.0, newest.timestamp), *expected);
    }
}

#[test]
fn the_newest_record_below_a_bound_is_not_the_newest_of_all() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    for timestamp in [5, 9, 7, 100] {
        rig.append(&opened.handle, &batch_at(&[timestamp], 1))
            .unwrap();
    }
    let reader = opened.handle.reader();
    assert_eq!(
        reader.max_timestamp(Offset(3)).unwrap().unwrap().offset,
        Offset(1)
    );
    assert_eq!(
        reader.max_timestamp(Offset(4)).unwrap().unwrap().offset,
        Offset(3)
    );
    assert_eq!(reader.max_timestamp(Offset(0)).unwrap(), None);
}

#[test]
fn of_a_compressed_batch_that_cannot_be_inflated_the_base_offset_is_the_answer() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    rig.append(&opened.handle, &batch_at(&[1], 1)).unwrap();
    // The log never looks into the records of a compressed batch, so these need not be compressed.
    let mut builder = BatchBuilder::new();
    for timestamp_ms in [10, 20, 30] {
        builder
            .push(&NewRecord {
                timestamp_ms,
                ..NewRecord::default()
            })
            .unwrap();
    }
    let mut bytes = builder.build().to_vec();
    bytes[22] |= 4;
    rig.append(&opened.handle, &Bytes::from(bytes)).unwrap();
    let found = opened
        .handle
        .reader()
        .offset_for_timestamp(15, Offset(4))
        .unwrap()
        .unwrap();
    assert_eq!((found.offset, found.timestamp), (Offset(1), 30));
}

#[test]
fn a_time_is_found_to_the_record_in_a_compressed_batch_too() {
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut rig = Rig::new(&SimStorage::new());
        let (opened, _) = rig.open(&LogConfig::default());
        rig.append(&opened.handle, &batch_at(&[1], 1)).unwrap();
        let plain = batch_at(&[10, 30, 20, 30], 40);
        let inflated = only_batch(&plain).unwrap().inflated().unwrap();
        let bytes = inflated.recompress(codec, None).unwrap();
        rig.append(&opened.handle, &bytes).unwrap();
        let reader = opened.handle.reader();
        for (wanted, offset, time) in [(2, 1, 10), (10, 1, 10), (11, 2, 30), (30, 2, 30)] {
            let found = reader
                .offset_for_timestamp(wanted, Offset(5))
                .unwrap()
                .unwrap();
            assert_eq!(
                (found.offset, found.timestamp),
                (Offset(offset), time),
                "{codec:?}"
            );
        }
        assert_eq!(reader.offset_for_timestamp(31, Offset(5)).unwrap(), None);
        let newest = reader.max_timestamp(Offset(5)).unwrap().unwrap();
        assert_eq!((newest.offset, newest.timestamp), (Offset(2), 30));
    }
}

#[test]
fn of_records_without_a_time_none_is_the_newest() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    rig.append(&opened.handle, &batch_at(&[-1, -1], 1)).unwrap();
    assert_eq!(
        opened.handle.reader().max_timestamp(Offset(2)).unwrap(),
        None
    );
}

#[test]
fn epochs_and_their_ends_are_told() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    for epoch in [2, 2, 5] {
        send(&opened.handle, &batch(2), LeaderEpoch(epoch));
    }
    rig.settle();
    let reader = opened.handle.reader();
    let end = |epoch: i32, end: i64| {
        Some(EpochEnd {
            epoch: LeaderEpoch(epoch),
            end_offset: Offset(end),
        })
    };
    assert_eq!(reader.epoch_end(LeaderEpoch(1)), end(1, 0));
    assert_eq!(reader.epoch_end(LeaderEpoch(2)), end(2, 4));
    assert_eq!(reader.epoch_end(LeaderEpoch(4)), end(2, 4));
    assert_eq!(reader.epoch_end(LeaderEpoch(5)), end(5, 6));
    assert_eq!(reader.epoch_end(LeaderEpoch(6)), None);
    assert_eq!(reader.epoch_of(Offset(3)), Some(LeaderEpoch(2)));
    assert_eq!(reader.latest_epoch(), Some(LeaderEpoch(5)));
    let bytes = reader.read(Offset(4), Offset(6), 100, true).unwrap().bytes;
    assert_eq!(
        BatchHeader::parse(&bytes[..HEADER_LEN])
            .unwrap()
            .leader_epoch,
        LeaderEpoch(5)
    );
}

/// Speed 7: an idle partition holds no buffers, however much it has taken.
#[test]
fn an_idle_partition_holds_little_memory() {
    let storage = SimStorage::new();
    let (mut rig, handle) = filled(&storage, &dense(), 1);
    for _ in 0..2_000 {
        rig.append(&handle, &batch(3)).unwrap();
    }
    let shared = handle.reader().shared();
    let pending: usize = shared
        .segments()
        .iter()
        .map(|segment| segment.index.counts().0)
        .sum();
    assert!(
        pending <= 256,
        "{pending} index entries in memory, of 16 bytes each"
    );
    let _: &Arc<dyn File> = &shared
        .segments()
        .last()
        .unwrap()
        .file(&rig.dir, &rig.partition_path(0))
        .unwrap();
}
