//! Properties of the assignors, over random members, subscriptions and pasts.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;
use weir_wire::{PartitionIndex, TopicId};

use super::{Assignment, CONSUMER_ASSIGNORS, MemberSpec, Spec, range, uniform};
use crate::modern::{Partitions, TopicPartition};
use crate::types::MemberId;

fn topic(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number + 1))
}

fn place(of: u128, partition: i32) -> TopicPartition {
    TopicPartition {
        topic: topic(of),
        partition: PartitionIndex(partition),
    }
}

/// Partitions of each topic, and of each member which of the topics it reads and what it had before.
fn specs(same_topics: bool) -> impl Strategy<Value = Spec> {
    let topics = proptest::collection::vec(0i32..9, 1..5);
    let before = proptest::collection::btree_set((0u128..5, 0i32..10), 0..12);
    let members = proptest::collection::vec((any::<u8>(), before), 1..7);
    (topics, members).prop_map(move |(topics, members)| {
        let topics: BTreeMap<TopicId, i32> = (0..).map(topic).zip(topics).collect();
        let reads = |mask: u8| {
            let all = topics.keys().copied().enumerate();
            all.filter(|(place, _)| same_topics || mask & (1 << place) != 0)
                .map(|(_, topic)| topic)
                .collect::<BTreeSet<_>>()
        };
        let mut taken = Partitions::new();
        let members = members
            .into_iter()
            .enumerate()
            .map(|(number, (mask, before))| {
                let mut own = Partitions::new();
                for (of, partition) in before {
                    if taken.insert(place(of, partition)) {
                        own.insert(place(of, partition));
                    }
                }
                let member = MemberSpec {
                    topics: reads(mask),
                    before: own,
                    ..MemberSpec::default()
                };
                (MemberId::from(format!("m{number}")), member)
            });
        Spec {
            members: members.collect(),
            topics: topics.clone(),
        }
    })
}

/// Every partition of a topic that has subscribers is with exactly one of them.
fn check_complete(spec: &Spec, assignment: &Assignment) {
    assert!(assignment.keys().eq(spec.members.keys()));
    let mut given = Partitions::new();
    for (member, own) in assignment {
        for partition in own {
            assert!(spec.members[member].topics.contains(&partition.topic));
            assert!(given.insert(*partition), "given twice");
        }
    }
    for (topic, count) in &spec.topics {
        if spec.subscribers(*topic).next().is_some() {
            for partition in 0..*count {
                let place = TopicPartition {
                    topic: *topic,
                    partition: PartitionIndex(partition),
                };
                assert!(given.remove(&place), "given to nobody");
            }
        }
    }
    assert!(given.is_empty(), "there is no such partition");
}

fn with_past(spec: &Spec, before: &Assignment) -> Spec {
    let mut spec = spec.clone();
    for (id, member) in &mut spec.members {
        member.before = before.get(id).cloned().unwrap_or_default();
    }
    spec
}

proptest! {
    #[test]
    fn every_partition_has_one_owner_who_subscribes_to_it(spec in specs(false)) {
        for (_, assign) in CONSUMER_ASSIGNORS {
            check_complete(&spec, &assign(&spec));
        }
    }

    #[test]
    fn uniform_is_even_and_moves_nothing_that_could_stay(spec in specs(true)) {
        let assignment = uniform(&spec);
        let counts: Vec<usize> = assignment.values().map(BTreeSet::len).collect();
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        prop_assert!(most - least <= 1, "{counts:?}");
        // A member gives up partitions only down to the greatest even share.
        for (id, member) in &spec.members {
            let own = &assignment[id];
            let could_stay = member.before.iter().filter(|before| {
                spec.topics.get(&before.topic).is_some_and(|count| before.partition.0 < *count)
            });
            let could_stay: Vec<_> = could_stay.collect();
            let stayed = could_stay.iter().filter(|before| own.contains(before)).count();
            prop_assert!(stayed == could_stay.len() || stayed >= *least, "{stayed} of {could_stay:?}");
        }
    }

    #[test]
    fn nobody_who_reads_the_same_topic_has_two_more(spec in specs(false)) {
        let assignment = uniform(&spec);
        for topic in spec.topics.keys() {
            let subscribers: Vec<_> = spec.subscribers(*topic).map(|(id, _)| id).collect();
            let least = subscribers.iter().map(|id| assignment[*id].len()).min();
            for id in &subscribers {
                let owns = assignment[*id].iter().any(|place| place.topic == *topic);
                prop_assert!(!owns || assignment[*id].len() < least.unwrap() + 2);
            }
        }
    }

    #[test]
    fn assigning_again_changes_nothing(spec in specs(false)) {
        for (_, assign) in CONSUMER_ASSIGNORS {
            let assignment = assign(&spec);
            prop_assert_eq!(assign(&with_past(&spec, &assignment)), assignment);
        }
    }
}

#[test]
fn ranges_of_topics_with_as_many_partitions_are_the_same() {
    let mut spec = Spec {
        topics: [(topic(0), 5), (topic(1), 5)].into(),
        ..Spec::default()
    };
    for (id, instance) in [("a", None), ("b", Some("x")), ("c", None)] {
        let member = MemberSpec {
            instance: instance.map(Into::into),
            topics: spec.topics.keys().copied().collect(),
            before: Partitions::new(),
        };
        spec.members.insert(id.into(), member);
    }
    let assignment = range(&spec);
    let of = |id: &str| {
        let own = assignment[id].iter();
        own.map(|place| place.partition.0).collect::<Vec<_>>()
    };
    assert_eq!(of("b"), [0, 1, 0, 1], "static members come first");
    assert_eq!(of("a"), [2, 3, 2, 3]);
    assert_eq!(of("c"), [4, 4]);
}
