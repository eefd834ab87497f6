//! Exact lag.

use weir_wire::batch::{BatchBuilder, NewRecord};

use super::{GROUP, House};

impl House {
    /// Appends a batch of records with these timestamps to the topic.
    async fn produce(&self, timestamps_ms: &[i64]) {
        let partition = self.partition(0).await;
        let mut batch = BatchBuilder::new();
        for timestamp_ms in timestamps_ms {
            batch
                .push(&NewRecord {
                    timestamp_ms: *timestamp_ms,
                    ..NewRecord::default()
                })
                .unwrap();
        }
        partition
            .append_and_wait(batch.build(), weir_wire::LeaderEpoch(0))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn lag_is_exact_in_offsets_and_in_time() {
    let house = House::new().await;
    let now_ms = weir_log::Clock::now_ms(&weir_log::SystemClock);
    house.produce(&[now_ms - 90_000, now_ms - 80_000]).await;
    house
        .produce(&[now_ms - 60_000, now_ms - 50_000, now_ms - 40_000])
        .await;
    for (committed, lag, age_ms) in [
        (0, 5, 90_000),
        (1, 4, 80_000),
        (2, 3, 60_000),
        (4, 1, 40_000),
        (5, 0, 0),
    ] {
        house.commit(committed).await.unwrap();
        let groups = house
            .groups
            .describe_with_lag(&[GROUP.to_owned()])
            .await
            .unwrap();
        let found = &groups[0].lag[0];
        assert_eq!(
            (found.committed_offset, found.end_offset, found.lag),
            (committed, 5, lag)
        );
        // The clock has gone on since.
        assert!(
            (age_ms..age_ms + 30_000).contains(&found.lag_ms),
            "{found:?}"
        );
    }
    let all = house.describe_all().await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].state, "Empty");
}

#[tokio::test]
async fn a_group_that_does_not_exist_is_dead() {
    let house = House::new().await;
    house.commit(1).await.unwrap();
    let groups = house
        .groups
        .describe_with_lag(&["other".to_owned(), GROUP.to_owned()])
        .await
        .unwrap();
    assert_eq!(
        (groups[0].id.as_str(), groups[0].state.as_str()),
        ("other", "Dead")
    );
    assert_eq!(groups[1].id, GROUP);
}

#[tokio::test]
async fn offsets_of_topics_that_are_gone_make_no_lag() {
    let house = House::new().await;
    house.commit(1).await.unwrap();
    house.delete(super::TOPIC).await;
    let groups = house
        .groups
        .describe_with_lag(&[GROUP.to_owned()])
        .await
        .unwrap();
    assert!(groups[0].lag.is_empty());
    assert_eq!(groups[0].error, None);
}
