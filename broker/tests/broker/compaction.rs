//! Compacted topics, as their consumers see them.

use std::time::Duration;

use bytes::Bytes;
use weir_wire::batch::{BatchBuilder, NewRecord};

use weir_wire::MessageView;
use weir_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use weir_wire::messages::offset_fetch_request::OffsetFetchRequestTopic;
use weir_wire::messages::{
    FindCoordinatorRequest, FindCoordinatorResponseView, OffsetCommitRequest,
    OffsetCommitResponseView, OffsetFetchRequest, OffsetFetchResponseView,
};

use crate::client::{Client, PATIENCE, TestBroker, eventually, values};

fn keyed(records: &[(&str, Option<&str>)]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        let record = NewRecord {
            timestamp_ms: 1_700_000_000_000,
            key: Some(key.as_bytes()),
            value: value.map(str::as_bytes),
            headers: &[],
        };
        builder.push(&record).unwrap();
    }
    builder.build()
}

async fn all(client: &mut Client) -> Vec<(i64, String)> {
    let (mut at, mut found) = (0, Vec::new());
    loop {
        let data = eventually("the partition is open", async || {
            let data = client.fetch_from("t", 0, at).await;
            (data.error_code != weir_wire::messages::ErrorCode::NotLeaderOrFollower.code())
                .then_some(data)
        })
        .await;
        assert_eq!(data.error_code, 0);
        if at >= data.high_watermark {
            return found;
        }
        let next = next_offset(data.records.as_ref().unwrap().parts());
        assert!(next > at, "nothing at {at}");
        found.extend(
            values(&data)
                .into_iter()
                .filter(|(offset, _)| *offset >= at),
        );
        at = next;
    }
}

fn next_offset(parts: &[weir_wire::RecordsPart]) -> i64 {
    let mut next = -1;
    for part in parts {
        let weir_wire::RecordsPart::Bytes(bytes) = part else {
            panic!("records in memory wanted")
        };
        for batch in weir_wire::batch::batches(bytes) {
            next = batch.unwrap().header().next_offset().0;
        }
    }
    next
}

#[tokio::test]
async fn of_each_key_the_last_value_stays_at_its_offset_over_a_restart() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let config = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "400"),
        ("min.cleanable.dirty.ratio", "0"),
    ];
    client.create_topic("t", 1, &config).await;
    for round in 0..20 {
        let value = format!("{round}");
        let records = [("a", Some(value.as_str())), ("b", Some("once"))];
        let records = if round == 0 {
            &records[..]
        } else {
            &records[..1]
        };
        assert_eq!(client.produce("t", 0, keyed(records)).await.error_code, 0);
    }
    let compacted = async {
        loop {
            broker.running.broker().partitions.clean(0);
            let left = all(&mut client).await;
            // What is in the active segment stays.
            if left.len() < 8 {
                return left;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let left = tokio::time::timeout(PATIENCE, compacted).await.unwrap();
    assert!(left.contains(&(1, "once".into())));
    assert_eq!(left.last(), Some(&(20, "19".into())));
    let (_, metrics) = broker.http("/metrics").await;
    assert!(
        metrics.contains("# TYPE weir_compaction_passes_total counter"),
        "{metrics}"
    );
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    assert_eq!(all(&mut client).await, left);
    let next = client.produce("t", 0, keyed(&[("a", None)])).await;
    assert_eq!(next.base_offset, 21);
}

/// Asks until it is answered without an error: coordinators are made and loaded meanwhile.
async fn until_good<F: AsyncFnMut() -> i16>(mut ask: F) {
    let asking = async {
        while ask().await != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap();
}

async fn commit(client: &mut Client, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        ..OffsetCommitRequestPartition::default()
    };
    let request = OffsetCommitRequest {
        group_id: "g".to_owned(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "t".to_owned(),
            partitions: vec![partition],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    let body = client.call(8, &request).await;
    let mut response = OffsetCommitResponseView::decode(&body, 8)
        .unwrap()
        .to_owned();
    response.topics.remove(0).partitions.remove(0).error_code
}

#[tokio::test]
async fn committed_offsets_are_compacted_and_found_again_after_a_restart() {
    let broker = TestBroker::start_with("groups: { offsets_partitions: 1 }\n").await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, &[]).await;
    until_good(async || {
        let request = FindCoordinatorRequest {
            key: "g".to_owned(),
            ..FindCoordinatorRequest::default()
        };
        let body = client.call(3, &request).await;
        FindCoordinatorResponseView::decode(&body, 3)
            .unwrap()
            .error_code
    })
    .await;
    let configs = [("segment.bytes", "500"), ("min.cleanable.dirty.ratio", "0")];
    client.set_configs(2, "__consumer_offsets", &configs).await;
    for offset in 0..100 {
        until_good(async || commit(&mut client, offset).await).await;
    }
    let partitions = &broker.running.broker().partitions;
    let offsets = partitions
        .all()
        .into_iter()
        .find(|partition| &**partition.topic() == "__consumer_offsets")
        .unwrap();
    let before = offsets.reader().size_bytes();
    let compacted = async {
        while offsets.reader().size_bytes() > before / 4 {
            partitions.clean(0);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, compacted).await.unwrap();
    let end = offsets.reader().log_end();
    assert!(end.0 >= 100);
    drop(offsets);
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    until_good(async || {
        let request = OffsetFetchRequest {
            group_id: "g".to_owned(),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: "t".to_owned(),
                partition_indexes: vec![0],
            }]),
            ..OffsetFetchRequest::default()
        };
        let body = client.call(7, &request).await;
        let found = OffsetFetchResponseView::decode(&body, 7)
            .unwrap()
            .to_owned();
        if found.error_code == 0 {
            assert_eq!(found.topics[0].partitions[0].committed_offset, 99);
        }
        found.error_code
    })
    .await;
}
