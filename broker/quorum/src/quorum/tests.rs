#![allow(clippy::unwrap_used, reason = "tests")]

mod cluster;
mod restored;

use std::time::Duration;

use cluster::{Cluster, node};

use super::{Quorum, Status};

use crate::ids::{BrokerId, ClusterId};
use crate::record::{ConfigChanged, ConfigOf, Record};

fn set(key: &str, value: &str) -> Record {
    Record::ConfigChanged(ConfigChanged {
        of: ConfigOf::Cluster,
        key: key.into(),
        value: Some(value.into()),
    })
}

#[tokio::test]
async fn one_broker_forms_a_cluster_and_applies_what_it_proposes() {
    let cluster = Cluster::of(1).await;
    cluster.propose(&[set("k", "v")]).await;
    assert_eq!(cluster.quorum(0).image().cluster_config()["k"], "v");
    assert_eq!(
        cluster.quorum(0).image().cluster_id(),
        Some(&ClusterId("test".into()))
    );
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_a_node_that_is_alone_stands_still() {
    let cluster = Cluster::of(1).await;
    let quorum = cluster.quorum(0);
    quorum.status().wait_for(Status::is_alone).await.unwrap();
    let mut metrics = quorum.raft.metrics();
    let still = async {
        let hour = Duration::from_secs(3600);
        while tokio::time::timeout(hour, metrics.changed()).await.is_ok() {}
    };
    // A tick may have been on its way.
    tokio::time::timeout(Duration::from_secs(7200), still)
        .await
        .expect("nothing happens for an hour");
    assert!(
        quorum.is_followed(),
        "and it leads for certain all the same"
    );
}

#[tokio::test(start_paused = true)]
async fn the_clock_goes_on_when_others_join() {
    let cluster = Cluster::of(3).await;
    let leads = |quorum: &Quorum| {
        (
            quorum.status().borrow().is_leader,
            quorum.status().borrow().term,
        )
    };
    let before = leads(&cluster.quorum(0));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        leads(&cluster.quorum(0)),
        before,
        "nobody missed a heartbeat"
    );
    assert!(before.0 && cluster.quorum(0).is_followed());
    assert!(!cluster.quorum(0).status().borrow().is_alone());
}

#[tokio::test]
async fn what_was_applied_survives_a_restart_of_the_only_broker() {
    let mut cluster = Cluster::of(1).await;
    cluster.propose(&[set("k", "v")]).await;
    cluster.kill(0).await;
    cluster.start(0, 1).await;
    cluster.leader().await;
    cluster.propose(&[set("l", "w")]).await;
    let image = cluster.quorum(0).image();
    assert_eq!(
        (
            image.cluster_config()["k"].as_str(),
            image.cluster_config()["l"].as_str()
        ),
        ("v", "w")
    );
}

#[tokio::test]
async fn three_brokers_vote_and_go_on_without_their_leader() {
    let mut cluster = Cluster::of(3).await;
    cluster.propose(&[set("k", "1")]).await;
    let leader = cluster.leader().await;
    cluster.kill(leader).await;
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    cluster.propose(&[set("k", "2")]).await;

    cluster.start(leader, 1).await;
    cluster
        .quorum(leader)
        .watch()
        .wait_for(|image| image.cluster_config().get("k").is_some_and(|v| v == "2"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_wiped_voter_rejoins_under_a_new_name_and_the_old_one_is_gone() {
    let mut cluster = Cluster::of(3).await;
    cluster.propose(&[set("k", "1")]).await;
    let wiped = (0..3).find(|id| Some(*id) != cluster.leader_now()).unwrap();
    cluster.kill(wiped).await;
    cluster.wipe(wiped);
    cluster.start(wiped, 2).await;
    let leader = cluster.leader().await;
    cluster
        .quorum(leader)
        .admit(node(wiped, 2), &Cluster::address(wiped))
        .await
        .unwrap();
    let mut status = cluster.quorum(leader).status();
    let status = status
        .wait_for(|status| !status.members.is_joint)
        .await
        .unwrap()
        .clone();
    assert!(status.members.voters.contains(&node(wiped, 2)));
    assert!(
        !status.members.nodes.contains_key(&node(wiped, 1)),
        "the old name is still a member"
    );
    assert_eq!(status.members.voters.len(), 3);
    cluster
        .quorum(wiped)
        .watch()
        .wait_for(|image| image.cluster_config().contains_key("k"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_broker_is_not_forgotten_while_who_would_vote_without_it_is_away() {
    let mut cluster = Cluster::of(3).await;
    cluster.leader().await;
    cluster.kill(0).await;
    let leader = cluster.leader().await;
    let gone = BrokerId(i32::try_from(3 - leader).expect("small"));
    let quorum = cluster.quorum(leader);
    assert!(!quorum.expel(gone, |_| false).await.unwrap());
    assert_eq!(quorum.status().borrow().members.voters.len(), 3);
    cluster.start(0, 1).await;
    while !quorum.expel(gone, |_| true).await.unwrap() {
        tokio::task::yield_now().await;
    }
    let members = quorum.status().borrow().members.clone();
    assert_eq!(members.voters, [node(0, 1)].into());
    assert!(members.nodes.keys().all(|node| node.broker != gone));
}

#[tokio::test]
async fn a_message_for_another_disk_is_refused() {
    let cluster = Cluster::of(1).await;
    let answer = cluster
        .quorum(0)
        .answer(node(0, 2), crate::transport::Rpc::Vote, b"{}", None)
        .await;
    assert!(matches!(answer, Err(super::AnswerError::NotMe { .. })));
}

#[tokio::test]
async fn a_message_in_the_name_of_another_broker_is_refused() {
    use crate::raft::types::Vote;
    use crate::transport::Rpc;
    let cluster = Cluster::of(1).await;
    let me = cluster.quorum(0).node();
    let vote = Vote::new(1, node(2, 1));
    let messages = [
        (
            Rpc::Vote,
            serde_json::to_vec(&openraft::raft::VoteRequest::new(vote, None)).unwrap(),
        ),
        (
            Rpc::AppendEntries,
            serde_json::to_vec(&serde_json::json!({
                "vote": vote, "prev_log_id": null, "entries": [], "leader_commit": null,
            }))
            .unwrap(),
        ),
        (Rpc::InstallSnapshot, {
            let header = serde_json::json!({"vote": vote, "meta": {
                "last_log_id": null, "last_membership": openraft::StoredMembership::<crate::NodeId, crate::raft::types::Peer>::default(),
                "snapshot_id": "",
            }});
            let mut message = serde_json::to_vec(&header).unwrap();
            message.push(b'\n');
            message
        }),
    ];
    for (rpc, message) in messages {
        let answer = cluster
            .quorum(0)
            .answer(me, rpc, &message, Some(crate::BrokerId(1)))
            .await;
        assert_eq!(
            answer,
            Err(super::AnswerError::NotTheSender {
                sender: crate::BrokerId(1),
                claimed: crate::BrokerId(2),
            }),
            "{rpc:?}"
        );
    }
}

#[tokio::test]
async fn a_learner_catches_up_by_snapshot() {
    let mut cluster = Cluster::of(1).await;
    for number in 0..40 {
        cluster.propose(&[set("k", &number.to_string())]).await;
    }
    cluster.compacted(0).await;
    cluster.start(3, 1).await;
    cluster
        .quorum(0)
        .admit(node(3, 1), &Cluster::address(3))
        .await
        .unwrap();
    let mut image = cluster.quorum(3).watch();
    let image = image
        .wait_for(|image| image.cluster_config().get("k").is_some_and(|v| v == "39"))
        .await
        .unwrap()
        .clone();
    assert_eq!(image.cluster_id(), Some(&ClusterId("test".into())));
    assert!(cluster.snapshots_sent() > 0, "the log was not compacted");

    // The snapshot is on the learner's own disk.
    cluster.kill(3).await;
    cluster.start(3, 1).await;
    assert!(cluster.quorum(3).image().cluster_config().contains_key("k"));
}

#[tokio::test]
async fn a_decision_on_an_old_image_changes_nothing() {
    let cluster = Cluster::of(1).await;
    let old = cluster.quorum(0).image().revision();
    cluster.propose(&[set("k", "1")]).await;
    let refused = cluster.quorum(0).propose(old, &[set("k", "2")]).await;
    assert_eq!(refused, Err(super::ProposeError::Stale));
    assert_eq!(cluster.quorum(0).image().cluster_config()["k"], "1");
}

#[tokio::test]
async fn a_broker_that_meets_an_unknown_record_stops_and_names_it() {
    let cluster = Cluster::of(1).await;
    let raft = &cluster.quorum(0).raft;
    let frame = r#"{"version":1,"revision":0,"records":[{"TopicFrozen":{}}]}"#;
    let _ = raft
        .client_write(crate::raft::types::Batch(frame.into()))
        .await;
    let mut status = cluster.quorum(0).status();
    let failed = status
        .wait_for(|status| status.failed.is_some())
        .await
        .unwrap()
        .failed
        .clone()
        .unwrap();
    assert!(failed.contains("TopicFrozen"), "{failed}");
}

#[tokio::test]
async fn the_voters_survive_a_restart_of_all() {
    let mut cluster = Cluster::of(3).await;
    cluster.propose(&[set("k", "1")]).await;
    for id in 0..3 {
        cluster.kill(id).await;
    }
    for id in 0..3 {
        cluster.start(id, 1).await;
    }
    let leader = cluster.leader().await;
    assert_eq!(cluster.quorum(leader).image().cluster_config()["k"], "1");
    let voters: Vec<BrokerId> = cluster
        .quorum(leader)
        .status()
        .borrow()
        .members
        .voters
        .iter()
        .map(|node| node.broker)
        .collect();
    assert_eq!(voters, [BrokerId(0), BrokerId(1), BrokerId(2)]);
}

#[tokio::test]
async fn one_broker_is_formed_at_once() {
    // Far above what it takes, and far below an election's timeout, which must not be waited for.
    let formed = tokio::time::timeout(Duration::from_millis(500), Cluster::of(1)).await;
    assert!(formed.is_ok());
}

#[tokio::test]
async fn a_log_of_large_entries_is_compacted_by_its_size() {
    let mut cluster = Cluster::of(1).await;
    let large = "v".repeat(10 << 10);
    for number in 0..20 {
        cluster.propose(&[set(&format!("k{number}"), &large)]).await;
    }
    let quorum = cluster.quorum(0);
    let mut metrics = quorum.raft.metrics();
    metrics
        .wait_for(|metrics| metrics.purged.is_some())
        .await
        .unwrap();
    cluster.kill(0).await;
    cluster.start(0, 1).await;
    cluster.leader().await;
    assert_eq!(cluster.quorum(0).image().cluster_config().len(), 20);
}

#[tokio::test]
async fn a_broker_that_restarts_while_the_quorum_is_away_has_its_last_metadata() {
    let mut cluster = Cluster::of(3).await;
    cluster.propose(&[set("k", "1")]).await;
    let mut image = cluster.quorum(2).watch();
    image
        .wait_for(|image| image.cluster_config().contains_key("k"))
        .await
        .unwrap();
    for id in 0..3 {
        cluster.kill(id).await;
    }
    cluster.start(2, 1).await;
    assert_eq!(cluster.quorum(2).image().cluster_config()["k"], "1");
}

#[tokio::test]
async fn nothing_that_was_applied_is_lost_when_all_voters_lose_power_again_and_again() {
    let mut cluster = Cluster::of(3).await;
    for round in 0..6_u64 {
        for number in 0..5 {
            cluster
                .propose(&[set(&format!("k{round}-{number}"), "v")])
                .await;
        }
        cluster
            .power_cut(weir_log::storage_sim::Unsynced::Mixed(round))
            .await;
        for id in 0..3 {
            cluster.start(id, 1).await;
        }
        let leader = cluster.leader().await;
        let applied = cluster.quorum(leader).image().cluster_config().len() as u64;
        assert_eq!(applied, (round + 1) * 5);
    }
}
