//! Compacted topics, as their consumers see them.

use std::time::Duration;

use bytes::Bytes;
use weir_wire::batch::{BatchBuilder, NewRecord};

use crate::client::{Client, PATIENCE, TestBroker, values};

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
        let data = client.fetch_from("t", 0, at).await;
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
    assert!(metrics.contains("weir_compaction_passes"), "{metrics}");
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    assert_eq!(all(&mut client).await, left);
    let next = client.produce("t", 0, keyed(&[("a", None)])).await;
    assert_eq!(next.base_offset, 21);
}
