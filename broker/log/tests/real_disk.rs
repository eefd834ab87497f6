//! The lanes with their threads, over the operating system's files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use uuid::Uuid;
use weir_log::storage_os::OsStorage;
use weir_log::{
    Append, AppendError, Appended, DataDir, Durability, KnownProducers, Lanes, LanesConfig,
    LogConfig, Observer, OpenPartition, Opened, Origin, PartitionKey, PartitionMeta, ReadError,
    Replicate, SystemClock,
};
use weir_wire::batch::{BatchBuilder, NewRecord, batches};
use weir_wire::{LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId};

/// Lets a test wait until a partition is durable up to an offset.
#[derive(Debug, Default)]
struct Durable {
    end: Mutex<Offset>,
    moved: Condvar,
}

impl Observer for Durable {
    fn durable(&self, end: Offset) {
        *self.end.lock().unwrap() = end;
        self.moved.notify_all();
    }
}

impl Durable {
    fn wait_for(&self, end: i64) {
        let guard = self.end.lock().unwrap();
        drop(
            self.moved
                .wait_while(guard, |at| *at < Offset(end))
                .unwrap(),
        );
    }
}

fn lanes() -> Lanes {
    let fatal = |fatal: &weir_log::Fatal| unreachable!("{fatal}");
    let config = LanesConfig {
        checkpoint_interval_ms: 20,
        ..LanesConfig::default()
    };
    Lanes::start(config, Arc::new(SystemClock), Arc::new(fatal)).unwrap()
}

fn open(
    lanes: &Lanes,
    dir: &Arc<DataDir>,
    partition: i32,
    config: &LogConfig,
) -> (Opened, Arc<Durable>) {
    let observer = Arc::new(Durable::default());
    let key = PartitionKey {
        topic_id: TopicId(Uuid::from_u128(1)),
        partition: PartitionIndex(partition),
    };
    let wanted = OpenPartition {
        dir: Arc::clone(dir),
        meta: PartitionMeta {
            key,
            topic: "orders".to_owned(),
        },
        config: config.clone(),
        observer: Arc::clone(&observer) as _,
    };
    let (sender, opened) = channel();
    lanes.open(wanted, move |result| sender.send(result).unwrap());
    (opened.recv().unwrap().unwrap(), observer)
}

fn batch(producer: i64, sequence: i32, records: i32) -> Bytes {
    let mut builder =
        BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(0), sequence);
    for number in 0..records {
        let value = format!("{producer}/{}", sequence + number);
        let record = NewRecord {
            timestamp_ms: 1,
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        };
        builder.push(&record).unwrap();
    }
    builder.build()
}

fn append(opened: &Opened, batch: Bytes) -> Receiver<Result<Appended, AppendError>> {
    let (sender, done) = channel();
    // Not every test waits for the answer.
    let done_fn = Box::new(move |result| drop(sender.send(result)));
    opened.handle.append(Append {
        batch,
        leader_epoch: LeaderEpoch(0),
        origin: Origin::Client,
        verified: None,
        begins_at_zero: false,
        done: done_fn,
    });
    done
}

fn values(opened: &Opened) -> Vec<String> {
    let reader = opened.handle.reader();
    let mut at = reader.log_start();
    let mut found = Vec::new();
    while at < reader.log_end() {
        let read = match reader.try_read(at, reader.log_end(), 4_000, true) {
            Err(ReadError::WouldBlock) => reader.read(at, reader.log_end(), 4_000, true),
            read => read,
        }
        .unwrap();
        for batch in batches(&read.bytes) {
            let batch = batch.unwrap();
            batch.check().unwrap();
            for record in batch.records().unwrap() {
                found.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
            }
        }
        at = read.next_offset;
    }
    found
}

fn data_dir(path: &Path) -> Arc<DataDir> {
    DataDir::open(Arc::new(OsStorage::new()), path, 0).unwrap()
}

fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 20_000,
        index_interval_bytes: 500,
        ..LogConfig::default()
    }
}

#[test]
fn many_writers_and_readers_see_one_order() {
    for durability in [Durability::Fsync, Durability::Replicated, Durability::Os] {
        let disk = tempfile::tempdir().unwrap();
        let lanes = lanes();
        let dir = data_dir(disk.path());
        let config = LogConfig {
            durability,
            ..small()
        };
        let (opened, observer) = open(&lanes, &dir, 0, &config);
        std::thread::scope(|scope| {
            for producer in 0..4 {
                let opened = &opened;
                scope.spawn(move || {
                    for number in 0..50 {
                        let done = append(opened, batch(producer, number * 3, 3));
                        assert!(!done.recv().unwrap().unwrap().duplicate);
                    }
                });
            }
            for _ in 0..2 {
                let opened = &opened;
                scope.spawn(move || {
                    while opened.handle.reader().log_end() < Offset(600) {
                        values(opened);
                    }
                });
            }
        });
        observer.wait_for(600);
        let all = values(&opened);
        assert_eq!(all.len(), 600);
        for producer in 0..4 {
            let of_one: Vec<_> = all
                .iter()
                .filter(|value| value.starts_with(&format!("{producer}/")))
                .collect();
            let expected: Vec<_> = (0..150)
                .map(|number| format!("{producer}/{number}"))
                .collect();
            assert_eq!(of_one, expected.iter().collect::<Vec<_>>());
        }
        lanes.shutdown();
    }
}

#[test]
fn everything_is_there_after_a_clean_restart_and_after_a_kill() {
    let disk = tempfile::tempdir().unwrap();
    for life in 0..4 {
        let lanes = lanes();
        let dir = data_dir(disk.path());
        for partition in 0..12 {
            let (opened, observer) = open(&lanes, &dir, partition, &small());
            assert_eq!(opened.report.damage, None);
            assert_eq!(opened.report.log_end, Offset(i64::from(life) * 40));
            assert_eq!(values(&opened).len(), life as usize * 40);
            if life > 0 {
                let retry = append(&opened, batch(1, (life - 1) * 40 + 39, 1))
                    .recv()
                    .unwrap()
                    .unwrap();
                assert!(retry.duplicate, "life {life}");
            }
            for number in 0..40 {
                append(&opened, batch(1, life * 40 + number, 1));
            }
            observer.wait_for(i64::from(life + 1) * 40);
        }
        assert_eq!(dir.partitions().unwrap().len(), 12);
        if life % 2 == 0 {
            lanes.shutdown();
        } else {
            // As a kill: nothing is closed, and the checkpoint is as old as it happens to be.
            drop(lanes);
        }
    }
}

/// Copies a leader's log to its follower, and waits until all of it is durable there.
fn follow(leader: &Opened, follower: &Opened, observer: &Durable) {
    let leader = leader.handle.reader();
    loop {
        let from = follower.handle.reader().log_end();
        let read = leader.read(from, leader.log_end(), 3_000, true).unwrap();
        if read.bytes.is_empty() {
            break;
        }
        let (sender, done) = channel();
        follower.handle.replicate(Replicate {
            batches: read.bytes,
            done: Box::new(move |result| sender.send(result).unwrap()),
        });
        assert_eq!(done.recv().unwrap().unwrap(), read.next_offset);
    }
    observer.wait_for(leader.log_end().0);
}

#[test]
fn a_follower_copies_its_leaders_log_and_begins_anew_when_told_to() {
    let disk = tempfile::tempdir().unwrap();
    let lanes = lanes();
    let dir = data_dir(disk.path());
    let (leader, written) = open(&lanes, &dir, 0, &small());
    let (follower, copied) = open(&lanes, &dir, 1, &small());
    for number in 0..400 {
        append(&leader, batch(1, number * 3, 3));
    }
    written.wait_for(1_200);
    follow(&leader, &follower, &copied);
    assert_eq!(values(&follower), values(&leader));
    let (sender, done) = channel();
    follower
        .handle
        .reset(Offset(300), KnownProducers::default(), move |result| {
            sender.send(result).unwrap()
        });
    assert_eq!(done.recv().unwrap().unwrap(), Offset(300));
    assert!(values(&follower).is_empty());
    follow(&leader, &follower, &copied);
    let (sender, done) = channel();
    follower
        .handle
        .ends(move |result| sender.send(result).unwrap());
    let ends = done.recv().unwrap().unwrap();
    assert_eq!(
        (ends.log_end, ends.synced_end),
        (Offset(1_200), Offset(1_200))
    );
    assert_eq!(values(&follower), values(&leader)[300..]);
    lanes.shutdown();
    let lanes = self::lanes();
    let (again, _) = open(&lanes, &data_dir(disk.path()), 1, &small());
    assert_eq!(again.report.damage, None);
    assert_eq!(again.report.log_start, Offset(300));
    assert_eq!(values(&again), values(&leader)[300..]);
    lanes.shutdown();
}

/// Bytes of memory that this process has in use.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

/// Speed 7: an idle partition is to stay under 16 KiB.
#[test]
fn an_idle_partition_costs_less_than_16_kib() {
    let disk = tempfile::tempdir().unwrap();
    let lanes = lanes();
    let dir = data_dir(disk.path());
    let fill = |partition| {
        let (opened, observer) = open(&lanes, &dir, partition, &LogConfig::default());
        append(&opened, batch(1, 0, 1));
        observer.wait_for(1);
        opened
    };
    // What is needed once is there after the first ones.
    let mut all: Vec<_> = (0..100).map(fill).collect();
    let before = resident_bytes();
    all.extend((100..500).map(fill));
    let each = (resident_bytes() - before) / 400;
    assert!(each < 16 << 10, "{each} bytes for each partition");
    println_for_people(each);
    lanes.shutdown();
    drop(all);
}

/// Shown with `--nocapture`.
#[allow(
    clippy::print_stdout,
    reason = "the number is what one runs this test by hand for"
)]
fn println_for_people(each: u64) {
    println!("{each} bytes for each idle partition");
}
