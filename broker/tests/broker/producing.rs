//! What may be appended, and what a producer is told.

use bytes::Bytes;
use weir_wire::batch::{Attributes, BatchBuilder, Compression, NewRecord, batches, only_batch};
use weir_wire::messages::{
    ErrorCode, InitProducerIdRequest, InitProducerIdResponseView, MetadataRequest, ProduceRequest,
};
use weir_wire::{MessageView, ProducerEpoch, ProducerId, RecordsPart};

use crate::client::{Client, TestBroker, batch, build, fetch, produce, produced, values};

async fn broker_with_topic(config: &[(&str, &str)]) -> (TestBroker, Client) {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, config).await;
    // The partition is open from here on.
    client.produce("t", 0, batch(&["0"])).await;
    (broker, client)
}

#[tokio::test]
async fn what_was_produced_is_fetched_byte_for_byte_at_its_offsets() {
    let (_broker, mut client) = broker_with_topic(&[]).await;
    let answer = client.produce("t", 0, batch(&["1", "2"])).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 1));
    let data = client.fetch_from("t", 0, 0).await;
    assert_eq!(
        values(&data),
        [(0, "0".into()), (1, "1".into()), (2, "2".into())]
    );
    assert_eq!(
        (
            data.high_watermark,
            data.last_stable_offset,
            data.log_start_offset
        ),
        (3, 3, 0)
    );
}

#[tokio::test]
async fn trap_3_without_acknowledgement_there_is_no_response_and_an_error_closes() {
    let (_broker, mut client) = broker_with_topic(&[]).await;
    let mut request = produce("t", 0, batch(&["1"]));
    request.acks = 0;
    client.send(9, &request).await;
    // The next answer is that of the next request.
    client.metadata(1, &MetadataRequest::default()).await;
    let mut request = produce("nowhere", 0, batch(&["1"]));
    request.acks = 0;
    client.send(9, &request).await;
    assert!(client.receive().await.is_none());
}

#[tokio::test]
async fn trap_18_a_partition_with_other_than_one_whole_batch_of_version_2_is_refused() {
    let (_broker, mut client) = broker_with_topic(&[]).await;
    let good = batch(&["1"]);
    let twice = Bytes::from([&good[..], &good[..]].concat());
    let mut old = good.to_vec();
    old[16] = 1;
    let mut count = BatchBuilder::new();
    count = count.attributes(Attributes::default());
    let mut miscounted = build(count, &["1", "2"]).to_vec();
    miscounted[60] = 1;
    // The checksum is over the count too: make it right again, so that only the count is wrong.
    let crc = crc(&miscounted);
    miscounted[17..21].copy_from_slice(&crc.to_be_bytes());
    for (what, bytes) in [
        ("none", Bytes::new()),
        ("two", twice),
        ("magic 1", old.into()),
        ("half", good.slice(..good.len() - 1)),
        ("count", miscounted.into()),
    ] {
        let answer = client.produce("t", 0, bytes).await;
        assert_eq!(
            answer.error_code,
            ErrorCode::InvalidRecord.code(),
            "{what}: {:?}",
            answer.error_message
        );
        assert!(answer.error_message.is_some(), "{what}");
    }
}

/// CRC32C, bit by bit, so that the test does not trust what it tests.
fn crc(batch: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in &batch[21..] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

#[tokio::test]
async fn a_damaged_batch_is_refused_as_corrupt() {
    let (_broker, mut client) = broker_with_topic(&[]).await;
    let mut bytes = batch(&["a value"]).to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let answer = client.produce("t", 0, bytes.into()).await;
    assert_eq!(answer.error_code, ErrorCode::CorruptMessage.code());
    assert_eq!(client.fetch_from("t", 0, 0).await.high_watermark, 1);
}

#[tokio::test]
async fn trap_18_zstd_before_version_7_is_refused() {
    let (_broker, mut client) = broker_with_topic(&[]).await;
    let bits = Attributes::from_bits(i16::from(Compression::Zstd.id())).unwrap();
    let bytes = build(
        BatchBuilder::new().attributes(bits),
        &["not really zstd; nobody looks inside"],
    );
    let body = client.call(6, &produce("t", 0, bytes.clone())).await;
    assert_eq!(
        produced(&body, 6).error_code,
        ErrorCode::UnsupportedCompressionType.code()
    );
    let body = client.call(7, &produce("t", 0, bytes)).await;
    assert_eq!(produced(&body, 7).error_code, 0);
}

#[tokio::test]
async fn batches_are_held_to_the_topics_configuration() {
    let (_broker, mut client) = broker_with_topic(&[
        ("max.message.bytes", "200"),
        ("message.timestamp.before.max.ms", "99999999999"),
    ])
    .await;
    let answer = client.produce("t", 0, batch(&[&"x".repeat(200)])).await;
    assert_eq!(answer.error_code, ErrorCode::MessageTooLarge.code());
    assert!(answer.error_message.unwrap().contains("200"));
}

/// Two records, the first without a key, in this codec.
fn half_keyed(codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new();
    for key in [None, Some(b"k".as_slice())] {
        let record = NewRecord {
            timestamp_ms: 1_700_000_000_000,
            key,
            value: Some(b"v"),
            headers: &[],
        };
        builder.push(&record).unwrap();
    }
    compressed(&builder.build(), codec)
}

fn compressed(batch: &Bytes, codec: Compression) -> Bytes {
    let inflated = only_batch(batch).unwrap().inflated().unwrap();
    inflated.recompress(codec, None).unwrap()
}

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

#[tokio::test]
async fn a_compacted_topic_takes_no_record_without_a_key_and_says_which_it_was() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client
        .create_topic("t", 1, &[("cleanup.policy", "compact")])
        .await;
    for codec in CODECS {
        let answer = client.produce("t", 0, half_keyed(codec)).await;
        assert_eq!(
            answer.error_code,
            ErrorCode::InvalidRecord.code(),
            "{codec:?}"
        );
        assert!(answer.error_message.unwrap().contains("1 record errors"));
        let told = &answer.record_errors;
        assert_eq!((told.len(), told[0].batch_index), (1, 0), "{codec:?}");
    }
    assert_eq!(client.fetch_from("t", 0, 0).await.high_watermark, 0);
}

#[tokio::test]
async fn trap_21_what_does_not_inflate_is_refused_where_it_has_to_be_seen() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client
        .create_topic("t", 1, &[("cleanup.policy", "compact")])
        .await;
    let bits = Attributes::from_bits(i16::from(Compression::Gzip.id())).unwrap();
    let garbage = build(BatchBuilder::new().attributes(bits), &["not really gzip"]);
    let answer = client.produce("t", 0, garbage).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidRecord.code());
}

#[tokio::test]
async fn a_topics_own_codec_takes_the_place_of_the_producers() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let kinds = ["uncompressed", "gzip", "snappy", "lz4", "zstd"];
    for (codec, kind) in CODECS.into_iter().zip(kinds) {
        client
            .create_topic(kind, 1, &[("compression.type", kind)])
            .await;
        for from in CODECS {
            let sent = compressed(&batch(&["one", "two"]), from);
            assert_eq!(client.produce(kind, 0, sent).await.error_code, 0);
        }
        let data = client.fetch_from(kind, 0, 0).await;
        let mut found = Vec::new();
        for part in data.records.unwrap().parts() {
            let RecordsPart::Bytes(part) = part else {
                panic!("records in memory wanted")
            };
            for batch in batches(part) {
                let batch = batch.unwrap();
                batch.check().unwrap();
                assert_eq!(batch.header().attributes.compression(), codec);
                let inflated = batch.inflated().unwrap();
                let records = inflated.iter().unwrap().map(Result::unwrap);
                found.extend(records.map(|record| record.value.unwrap().to_vec()));
            }
        }
        let expected: Vec<_> = CODECS
            .iter()
            .flat_map(|_| [b"one".to_vec(), b"two".to_vec()])
            .collect();
        assert_eq!(found, expected, "{kind}");
    }
}

#[tokio::test]
async fn batches_of_one_connection_stay_in_order_however_long_each_takes() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client
        .create_topic(
            "t",
            1,
            &[
                ("compression.type", "zstd"),
                ("compression.zstd.level", "19"),
            ],
        )
        .await;
    client.produce("t", 0, batch(&["first"])).await;
    let large: String = (0..100_000)
        .map(|n| char::from(b'a' + (n % 23) as u8))
        .collect();
    let mut numbers = Vec::new();
    for number in 0..6 {
        let value = format!("{number}");
        let value = if number % 2 == 0 {
            large.as_str()
        } else {
            value.as_str()
        };
        // Those that are zstd already have nothing to wait for but the others.
        let sent = compressed(
            &batch(&[value]),
            if number % 2 == 0 {
                Compression::None
            } else {
                Compression::Zstd
            },
        );
        numbers.push(client.send(9, &produce("t", 0, sent)).await);
    }
    for (offset, number) in (1..).zip(numbers) {
        let body = client.answer::<ProduceRequest>(9, number).await;
        let answer = produced(&body, 9);
        assert_eq!((answer.error_code, answer.base_offset), (0, offset));
    }
}

#[tokio::test]
async fn a_record_that_is_too_old_is_told_by_its_number() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client
        .create_topic("t", 1, &[("message.timestamp.before.max.ms", "3600000")])
        .await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64;
    let mut builder = BatchBuilder::new();
    for timestamp_ms in [now, now - 3_700_000, now] {
        let record = NewRecord {
            timestamp_ms,
            value: Some(b"v"),
            ..NewRecord::default()
        };
        builder.push(&record).unwrap();
    }
    let plain = builder.build();
    for codec in [Compression::None, Compression::Lz4] {
        let answer = client.produce("t", 0, compressed(&plain, codec)).await;
        assert_eq!(answer.error_code, ErrorCode::InvalidTimestamp.code());
        let numbers: Vec<i32> = answer
            .record_errors
            .iter()
            .map(|one| one.batch_index)
            .collect();
        assert_eq!(numbers, [1]);
    }
}

#[tokio::test]
async fn what_a_topics_codec_makes_too_large_is_refused() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client
        .create_topic(
            "t",
            1,
            &[
                ("compression.type", "uncompressed"),
                ("max.message.bytes", "1000"),
            ],
        )
        .await;
    let sent = compressed(&batch(&[&"x".repeat(2_000)]), Compression::Gzip);
    assert!(sent.len() < 1_000);
    let answer = client.produce("t", 0, sent).await;
    assert_eq!(answer.error_code, ErrorCode::MessageTooLarge.code());
}

#[tokio::test]
async fn the_append_time_holds_for_compressed_records_too() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client
        .create_topic(
            "t",
            1,
            &[
                ("compression.type", "gzip"),
                ("message.timestamp.type", "LogAppendTime"),
            ],
        )
        .await;
    let answer = client.produce("t", 0, batch(&["v"])).await;
    assert!(answer.log_append_time_ms > 1_700_000_000_000);
    let data = client.fetch_from("t", 0, 0).await;
    let parts = data.records.unwrap();
    let [RecordsPart::Bytes(bytes)] = parts.parts() else {
        panic!("one batch in memory wanted")
    };
    let stored = only_batch(bytes).unwrap();
    stored.check().unwrap();
    assert_eq!(stored.header().max_timestamp_ms, answer.log_append_time_ms);
    let inflated = stored.inflated().unwrap();
    let time = inflated
        .iter()
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .timestamp_ms;
    assert_eq!(time, answer.log_append_time_ms);
}

#[tokio::test]
async fn too_few_in_sync_replicas_refuse_acks_all_and_only_that() {
    let (_broker, mut client) = broker_with_topic(&[]).await;
    client
        .create_topic("strict", 1, &[("min.insync.replicas", "2")])
        .await;
    let answer = client.produce("strict", 0, batch(&["1"])).await;
    assert_eq!(answer.error_code, ErrorCode::NotEnoughReplicas.code());
    let mut request = produce("strict", 0, batch(&["1"]));
    request.acks = 1;
    let body = client.call(9, &request).await;
    assert_eq!(produced(&body, 9).error_code, 0);
    request.acks = 2;
    let body = client.call(9, &request).await;
    assert_eq!(
        produced(&body, 9).error_code,
        ErrorCode::InvalidRequiredAcks.code()
    );
}

fn without_transactions() -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: None,
        ..InitProducerIdRequest::default()
    }
}

/// Batches of one record of a new idempotent producer, by their sequences.
async fn numbered(client: &mut Client) -> impl Fn(i32) -> Bytes + use<> {
    let body = client.call(4, &without_transactions()).await;
    let identity = InitProducerIdResponseView::decode(&body, 4)
        .unwrap()
        .to_owned();
    assert_eq!(identity.error_code, 0);
    move |sequence| {
        let builder = BatchBuilder::new();
        build(
            builder.producer(ProducerId(identity.producer_id), ProducerEpoch(0), sequence),
            &["v"],
        )
    }
}

#[tokio::test]
async fn an_idempotent_producers_retry_gets_its_first_offset_and_a_gap_is_an_error() {
    let (_broker, mut client) = broker_with_topic(&[]).await;
    let of_producer = numbered(&mut client).await;
    let first = client.produce("t", 0, of_producer(0)).await;
    let retry = client.produce("t", 0, of_producer(0)).await;
    assert_eq!(
        (retry.error_code, retry.base_offset),
        (0, first.base_offset)
    );
    assert_eq!(client.fetch_from("t", 0, 0).await.high_watermark, 2);
    let gap = client.produce("t", 0, of_producer(5)).await;
    assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber.code());
}

#[tokio::test]
async fn a_new_producers_second_batch_is_not_taken_before_its_first() {
    let (broker, mut client) = broker_with_topic(&[]).await;
    let of_producer = numbered(&mut client).await;
    let mut admin = broker.connect().await;
    let refused = ErrorCode::NotEnoughReplicas.code();
    let strict = [("min.insync.replicas", "2")];
    admin.set_configs(2, "t", &strict).await;
    let first = client.produce("t", 0, of_producer(0)).await;
    assert_eq!(first.error_code, refused);
    let lax = [("min.insync.replicas", "1")];
    admin.set_configs(2, "t", &lax).await;
    let second = client.produce("t", 0, of_producer(1)).await;
    assert_eq!(second.error_code, refused);
    for sequence in [0, 1, 2] {
        let answer = client.produce("t", 0, of_producer(sequence)).await;
        // Behind what the topic begins with.
        let wanted = (0, i64::from(sequence) + 1);
        assert_eq!((answer.error_code, answer.base_offset), wanted);
    }
}

#[tokio::test]
async fn what_was_pipelined_behind_a_batch_refused_for_the_moment_is_no_gap() {
    let (broker, mut client) = broker_with_topic(&[]).await;
    let of_producer = numbered(&mut client).await;
    let mut admin = broker.connect().await;
    assert_eq!(client.produce("t", 0, of_producer(0)).await.error_code, 0);
    admin
        .set_configs(2, "t", &[("min.insync.replicas", "2")])
        .await;
    let refused = ErrorCode::NotEnoughReplicas.code();
    assert_eq!(
        client.produce("t", 0, of_producer(1)).await.error_code,
        refused
    );
    admin
        .set_configs(2, "t", &[("min.insync.replicas", "1")])
        .await;
    // Of another connection nobody knows what it was told: there it is one.
    let gap = ErrorCode::OutOfOrderSequenceNumber.code();
    assert_eq!(admin.produce("t", 0, of_producer(2)).await.error_code, gap);
    assert_eq!(
        client.produce("t", 0, of_producer(2)).await.error_code,
        refused
    );
    for sequence in [1, 2] {
        assert_eq!(
            client
                .produce("t", 0, of_producer(sequence))
                .await
                .error_code,
            0
        );
    }
    assert_eq!(client.produce("t", 0, of_producer(4)).await.error_code, gap);
}

#[tokio::test]
async fn producers_get_different_identities() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let body = client.call(4, &without_transactions()).await;
        assert!(
            seen.insert(
                InitProducerIdResponseView::decode(&body, 4)
                    .unwrap()
                    .producer_id
            )
        );
    }
}

#[tokio::test]
async fn trap_5_a_topic_is_named_by_its_id_and_an_old_id_is_unknown() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let id = client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["0"])).await;
    let by_id = |id| {
        let mut request: ProduceRequest = produce("", 0, batch(&["1"]));
        request.topic_data[0].topic_id = id;
        request
    };
    let body = client.call(13, &by_id(id)).await;
    assert_eq!(produced(&body, 13).base_offset, 1);
    let body = client.call(13, &by_id(uuid::Uuid::from_u128(7))).await;
    assert_eq!(
        produced(&body, 13).error_code,
        ErrorCode::UnknownTopicId.code()
    );
    let mut request = fetch("", 0, 0);
    request.topics[0].topic_id = id;
    let data = client
        .fetch(13, &request)
        .await
        .responses
        .remove(0)
        .partitions
        .remove(0);
    assert_eq!(values(&data).len(), 2);
}
