//! When offsets and groups go by themselves (KIP-211).

use super::{Shard, commit, join};
use crate::request::{CommitRequest, GroupState};
use crate::{Config, Generation};

const DAY_MS: u64 = 86_400_000;

#[test]
fn offsets_of_a_lone_consumer_expire_a_week_after_the_last_commit() {
    let mut shard = Shard::new();
    shard.commit(commit("orders", 1)).unwrap();
    shard.advance(6 * DAY_MS);
    shard.commit(commit("flights", 1)).unwrap();
    shard.advance(DAY_MS + 600_000);
    assert_eq!(shard.committed("orders"), None);
    assert!(shard.committed("flights").is_some());
    shard.advance(6 * DAY_MS);
    assert_eq!(shard.coordinator.group_count(), 0);
    assert_eq!(shard.replayed().group_count(), 0);
}

#[test]
fn offsets_of_a_group_expire_a_week_after_its_last_member_went() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(1);
    let request = CommitRequest {
        member: ids[0].as_str().into(),
        generation: Generation(generation),
        ..commit("orders", 1)
    };
    shard.commit(request).unwrap();
    for _ in 0..(8 * DAY_MS / 9_000) {
        shard.advance(9_000);
        shard.heartbeat(&ids[0], generation).unwrap();
    }
    assert!(shard.committed("orders").is_some(), "its members are there");
    shard.leave(&[(&ids[0], None)]);
    shard.crash();
    shard.advance(6 * DAY_MS);
    assert!(shard.committed("orders").is_some());
    assert_eq!(shard.state(), GroupState::Empty);
    shard.advance(DAY_MS + 600_000);
    assert_eq!(shard.coordinator.group_count(), 0);
    assert_eq!(shard.replayed().group_count(), 0);
}

#[test]
fn a_group_with_members_loses_only_the_offsets_that_nobody_reads() {
    let config = Config {
        session_timeout_ms_max: i32::MAX,
        initial_rebalance_delay_ms: 0,
        ..Config::default()
    };
    let mut shard = Shard::with(config);
    shard.commit(commit("orders", 1)).unwrap();
    shard.commit(commit("other", 1)).unwrap();
    let patient = crate::request::JoinRequest {
        session_timeout_ms: i32::MAX,
        ..join("", "a")
    };
    let call = shard.join(patient);
    let member = shard.joined(call).unwrap().member.to_string();
    shard.sync(&member, 1, &[]);
    shard.advance(8 * DAY_MS);
    assert!(shard.committed("orders").is_some());
    assert_eq!(shard.committed("other"), None);
}

#[test]
fn an_offset_may_have_a_time_of_its_own() {
    let mut shard = Shard::new();
    shard
        .commit(CommitRequest {
            retention_ms: Some(3_600_000),
            ..commit("orders", 1)
        })
        .unwrap();
    shard
        .commit(CommitRequest {
            retention_ms: Some(-1),
            ..commit("other", 1)
        })
        .unwrap();
    shard.crash();
    shard.advance(3_600_000 + 600_000);
    assert_eq!(shard.committed("orders"), None);
    assert!(shard.committed("other").is_some());
}

#[test]
fn a_large_backlog_expires_in_turns() {
    let mut shard = Shard::with(Config {
        expired_per_check_max: 3,
        ..Config::default()
    });
    for topic in ["a", "b", "c", "d", "e", "f", "g"] {
        shard.commit(commit(topic, 1)).unwrap();
    }
    shard.now.wall.0 += 8 * DAY_MS as i64;
    shard.advance(600_000);
    assert_eq!(shard.coordinator.group_count(), 0);
}
