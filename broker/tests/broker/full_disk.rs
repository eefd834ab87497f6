//! Three brokers in one process, one of which has no room left.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use weir_broker::start::Running;
use weir_log::storage::Storage;
use weir_log::storage_sim::SimStorage;

use crate::client::{Client, batch};
use crate::cluster::cluster_on;
use crate::replication::{create, in_sync, leader, produce, until};

/// What a broker leaves free.
const RESERVE_BYTES: u64 = 64 << 20;

/// When a follower that says nothing leaves the in-sync set.
const LAG_MAX: Duration = Duration::from_secs(10);

/// Three brokers, each with a disk of its own, and a topic of which all have the first message.
async fn brokers() -> (Vec<Running>, Vec<SimStorage>, TempDir) {
    let disks: Vec<SimStorage> = (0..3).map(|_| SimStorage::new()).collect();
    // So little that it is asked for before each write.
    disks.iter().for_each(|disk| disk.set_capacity(1 << 29));
    let (brokers, _, dir) = cluster_on("", |id| disks.get(id).cloned()).await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    create(&mut client, "t").await;
    let all: Vec<&Running> = brokers.iter().collect();
    produce(&all, "t", batch(&["before"])).await;
    until("all to be in sync", || in_sync(&brokers[0], "t") == 3).await;
    (brokers, disks, dir)
}

/// Leaves a disk less room than its broker's reserve.
fn fill(disk: &SimStorage) {
    let space = disk.space(Path::new("/")).unwrap();
    let used = space.total_bytes - space.available_bytes;
    disk.set_capacity(used + RESERVE_BYTES / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_without_room_says_so_and_holds_nobody_up() {
    let (brokers, disks, _dir) = brokers().await;
    let all: Vec<&Running> = brokers.iter().collect();
    let leads = leader(&brokers[0], "t").unwrap();
    let full = &disks[(leads + 1) % 3];
    fill(full);

    let began = Instant::now();
    assert_eq!(produce(&all, "t", batch(&["meanwhile"])).await, 1);
    // Who waits for it waits for all of that time.
    assert!(began.elapsed() < LAG_MAX, "{:?}", began.elapsed());
    until("it to count no more", || in_sync(&brokers[leads], "t") == 2).await;
    // It does not come and go while it has no room.
    for offset in 2..10 {
        assert_eq!(produce(&all, "t", batch(&["more"])).await, offset);
        assert_eq!(in_sync(&brokers[leads], "t"), 2);
    }
    full.set_capacity(1 << 40);
    until("it to be in sync again", || {
        in_sync(&brokers[leads], "t") == 3
    })
    .await;
    for broker in brokers {
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_room_lets_another_lead_until_it_has_some() {
    let (brokers, disks, _dir) = brokers().await;
    let all: Vec<&Running> = brokers.iter().collect();
    let led = leader(&brokers[0], "t").unwrap();
    let full = &disks[led];
    fill(full);

    until("another to lead", || {
        brokers
            .iter()
            .all(|broker| leader(broker, "t").is_some_and(|now| now != led))
    })
    .await;
    for offset in 1..5 {
        assert_eq!(produce(&all, "t", batch(&["meanwhile"])).await, offset);
    }
    let other = (led + 1) % 3;
    until("it to count no more", || in_sync(&brokers[other], "t") == 2).await;
    full.set_capacity(1 << 40);
    until("it to be in sync again", || {
        in_sync(&brokers[other], "t") == 3
    })
    .await;
    assert_eq!(produce(&all, "t", batch(&["after"])).await, 5);
    for broker in brokers {
        broker.stop().await;
    }
}
