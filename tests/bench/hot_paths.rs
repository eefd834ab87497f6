//! The hot paths by themselves: `cargo bench -p weir-tests`. Kept small, so that a slip in one of them is seen at once.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::SystemTime;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use weir_log::storage_os::OsStorage;
use weir_log::{
    Append, DataDir, Durability, LaneCore, Lanes, LanesConfig, LogConfig, Observer, OpenPartition,
    Origin, PartitionHandle, PartitionKey, PartitionMeta, SystemClock,
};
use weir_tls::{Role, Tls, directory};
use weir_wire::batch::{BatchBuilder, NewRecord, only_batch};
use weir_wire::frame::{RequestFrame, encode_request, encode_response};
use weir_wire::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use weir_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use weir_wire::messages::{FetchResponse, ProduceRequest, ProduceRequestView};
use weir_wire::{LeaderEpoch, Offset, PartitionIndex, Records, TopicId};

/// Batches as small, usual and large producers send them.
const BATCH_BYTES: [usize; 3] = [1 << 10, 16 << 10, 1 << 20];
const PARTITIONS: i32 = 12;

#[derive(Debug)]
struct Deaf;

impl Observer for Deaf {
    fn durable(&self, _: Offset) {}
}

/// A partition whose lane's turns are taken by hand, so that nothing but the work itself is measured.
struct Bench {
    _dir: tempfile::TempDir,
    _lanes: Lanes,
    lane: LaneCore,
    handle: PartitionHandle,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let data =
            DataDir::open(Arc::new(OsStorage::new()), dir.path(), 0).expect("a data directory");
        let config = LanesConfig {
            lanes: 1,
            ..LanesConfig::default()
        };
        let (lanes, mut cores) = Lanes::without_threads(
            &config,
            Arc::new(SystemClock),
            Arc::new(|fatal| panic!("{fatal}")),
        );
        let mut lane = cores.remove(0);
        let (sender, opened) = mpsc::channel();
        let partition = OpenPartition {
            dir: data,
            meta: PartitionMeta {
                key: PartitionKey {
                    topic_id: TopicId(uuid::Uuid::from_u128(1)),
                    partition: PartitionIndex(0),
                },
                topic: "bench".to_owned(),
            },
            config: LogConfig {
                durability: Durability::Os,
                ..LogConfig::default()
            },
            observer: Arc::new(Deaf),
        };
        lanes.open(partition, move |result| {
            let _ = sender.send(result);
        });
        lane.turn();
        let opened = opened.recv().expect("the lane answers").expect("it opens");
        Self {
            _dir: dir,
            _lanes: lanes,
            lane,
            handle: opened.handle,
        }
    }

    fn append(&mut self, batch: Bytes) {
        self.handle.append(Append {
            batch,
            leader_epoch: LeaderEpoch(1),
            origin: Origin::Client,
            verified: None,
            begins_at_zero: false,
            done: Box::new(|result| {
                result.expect("it is appended");
            }),
        });
        self.lane.turn();
    }
}

/// One batch of about so many bytes, in records of 1 KiB or one smaller record.
fn batch(bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    let value = vec![b'w'; bytes.min(1024)];
    while builder.len() < bytes {
        let record = NewRecord {
            timestamp_ms: 1_700_000_000_000,
            value: Some(&value),
            ..NewRecord::default()
        };
        builder.push(&record).expect("it fits");
    }
    builder.build()
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for bytes in BATCH_BYTES {
        let batch = batch(bytes);
        let mut bench = Bench::new();
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |b| {
            b.iter(|| bench.append(batch.clone()));
        });
    }
}

fn batch_check(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch_check");
    for bytes in BATCH_BYTES {
        let batch = batch(bytes);
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |b| {
            b.iter(|| only_batch(black_box(&batch)).and_then(|batch| batch.check_produced()));
        });
    }
}

fn frame_parse(c: &mut Criterion) {
    let batch = batch(1 << 10);
    let partition = |index| PartitionProduceData {
        index,
        records: Some(Records::from(batch.clone())),
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            topic_id: uuid::Uuid::from_u128(1),
            partition_data: (0..PARTITIONS).map(partition).collect(),
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    };
    let frame = encode_request(13, 1, Some("bench"), &request).expect("it encodes");
    let frame = frame.try_into_bytes().expect("it is in memory").slice(4..);
    c.bench_function("frame_parse/produce_12_partitions", |b| {
        b.iter(|| {
            let parsed = RequestFrame::parse(black_box(&frame)).expect("a header");
            let produce: ProduceRequestView<'_> = parsed.decode_as().expect("a request");
            let bytes = produce
                .topic_data
                .into_iter()
                .flat_map(|topic| topic.partition_data)
                .map(|data| data.records.map_or(0, <[u8]>::len));
            bytes.sum::<usize>()
        });
    });
}

fn index_lookup(c: &mut Criterion) {
    let mut bench = Bench::new();
    let batch = batch(16 << 10);
    for _ in 0..16_384 {
        bench.append(batch.clone());
    }
    let reader = bench.handle.reader().clone();
    let end = reader.log_end();
    let mut from = 0;
    c.bench_function("index_lookup/256_MiB", |b| {
        b.iter(|| {
            // A step that is prime to the log's length visits it all over.
            from = (from + 104_729) % end.0;
            reader
                .slice(Offset(from), end, 1 << 20, true)
                .expect("it is there")
        });
    });
}

fn fetch_assembly(c: &mut Criterion) {
    let batch = batch(1 << 10);
    let partition = |index| PartitionData {
        partition_index: index,
        high_watermark: 1_000,
        last_stable_offset: 1_000,
        records: Some(Records::from(batch.clone())),
        ..PartitionData::default()
    };
    c.bench_function("fetch_assembly/12_partitions", |b| {
        b.iter_batched(
            || FetchResponse {
                responses: vec![FetchableTopicResponse {
                    topic_id: uuid::Uuid::from_u128(1),
                    partitions: (0..PARTITIONS).map(partition).collect(),
                    ..FetchableTopicResponse::default()
                }],
                ..FetchResponse::default()
            },
            |response| encode_response(18, 1, &response).expect("it encodes"),
            BatchSize::SmallInput,
        );
    });
}

/// What mutual TLS costs between two brokers, both ends of it, with nothing between them but memory.
fn between_brokers(c: &mut Criterion) {
    let mut group = c.benchmark_group("between_brokers");
    let dir = tempfile::tempdir().expect("a directory");
    let brokers = [Role::Broker(0), Role::Broker(1)];
    directory::ensure(dir.path(), "bench", &brokers, SystemTime::now()).expect("certificates");
    let [leader, follower] =
        brokers.map(|role| Tls::from_files(directory::files(dir.path(), role)).expect("they open"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    // Takes the largest of them whole, so that one side after the other has its turn.
    let (near, far) = duplex(2 << 20);
    let (mut sending, mut receiving) = runtime.block_on(async {
        let (sending, receiving) =
            tokio::join!(leader.connect(near, Some(1)), follower.accept(far));
        (sending.expect("taken"), receiving.expect("a peer").0)
    });
    for bytes in BATCH_BYTES {
        let sent = vec![b'w'; bytes];
        let mut received = vec![0; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    sending.write_all(&sent).await.expect("it is sent");
                    sending.flush().await.expect("it is sent");
                    receiving
                        .read_exact(&mut received)
                        .await
                        .expect("it is there");
                });
            });
        });
    }
}

criterion_group!(
    hot_paths,
    append,
    batch_check,
    frame_parse,
    index_lookup,
    fetch_assembly,
    between_brokers
);
criterion_main!(hot_paths);
