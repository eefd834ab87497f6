//! What the tests share: batches, a clock that is set, an observer that remembers, and lanes whose turns are taken by hand.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

pub(crate) mod replicas;
pub(crate) mod transactions;

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use uuid::Uuid;
use weir_wire::batch::{BatchBuilder, BatchView, NewRecord};
use weir_wire::{LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId};

use crate::storage::Storage;
use crate::{
    Append, AppendError, Appended, Clock, DataDir, Fatal, LaneCore, Lanes, LanesConfig, LogConfig,
    LogReader, Observer, OpenError, OpenPartition, Opened, Origin, PartitionHandle, PartitionKey,
    PartitionMeta,
};

pub(crate) const EPOCH: LeaderEpoch = LeaderEpoch(1);
pub(crate) const DIR: &str = "/data";

/// A clock that stands still until it is set.
#[derive(Debug, Default)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Remembers what it was told.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    durable: Mutex<Vec<Offset>>,
    log_start: Mutex<Vec<Offset>>,
    /// Everything, in the order in which it was told.
    told: Mutex<Vec<Told>>,
}

/// What an observer is told of a log's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Written(i64),
    Durable(i64),
}

impl Recorder {
    /// The greatest end that was reported as durable.
    pub(crate) fn durable_end(&self) -> Offset {
        self.durable
            .lock()
            .unwrap()
            .last()
            .copied()
            .unwrap_or(Offset::ZERO)
    }

    /// How many times something became durable.
    pub(crate) fn reports(&self) -> usize {
        self.durable.lock().unwrap().len()
    }

    pub(crate) fn log_starts(&self) -> Vec<Offset> {
        self.log_start.lock().unwrap().clone()
    }

    /// What was told of the log's end since this was last asked.
    pub(crate) fn take_told(&self) -> Vec<Told> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

impl Observer for Recorder {
    fn durable(&self, end: Offset) {
        self.durable.lock().unwrap().push(end);
        self.told.lock().unwrap().push(Told::Durable(end.0));
    }

    fn written(&self, end: Offset) {
        self.told.lock().unwrap().push(Told::Written(end.0));
    }

    fn log_start(&self, start: Offset) {
        self.log_start.lock().unwrap().push(start);
    }
}

/// A result that a callback leaves behind.
pub(crate) type Outcome<T> = Arc<Mutex<Option<T>>>;

/// Small numbers from a seed (xorshift).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// A batch with one record for each timestamp, each with a value of `value_len` bytes.
pub(crate) fn batch_at(timestamps: &[i64], value_len: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    for timestamp in timestamps {
        push(&mut builder, *timestamp, value_len);
    }
    builder.build()
}

/// A batch of `count` records without a producer.
pub(crate) fn batch(count: usize) -> Bytes {
    batch_at(&vec![1_000; count], 20)
}

/// A batch of an idempotent producer.
pub(crate) fn batch_of(producer: i64, epoch: i16, sequence: i32, count: usize) -> Bytes {
    let mut builder =
        BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(epoch), sequence);
    for _ in 0..count {
        push(&mut builder, 1_000, 20);
    }
    builder.build()
}

fn push(builder: &mut BatchBuilder, timestamp_ms: i64, value_len: usize) {
    let value = vec![b'v'; value_len];
    let record = NewRecord {
        timestamp_ms,
        key: None,
        value: Some(&value),
        headers: &[],
    };
    builder.push(&record).unwrap();
}

pub(crate) fn key(number: i32) -> PartitionKey {
    PartitionKey {
        topic_id: TopicId(Uuid::from_u128(7)),
        partition: PartitionIndex(number),
    }
}

/// Lanes without threads over some disk.
pub(crate) struct Rig {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) dir: Arc<DataDir>,
    pub(crate) lanes: Lanes,
    pub(crate) cores: Vec<LaneCore>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) fatals: Arc<Mutex<Vec<Fatal>>>,
}

impl Rig {
    pub(crate) fn new(storage: &(impl Storage + Clone + 'static)) -> Self {
        Self::try_new(storage).unwrap()
    }

    pub(crate) fn try_new(storage: &(impl Storage + Clone + 'static)) -> Result<Self, OpenError> {
        Self::over(Arc::new(storage.clone()), Path::new(DIR), 0)
    }

    pub(crate) fn over(
        storage: Arc<dyn Storage>,
        path: &Path,
        reserve_bytes: u64,
    ) -> Result<Self, OpenError> {
        let dir = DataDir::open(Arc::clone(&storage), path, reserve_bytes)?;
        let clock = Arc::new(TestClock(AtomicI64::new(1_000_000)));
        let fatals: Arc<Mutex<Vec<Fatal>>> = Arc::default();
        let heard = Arc::clone(&fatals);
        let config = LanesConfig {
            lanes: 1,
            ..LanesConfig::default()
        };
        let on_fatal = Arc::new(move |fatal: &Fatal| heard.lock().unwrap().push(fatal.clone()));
        let (lanes, cores) = Lanes::without_threads(&config, Arc::clone(&clock) as _, on_fatal);
        Ok(Self {
            storage,
            dir,
            lanes,
            cores,
            clock,
            fatals,
        })
    }

    /// Takes turns and runs jobs until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        loop {
            let jobs: Vec<_> = self.cores.iter_mut().flat_map(LaneCore::turn).collect();
            if jobs.is_empty() {
                return;
            }
            for job in jobs {
                job.run();
            }
        }
    }

    pub(crate) fn try_open(
        &mut self,
        number: i32,
        config: &LogConfig,
    ) -> Result<(Opened, Arc<Recorder>), OpenError> {
        let recorder = Arc::new(Recorder::default());
        let outcome: Outcome<Result<Opened, OpenError>> = Arc::default();
        let left = Arc::clone(&outcome);
        let wanted = OpenPartition {
            dir: Arc::clone(&self.dir),
            meta: PartitionMeta {
                key: key(number),
                topic: "flights".to_owned(),
            },
            config: config.clone(),
            observer: Arc::clone(&recorder) as _,
        };
        self.lanes
            .open(wanted, move |result| *left.lock().unwrap() = Some(result));
        self.settle();
        let opened = outcome.lock().unwrap().take().unwrap()?;
        Ok((opened, recorder))
    }

    pub(crate) fn open(&mut self, config: &LogConfig) -> (Opened, Arc<Recorder>) {
        self.try_open(0, config).unwrap()
    }

    /// Queues an append; the outcome is there after [`settle`](Self::settle).
    pub(crate) fn send(
        &self,
        handle: &PartitionHandle,
        batch: &Bytes,
    ) -> Outcome<Result<Appended, AppendError>> {
        send(handle, batch, EPOCH)
    }

    /// Appends and takes turns.
    pub(crate) fn append(
        &mut self,
        handle: &PartitionHandle,
        batch: &Bytes,
    ) -> Result<Appended, AppendError> {
        let outcome = self.send(handle, batch);
        self.settle();
        outcome.lock().unwrap().take().unwrap()
    }

    pub(crate) fn truncate(&mut self, handle: &PartitionHandle, end: i64) -> Offset {
        let outcome: Outcome<_> = Arc::default();
        let left = Arc::clone(&outcome);
        handle.truncate_to(Offset(end), move |result| {
            *left.lock().unwrap() = Some(result)
        });
        self.settle();
        outcome.lock().unwrap().take().unwrap().unwrap()
    }

    pub(crate) fn delete_records(&mut self, handle: &PartitionHandle, start: i64) -> Offset {
        let outcome: Outcome<_> = Arc::default();
        let left = Arc::clone(&outcome);
        handle.delete_records(Offset(start), move |result| {
            *left.lock().unwrap() = Some(result)
        });
        self.settle();
        outcome.lock().unwrap().take().unwrap().unwrap()
    }

    pub(crate) fn close(&mut self, handle: &PartitionHandle) {
        let outcome: Outcome<_> = Arc::default();
        let left = Arc::clone(&outcome);
        handle.close(move |result| *left.lock().unwrap() = Some(result));
        self.settle();
        outcome.lock().unwrap().take().unwrap().unwrap();
    }

    /// Shuts down as threads would.
    pub(crate) fn shut_down(self) {
        let Self {
            lanes, mut cores, ..
        } = self;
        let finish = lanes.shut_down_by_hand();
        for job in cores.iter_mut().flat_map(LaneCore::turn) {
            job.run();
        }
        finish();
    }

    pub(crate) fn partition_path(&self, number: i32) -> std::path::PathBuf {
        self.dir.path().join(key(number).to_string())
    }
}

pub(crate) fn send(
    handle: &PartitionHandle,
    batch: &Bytes,
    leader_epoch: LeaderEpoch,
) -> Outcome<Result<Appended, AppendError>> {
    let outcome: Outcome<_> = Arc::default();
    let left = Arc::clone(&outcome);
    let done = Box::new(move |result| *left.lock().unwrap() = Some(result));
    handle.append(Append {
        batch: batch.clone(),
        leader_epoch,
        origin: Origin::Client,
        verified: None,
        begins_at_zero: false,
        done,
    });
    outcome
}

/// A batch read back: its base offset, its last offset and its bytes from the epoch's end on, which no leader changes.
pub(crate) type ReadBack = (Offset, Offset, Bytes);

/// What the bytes of a fetch hold, checked.
pub(crate) fn split(bytes: &Bytes) -> Vec<ReadBack> {
    let mut found = Vec::new();
    let mut rest: &[u8] = bytes;
    while !rest.is_empty() {
        let (view, behind) = BatchView::split_first(rest).unwrap();
        view.check().unwrap();
        let body = Bytes::copy_from_slice(view.after_patch());
        found.push((view.header().base_offset, view.header().last_offset(), body));
        rest = behind;
    }
    found
}

/// All batches of a log, read in pieces of at most `max_bytes`.
pub(crate) fn read_all(reader: &LogReader, max_bytes: usize) -> Vec<ReadBack> {
    let mut at = reader.log_start();
    let mut found = Vec::new();
    while at < reader.log_end() {
        let batches = reader.read(at, reader.log_end(), max_bytes, true).unwrap();
        assert!(
            batches.next_offset > at,
            "a read at {at} below the end returned nothing"
        );
        found.extend(split(&batches.bytes));
        at = batches.next_offset;
    }
    found
}
