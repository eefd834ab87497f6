//! Coming up, going down, and coming back.

use std::sync::Arc;

use weir_broker::start::start;
use weir_wire::messages::ErrorCode;

use crate::client::{TestBroker, batch, config, eventually, values};

#[tokio::test]
async fn a_restarted_broker_has_its_topics_its_records_and_its_identity() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let id = client
        .create_topic("t", 2, &[("retention.ms", "86400000")])
        .await;
    client.produce("t", 1, batch(&["a", "b"])).await;
    let cluster = broker.running.broker().metadata.cluster_id();
    let incarnation = broker.running.broker().metadata.incarnation();

    let broker = broker.restart().await;
    assert_eq!(broker.running.broker().metadata.cluster_id(), cluster);
    assert_eq!(broker.running.broker().metadata.incarnation(), incarnation);
    let mut client = broker.connect().await;
    let image = broker.running.broker().metadata.image();
    assert_eq!(image.topic("t").map(|topic| topic.id.0), Some(id));
    assert_eq!(client.produce("t", 1, batch(&["c"])).await.base_offset, 2);
    let data = client.fetch_from("t", 1, 0).await;
    assert_eq!(
        values(&data),
        [(0, "a".into()), (1, "b".into()), (2, "c".into())]
    );
}

#[tokio::test]
async fn a_partition_that_cannot_be_opened_for_a_while_is_there_again_without_a_restart() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let id = client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    let dir = broker.stop().await;
    let segment = dir
        .path()
        .join(format!("log/{id}-0/00000000000000000000.log"));
    let aside = dir.path().join("aside");
    std::fs::rename(&segment, &aside).unwrap();
    // What is there cannot be opened as a file.
    std::fs::create_dir(&segment).unwrap();

    let broker = TestBroker::on(dir, "").await;
    let mut client = broker.connect().await;
    let refused = client.fetch_from("t", 0, 0).await;
    assert_eq!(refused.error_code, ErrorCode::KafkaStorageError.code());
    std::fs::remove_dir(&segment).unwrap();
    std::fs::rename(&aside, &segment).unwrap();
    let data = eventually("the partition is there", async || {
        let data = client.fetch_from("t", 0, 0).await;
        (data.error_code == 0 && !values(&data).is_empty()).then_some(data)
    })
    .await;
    assert_eq!(values(&data), [(0, "a".into()), (1, "b".into())]);
}

#[tokio::test]
async fn a_data_directory_in_use_is_refused_with_its_name() {
    let broker = TestBroker::start().await;
    let refused = start(config(&broker.dir, ""), Arc::new(|_: &str| {}))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("is used by another process"), "{refused}");
    assert!(
        refused.contains(&broker.dir.path().display().to_string()),
        "{refused}"
    );
}

#[tokio::test]
async fn an_address_that_is_taken_is_refused_with_the_field() {
    let broker = TestBroker::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir, "");
    config.kafka.bind.port = broker.running.addresses().kafka.port();
    let refused = start(config, Arc::new(|_: &str| {}))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.starts_with("listeners.kafka.bind: 127.0.0.1:"),
        "{refused}"
    );
}

#[tokio::test]
async fn health_and_readiness_and_metrics_are_told_over_http() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["a"])).await;
    assert_eq!(broker.http("/healthz").await.0, "HTTP/1.1 200 OK");
    let (status, body) = broker.http("/readyz").await;
    assert_eq!(
        (status.as_str(), body.as_str()),
        ("HTTP/1.1 200 OK", "ready\n")
    );
    let (status, body) = broker.http("/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    for line in [
        "weir_controller 1",
        "weir_partition_leaders 1",
        "weir_topic_produced_records_total{topic=\"t\"} 1",
    ] {
        assert!(body.contains(line), "{line} in\n{body}");
    }
    assert_eq!(broker.http("/elsewhere").await.0, "HTTP/1.1 404 Not Found");

    broker.running.health().stopping();
    let (status, body) = broker.http("/readyz").await;
    assert_eq!(
        (status.as_str(), body.as_str()),
        (
            "HTTP/1.1 503 Service Unavailable",
            "not ready: the broker is stopping\n"
        )
    );
}

#[tokio::test]
async fn a_stopping_broker_hangs_up_when_everything_is_answered() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["a"])).await;
    let number = client
        .send(9, &crate::client::produce("t", 0, batch(&["b"])))
        .await;
    let body = client
        .answer::<weir_wire::messages::ProduceRequest>(9, number)
        .await;
    assert_eq!(crate::client::produced(&body, 9).base_offset, 1);
    broker.running.stop().await;
    assert!(client.receive().await.is_none());
}
