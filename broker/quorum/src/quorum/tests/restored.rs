//! A cluster goes on from one disk.

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;
use weir_log::storage::Storage;

use super::cluster::{Cluster, node};
use super::set;
use crate::export::Export;
use crate::identity::Identity;
use crate::ids::{BrokerId, ClusterId, Incarnation, LeaderEpoch, PartitionEpoch, TopicId};
use crate::record::{PartitionState, PartitionsSet, Record, TopicCreated};
use crate::restore::{self, RestoreError, Statement};

const DATA: &str = "/data";

fn topic(name: &str, partitions: &[(&[i32], &[i32])]) -> Vec<Record> {
    let id = TopicId(Uuid::from_u128(name.len() as u128));
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
    let states = (0..)
        .zip(partitions)
        .map(|(index, (replicas, isr))| PartitionState {
            index,
            replicas: ids(replicas),
            isr: ids(isr),
            leader: ids(isr).first().copied(),
            leader_epoch: LeaderEpoch(4),
            epoch: PartitionEpoch(9),
            // As the last one that stopped leaves it.
            elr: if isr.is_empty() {
                ids(replicas)
            } else {
                Vec::new()
            },
            last_known: Vec::new(),
            adding: Vec::new(),
            removing: Vec::new(),
            unclean: None,
        });
    vec![
        Record::TopicCreated(TopicCreated {
            name: name.into(),
            id,
            config: Default::default(),
        }),
        Record::PartitionsSet(PartitionsSet {
            topic: id,
            partitions: states.collect(),
        }),
    ]
}

/// Says whose a disk is, which a broker does before it opens its quorum.
fn sign(cluster: &mut Cluster, id: usize, disk: u128) -> Arc<dyn Storage> {
    let storage: Arc<dyn Storage> = Arc::new(cluster.disk(id));
    let node = node(id, disk);
    let mut identity = Identity::fresh(node.broker, node.incarnation);
    identity.cluster_id = Some(ClusterId("test".into()));
    identity.save(&*storage, Path::new(DATA)).unwrap();
    storage
}

fn restore(
    storage: Arc<dyn Storage>,
    id: usize,
    export: Option<&Export>,
) -> Result<Statement, RestoreError> {
    let broker = BrokerId(id as i32);
    let fresh = || Incarnation(Uuid::from_u128(9));
    let prepared = restore::prepare(storage, Path::new(DATA), broker, export, fresh)?;
    let statement = prepared.statement().clone();
    prepared.carry_out()?;
    Ok(statement)
}

/// A cluster of three, some of whose metadata is in a snapshot and some is not, and of which one disk is left: the last one's.
async fn lost() -> Cluster {
    let mut cluster = Cluster::of(3).await;
    cluster.propose(&[set("k", "1")]).await;
    cluster
        .propose(&topic(
            "orders",
            &[
                (&[0, 1, 2], &[0, 1, 2]),
                (&[0, 1, 2], &[0, 1]),
                (&[0, 1, 2], &[]),
            ],
        ))
        .await;
    cluster.propose(&topic("away", &[(&[0, 1], &[0, 1])])).await;
    cluster.compacted(2).await;
    cluster.propose(&[set("l", "2")]).await;
    let mut image = cluster.quorum(2).watch();
    image
        .wait_for(|image| image.cluster_config().contains_key("l"))
        .await
        .unwrap();
    for id in 0..3 {
        cluster.kill(id).await;
    }
    cluster.wipe(0);
    cluster.wipe(1);
    cluster
}

#[tokio::test]
async fn a_cluster_whose_majority_is_lost_goes_on_from_the_disk_that_is_left() {
    let mut cluster = lost().await;
    let disk = sign(&mut cluster, 2, 1);
    let statement = restore(disk, 2, None).unwrap();
    assert_eq!(statement.voters, [node(0, 1), node(1, 1)]);
    assert_eq!(statement.behind, ["orders-1"]);
    assert_eq!(statement.elsewhere, ["away-0"]);
    let text = statement.to_string();
    for part in [
        "2 topics with 4 partitions",
        "never be used again",
        "orders-1",
        "away-0",
    ] {
        assert!(text.contains(part), "{text}");
    }

    cluster.start(2, 1).await;
    let survivor = cluster.quorum(2);
    survivor.stand_if_alone().await.unwrap();
    assert_eq!(cluster.leader().await, 2);
    let image = survivor.image();
    assert_eq!(
        (&*image.cluster_config()["k"], &*image.cluster_config()["l"]),
        ("1", "2"),
        "what was in the snapshot, and what was not"
    );
    let partition = image.partition("orders", 0).unwrap();
    assert!(
        partition.leader_epoch > LeaderEpoch(1_000) && partition.epoch > PartitionEpoch(1_000),
        "{partition:?}"
    );
    assert!(image.next_producer_id() > 1_000_000);

    // It decides, another joins with an empty disk, and it lasts.
    cluster.propose(&[set("m", "3")]).await;
    cluster.start(0, 2).await;
    survivor
        .admit(node(0, 2), &Cluster::address(0))
        .await
        .unwrap();
    let mut image = cluster.quorum(0).watch();
    image
        .wait_for(|image| image.cluster_config().contains_key("m"))
        .await
        .unwrap();
    cluster.kill(2).await;
    cluster.start(2, 1).await;
    let mut image = cluster.quorum(2).watch();
    image
        .wait_for(|image| image.cluster_config().contains_key("m"))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_export_makes_the_same_cluster_on_an_empty_disk_where_partitions_begin_anew() {
    let mut cluster = lost().await;
    let disk = sign(&mut cluster, 2, 1);
    let export = restore::read(&disk, Path::new(DATA)).unwrap();
    let export = Export::parse(&export.to_json()).unwrap();
    cluster.wipe(0);
    let empty: Arc<dyn Storage> = Arc::new(cluster.disk(0));
    assert!(matches!(
        restore(Arc::clone(&empty), 0, None),
        Err(RestoreError::Nothing(_))
    ));
    let statement = restore(empty, 0, Some(&export)).unwrap();
    assert!(statement.without_data && statement.behind.is_empty());
    assert!(statement.to_string().contains("without any message"));

    cluster.start(0, 9).await;
    cluster.quorum(0).stand_if_alone().await.unwrap();
    assert_eq!(cluster.leader().await, 0);
    let image = cluster.quorum(0).image();
    assert_eq!(image.cluster_config()["l"], "2");
    let before = export.image().unwrap();
    let (was, is) = (
        before.topic("orders").unwrap(),
        image.topic("orders").unwrap(),
    );
    assert_eq!(was.id, is.id);
    let partition = is.partition(1).unwrap();
    assert_eq!(
        partition.isr, partition.replicas,
        "nobody has more than others"
    );
    cluster.propose(&[set("m", "3")]).await;
}

#[tokio::test]
async fn a_damaged_log_is_refused_and_an_export_takes_its_place() {
    let mut cluster = lost().await;
    let disk = sign(&mut cluster, 2, 1);
    let export = restore::read(&disk, Path::new(DATA)).unwrap();
    let log = Path::new(DATA).join(restore::DIR).join("log");
    let file = disk.open(&log, weir_log::storage::OpenMode::Write).unwrap();
    file.write_all_vectored_at(&[std::io::IoSlice::new(&[0xff; 16])], 0)
        .unwrap();
    assert!(matches!(
        restore(Arc::clone(&disk), 2, None),
        Err(RestoreError::Files(..))
    ));
    let statement = restore(disk, 2, Some(&export)).unwrap();
    assert!(!statement.without_data);
    cluster.start(2, 1).await;
    cluster.quorum(2).stand_if_alone().await.unwrap();
    cluster.leader().await;
    assert_eq!(cluster.quorum(2).image().cluster_config()["l"], "2");
}

#[tokio::test]
async fn anothers_disk_and_another_clusters_export_are_refused() {
    let mut cluster = lost().await;
    let disk = sign(&mut cluster, 2, 1);
    assert!(matches!(
        restore(Arc::clone(&disk), 1, None),
        Err(RestoreError::Identity(_))
    ));
    let records = crate::controller::formed(ClusterId("other".into()), 1);
    let image = crate::Image::from_snapshot(3, 3, &records).unwrap();
    let other = Export::of(&image).unwrap();
    assert!(matches!(
        restore(disk, 2, Some(&other)),
        Err(RestoreError::OtherCluster { .. })
    ));
}
