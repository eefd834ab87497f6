//! Members with a `group.instance.id` (KIP-345).

use super::{GROUP, Shard, commit, join, protocol, sync};
use crate::request::{
    CommitRequest, GroupState, HeartbeatRequest, JoinRequest, Response, SyncRequest,
};
use crate::{Generation, GroupError, Request};

fn named(member: &str, instance: &str, unique: &str) -> JoinRequest {
    JoinRequest {
        instance: Some(instance.into()),
        member_id_required: true,
        unique: unique.to_owned(),
        ..join(member, "app")
    }
}

/// A stable group of the static members `i` (the leader) and `j`, and their ids.
fn pair(shard: &mut Shard) -> [String; 2] {
    let first = shard.join(named("", "i", "1"));
    let i = shard.joined(first).unwrap().member.to_string();
    let second = shard.join(named("", "j", "1"));
    shard.join(named(&i, "i", "1"));
    let j = shard.joined(second).unwrap().member.to_string();
    assert_eq!(
        (i.as_str(), j.as_str()),
        ("i-1", "j-1"),
        "no id is asked for first"
    );
    shard.sync(&j, 2, &[]);
    shard.sync(&i, 2, &[(&i, "for i"), (&j, "for j")]);
    shard.replies.clear();
    assert_eq!(shard.state(), GroupState::Stable);
    [i, j]
}

#[test]
fn a_static_member_that_restarts_keeps_its_assignment_without_a_rebalance() {
    let mut shard = Shard::new();
    let [i, _] = pair(&mut shard);
    let back = shard.join(named("", "j", "2"));
    let joined = shard.joined(back).unwrap();
    assert_eq!(
        (joined.member.as_str(), joined.generation),
        ("j-2", Generation(2))
    );
    assert_eq!(shard.state(), GroupState::Stable);
    let call = shard.ask(Request::Sync(SyncRequest {
        instance: Some("j".into()),
        ..sync("j-2", 2, &[])
    }));
    assert_eq!(shard.synced(call).unwrap().assignment, "for j");
    assert_eq!(shard.heartbeat(&i, 2), Ok(()));
}

#[test]
fn the_double_of_a_static_member_is_fenced() {
    let mut shard = Shard::new();
    let [_, j] = pair(&mut shard);
    shard.join(named("", "j", "2"));
    let beat = HeartbeatRequest {
        group: GROUP.into(),
        member: j.as_str().into(),
        instance: Some("j".into()),
        generation: Generation(2),
    };
    let call = shard.ask(Request::Heartbeat(beat));
    assert_eq!(
        shard.take(call),
        Some(Response::Heartbeat(Err(GroupError::FencedInstanceId)))
    );
    let call = shard.ask(Request::Sync(SyncRequest {
        instance: Some("j".into()),
        ..sync(&j, 2, &[])
    }));
    assert_eq!(shard.synced(call), Err(GroupError::FencedInstanceId));
    let call = shard.join(named(&j, "j", "3"));
    assert_eq!(
        shard.joined(call).unwrap_err().error,
        GroupError::FencedInstanceId
    );
    let stale = CommitRequest {
        member: j.as_str().into(),
        instance: Some("j".into()),
        generation: Generation(2),
        ..commit("orders", 1)
    };
    assert_eq!(shard.commit(stale), Err(GroupError::FencedInstanceId));
    let left = shard.leave(&[(&j, Some("j"))]);
    assert_eq!(left[0].outcome, Err(GroupError::FencedInstanceId));
}

#[test]
fn a_double_that_waits_is_told_that_it_is_fenced() {
    let mut shard = Shard::new();
    let [_, j] = pair(&mut shard);
    shard.join(join("", "newcomer"));
    let waiting = shard.join(named(&j, "j", "1"));
    shard.join(named("", "j", "2"));
    assert_eq!(
        shard.joined(waiting).unwrap_err().error,
        GroupError::FencedInstanceId
    );
}

#[test]
fn a_double_that_waits_for_its_assignment_is_told_that_it_is_fenced() {
    let mut shard = Shard::new();
    let [i, j] = pair(&mut shard);
    shard.join(JoinRequest {
        protocols: vec![protocol("range", &["more"])],
        ..named(&i, "i", "1")
    });
    shard.join(named(&j, "j", "1"));
    let waiting = shard.ask(Request::Sync(SyncRequest {
        instance: Some("j".into()),
        ..sync(&j, 3, &[])
    }));
    assert_eq!(shard.take(waiting), None, "the leader has not assigned yet");
    shard.join(named("", "j", "2"));
    assert_eq!(shard.synced(waiting), Err(GroupError::FencedInstanceId));
}

#[test]
fn the_replacement_survives_a_reload() {
    let mut shard = Shard::new();
    pair(&mut shard);
    shard.join(named("", "j", "2"));
    shard.crash();
    let call = shard.ask(Request::Sync(SyncRequest {
        instance: Some("j".into()),
        ..sync("j-2", 2, &[])
    }));
    assert_eq!(shard.synced(call).unwrap().assignment, "for j");
}

#[test]
fn a_static_leader_that_restarts_does_not_assign_anew() {
    let mut shard = Shard::new();
    let [i, _] = pair(&mut shard);
    let old_client = shard.join(named("", "i", "2"));
    let joined = shard.joined(old_client).unwrap();
    assert_eq!(
        (joined.leader.as_str(), joined.members.len()),
        (i.as_str(), 0),
        "it must not think it leads"
    );
    let new_client = shard.join(JoinRequest {
        can_skip_assignment: true,
        ..named("", "i", "3")
    });
    let joined = shard.joined(new_client).unwrap();
    assert_eq!((joined.leader.as_str(), joined.members.len()), ("i-3", 2));
    assert!(joined.skip_assignment);
}

#[test]
fn a_static_member_that_restarts_with_another_subscription_rebalances() {
    let mut shard = Shard::new();
    pair(&mut shard);
    let back = JoinRequest {
        protocols: vec![protocol("range", &["orders", "more"])],
        ..named("", "j", "2")
    };
    shard.join(back);
    assert_eq!(shard.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_static_member_that_is_away_keeps_its_place_for_its_session() {
    let mut shard = Shard::new();
    let [i, _] = pair(&mut shard);
    shard.advance(9_000);
    shard.heartbeat(&i, 2).unwrap();
    assert_eq!(shard.state(), GroupState::Stable);
    shard.advance(2_000);
    assert_eq!(shard.heartbeat(&i, 2), Err(GroupError::RebalanceInProgress));
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance() {
    let mut shard = Shard::new();
    let [i, _] = pair(&mut shard);
    let left = shard.leave(&[("", Some("j")), ("", Some("k"))]);
    assert_eq!(left[0].outcome, Ok(()));
    assert_eq!(left[1].outcome, Err(GroupError::UnknownMember));
    assert_eq!(shard.heartbeat(&i, 2), Err(GroupError::RebalanceInProgress));
}
