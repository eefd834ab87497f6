//! A Cluster of an older version is upgraded, goes back, is upgraded again and stays, while a producer writes and a group reads: an older version is accepted
//! until the upgrade has held for a while, and refused with the levels from then on; nothing that was acknowledged is missing, doubled or out of order. The
//! first time a broker is behind: the roll waits for it, says so, restarts whoever can be spared meanwhile, and ends by itself.
//!
//! The older version (image `weir-broker:<version>-before`) is told to know the first feature level alone. It is this build, or that of the revision in
//! `WEIR_UPGRADE_FROM`.

use crate::flow::{Flow, PARTITIONS};
use crate::operator;
use crate::stage::{Stage, restarts, topic};
use crate::watching::{condition, until};
use std::collections::BTreeSet;
use std::time::Instant;
use weir_crds::{Cluster, ClusterStatus};

/// The version of everything here.
const NEW: &str = env!("CARGO_PKG_VERSION");

/// How long it has to hold at first: longer than this story takes to go back.
const LONG_S: u32 = 3_600;
/// And then: longer than a roll has breaks.
const SHORT_S: u32 = 10;

#[tokio::test]
async fn an_upgrade_is_finished_when_it_has_held_and_the_way_back_is_open_until_then() {
    let old = format!("{NEW}-before");
    let stage = Stage::open("upgrade").await;
    apply(&stage, &old, LONG_S);
    stage.cluster_ready("shop").await;
    stage.topic("shop", "flights", PARTITIONS as u32).await;
    let clients = stage.clients().await;
    let bootstrap = stage.bootstrap("shop");
    let flow = Flow::begin(&clients, &bootstrap, &["session.timeout.ms=45000"]);
    flow.go_on("all run the old version");
    let one = image(&stage).await;

    held_up(&stage).await;
    let status = seen(&stage, "the new version waits to be finished", |status| {
        is_reason(status, "FinalizationPending", "FinalizeWaits")
    })
    .await;
    let level = status.feature_level.expect("levels are told");
    assert_eq!((level.finalized, level.known_to_all), (1, Some(2)));
    assert!(level.finalizes_at.is_some(), "and when that will be");
    flow.go_on("all run the new version, with the old level");
    let other = image(&stage).await;
    assert_ne!(one, other, "these are two builds");
    let revision = std::env::var("WEIR_UPGRADE_FROM").ok();
    let revision = revision.map_or("this build".to_owned(), |it| format!("revision {it}"));
    println!("  from {old}, {revision}, {one}\n  to {NEW}, this build, {other}");

    apply(&stage, &old, LONG_S);
    seen(&stage, "all brokers are what they were", |status| {
        let known = status
            .feature_level
            .as_ref()
            .and_then(|level| level.known_to_all);
        known == Some(1) && is_reason(status, "FinalizationPending", "AsWanted") && rests(status)
    })
    .await;
    flow.go_on("all run the old version again");

    {
        // How long it has held the operator has in its memory.
        let _stays = operator::stays().await;
        apply(&stage, NEW, SHORT_S);
        seen(&stage, "the upgrade has held", |status| {
            let level = status.feature_level.as_ref().map(|level| level.finalized);
            level == Some(2) && rests(status)
        })
        .await;
    }
    flow.go_on("the new level is used");
    let before = restarts(&stage.brokers("shop").await);
    apply(&stage, &old, SHORT_S);
    let status = seen(&stage, "there is no way back any more", |status| {
        is_reason(status, "DowngradeRefused", "DowngradeRefused")
    })
    .await;
    let refused = condition(&status.conditions, "DowngradeRefused");
    let message = refused
        .map(|refused| refused.message.as_str())
        .unwrap_or_default();
    for part in [old.as_str(), "up to 1", "level 2"] {
        assert!(message.contains(part), "{message}");
    }
    // What a pod that dies now is made of is what runs.
    stage.kubectl(&["delete", "pod", "shop-broker-2"]);
    let replaced = before.iter().find(|(name, ..)| name == "shop-broker-2");
    let (_, uid, _) = replaced.expect("there is a third broker");
    stage.pod_ready("shop-broker-2", uid).await;
    apply(&stage, NEW, SHORT_S);
    seen(&stage, "what runs is what is wanted", |status| {
        is_reason(status, "DowngradeRefused", "AsWanted") && rests(status)
    })
    .await;
    let after = restarts(&stage.brokers("shop").await);
    assert_eq!(after[..2], before[..2], "nobody else was restarted");

    flow.end(&clients, &bootstrap);
    stage.close().await;
}

/// The new version is asked for while a broker is behind in every partition. Whoever these need for their minimum of replicas in sync waits, and the one that
/// is behind itself does not; nor does anybody when it has what it missed.
async fn held_up(stage: &Stage) {
    let cluster = stage.cluster_ready("shop").await;
    let brokers = cluster.status.and_then(|status| status.brokers);
    let controller = brokers.and_then(|brokers| brokers.controller);
    let controller = controller.expect("somebody leads the quorum");
    // It comes last, and of the others the one of the highest number first.
    let behind = (0..3).find(|broker| *broker != controller);
    let behind = behind.expect("of three brokers") as usize;

    let never = topic("shop", "flights", PARTITIONS as u32)
        + "  config:\n    follower.replication.throttled.replicas: '*'\n";
    stage.apply(&never);
    stage.topic_ready("flights").await;
    let before = restarts(&stage.brokers("shop").await);
    let (name, uid, _) = &before[behind];
    stage.kubectl(&["delete", "pod", name]);
    stage.pod_ready(name, uid).await;
    let mut before = restarts(&stage.brokers("shop").await);

    let began = Instant::now();
    apply(stage, NEW, LONG_S);
    let status = seen(stage, "the roll is held up", |status| {
        is_reason(status, "Reconciling", "PartitionWouldFallBelowMinimum")
    })
    .await;
    let why = condition(&status.conditions, "Reconciling");
    let why = why.map_or("", |why| why.message.as_str());
    // Another may lead by now.
    let last = status.brokers.and_then(|brokers| brokers.controller);
    let first = (0..3).filter(|broker| *broker as usize != behind && Some(*broker) != last);
    let first = first.max().expect("of three brokers");
    for part in [format!("broker {first} waits"), "flights-".to_owned()] {
        assert!(why.contains(&part), "{why}");
    }
    let now = restarts(&stage.brokers("shop").await);
    let old = std::mem::replace(&mut before[behind], now[behind].clone());
    assert_ne!(old, now[behind], "who could be spared was restarted");
    assert_eq!(now, before, "and nobody else was");
    println!(
        "  a roll was held up within {:.1} s: {why}",
        began.elapsed().as_secs_f64()
    );
    stage.topic("shop", "flights", PARTITIONS as u32).await;
}

/// Replicas of topics that name them as throttled take in nothing while they are behind.
fn apply(stage: &Stage, version: &str, finalize_after_s: u32) {
    stage.apply(&format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: shop\n\
         spec:\n  replicas: 3\n  version: {version}\n  storage:\n    size: 1Gi\n\
         \x20 upgrade:\n    finalizeAfterSeconds: {finalize_after_s}\n\
         \x20 config:\n    follower.replication.throttled.rate: 0\n"
    ));
}

/// The image that all brokers run, by what it holds.
async fn image(stage: &Stage) -> String {
    let pods = stage.brokers("shop").await;
    let containers = pods
        .iter()
        .filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref())
        .flatten();
    let images: BTreeSet<String> = containers.map(|it| it.image_id.clone()).collect();
    assert_eq!(images.len(), 1, "all run the same: {images:?}");
    images.into_iter().collect()
}

/// Waits until the status of the newest generation says so.
async fn seen(stage: &Stage, what: &str, wanted: impl Fn(&ClusterStatus) -> bool) -> ClusterStatus {
    let cluster = until(&stage.api::<Cluster>(), "shop", what, |cluster| {
        let status = cluster.status.as_ref();
        status.is_some_and(|status| {
            status.observed_generation == cluster.metadata.generation && wanted(status)
        })
    })
    .await;
    cluster.status.unwrap_or_default()
}

fn is_reason(status: &ClusterStatus, kind: &str, reason: &str) -> bool {
    condition(&status.conditions, kind).is_some_and(|condition| condition.reason == reason)
}

/// Whether all brokers are there, and nothing is on its way.
fn rests(status: &ClusterStatus) -> bool {
    let is_converged = is_reason(status, "Reconciling", "Converged");
    is_converged && status.ready_replicas == Some(3)
}
