//! What a coordinator says, and what the log has when it says so.

use weir_wire::Offset;

use super::{GROUP, Shard, commit, fetch, join, sync};
use crate::request::{CommitRequest, Response};
use crate::{Entry, Generation, GroupError, Loader, Request, StoredError};

#[test]
fn committed_offsets_survive_a_coordinator_reload() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(2);
    for offset in 1..=10 {
        let request = CommitRequest {
            member: ids[0].as_str().into(),
            generation: Generation(generation),
            ..commit("orders", offset)
        };
        shard.commit(request).unwrap();
        shard.crash();
        assert_eq!(shard.committed("orders").unwrap().offset, Offset(offset));
    }
}

#[test]
fn members_go_on_after_a_coordinator_reload() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(3);
    let before = shard.describe();
    shard.crash();
    assert_eq!(shard.describe(), before);
    for id in &ids {
        assert_eq!(shard.heartbeat(id, generation), Ok(()));
        let call = shard.sync(id, generation, &[]);
        assert_eq!(shard.synced(call).unwrap().assignment, id.as_bytes());
    }
    shard.advance(10_000);
    assert_eq!(
        shard.heartbeat(&ids[0], generation),
        Err(GroupError::UnknownMember),
        "sessions run again"
    );
}

#[test]
fn a_commit_is_answered_when_it_is_durable() {
    let mut shard = Shard::new();
    shard.syncs = false;
    let first = shard.ask(Request::Commit(commit("orders", 1)));
    let second = shard.ask(Request::Commit(commit("orders", 2)));
    assert!(shard.replies.is_empty());
    shard.sync_to(1);
    assert!(shard.take(first).is_some());
    assert!(shard.replies.is_empty());
    shard.sync_to(2);
    assert!(shard.take(second).is_some());
}

#[test]
fn an_offset_is_told_only_when_it_is_durable_so_it_never_goes_back() {
    let mut shard = Shard::new();
    shard.commit(commit("orders", 1)).unwrap();
    shard.syncs = false;
    shard.ask(Request::Commit(commit("orders", 2)));
    let told = shard.ask(Request::Fetch(fetch("orders")));
    assert_eq!(shard.take(told), None);
    shard.crash();
    assert_eq!(shard.take(told), None, "nobody was told of 2");
    assert_eq!(shard.committed("orders").unwrap().offset, Offset(1));
}

#[test]
fn an_assignment_leaves_only_when_it_is_durable() {
    let mut shard = Shard::new();
    shard.syncs = false;
    let first = shard.join(join("", "a"));
    let member = shard.joined(first).unwrap().member.to_string();
    let leader = shard.sync(&member, 1, &[(&member, "all")]);
    let again = shard.sync(&member, 1, &[]);
    assert!(shard.replies.is_empty());
    shard.sync_all();
    assert_eq!(shard.synced(leader).unwrap().assignment, "all");
    assert_eq!(shard.synced(again).unwrap().assignment, "all");
}

#[test]
fn a_generation_whose_assignment_was_lost_was_nobodys() {
    let mut shard = Shard::new();
    shard.syncs = false;
    let first = shard.join(join("", "a"));
    let member = shard.joined(first).unwrap().member.to_string();
    let lost = shard.sync(&member, 1, &[(&member, "all")]);
    shard.crash();
    assert_eq!(shard.take(lost), None);
    assert_eq!(shard.heartbeat(&member, 1), Err(GroupError::UnknownMember));
}

#[test]
fn the_end_of_a_group_is_told_only_when_it_is_durable() {
    let mut shard = Shard::new();
    shard.commit(commit("orders", 1)).unwrap();
    shard.syncs = false;
    let deleted = shard.ask(Request::DeleteGroup(GROUP.into()));
    let told = shard.ask(Request::Fetch(fetch("orders")));
    assert!(shard.replies.is_empty());
    shard.sync_all();
    assert_eq!(shard.take(deleted), Some(Response::DeleteGroup(Ok(()))));
    assert!(shard.take(told).is_some());
}

#[test]
fn heartbeats_do_not_wait_for_the_disk() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(1);
    shard.syncs = false;
    shard.ask(Request::Commit(CommitRequest {
        member: ids[0].as_str().into(),
        generation: Generation(generation),
        ..commit("orders", 1)
    }));
    assert_eq!(shard.heartbeat(&ids[0], generation), Ok(()));
}

#[test]
fn records_of_other_features_are_passed_over_and_damaged_ones_are_refused() {
    let mut loader = Loader::default();
    loader.replay(&[0, 17, 9, 9], Some(&[])).unwrap();
    assert!(matches!(
        loader.replay(&[0], None),
        Err(StoredError::Short { found: 1 })
    ));
    assert!(matches!(
        loader.replay(&[0, 2, 0, 9], None),
        Err(StoredError::Decode(_))
    ));
    let mut shard = Shard::new();
    shard.commit(commit("orders", 1)).unwrap();
    let Entry::Record(record) = &shard.log[0] else {
        panic!("outside of transactions");
    };
    let value = record.value.as_ref().unwrap();
    for cut in 0..value.len() {
        assert!(
            loader.replay(&record.key, Some(&value[..cut])).is_err(),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_sync_of_the_next_generation_is_not_answered_with_the_last() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(2);
    shard.join(join("", "new"));
    let call = shard.ask(Request::Sync(sync(&ids[0], generation, &[])));
    assert_eq!(shard.synced(call), Err(GroupError::RebalanceInProgress));
}
