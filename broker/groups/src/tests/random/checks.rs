//! What must hold after every step of a random life.

use bytes::Bytes;

use super::{TOPICS, World};
use crate::Generation;
use crate::classic::{Classic, Phase};
use crate::group::{Group, Kind};
use crate::stored::Stored;

impl World {
    /// An assignment is of the generation it was asked for, nobody else's, and in the durable log.
    pub(super) fn check_assignment(
        &mut self,
        client: usize,
        generation: Generation,
        assignment: &Bytes,
    ) {
        assert!(
            generation >= self.newest,
            "generation {generation:?} after {:?}",
            self.newest
        );
        self.newest = generation;
        let stored = self.shard.durable_records().any(|record| {
            match Stored::decode(&record.key, record.value.as_deref()).unwrap() {
                Stored::Group {
                    value: Some(group), ..
                } => {
                    group.generation == generation
                        && group
                            .members
                            .iter()
                            .any(|member| member.assignment == *assignment)
                }
                _ => false,
            }
        });
        assert!(
            stored,
            "an assignment of {generation:?} left before it was durable"
        );
        let Some((of, partitions)) = assignment.split_first_chunk::<4>() else {
            return;
        };
        assert_eq!(
            Generation(i32::from_be_bytes(*of)),
            generation,
            "an assignment of another generation"
        );
        let member = Self::instance(client)
            .unwrap_or(&self.clients[client].member)
            .to_owned();
        for partition in partitions {
            let owner = self
                .owners
                .entry((generation, *partition))
                .or_insert_with(|| member.clone());
            assert_eq!(
                *owner, member,
                "two own partition {partition} in {generation:?}"
            );
        }
    }

    pub(super) fn durable_offset(&self, topic: usize) -> i64 {
        let mut offset = 0;
        for record in self.shard.durable_records() {
            if let Stored::Offset {
                topic: of,
                value: Some(value),
                ..
            } = Stored::decode(&record.key, record.value.as_deref()).unwrap()
                && of == TOPICS[topic]
            {
                offset = value.offset.0;
            }
        }
        offset
    }

    pub(super) fn check(&self) {
        let live = self.shard.coordinator.groups_for_tests();
        let mut held = self.shard.coordinator.deferred();
        for Group { kind, .. } in live.values() {
            let Kind::Classic(group) = kind else { continue };
            check_group(group);
            let members = group.members.values();
            held += members
                .map(|member| {
                    usize::from(member.join_call.is_some())
                        + usize::from(member.sync_call.is_some())
                })
                .sum::<usize>();
        }
        assert_eq!(held, self.open.len(), "every open call is held once");
        let replayed = self.shard.replayed();
        let replayed = replayed.groups_for_tests();
        for (id, of) in live {
            let Kind::Classic(group) = &of.kind else {
                continue;
            };
            let Some(other) = replayed.get(id) else {
                assert!(
                    !group.stored && of.offsets.is_empty(),
                    "the log knows nothing of {group:?}"
                );
                continue;
            };
            assert_eq!(of.offsets, other.offsets);
            let Kind::Classic(other) = &other.kind else {
                panic!("another type")
            };
            if group.stored && matches!(group.phase, Phase::Empty | Phase::Stable { .. }) {
                assert_eq!(persistent(group), persistent(other));
            }
        }
    }
}

fn check_group(group: &Classic) {
    assert_eq!(group.leader.is_some(), !group.members.is_empty());
    assert!(
        group
            .leader
            .iter()
            .all(|leader| group.members.contains_key(leader))
    );
    assert_eq!(
        group.phase == Phase::Empty,
        group.members.is_empty() && !matches!(group.phase, Phase::Preparing { .. })
    );
    for (instance, id) in &group.static_members {
        assert_eq!(group.members[id].instance.as_ref(), Some(instance));
    }
    let named = group
        .members
        .values()
        .filter(|member| member.instance.is_some())
        .count();
    assert_eq!(
        named,
        group.static_members.len(),
        "one member for each instance"
    );
    for member in group.members.values().filter(|member| member.may_expire()) {
        assert!(
            group
                .wake_at
                .is_some_and(|at| at <= member.session_deadline),
            "it would live for ever"
        );
    }
}

/// What a coordinator elsewhere must find as it was.
fn persistent(group: &Classic) -> impl PartialEq + std::fmt::Debug {
    let members = group.members.values().map(|member| {
        let metadata = member.metadata(group.protocol.as_deref());
        (
            member.id.clone(),
            member.instance.clone(),
            metadata,
            member.assignment.clone(),
            member.session_timeout_ms,
        )
    });
    let members: Vec<_> = members.collect();
    (
        group.state(),
        group.generation,
        group.protocol_type.clone(),
        group.protocol.clone(),
        group.leader.clone(),
        members,
    )
}
