//! The classic protocol of members without a name of their own.

use super::{GROUP, Shard, join, protocol, sync};
use crate::request::{GroupState, JoinRequest, Response, SyncRequest};
use crate::{Config, Generation, GroupError, Request};

#[test]
fn a_member_of_version_4_gets_its_id_before_it_joins() {
    let mut shard = Shard::new();
    let first = shard.join(JoinRequest {
        member_id_required: true,
        ..join("", "app")
    });
    let refused = shard.joined(first).unwrap_err();
    assert_eq!(refused.error, GroupError::MemberIdRequired);
    assert_eq!(refused.member.as_str(), "app-1");
    let second = shard.join(JoinRequest {
        member_id_required: true,
        ..join("app-1", "app")
    });
    let joined = shard.joined(second).unwrap();
    assert_eq!(
        (joined.generation, joined.leader.as_str()),
        (Generation(1), "app-1")
    );
    assert_eq!(joined.members.len(), 1);
}

#[test]
fn a_member_id_that_nobody_uses_is_forgotten_with_its_group() {
    let mut shard = Shard::new();
    shard.join(JoinRequest {
        member_id_required: true,
        ..join("", "app")
    });
    assert_eq!(shard.coordinator.group_count(), 1);
    shard.advance(10_000);
    assert_eq!(shard.coordinator.group_count(), 0);
    let late = shard.join(join("app-1", "app"));
    assert_eq!(
        shard.joined(late).unwrap_err().error,
        GroupError::UnknownMember
    );
}

#[test]
fn members_that_start_together_make_one_generation() {
    let mut shard = Shard::with(Config {
        initial_rebalance_delay_ms: 3_000,
        ..Config::default()
    });
    let first = shard.join(join("", "a"));
    shard.advance(2_900);
    let second = shard.join(join("", "b"));
    shard.advance(2_900);
    assert!(
        shard.replies.is_empty(),
        "the delay is extended while members come"
    );
    shard.advance(200);
    let (first, second) = (shard.joined(first).unwrap(), shard.joined(second).unwrap());
    assert_eq!(
        (first.generation, second.generation),
        (Generation(1), Generation(1))
    );
    assert_eq!(
        first.members.len() + second.members.len(),
        2,
        "one of them leads"
    );
}

#[test]
fn the_initial_delay_ends_when_the_rebalance_timeout_is_over() {
    let mut shard = Shard::with(Config {
        initial_rebalance_delay_ms: 3_000,
        ..Config::default()
    });
    let timeout = |name: &str| JoinRequest {
        rebalance_timeout_ms: 10_000,
        ..join("", name)
    };
    let first = shard.join(timeout("0"));
    for name in ["1", "2", "3", "4", "5", "6"] {
        shard.advance(2_000);
        shard.join(timeout(name));
    }
    assert!(shard.take(first).is_some());
}

#[test]
fn everyone_gets_what_the_leader_assigned() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(3);
    for id in &ids {
        let call = shard.sync(id, generation, &[]);
        assert_eq!(shard.synced(call).unwrap().assignment, id.as_bytes());
        assert_eq!(shard.heartbeat(id, generation), Ok(()));
    }
    assert_eq!(shard.describe().protocol, "range");
}

#[test]
fn a_newcomer_makes_the_others_rejoin() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(2);
    let newcomer = shard.join(join("", "new"));
    assert_eq!(shard.state(), GroupState::PreparingRebalance);
    for id in &ids {
        assert_eq!(
            shard.heartbeat(id, generation),
            Err(GroupError::RebalanceInProgress)
        );
    }
    let calls: Vec<_> = ids.iter().map(|id| shard.join(join(id, "c"))).collect();
    for call in calls.into_iter().chain([newcomer]) {
        assert_eq!(
            shard.joined(call).unwrap().generation,
            Generation(generation + 1)
        );
    }
}

#[test]
fn a_member_that_does_not_rejoin_in_time_is_left_behind() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(2);
    let newcomer = shard.join(join("", "new"));
    let leader = shard.join(join(&ids[0], "c0"));
    for _ in 0..12 {
        assert!(shard.replies.is_empty());
        let _ = shard.heartbeat(&ids[1], generation);
        shard.advance(5_000);
    }
    assert_eq!(
        shard.joined(newcomer).unwrap().generation,
        Generation(generation + 1)
    );
    shard.joined(leader).unwrap();
    assert_eq!(
        shard.heartbeat(&ids[1], generation),
        Err(GroupError::UnknownMember)
    );
}

#[test]
fn a_silent_member_expires_and_the_rest_rebalances() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(2);
    shard.advance(6_000);
    shard.heartbeat(&ids[0], generation).unwrap();
    shard.advance(6_000);
    assert_eq!(
        shard.heartbeat(&ids[0], generation),
        Err(GroupError::RebalanceInProgress)
    );
    assert_eq!(
        shard.heartbeat(&ids[1], generation),
        Err(GroupError::UnknownMember)
    );
    let call = shard.join(join(&ids[0], "c0"));
    assert_eq!(shard.joined(call).unwrap().members.len(), 1);
}

#[test]
fn a_group_whose_members_all_expire_is_empty() {
    let mut shard = Shard::new();
    shard.stable(3);
    shard.advance(70_000);
    assert_eq!(shard.state(), GroupState::Empty);
    assert_eq!(
        shard.replayed().groups_for_tests()[GROUP].kind.state(),
        GroupState::Empty
    );
}

#[test]
fn a_member_that_waits_for_the_rebalance_does_not_expire() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(2);
    let leader = shard.join(join(&ids[0], "c0"));
    for _ in 0..11 {
        shard.advance(5_000);
        let _ = shard.heartbeat(&ids[1], generation);
    }
    assert!(shard.replies.is_empty(), "still waiting for the other");
    let other = shard.join(join(&ids[1], "c1"));
    shard.joined(leader).unwrap();
    shard.joined(other).unwrap();
}

#[test]
fn the_protocol_that_most_members_prefer_among_those_all_know_wins() {
    let mut shard = Shard::new();
    let with = |member: &str, name: &str, protocols: &[&str]| JoinRequest {
        protocols: protocols
            .iter()
            .map(|name| protocol(name, &["orders"]))
            .collect(),
        ..join(member, name)
    };
    let a = shard.join(with("", "a", &["range", "sticky"]));
    let a = shard.joined(a).unwrap().member.to_string();
    let b = shard.join(with("", "b", &["sticky", "range"]));
    let again = shard.join(with(&a, "a", &["range", "sticky"]));
    let b = shard.joined(b).unwrap().member.to_string();
    shard.joined(again).unwrap();
    let c = shard.join(with("", "c", &["cooperative", "sticky", "range"]));
    for (member, protocols) in [(&a, ["range", "sticky"]), (&b, ["sticky", "range"])] {
        shard.join(with(member, "x", &protocols));
    }
    assert_eq!(shard.joined(c).unwrap().protocol.as_deref(), Some("sticky"));
    let stranger = shard.join(with("", "d", &["cooperative"]));
    assert_eq!(
        shard.joined(stranger).unwrap_err().error,
        GroupError::InconsistentProtocol
    );
    let connect = shard.join(JoinRequest {
        protocol_type: "connect".to_owned(),
        ..join("", "e")
    });
    assert_eq!(
        shard.joined(connect).unwrap_err().error,
        GroupError::InconsistentProtocol
    );
}

#[test]
fn a_lost_join_answer_is_told_again() {
    let mut shard = Shard::new();
    let first = shard.join(join("", "a"));
    let joined = shard.joined(first).unwrap();
    let again = shard.join(join(joined.member.as_str(), "a"));
    assert_eq!(shard.joined(again).unwrap(), joined);
}

#[test]
fn a_stable_follower_that_joins_again_changes_nothing_a_leader_rebalances() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(2);
    let follower = shard.join(join(&ids[1], "c1"));
    assert_eq!(
        shard.joined(follower).unwrap().generation,
        Generation(generation)
    );
    assert_eq!(shard.state(), GroupState::Stable);
    shard.join(join(&ids[0], "c0"));
    assert_eq!(shard.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_stable_follower_with_a_new_subscription_rebalances() {
    let mut shard = Shard::new();
    let (ids, _) = shard.stable(2);
    shard.join(JoinRequest {
        protocols: vec![protocol("range", &["other"])],
        ..join(&ids[1], "c1")
    });
    assert_eq!(shard.state(), GroupState::PreparingRebalance);
}

#[test]
fn strangers_and_old_generations_are_refused() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(1);
    assert_eq!(
        shard.heartbeat("nobody", generation),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(
        shard.heartbeat(&ids[0], generation - 1),
        Err(GroupError::IllegalGeneration)
    );
    let old = shard.sync(&ids[0], generation + 1, &[]);
    assert_eq!(shard.synced(old), Err(GroupError::IllegalGeneration));
    let other = SyncRequest {
        protocol: Some("sticky".to_owned()),
        ..sync(&ids[0], generation, &[])
    };
    let other = shard.ask(Request::Sync(other));
    assert_eq!(shard.synced(other), Err(GroupError::InconsistentProtocol));
    let same = SyncRequest {
        protocol: Some("range".to_owned()),
        ..sync(&ids[0], generation, &[])
    };
    let same = shard.ask(Request::Sync(same));
    shard.synced(same).unwrap();
}

#[test]
fn timeouts_and_names_have_bounds() {
    let mut shard = Shard::new();
    for ms in [5_999, 1_800_001, -1] {
        let call = shard.join(JoinRequest {
            session_timeout_ms: ms,
            ..join("", "a")
        });
        assert_eq!(
            shard.joined(call).unwrap_err().error,
            GroupError::InvalidSessionTimeout
        );
    }
    let nameless = shard.join(JoinRequest {
        group: "".into(),
        ..join("", "a")
    });
    assert_eq!(
        shard.joined(nameless).unwrap_err().error,
        GroupError::InvalidGroupId
    );
    let long = shard.join(JoinRequest {
        group: "g".repeat(20_000).into(),
        ..join("", "a")
    });
    assert_eq!(
        shard.joined(long).unwrap_err().error,
        GroupError::InvalidGroupId
    );
    let long = shard.join(JoinRequest {
        instance: Some("i".repeat(20_000).into()),
        ..join("", "a")
    });
    assert_eq!(
        shard.joined(long).unwrap_err().error,
        GroupError::InvalidRequest
    );
    assert_eq!(
        shard.coordinator.group_count(),
        0,
        "what is refused leaves nothing behind"
    );
}

#[test]
fn a_full_group_and_a_full_shard_refuse() {
    let config = Config {
        group_size_max: 2,
        groups_max: 1,
        initial_rebalance_delay_ms: 0,
        ..Config::default()
    };
    let mut shard = Shard::with(config);
    let (ids, generation) = shard.stable(2);
    let third = shard.join(join("", "third"));
    assert_eq!(
        shard.joined(third).unwrap_err().error,
        GroupError::GroupMaxSizeReached
    );
    assert_eq!(
        shard.heartbeat(&ids[0], generation),
        Ok(()),
        "nobody noticed"
    );
    let other = shard.join(JoinRequest {
        group: "other".into(),
        ..join("", "a")
    });
    assert_eq!(
        shard.joined(other).unwrap_err().error,
        GroupError::BoundReached
    );
}

#[test]
fn subscriptions_too_large_to_store_are_refused() {
    let mut shard = Shard::with(Config {
        group_bytes_max: 500,
        initial_rebalance_delay_ms: 0,
        ..Config::default()
    });
    shard.stable(2);
    let topic = "t".repeat(500);
    let large = shard.join(JoinRequest {
        protocols: vec![protocol("range", &[&topic])],
        ..join("", "c")
    });
    assert_eq!(
        shard.joined(large).unwrap_err().error,
        GroupError::GroupMaxSizeReached
    );
}

#[test]
fn an_assignment_too_large_to_store_fails_everyones_sync() {
    let mut shard = Shard::with(Config {
        record_bytes_max: 1_000,
        initial_rebalance_delay_ms: 0,
        ..Config::default()
    });
    let first = shard.join(join("", "a"));
    let member = shard.joined(first).unwrap().member.to_string();
    let call = shard.sync(&member, 1, &[(&member, &"x".repeat(2_000))]);
    assert_eq!(shard.synced(call), Err(GroupError::Unknown));
    assert!(shard.log.is_empty());
}

#[test]
fn members_that_leave_are_gone_at_once() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(3);
    let left = shard.leave(&[(&ids[1], None), ("nobody", None), (&ids[2], None)]);
    let outcomes: Vec<_> = left.into_iter().map(|left| left.outcome).collect();
    assert_eq!(outcomes, [Ok(()), Err(GroupError::UnknownMember), Ok(())]);
    assert_eq!(
        shard.heartbeat(&ids[0], generation),
        Err(GroupError::RebalanceInProgress)
    );
    assert_eq!(shard.describe().members.len(), 1);
    shard.leave(&[(&ids[0], None)]);
    assert_eq!(shard.state(), GroupState::Empty);
}

#[test]
fn leaving_a_group_that_is_not_there_is_refused_for_each_member() {
    let mut shard = Shard::new();
    let left = shard.leave(&[("a", None), ("", Some("i"))]);
    assert!(
        left.iter()
            .all(|left| left.outcome == Err(GroupError::UnknownMember))
    );
}

#[test]
fn a_member_that_never_asks_for_its_assignment_is_removed() {
    let mut shard = Shard::new();
    let first = shard.join(join("", "a"));
    let first = shard.joined(first).unwrap().member.to_string();
    let second = shard.join(join("", "b"));
    let again = shard.join(join(&first, "a"));
    let joined = shard.joined(again).unwrap();
    let second = shard.joined(second).unwrap().member.to_string();
    let (leader, follower) = if joined.leader.as_str() == first {
        (first, second)
    } else {
        (second, first)
    };
    let call = shard.sync(&leader, 2, &[]);
    shard.synced(call).unwrap();
    for _ in 0..12 {
        assert_eq!(shard.heartbeat(&leader, 2), Ok(()));
        let _ = shard.heartbeat(&follower, 2);
        shard.advance(5_000);
    }
    assert_eq!(
        shard.heartbeat(&leader, 2),
        Err(GroupError::RebalanceInProgress)
    );
    assert_eq!(
        shard.heartbeat(&follower, 2),
        Err(GroupError::UnknownMember)
    );
}

#[test]
fn a_jump_of_the_wall_clock_ends_no_session() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(2);
    shard.now.wall.0 += 86_400_000;
    shard.advance(9_000);
    assert_eq!(shard.heartbeat(&ids[0], generation), Ok(()));
    shard.now.wall.0 -= 2 * 86_400_000;
    assert_eq!(shard.heartbeat(&ids[1], generation), Ok(()));
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut shard = Shard::new();
    shard.stable(1);
    let list = |states: &[&str], types: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Request::List(crate::request::ListRequest {
            states: names(states),
            types: names(types),
        })
    };
    for (states, types, found) in [
        (&[][..], &[][..], 1),
        (&["stable"][..], &["Classic"][..], 1),
        (&["Empty"][..], &[][..], 0),
        (&[][..], &["consumer"][..], 0),
    ] {
        let call = shard.ask(list(states, types));
        let Some(Response::List(groups)) = shard.take(call) else {
            panic!("no list")
        };
        assert_eq!(groups.len(), found, "{states:?} {types:?}");
    }
}
