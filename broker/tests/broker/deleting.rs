//! DeleteRecords, and the directories that partitions lie in.

use weir_wire::MessageView;
use weir_wire::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use weir_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use weir_wire::messages::{
    AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponseView, DeleteRecordsRequest,
    DeleteRecordsResponseView, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResponseView, ErrorCode,
};

use crate::client::{Client, TestBroker, batch, eventually, values};

/// Low watermark and error code.
pub(crate) async fn delete(
    client: &mut Client,
    topic: &str,
    partition_index: i32,
    offset: i64,
) -> (i64, i16) {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: topic.to_owned(),
            partitions: vec![DeleteRecordsPartition {
                partition_index,
                offset,
            }],
        }],
        timeout_ms: 30_000,
    };
    let body = client.call(2, &request).await;
    let mut response = DeleteRecordsResponseView::decode(&body, 2)
        .unwrap()
        .to_owned();
    let answer = response.topics.remove(0).partitions.remove(0);
    (answer.low_watermark, answer.error_code)
}

#[tokio::test]
async fn records_before_an_offset_are_deleted_over_a_restart() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    // The test's records are of long ago.
    client.create_topic("t", 1, &[("retention.ms", "-1")]).await;
    for value in ["0", "1", "2", "3"] {
        client.produce("t", 0, batch(&[value])).await;
    }
    assert_eq!(delete(&mut client, "t", 0, 2).await, (2, 0));
    assert_eq!(delete(&mut client, "t", 0, 1).await, (2, 0), "never back");
    let out_of_range = ErrorCode::OffsetOutOfRange.code();
    assert_eq!(delete(&mut client, "t", 0, 5).await, (-1, out_of_range));
    assert_eq!(delete(&mut client, "t", 0, -2).await, (-1, out_of_range));
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(delete(&mut client, "t", 7, 0).await, (-1, unknown));
    assert_eq!(delete(&mut client, "nowhere", 0, 0).await, (-1, unknown));
    let data = client.fetch_from("t", 0, 1).await;
    assert_eq!(data.error_code, out_of_range);
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    let data = client.fetch_from("t", 0, 2).await;
    assert_eq!(data.log_start_offset, 2);
    assert_eq!(values(&data), [(2, "2".into()), (3, "3".into())]);
    assert_eq!(delete(&mut client, "t", 0, -1).await, (4, 0), "all of it");
    let next = client.produce("t", 0, batch(&["4"])).await;
    assert_eq!((next.base_offset, next.log_start_offset), (4, 4));
}

#[tokio::test]
async fn records_of_a_compacted_topic_and_of_the_brokers_own_are_not_deleted() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client
        .create_topic("t", 1, &[("cleanup.policy", "compact")])
        .await;
    let policy = ErrorCode::PolicyViolation.code();
    let not_yet = ErrorCode::LeaderNotAvailable.code();
    let answer = eventually("the partition is open", async || {
        let answer = delete(&mut client, "t", 0, 0).await;
        (answer.1 != not_yet).then_some(answer)
    })
    .await;
    assert_eq!(answer, (-1, policy));
}

async fn describe(client: &mut Client) -> DescribeLogDirsResponse {
    let request = DescribeLogDirsRequest { topics: None };
    let body = client.call(4, &request).await;
    DescribeLogDirsResponseView::decode(&body, 4)
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn partitions_are_spread_over_several_directories_and_found_there_again() {
    let disks = tempfile::tempdir().unwrap();
    let [first, second] = ["a", "b"].map(|name| disks.path().join(name));
    let settings = format!("log_dirs: [{}, {}]\n", first.display(), second.display());
    let broker = TestBroker::start_with(&settings).await;
    let mut client = broker.connect().await;
    client.create_topic("t", 4, &[]).await;
    for partition in 0..4 {
        client.produce("t", partition, batch(&["v"])).await;
    }
    let before = describe(&mut client).await.results;
    let sizes: Vec<usize> = before
        .iter()
        .map(|dir| dir.topics.iter().map(|topic| topic.partitions.len()).sum())
        .collect();
    assert_eq!(sizes, [2, 2]);
    assert!(
        before
            .iter()
            .all(|dir| dir.total_bytes > 0 && dir.error_code == 0)
    );
    assert_eq!(before[1].log_dir, second.display().to_string());
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    assert_eq!(
        describe(&mut client)
            .await
            .results
            .iter()
            .map(|dir| &dir.topics)
            .collect::<Vec<_>>(),
        before.iter().map(|dir| &dir.topics).collect::<Vec<_>>()
    );
    for partition in 0..4 {
        assert_eq!(client.fetch_from("t", partition, 0).await.high_watermark, 1);
    }
    // Where it lies already is where it may be asked to lie.
    let home = before[0].topics[0].partitions[0].partition_index;
    let alter = |path: String, topic: &str| AlterReplicaLogDirsRequest {
        dirs: vec![AlterReplicaLogDir {
            path,
            topics: vec![AlterReplicaLogDirTopic {
                name: topic.to_owned(),
                partitions: vec![home],
            }],
        }],
    };
    for (path, topic, expected) in [
        (first.display().to_string(), "t", ErrorCode::None),
        (
            second.display().to_string(),
            "t",
            ErrorCode::KafkaStorageError,
        ),
        (
            first.display().to_string(),
            "other",
            ErrorCode::ReplicaNotAvailable,
        ),
        ("/elsewhere".to_owned(), "t", ErrorCode::LogDirNotFound),
    ] {
        let body = client.call(2, &alter(path, topic)).await;
        let response = AlterReplicaLogDirsResponseView::decode(&body, 2)
            .unwrap()
            .to_owned();
        assert_eq!(
            response.results[0].partitions[0].error_code,
            expected.code()
        );
    }
}

#[tokio::test]
async fn a_directory_that_lost_its_disk_is_not_taken_for_an_empty_one() {
    let disks = tempfile::tempdir().unwrap();
    let [first, second] = ["a", "b"].map(|name| disks.path().join(name));
    let settings = format!("log_dirs: [{}, {}]\n", first.display(), second.display());
    let broker = TestBroker::start_with(&settings).await;
    let dir = broker.stop().await;
    std::fs::remove_dir_all(&second).unwrap();
    for settings in [settings, format!("log_dirs: [{}]\n", first.display())] {
        let config = crate::client::config(&dir, &settings);
        let started = weir_broker::start::start(config, std::sync::Arc::new(|_: &str| {})).await;
        let error = started.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("log-dirs"), "{error}");
    }
}
